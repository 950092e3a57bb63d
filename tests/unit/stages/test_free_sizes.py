"""Inputs whose size depends on the image, from bytes to masks: each picture as onnxruntime alone computes it."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from fsf_core import masks, storage
from fsf_core.errors import ResumableError
from fsf_core.export import from_onnx
from fsf_core.media.images import ImageLimits
from fsf_core.stages import decode as decoding
from fsf_core.stages import decode_pages, free_sizes, infer, isolated_decode, units
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask
from tests.support import clips
from tests.support.free_bundle import OWN, class_map, free_bundle, free_onnx

SIZES = [(1, 1), (31, 33), (300, 20), (48, 64), (64, 48), (48, 64), (33, 31), (48, 64), (97, 40), (48, 64), (48, 64)]
PADDED = replace(OWN, multiple_of=4)
LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return free_bundle(str(tmp_path_factory.mktemp("bundles") / "own"))


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    return free_bundle(str(tmp_path_factory.mktemp("bundles") / "padded"), PADDED)


def picture(height, width, seed=0):
    """Return soft colours, of which a network makes several classes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    found = {str(folder / f"{n:02}.png"): picture(*size, seed=n) for n, size in enumerate(SIZES)}
    for path, image_HWC in found.items():
        cv2.imwrite(path, image_HWC)
    return found


def rows_of(*uris):
    count = len(uris)
    columns = {"item_id": [*uris], "uri": [*uris], "kind": pa.nulls(count, pa.string())}
    columns |= {"row_digest": pa.nulls(count, pa.binary(8)), "attempt": pa.array([1] * count, pa.int32())}
    return pa.table({**columns, "done_segments": pa.nulls(count, pa.list_(pa.int32()))})


def settings_of(bundle, **changes):
    access = storage.Access(schemes=("file",))
    settings = {"profile": bundle.profile, "limits": LIMITS, "extra": pa.schema([]), "segment_frames": 4}
    return DecodeSettings(**{**settings, "overlays": False, "access": access, **changes})


def stage(bundle, variant="plain", **changes):
    given = {"provider": "cpu", "threads": 1, "batch_frames": 4, "planes": True, **changes}
    return Infer(bundle_uri=bundle.uri, bundle_sha256=bundle.sha256, variant=variant, **given)


def masked(bundle, tables, *, variant="plain", **changes):
    settings = MaskSettings(
        profile=bundle.profile,
        num_classes=4,
        palette_K3=np.asarray(bundle.palette, np.uint8),
        grid_hw=bundle.signature.grid_hw,
        limits=LIMITS,
        clear_background=False,
        min_region_px=1,
        **{"mask_size": "original", **changes},
    )
    return [row for table in tables for row in mask(table, settings).to_pylist()]


def scored(bundle, *uris, variant="plain", **changes):
    run = stage(bundle, variant, **changes)
    inferred = [part for table in decode(rows_of(*uris), settings_of(bundle)) for part in run(table)]
    return masked(bundle, inferred, variant=variant)


def assert_equal(png, image_HWC, **padding):
    expected, decided = class_map(image_HWC, **padding)
    found = masks.decode_png(png)
    assert found.shape == expected.shape
    assert not ((found != expected) & decided).any()


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_every_picture_of_a_mixed_batch_has_the_mask_that_it_has_alone(bundle, pictures, variant):
    rows = scored(bundle, *pictures, variant=variant)

    assert [row["item_id"] for row in rows] == [*pictures]
    assert not any(row["error_type"] for row in rows)
    for row in rows:
        assert_equal(row["masks"][0], pictures[row["item_id"]])
        assert sum(region["pixels"] for region in row["regions"]) + row["pixels"][0] == sum(row["pixels"])


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_pages_of_a_tiff_have_the_masks_of_pictures_alone(bundle, pictures, tmp_path, variant, monkeypatch):
    monkeypatch.setattr(decode_pages, "SEGMENT_BYTES", 3 * 4 * 48 * 64)
    first, *others = (Image.fromarray(picture[..., ::-1]) for picture in pictures.values())
    first.save(tmp_path / "scan.tif", save_all=True, append_images=others)
    run = stage(bundle, variant)
    tables = decode(rows_of(str(tmp_path / "scan.tif")), settings_of(bundle, pages="all"))
    rows = masked(bundle, [part for table in tables for part in run(table)], variant=variant)
    found = {frame["frame_index"]: png for row in rows for frame, png in zip(row["frames"], row["masks"], strict=True)}

    assert len(rows) > 2
    assert [*found] == [*range(len(SIZES))]
    for png, picture in zip(found.values(), pictures.values(), strict=True):
        assert_equal(png, picture)


def test_both_variants_have_the_same_figures(bundle, pictures):
    plain, fused = (scored(bundle, *pictures, variant=variant) for variant in ("plain", "fused"))
    for ours, theirs in zip(plain, fused, strict=True):
        assert ours["frames"][0] == pytest.approx(theirs["frames"][0], abs=1e-5, nan_ok=True)
        assert ours["mean_probability"] == pytest.approx(theirs["mean_probability"], abs=1e-5, nan_ok=True)
        assert ours["regions"] == [pytest.approx(region, abs=1e-5) for region in theirs["regions"]]


@pytest.mark.parametrize("align", ["centre", "top-left"])
def test_padding_to_a_multiple_is_cropped_off_every_picture(pictures, tmp_path, align):
    bundle = free_bundle(str(tmp_path / "padded"), replace(PADDED, align=align))
    for row in scored(bundle, *pictures):
        assert_equal(row["masks"][0], pictures[row["item_id"]], multiple_of=4, top_left=align == "top-left")
    assert "fused" not in bundle.variants


def test_calls_have_frames_of_one_size_within_the_limit_of_their_pixels(bundle, pictures, monkeypatch):
    calls = []
    run = stage(bundle)
    session = run._session
    monkeypatch.setattr(session, "run", lambda batch: calls.append(batch.shape) or type(session).run(session, batch))
    tables = [*decode(rows_of(*pictures), settings_of(bundle))]
    whole = pa.concat_tables(part for table in tables for part in run(table))
    monkeypatch.setattr(free_sizes, "MAX_BATCH_PX", 2 * 48 * 64)
    smaller = len(calls)
    again = pa.concat_tables(part for table in tables for part in run(table))

    assert [shape[0] for shape in calls[:smaller] if shape[2:] == (48, 64)] == [4, 1]
    assert [shape[0] for shape in calls[smaller:] if shape[2:] == (48, 64)] == [2, 2, 1]
    assert again.equals(whole)


def test_a_graph_with_a_batch_built_in_gets_full_calls(tmp_path, pictures):
    model = free_onnx(batch=2)
    model.graph.node[-1].op_type = "Reshape"
    model.graph.node[-1].input.append("target")
    nodes = [helper.make_node("Shape", ["d"], ["shape"]), helper.make_node("Gather", ["shape", "sides"], ["hw"])]
    nodes.append(helper.make_node("Concat", ["head", "hw"], ["target"], axis=0))
    last = model.graph.node.pop()
    model.graph.node.extend([*nodes, last])
    constants = (("sides", [2, 3]), ("head", [2, 4]))
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants
    )
    bundle = free_bundle(str(tmp_path / "two"), model=model)

    assert bundle.signature.input_shape == (2, 3, None, None)
    for variant in ("plain", "fused"):
        for row in scored(bundle, *pictures, variant=variant):
            assert_equal(row["masks"][0], pictures[row["item_id"]])


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_jpeg_that_is_the_input_as_it_is_keeps_its_pixels_when_the_next_is_decoded(tmp_path, bundle, order):
    paths = [str(tmp_path / f"{number}.jpg") for number in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(path, picture(48, 64, seed=number))

    (table,) = decode(rows_of(*paths), settings_of(bundle, profile=replace(OWN, channel_order=order)))

    channels = slice(None, None, -1 if order == "rgb" else 1)
    inputs = units.as_array(table.column("inputs"), np.uint8, (48, 64, 3))
    assert np.array_equal(inputs, [cv2.imread(path)[..., channels] for path in paths])


def test_tables_are_cut_by_the_bytes_of_their_inputs_and_outputs(bundle, pictures, monkeypatch):
    whole = scored(bundle, *pictures)
    monkeypatch.setattr(decoding, "TABLE_BYTES", 3 * 48 * 64 * 3)
    monkeypatch.setattr(isolated_decode, "TABLE_BYTES", 3 * 48 * 64 * 3)
    settings = settings_of(bundle)
    tables = [*decode(rows_of(*pictures), settings)]
    limits = isolated_decode.ChildLimits(item_s=30, memory_bytes=1 << 30)
    isolated = [*isolated_decode.decode_isolated(rows_of(*pictures), settings, limits)]

    held = [units.frame_bytes(table) for table in tables]
    assert len(tables) > 2
    assert max(held) < 3 * 48 * 64 * 3 + 300 * 20 * 3
    assert [table.to_pylist() for table in tables] == [table.to_pylist() for table in isolated]
    monkeypatch.setattr(infer, "MAX_OUTPUT_BYTES", 2 * 48 * 64 * 4 * 4)
    parts = [part for table in tables for part in stage(bundle)(table)]
    assert max(sum(units.frame_counts(part)) for part in parts if (48, 64) in free_sizes.frame_sizes(part)) <= 3
    assert len(parts) > len(tables)
    assert str(masked(bundle, parts)) == str(whole)  # text, because NaN does not equal itself


def test_a_video_is_scored_at_its_own_size(bundle, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clips.clip(frames=6, width_px=70, height_px=50))
    rows = scored(bundle, str(path))
    source = cv2.VideoCapture(str(path))

    assert [len(row["frames"]) for row in rows] == [4, 2]
    for png in itertools.chain.from_iterable(row["masks"] for row in rows):
        assert masks.decode_png(png).shape == (50, 70)
        assert_equal(png, source.read()[1])


def test_masks_on_the_grid_of_the_model(bundle, pictures):
    inferred = [part for table in decode(rows_of(*pictures), settings_of(bundle)) for part in stage(bundle)(table)]
    found = [masks.decode_png(row["masks"][0]).shape for row in masked(bundle, inferred, mask_size="model")]
    assert found == [(-(-height // 4) * 4, -(-width // 4) * 4) for height, width in SIZES]


def test_an_image_beyond_the_limit_of_the_input_fails_alone(bundle, pictures):
    settings = settings_of(bundle, max_input_px=97 * 40)
    found = [row for table in decode(rows_of(*pictures), settings) for row in table.to_pylist()]
    failed = [row for row in found if row["error_type"]]

    assert [row["item_id"] for row in failed] == [
        name for name, image in pictures.items() if image[..., 0].size == 6000
    ]
    assert failed[0]["error_type"] == "LimitError"
    assert failed[0]["error_message"].startswith(
        "the network's input for this image of 20×300 is 20×300, expected at most 3880 pixels; raise --max-input-px"
    )


def needs_even_rows():
    """The tiny model, which takes only rows that 32 divides, as networks with skip connections do."""
    model = free_onnx()
    last = model.graph.node.pop()
    nodes = [
        helper.make_node("MaxPool", ["images:0"], ["half"], kernel_shape=[32, 1], strides=[32, 1]),
        helper.make_node("Resize", ["half", "roi", "tall"], ["again"], mode="nearest"),
        helper.make_node("Sub", ["again", "images:0"], ["difference"]),
        helper.make_node("ReduceMean", ["difference"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["d", "zero"], ["sum"]),
    ]
    last.input[0] = "sum"
    model.graph.node.extend([*nodes, last])
    constants = (("tall", [1, 1, 32, 1]), ("nothing", 0))
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants
    )
    return model


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_a_frame_that_the_network_rejects_fails_alone(tmp_path, pictures, variant, monkeypatch):
    """Sizes are those of the user's pictures: one that the graph cannot take must not end the job."""
    monkeypatch.setattr(from_onnx, "_require_other_sizes", lambda *_: None)
    monkeypatch.setattr(from_onnx, "example_hw", lambda _: (64, 96))
    monkeypatch.setattr(from_onnx, "other_hw", lambda _: (96, 64))
    bundle = free_bundle(str(tmp_path / "even"), model=needs_even_rows())
    chosen = {name: image_HWC for name, image_HWC in pictures.items() if len(image_HWC) > 1}
    rows = {row["item_id"]: row for row in scored(bundle, *chosen, variant=variant)}

    assert [*rows] == [*chosen]
    for name, image_HWC in chosen.items():
        row = rows[name]
        if len(image_HWC) % 32:
            assert (row["failed_stage"], row["error_type"], row["failed_frame"]) == ("infer", "LimitError", 0)
            assert f"rejects its input of {image_HWC.shape[1]}×{len(image_HWC)} pixels" in row["error_message"]
            assert (row["frames"], row["masks"], row["pixels"]) == ([], [], [])
        else:
            assert_equal(row["masks"][0], image_HWC)


@pytest.mark.parametrize(
    ("reason", "fails"),
    [
        ("CUDA failure 700: an illegal memory access was encountered", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);", False),
        ("Non-zero status code returned while running Add node. axis 2 must match", False),
    ],
)
def test_a_card_that_is_broken_fails_no_pictures(bundle, pictures, monkeypatch, reason, fails):
    """It would fail all that are left, in a job that then counts as finished; a picture may be too large for it."""
    run = stage(bundle)

    def rejected(*_):
        raise RuntimeError("onnxruntime on cuda rejected images") from ValueError(reason)

    monkeypatch.setattr(run._session, "provider", "cuda")
    monkeypatch.setattr(run._session, "run", rejected)
    tables = [*decode(rows_of(*pictures), settings_of(bundle))]
    if fails:
        with pytest.raises(ResumableError, match="the GPU failed: CUDA failure 700"):
            [*run(tables[0])]
    else:
        assert {row["error_type"] for row in masked(bundle, run(tables[0]))} == {"LimitError"}


def test_units_that_failed_before_and_tables_without_frames_pass_through(bundle):
    failed = units.Unit(item_id="a", uri="a").failed(units.failure("decode", ValueError("broken")))
    table = units.to_table([failed], extra=pa.schema([]))
    [row] = masked(bundle, stage(bundle)(table))

    assert (row["error_type"], row["masks"]) == ("ValueError", [])
