"""Pages of a TIFF as frames: segments, failures, labels, limits and what is resumed."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fsf_core import storage
from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.media.images import tiff
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.stages import decode_pages
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from tests.support.assets import pillow
from tests.support.decode_rows import decode_rows

RANDOM = np.random.default_rng(11)
SIZES = [(40, 60), (33, 17), (64, 64), (20, 30), (50, 50)]
PICTURES = [RANDOM.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def tiff_of(pictures, **options):
    first, *others = map(Image.fromarray, pictures)
    return pillow(first, "TIFF", save_all=True, append_images=others, **options)


def decoded(folder, *, done=None, **changes):
    """Return the units of a folder's items, or of its list."""
    path = folder / "list.csv"
    found = open_manifest(str(path if path.exists() else folder))
    settings = {
        "profile": preprocess.PROFILES["fastsegformer"],
        "limits": images.ImageLimits(),
        "segment_frames": 64,
        "overlays": False,
        "access": storage.Access(schemes=SCHEMES),
        "pages": "all",
        "labelled": found.has_labels,
        "extra": found.extra,
    }
    tables = decode(decode_rows(found, done_segments=done), DecodeSettings(**(settings | changes)))
    return [row for table in tables for row in table.to_pylist()]


def frames_of(unit):
    return [(frame["frame_index"], frame["height_px"], frame["width_px"], frame["pts_s"]) for frame in unit["frames"]]


ALL = [(number, *size, None) for number, size in enumerate(SIZES)]


def test_each_page_is_a_frame_of_its_own_size_and_input(tmp_path):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    [unit] = decoded(tmp_path)
    inputs = np.frombuffer(unit["inputs"], np.uint8).reshape(len(SIZES), -1)

    assert frames_of(unit) == ALL
    assert (unit["segments"], unit["notes"], unit["error_type"]) == (1, None, None)
    for number, picture in enumerate(PICTURES):
        (tmp_path / "alone").mkdir(exist_ok=True)
        (tmp_path / "alone" / "page.tif").write_bytes(tiff_of([picture]))
        [alone] = decoded(tmp_path / "alone")
        assert alone["inputs"] == inputs[number].tobytes()
        assert {**alone["frames"][0], "frame_index": number} == unit["frames"][number]


def test_only_the_first_page_is_scored_unless_all_are_asked_for(tmp_path):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    [unit] = decoded(tmp_path, pages="first")

    assert frames_of(unit) == ALL[:1]
    assert unit["notes"] == "first of 5 pages"


def test_files_of_one_page_and_of_other_formats_are_scored_as_ever(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_of(PICTURES[:1]))
    (tmp_path / "b.png").write_bytes(pillow(PICTURES[1], "PNG"))
    (tmp_path / "c.gif").write_bytes(pillow(PICTURES[2], "GIF"))

    assert decoded(tmp_path) == decoded(tmp_path, pages="first")


def test_many_pages_are_several_segments_which_are_resumed_one_by_one(tmp_path):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    found = decoded(tmp_path, segment_frames=2)

    assert [(unit["segment"], unit["segments"], frames_of(unit)) for unit in found] == [
        (0, 3, ALL[:2]), (1, 3, ALL[2:4]), (2, 3, ALL[4:]),
    ]  # fmt: skip
    assert decoded(tmp_path, segment_frames=2, done=[0, 2]) == [found[1]]


def test_segments_hold_a_limited_number_of_bytes(tmp_path, monkeypatch):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    [whole] = decoded(tmp_path)
    monkeypatch.setattr(decode_pages, "SEGMENT_BYTES", len(whole["inputs"]) // len(SIZES) * 2)

    assert [frames_of(unit) for unit in decoded(tmp_path)] == [ALL[:2], ALL[2:4], ALL[4:]]


def test_a_higher_limit_of_the_input_does_not_move_pages_to_other_segments(tmp_path, monkeypatch):
    """A job is resumed with it where pages were refused, and the segments that it has are not scored again."""
    (tmp_path / "scan.tif").write_bytes(tiff_of([PICTURES[2]] * 3 + [PICTURES[2].repeat(2, 0)] + [PICTURES[2]] * 3))
    own = replace(preprocess.PROFILES["fastsegformer"], mode="own", height_px=0, width_px=0)
    monkeypatch.setattr(decode_pages, "SEGMENT_BYTES", 3 * 64 * 64 * 5)
    refused, complete = decoded(tmp_path, profile=own, max_input_px=64 * 64), decoded(tmp_path, profile=own)

    assert [unit["error_type"] for unit in refused] == ["LimitError", None]
    assert [unit["failed_frame"] for unit in refused] == [3, None]
    assert [len(unit["frames"]) for unit in complete] == [4, 3]
    assert decoded(tmp_path, profile=own, done=[1]) == complete[:1]
    assert refused[1:] == complete[1:]


def damaged_at(page):
    data = tiff_of(PICTURES, compression="tiff_adobe_deflate")
    tags, _ = tiff._read_tags(data, images.read_pages(data).pages[page].at)
    at, size = tags[tiff.Tag.STRIP_OFFSETS][0], tags[tiff.Tag.STRIP_BYTES][0]
    return data[: at + size // 2] + bytes(size // 4) + data[at + size // 2 + size // 4 :]


def test_a_damaged_page_ends_its_segment_and_no_other(tmp_path):
    (tmp_path / "scan.tif").write_bytes(damaged_at(2))
    first, second, third = decoded(tmp_path, segment_frames=2)

    assert (frames_of(first), first["error_type"]) == (ALL[:2], None)
    assert (frames_of(second), second["error_type"], second["failed_frame"]) == ([], "DecodeError", 2)
    assert (frames_of(third), third["error_type"]) == (ALL[4:], None)
    [whole] = decoded(tmp_path)
    assert (frames_of(whole), whole["failed_frame"]) == (ALL[:2], 2)


def test_pages_that_cannot_be_found_are_a_failure_after_those_before(tmp_path):
    data = bytearray(tiff_of(PICTURES))
    second = images.read_pages(bytes(data)).pages[1].at
    link_at = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[link_at : link_at + 4] = (len(data) + 2).to_bytes(4, "little")
    (tmp_path / "scan.tif").write_bytes(data)
    [unit] = decoded(tmp_path)

    assert (frames_of(unit), unit["failed_frame"]) == (ALL[:2], 2)
    assert "outside the file" in unit["error_message"]


def test_limits_hold_for_each_page(tmp_path):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    [unit] = decoded(tmp_path, limits=images.ImageLimits(max_pixels=40 * 60))

    assert (frames_of(unit), unit["error_type"], unit["failed_frame"]) == (ALL[:2], "LimitError", 2)


def test_overlays_are_drawn_on_each_page(tmp_path):
    (tmp_path / "scan.tif").write_bytes(tiff_of(PICTURES))
    [unit] = decoded(tmp_path, overlays=True)
    sizes = [images.decode_image(data, honour_exif=True).image_HWC.shape[:2] for data in unit["source_images"]]

    assert sizes == SIZES


def labelled(folder, label):
    (folder / "scan.tif").write_bytes(tiff_of(PICTURES))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["uri", "label_uri"], ["scan.tif", label]])


def test_labels_of_pages_are_a_folder_of_pngs_by_page(tmp_path):
    (tmp_path / "labels").mkdir()
    pngs = {number: pillow(np.full(SIZES[number], number, np.uint8), "PNG") for number in (1, 3)}
    for number, png in pngs.items():
        (tmp_path / "labels" / f"{number:06d}.png").write_bytes(png)
    labelled(tmp_path, "labels")
    [unit] = decoded(tmp_path)

    assert unit["labels"] == [pngs.get(number) for number in range(5)]
    assert frames_of(unit) == ALL


@pytest.mark.parametrize(("name", "reason"), [("one.png", "an image"), ("none", ""), ("labels", "frame 7")])
def test_other_labels_of_pages_are_refused_with_the_reason(name, reason, tmp_path):
    (tmp_path / "one.png").write_bytes(pillow(np.zeros(SIZES[0], np.uint8), "PNG"))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "7.png").write_bytes(pillow(np.zeros(SIZES[0], np.uint8), "PNG"))
    labelled(tmp_path, name)
    found = decoded(tmp_path, segment_frames=2)

    assert [(unit["failed_stage"], unit["error_type"], frames_of(unit)) for unit in found] == [
        ("label", "LabelError", [])
    ] * 3
    assert reason in found[0]["error_message"]
