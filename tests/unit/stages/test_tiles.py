"""Pictures in windows equal the whole picture, away from borders, and a window is the ordinary mask of its crop.

The network is of two filters with whole weights, so that it computes exactly whatever it is given.
"""

import contextlib
import io
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fsf_core import masks, runs, storage
from fsf_core.errors import FetchError, LimitError, StorageError
from fsf_core.media import rasters
from fsf_core.media.images import ImageLimits
from fsf_core.model.bundle import Output
from fsf_core.model.profile import Profile
from fsf_core.stages import units
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.mask import MAX_JPEG_SIDE_PX, MaskSettings, draw_overlay, mask
from fsf_core.stages.tiles import TileSettings, score_tiled
from fsf_core.stages.units import Frame, Unit
from fsf_core.stages.write import WriteSettings, write

RADIUS = 6
"""Pixels around one on which its scores depend."""

CLASSES = 4
NO_COLUMNS = pa.schema([])
RNG = np.random.default_rng(11)
FILTERS = RNG.integers(-3, 4, (CLASSES, 7, 7)).astype(np.float32)


def network(input_HWC):
    """Return scores_KHW as a convolutional network computes them, with zeros beyond its input."""
    grey = input_HWC.astype(np.float32).sum(2) - 384
    first = cv2.filter2D(grey, -1, np.ones((7, 7), np.float32), borderType=cv2.BORDER_CONSTANT)
    scores = [cv2.filter2D(first, -1, each, borderType=cv2.BORDER_CONSTANT) for each in FILTERS]
    return np.stack(scores) / np.float32(1 << 16)


def infer(table):
    counts = units.frame_counts(table)
    inputs = units.as_array(table.column("inputs"), np.uint8, (*WINDOW, 3))
    outputs = units.stack([network(each) for each in inputs], counts)
    yield table.drop_columns(["inputs"]).append_column("outputs", outputs)


WINDOW = (64, 72)
ON_THE_GROUND = {33550: (0.5, 0.5, 0.0), 33922: (0.0, 0.0, 0.0, 5e5, 5e6, 0.0)}
"""A pixel scale and a tie point, GeoTIFF's tags."""


def profile_of(size):
    return Profile(
        name="test", height_px=size[0], width_px=size[1], mode="stretch", interpolation="linear", honour_exif=True,
        channel_order="bgr",
    )  # fmt: skip


def mask_settings(size, **changes):
    settings = MaskSettings(
        profile=profile_of(size),
        num_classes=CLASSES,
        palette_K3=masks.voc_palette(CLASSES),
        grid_hw=size,
        output=Output(kind="logits"),
        mask_size="original",
        limits=ImageLimits(),
        clear_background=False,
    )
    return replace(settings, **changes)


def tile_settings(folder, *, overlap_px=24, max_pixels=1 << 30, overlays=False, labelled=False, **changes):
    limits = ImageLimits(max_pixels=max_pixels)
    staging = runs.Staging(run_uri=str(folder / "run"), number=1)
    storage.local_path(staging.folder).mkdir(parents=True, exist_ok=True)
    decode = DecodeSettings(
        profile=profile_of(WINDOW),
        limits=limits,
        extra=NO_COLUMNS,
        segment_frames=8,
        overlays=overlays,
        access=storage.Access(schemes=("file",)),
        labelled=labelled,
    )
    return TileSettings(
        overlap_px=overlap_px,
        batch_frames=4,
        decode=decode,
        mask=mask_settings(WINDOW, limits=limits, **changes),
        staging=staging,
    )


def picture(height, width, seed=3):
    """Smooth, so that classes have areas, with detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 16) + 1, -(-width // 16) + 1, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def rows_of(path, **more):
    return pa.table(
        {
            "item_id": ["a"],
            "uri": [str(path)],
            "kind": pa.array([None], pa.string()),
            "row_digest": pa.nulls(1, pa.binary(8)),
            "attempt": pa.array([1], pa.int32()),
            "done_segments": pa.nulls(1, pa.list_(pa.int32())),
            **more,
        }
    )


def score(path, settings, **more):
    [table] = score_tiled(rows_of(path, **more), infer, settings)
    [row] = table.to_pylist()
    return row


def saved(folder, image_HWC, name="a.png"):
    path = folder / name
    assert cv2.imwrite(str(path), image_HWC)
    return path


def ordinary_mask(image_HWC):
    """Return the row of an image that is scored whole, by a bundle of its size."""
    size = image_HWC.shape[:2]
    frame = Frame(frame_index=0, pts_s=None, height_px=size[0], width_px=size[1])
    unit = Unit(item_id="a", uri="a", frames=[frame], inputs_HWC=[image_HWC])
    table = units.to_table([unit], extra=NO_COLUMNS).drop_columns(["inputs"])
    table = table.append_column("outputs", pa.array([network(image_HWC).tobytes()], pa.large_binary()))
    [row] = mask(table, mask_settings(size)).to_pylist()
    return row


def class_map(row):
    return np.asarray(Image.open(io.BytesIO(row["masks"][0])))


def pixels_near_borders(side, radius):
    """Whether a window that counts at a pixel has a border inside of the picture that its scores there depend on."""
    near = np.zeros(side.size_px, bool)
    for start, weights in zip(side.starts, side.weights, strict=True):
        at = np.arange(start, start + side.window_px)
        affected = ((at - start < radius) & (start > 0)) | (
            (start + side.window_px - 1 - at < radius) & (start + side.window_px < side.size_px)
        )
        near[at] |= affected & (weights > 0)
    return near


@pytest.mark.parametrize("size", [(150, 233), (64, 300), (129, 73)])
def test_with_four_radii_of_overlap_windows_give_the_mask_of_the_whole_picture(tmp_path, size):
    image_HWC = picture(*size)
    row = score(saved(tmp_path, image_HWC), tile_settings(tmp_path, overlap_px=4 * RADIUS))
    whole = ordinary_mask(image_HWC)
    assert (class_map(row) == class_map(whole)).all()
    assert len(np.unique(class_map(row))) > 2
    for name in ("pixels", "components", "largest_component_px"):
        assert row[name] == whole[name]


@pytest.mark.parametrize("overlap", [0, 5, 2 * RADIUS, 3 * RADIUS])
def test_with_less_overlap_only_pixels_near_a_border_of_a_window_differ(tmp_path, overlap):
    image_HWC = picture(201, 290)
    row = score(saved(tmp_path, image_HWC), tile_settings(tmp_path, overlap_px=overlap))
    rows = masks.plan_side(201, window_px=WINDOW[0], overlap_px=overlap)
    columns = masks.plan_side(290, window_px=WINDOW[1], overlap_px=overlap)
    near = pixels_near_borders(rows, RADIUS)[:, None] | pixels_near_borders(columns, RADIUS)
    differs = class_map(row) != class_map(ordinary_mask(image_HWC))
    assert not differs[~near].any()
    assert near.mean() < 0.45
    assert differs.any(), "windows do matter there"


def test_without_overlap_each_window_is_the_ordinary_mask_of_its_crop(tmp_path):
    image_HWC = picture(3 * 64, 2 * 72)
    found = class_map(score(saved(tmp_path, image_HWC), tile_settings(tmp_path, overlap_px=0)))
    for top in range(0, 192, 64):
        for left in (0, 72):
            crop = (slice(top, top + 64), slice(left, left + 72))
            row = ordinary_mask(np.ascontiguousarray(image_HWC[crop]))
            palette = masks.voc_palette(CLASSES)
            assert masks.encode_png(np.ascontiguousarray(found[crop]), palette) == row["masks"][0]


def test_a_picture_of_one_window_has_the_row_of_an_ordinary_image_but_for_its_notes(tmp_path):
    image_HWC = picture(*WINDOW)
    row, whole = score(saved(tmp_path, image_HWC), tile_settings(tmp_path)), ordinary_mask(image_HWC)
    assert row["notes"] == "scored in 1 window of 72×64 pixels"
    for name in ("masks", "pixels", "components", "largest_component_px", "failed_stage"):
        assert row[name] == whole[name]
    assert row["mean_probability"] == pytest.approx(whole["mean_probability"], rel=1e-12)
    [frame], [expected] = row["frames"], whole["frames"]
    assert frame["confidence"] == pytest.approx(expected["confidence"], rel=1e-12)
    assert frame["uncertain_share"] == expected["uncertain_share"]


def test_figures_of_the_input_are_those_of_all_windows_together(tmp_path):
    image_HWC = picture(2 * 64, 2 * 72)
    [frame] = score(saved(tmp_path, image_HWC), tile_settings(tmp_path, overlap_px=0))["frames"]
    luma_HW = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
    assert frame["brightness"] == pytest.approx(luma_HW.mean())
    assert frame["contrast"] == pytest.approx(luma_HW.std())


def test_a_picture_smaller_than_a_window_is_mirrored(tmp_path):
    image_HWC = picture(40, 31)
    row = score(saved(tmp_path, image_HWC), tile_settings(tmp_path))
    rows = np.r_[0:40, 38:14:-1]
    columns = np.r_[0:31, 29:-1:-1, 1:12]
    mirrored = ordinary_mask(np.ascontiguousarray(image_HWC[rows][:, columns]))
    assert (class_map(row) == class_map(mirrored)[:40, :31]).all()
    assert sum(row["pixels"]) == 40 * 31
    assert "smaller than a window, so mirrored at its right and lower border" in row["notes"]


@pytest.mark.parametrize("overlays", [False, True])
def test_a_large_tiff_gets_its_mask_as_a_tiff_with_the_same_classes(tmp_path, overlays):
    image_HWC = picture(230, 310)
    path = saved(tmp_path, image_HWC, "a.tif")
    small = score(path, tile_settings(tmp_path, min_region_px=3))
    assert small["mask_paths"] == [None]
    settings = tile_settings(tmp_path, max_pixels=230 * 310 - 1, min_region_px=3, overlays=overlays)
    large = score(path, settings)
    assert large["masks"] == [None]
    assert small["item_sha256"] == large["item_sha256"]
    [inside] = large["mask_paths"]
    assert inside.startswith("masks_tiff/a-")
    with (tmp_path / "run" / inside).open("rb") as file:
        ids_HW = rasters.read_mask(file).read(0, 0, 230, 310)
    assert (ids_HW == class_map(small)).all()
    for name in ("pixels", "components", "largest_component_px", "mean_probability", "regions", "frames"):
        assert large[name] == small[name], name
    assert len(large["regions"]) > 3
    if overlays:
        [jpeg] = large["overlays"]
        assert Image.open(io.BytesIO(jpeg)).size == (310, 230)


def test_the_overlay_of_a_large_picture_shows_every_nth_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr("fsf_core.stages.tiles.OVERLAY_SIDE_PX", 100)
    image_HWC = picture(150, 310)
    path = saved(tmp_path, image_HWC, "a.tif")
    row = score(path, tile_settings(tmp_path, max_pixels=1000, overlays=True))
    assert row["notes"].endswith("the overlay shows every 4th pixel")
    [jpeg] = row["overlays"]
    ids_HW = class_map(score(path, tile_settings(tmp_path)))[::4, ::4]
    drawn = masks.overlay(np.ascontiguousarray(image_HWC[::4, ::4]), ids_HW, masks.voc_palette(CLASSES))
    assert jpeg == cv2.imencode(".jpg", drawn)[1].tobytes()


def test_the_overlay_of_a_picture_that_is_too_long_for_a_jpeg_shows_every_nth_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr("fsf_core.stages.tiles.MAX_JPEG_SIDE_PX", 309)
    monkeypatch.setattr("fsf_core.stages.tiles.OVERLAY_SIDE_PX", 100)
    row = score(saved(tmp_path, picture(1, 310), "a.tif"), tile_settings(tmp_path, overlays=True))
    assert row["notes"].endswith("the overlay shows every 4th pixel")
    [jpeg] = row["overlays"]
    assert Image.open(io.BytesIO(jpeg)).size == (78, 1)
    assert row["masks"][0] is not None


def test_an_overlay_that_no_jpeg_can_hold_is_an_error_of_its_item():
    settings = mask_settings(WINDOW)
    for width in (MAX_JPEG_SIDE_PX, MAX_JPEG_SIDE_PX + 1):
        image_HWC, ids_HW = np.zeros((1, width, 3), np.uint8), np.zeros((1, width), np.uint8)
        if width == MAX_JPEG_SIDE_PX:
            assert Image.open(io.BytesIO(draw_overlay(image_HWC, ids_HW, settings))).size == (width, 1)
        else:
            with pytest.raises(LimitError, match="at most 65,500 a side"):
                draw_overlay(image_HWC, ids_HW, settings)


def test_a_run_has_the_row_of_a_mask_as_tiff(tmp_path):
    settings = tile_settings(tmp_path, max_pixels=1000)
    [table] = score_tiled(rows_of(saved(tmp_path, picture(100, 90), "a.tif")), infer, settings)
    writing = WriteSettings(
        staging=settings.staging, run_id="r", bundle_sha256="b", class_names=tuple("abcd"), extra=NO_COLUMNS
    )
    [receipt] = write(table, writing)
    [row] = runs.read_part(settings.staging.run_uri, receipt, "masks").to_pylist()
    assert row["mask"] == {"bytes": None, "path": table.to_pylist()[0]["mask_paths"][0]}


def labelled(folder, label_HW):
    path = folder / "label.png"
    Image.fromarray(label_HW).save(path)
    return {"label_uri": [str(path)]}


def test_labels_are_counted_against_a_picture_that_is_held_whole_and_refused_of_a_larger_one(tmp_path):
    path = saved(tmp_path, picture(100, 90), "a.tif")
    ids_HW = class_map(score(path, tile_settings(tmp_path)))
    label = labelled(tmp_path, np.where(np.arange(90) < 10, 255, ids_HW).astype(np.uint8))
    row = score(path, tile_settings(tmp_path, labelled=True), **label)
    assert row["label_ignored_px"] == [1000]
    assert sum(cell["pixels"] for cell in row["confusion"]) == 8000
    assert all(cell["label_class_id"] == cell["predicted_class_id"] for cell in row["confusion"])
    refused = score(path, tile_settings(tmp_path, labelled=True, max_pixels=8999), **label)
    assert (refused["failed_stage"], refused["error_type"]) == ("label", "LabelError")
    assert "has 90×100 pixels, and labels are counted up to 8,999" in refused["error_message"]


def test_a_label_that_cannot_be_counted_leaves_no_mask_behind(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(picture(100, 90)).save(path, tiffinfo=ON_THE_GROUND)
    row = score(path, tile_settings(tmp_path, labelled=True), **labelled(tmp_path, np.zeros((9, 9), np.uint8)))
    assert (row["failed_stage"], row["error_type"]) == ("label", "LabelError")
    assert not [each for each in (tmp_path / "run").rglob("*") if each.is_file()]


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.mp4", bytes(4) + b"ftypisom" + bytes(80), "LimitError", "found a video, and --tile scores images"),
        ("a.tif", b"II*\0\x08\0\0\0" + bytes(60), "DecodeError", "tiff"),
        ("a.png", b"nothing of the kind" * 8, "DecodeError", ""),
        ("a.jpg", b"", "DecodeError", ""),
    ],
)
def test_what_is_no_picture_is_a_failure(tmp_path, name, data, error, message):
    path = tmp_path / name
    path.write_bytes(data)
    row = score(path, tile_settings(tmp_path))
    assert (row["failed_stage"], row["error_type"]) == ("decode", error)
    assert message in row["error_message"]
    assert row["frames"] == row["masks"] == row["mask_paths"] == []


def test_a_damaged_tiff_leaves_no_mask_behind(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(picture(400, 90)).save(path, compression="tiff_deflate")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 2000] = bytes(2000)
    path.write_bytes(damaged)
    row = score(path, tile_settings(tmp_path, max_pixels=1000))
    assert row["error_type"] == "DecodeError"
    assert not [each for each in (tmp_path / "run").rglob("*") if each.is_file()]


def test_a_tiff_that_changes_while_it_is_read_leaves_no_mask_behind(tmp_path):
    path = saved(tmp_path, picture(400, 90), "a.tif")

    def changing(table):
        os.utime(path, ns=(1, 1))
        yield from infer(table)

    [table] = score_tiled(rows_of(path), changing, tile_settings(tmp_path, max_pixels=1000))
    [row] = table.to_pylist()
    assert (row["failed_stage"], row["error_type"]) == ("decode", "FetchError")
    assert "a.tif has changed while it was read" in row["error_message"]
    assert not [each for each in (tmp_path / "run").rglob("*") if each.is_file()]


def test_a_tiff_in_a_store_is_compared_with_what_the_store_has_at_the_end(tmp_path, monkeypatch):
    path, settings = saved(tmp_path, picture(400, 90), "a.tif"), tile_settings(tmp_path, max_pixels=1000)
    monkeypatch.setattr(storage, "version_now", storage.etag_or_mtime)
    assert score(path, settings)["error_type"] is None

    monkeypatch.setattr(storage, "version_now", lambda _: "another")
    assert "a.tif has changed while it was read" in score(path, settings)["error_message"]

    def gone(_):
        raise FetchError("s3://bucket/a.tif does not exist; correct the manifest")

    monkeypatch.setattr(storage, "version_now", gone)
    row = score(path, settings)
    assert (row["failed_stage"], row["error_type"]) == ("decode", "FetchError")


@pytest.mark.parametrize("size", [(400, 90), (1200, 900)])
def test_a_full_disk_ends_the_task_and_costs_no_item(tmp_path, monkeypatch, size):
    path, settings = saved(tmp_path, picture(*size), "a.tif"), tile_settings(tmp_path, max_pixels=1000)
    monkeypatch.setattr(runs.Staging, "replacing", lambda *_: contextlib.nullcontext(Path("/dev/full")))
    with pytest.raises(StorageError, match=r"masks_tiff/a-.* cannot be written: OSError: .*No space left on device; "):
        score(path, settings)


@pytest.mark.parametrize("call", ["__init__", "write"])
def test_a_memory_that_does_not_hold_the_rows_of_a_mask_costs_that_item(call, tmp_path, monkeypatch):
    """512 rows of a picture of one row and 60 million columns are 30 GB; its file has a megabyte."""

    def refuse(*_, **__):
        raise MemoryError

    path, settings = saved(tmp_path, picture(400, 90), "a.tif"), tile_settings(tmp_path, max_pixels=1000)
    monkeypatch.setattr(rasters.MaskWriter, call, refuse)
    row = score(path, settings)

    assert row["error_type"] == "LimitError"
    assert "the picture does not fit into memory" in row["error_message"]


def test_a_network_that_overflows_is_a_failure_of_the_mask(tmp_path):
    def overflow(table):
        [part] = infer(table)
        outputs = np.full(CLASSES * WINDOW[0] * WINDOW[1] * units.frame_counts(part)[0], np.nan, np.float32)
        yield part.set_column(
            part.column_names.index("outputs"), "outputs", pa.array([outputs.tobytes()], pa.large_binary())
        )

    [table] = score_tiled(rows_of(saved(tmp_path, picture(100, 90))), overflow, tile_settings(tmp_path))
    [row] = table.to_pylist()
    assert (row["failed_stage"], row["error_type"]) == ("mask", "MaskError")


def test_the_watchdog_watches_opening_and_labels_too(tmp_path, monkeypatch):
    path, running, seen = saved(tmp_path, picture(64, 72)), [False], []

    def opener():
        seen.append(running[0])
        return path.open("rb")

    def with_label(unit):
        seen.append(running[0])
        return unit

    monkeypatch.setattr("fsf_core.stages.tiles.members.open_prefetched", lambda *_: [opener])
    monkeypatch.setattr("fsf_core.stages.tiles.labels_of", lambda *_: [with_label])
    watchdog = partial(running.__setitem__, 0)
    for _ in score_tiled(rows_of(path), infer, tile_settings(tmp_path), watchdog=watchdog):
        assert seen == [True, True]
        assert running == [False]


class _Streamed(io.BytesIO):
    """A file of a web server that cannot seek."""

    def seek(self, *_):
        raise OSError


@pytest.mark.parametrize("streamed", [False, True])
def test_a_picture_on_the_ground_has_a_tiff_however_it_is_read(tmp_path, monkeypatch, streamed):
    path = tmp_path / "a.tif"
    Image.fromarray(picture(64, 72)).save(path, tiffinfo=ON_THE_GROUND)
    kind = _Streamed if streamed else io.BytesIO
    monkeypatch.setattr("fsf_core.stages.tiles.members.open_prefetched", lambda *_: [lambda: kind(path.read_bytes())])
    row = score(path, tile_settings(tmp_path))
    assert row["mask_paths"] != [None]
    with (tmp_path / "run" / row["mask_paths"][0]).open("rb") as file:
        assert Image.open(file).tag_v2[33550] == ON_THE_GROUND[33550]


def test_the_watchdog_watches_reading_alone(tmp_path):
    running = []
    calls = []

    def watchdog(on):
        running[:] = [on]

    def watched(table):
        calls.append(running[0])
        yield from infer(table)

    path = saved(tmp_path, picture(400, 90), "a.tif")
    [_] = score_tiled(rows_of(path), watched, tile_settings(tmp_path), watchdog=watchdog)
    assert len(calls) > 1
    assert not any([*calls, *running])
