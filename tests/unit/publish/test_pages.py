"""Readers of a run of all pages: each page has its own name, picture and label."""

import io
import json

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image, ImageSequence

from fsf_core import masks, runs
from fsf_core.cli.app import main
from fsf_core.errors import DecodeError
from fsf_core.report.inspect import draw
from fsf_core.report.sources import Source, read_source
from tests.support import picture_runs

SIZES = [(16, 24), (20, 12), (8, 8)]


def drawn(height, width, seed):
    return np.kron(np.random.default_rng(seed).integers(0, 4, (height // 4, width // 4)), np.ones((4, 4))).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    home = tmp_path_factory.mktemp("pages")
    return [
        picture_runs.pages(home, "scans/a.tif", [drawn(*size, seed) for seed, size in enumerate(SIZES)]),
        picture_runs.image(home, "b.png", drawn(16, 16, 9)),
        picture_runs.pages(home, "c.tif", [drawn(12, 12, 8)]),
    ]


@pytest.fixture(scope="module")
def run(items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return picture_runs.finished(folder, items, fingerprint={"pages": "all"})


@pytest.fixture(scope="module")
def pictures(items):
    """The pages as Pillow reads them."""
    return [np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(Image.open(items[0].source))]


NAMES = ["b", "c", *(f"scans/a.tif/{number:06d}" for number in range(3))]


def test_items_of_pages_are_those_with_several_frames(run):
    assert runs.paged_items(run) == {"scans/a.tif"}


def test_no_item_has_pages_in_a_run_of_first_pages(items, tmp_path):
    assert runs.paged_items(picture_runs.finished(tmp_path / "run", items[1:])) == frozenset()


@pytest.mark.parametrize("form", ["png", "hf", "coco", "cvat", "label-studio"])
def test_pages_are_published_with_the_pixels_that_were_scored(form, run, publish, pictures, tmp_path):
    code, document, printed = publish(run, form, tmp_path / "out", "--with-images")
    assert code == 0, printed
    assert (document["rows"], document["pictures_missing"]) == (5, 0)
    if form == "hf":
        tables = [pyarrow.parquet.read_table(path) for path in sorted((tmp_path / "out").rglob("*.parquet"))]
        rows = [row for table in tables for row in table.to_pylist()]
        found = {row["frame_index"]: row["image"]["bytes"] for row in rows if row["item_id"] == "scans/a.tif"}
    else:
        folder = tmp_path / "out" / "images"
        assert (
            sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.*") if path.is_file())[:2]
            == NAMES[:2]
        )
        found = {number: (folder / f"scans/a.tif/{number:06d}.png").read_bytes() for number in range(3)}

    for number, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found[number]))), picture)


def test_masks_of_pages_have_names_of_their_own(run, publish, tmp_path):
    publish(run, "png", tmp_path / "out")
    folder = tmp_path / "out" / "masks"

    assert sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.png")) == NAMES
    expected = picture_runs.class_maps(run)
    for number in range(3):
        png = (folder / f"scans/a.tif/{number:06d}.png").read_bytes()
        assert np.array_equal(masks.decode_png(png), expected["scans/a.tif", number])


def test_coco_names_every_page_differently_without_copies(run, publish, tmp_path):
    publish(run, "coco", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    names = [image["file_name"] for image in document["images"]]

    assert len({*names}) == 5


def test_a_page_that_has_changed_is_missing_with_the_reason(items, publish, tmp_path):
    copied = picture_runs.pages(tmp_path, "a.tif", items[0].class_maps)
    run = picture_runs.finished(tmp_path / "run", [copied], fingerprint={"pages": "all"})
    copied.source.write_bytes(copied.source.read_bytes() + b"x")
    code, document, printed = publish(run, "png", tmp_path / "out", "--with-images")

    assert document["pictures_missing"] == 3
    assert "changed" in printed
    assert code != 0


def test_pages_are_shown_over_their_own_pictures(run, items, pictures):
    for number, picture in enumerate(pictures):
        source = Source(uri=str(items[0].source), frame_index=number, is_video=False)
        assert np.array_equal(read_source(source, honour_exif=True, access=None)[..., ::-1], picture)
    with pytest.raises(DecodeError, match="has no frame 3"):
        read_source(Source(uri=str(items[0].source), frame_index=3, is_video=False), honour_exif=True, access=None)
    drawing = draw(run, "scans/a.tif", frame_index=1, clear_background=False)
    assert (drawing.frame_index, drawing.height_px, drawing.width_px) == (1, *SIZES[1])


def test_labels_of_pages_are_found_by_folder_and_number(run, tmp_path, capsys):
    expected = picture_runs.class_maps(run)
    for (item_id, number), class_map_HW in expected.items():
        path = tmp_path / "labels" / (f"{item_id}/{number}.png" if item_id == "scans/a.tif" else f"{item_id[0]}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), class_map_HW)
    code = main(["evaluate", run, str(tmp_path / "labels")])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert code == 0
    assert document["accuracy"] == 1
    assert document["pairs"]["compared"] == 5
