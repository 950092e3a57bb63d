"""Masks as PNG files: the bytes of the run, found by id, with the pictures that they belong to."""

import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from fsf_core import runs
from fsf_core.keys import file_stem
from fsf_core.masks import decode_png
from tests.support import picture_runs


@pytest.fixture
def published(run, publish, tmp_path):
    code, document, _ = publish(run, "png", tmp_path / "out", "--with-images")
    assert code == 0
    return tmp_path / "out", document


def test_every_mask_is_a_file_of_its_id_with_the_bytes_of_the_run(run, published):
    folder, document = published
    index = pyarrow.parquet.read_table(folder / "index.parquet").to_pylist()
    rows = runs.read_table(run, "masks", columns=["item_id", "frame_index", "mask"]).to_pylist()
    expected = {(row["item_id"], row["frame_index"]): row["mask"]["bytes"] for row in rows}

    assert {(row["item_id"], row["frame_index"]): (folder / row["mask"]).read_bytes() for row in index} == expected
    assert sorted(str(path.relative_to(folder / "masks")) for path in (folder / "masks").rglob("*.png")) == sorted(
        [
            "north/1.png", "north/ünï çø.png", "empty.png", "ring.png", f"{file_stem('../a:b')}.png",
            *(f"belt/clip.mp4/{number:06d}.png" for number in range(5)),
        ]
    )  # fmt: skip
    assert (document["rows"], document["skipped"], document["failed_items"]) == (10, 0, 1)
    listed = [path for path in folder.rglob("*") if path.is_file() and path.name != "publication.json"]
    assert document["files"] == len(listed)
    assert document["bytes"] == sum(path.stat().st_size for path in listed)


def test_pictures_are_copied_bit_for_bit_and_frames_exactly(items, published):
    folder, _ = published
    index = pyarrow.parquet.read_table(folder / "index.parquet").to_pylist()
    sources = {item.item_id: item for item in items}
    frames = picture_runs.decoded(sources["belt/clip.mp4"].source)
    for row in index:
        item = sources[row["item_id"]]
        if item.is_video:
            found_HWC = np.asarray(Image.open(folder / row["image"]))[..., ::-1]
            np.testing.assert_array_equal(found_HWC, frames[row["frame_index"]])
        else:
            assert (folder / row["image"]).read_bytes() == item.source.read_bytes()


def test_other_tools_read_classes_from_the_palette_and_two_lists(published):
    folder, _ = published
    with Image.open(folder / "masks" / "ring.png") as mask:
        assert mask.mode == "P"
        assert sorted({*np.asarray(mask).ravel().tolist()}) == [0, 2, 3]
        assert mask.getpalette()[6:9] == [0, 128, 0]
    classes = json.loads((folder / "classes.json").read_text())["classes"]
    assert classes[2] == {"id": 2, "name": "Fäule", "color": [0, 128, 0]}
    assert (folder / "labelmap.txt").read_text().splitlines()[3] == "Fäule:0,128,0::"


def test_three_hundred_classes_stay_whole(publish, tmp_path):
    """Above 256 classes a mask is a 16-bit PNG."""
    run, class_map_HW = picture_runs.of_many_classes(tmp_path)
    code, _, _ = publish(run, "png", tmp_path / "out")

    assert code == 0
    np.testing.assert_array_equal(decode_png((tmp_path / "out" / "masks" / "a.png").read_bytes()), class_map_HW)
