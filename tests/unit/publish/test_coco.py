"""COCO's document, opened by COCO's own tools: every mask comes back pixel for pixel."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from fsf_core.publish.choice import Choice
from fsf_core.publish.frames import plan_frames
from tests.support import ledger, picture_runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def _opened(folder):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / "annotations.json"))


def _class_maps(coco):
    """Return the masks that the annotations draw, by item and frame."""
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        drawn_HW = np.zeros((image["height"], image["width"]), np.uint16)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask_HW = coco.annToMask(annotation).astype(np.bool_)
            assert not drawn_HW[mask_HW].any(), "two annotations share a pixel"
            assert annotation["area"] == mask_HW.sum()
            rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert annotation["bbox"] == list(map(int, box))
            drawn_HW[mask_HW] = annotation["category_id"]
        found[image["item_id"], image["frame_index"]] = drawn_HW
    return found


@pytest.mark.parametrize("segmentation", ["rle", "rle-uncompressed", "polygon"])
def test_every_mask_comes_back_pixel_for_pixel(segmentation, run, publish, tmp_path):
    code, document, _ = publish(run, "coco", tmp_path / "out", "--segmentation", segmentation)
    coco = _opened(tmp_path / "out")
    expected = picture_runs.class_maps(run)

    assert code == 0
    assert document["rows"] == len(expected) == len(coco.imgs)
    found = _class_maps(coco)
    assert found.keys() == expected.keys()
    for key, class_map_HW in expected.items():
        np.testing.assert_array_equal(found[key], class_map_HW, err_msg=str(key))
    assert sorted(coco.anns) == [*range(1, len(coco.anns) + 1)]
    kinds = {type(annotation["segmentation"]) for annotation in coco.anns.values()}
    assert kinds == ({list, dict} if segmentation == "polygon" else {dict})
    as_rle = [each["segmentation"] for each in coco.anns.values() if isinstance(each["segmentation"], dict)]
    assert {type(each["counts"]) for each in as_rle} == ({list} if segmentation == "rle-uncompressed" else {str})
    holes = coco.dataset["info"]["regions_with_holes_as_rle"]
    assert holes == (len(as_rle) if segmentation == "polygon" else None)


def test_images_are_found_by_their_names(run, items, publish, tmp_path):
    """Those that are not copied below the folder that all of them are in, those that are copied beside the document."""
    sources = {item.item_id: item.source for item in items}
    publish(run, "coco", tmp_path / "names")
    coco = _opened(tmp_path / "names")
    root = Path(coco.dataset["info"]["image_root"])
    for image in coco.imgs.values():
        if image["item_id"] != "belt/clip.mp4":
            assert root / image["file_name"] == sources[image["item_id"]]

    publish(run, "coco", tmp_path / "copies", "--with-images")
    for image in _opened(tmp_path / "copies").imgs.values():
        assert (tmp_path / "copies" / image["file_name"]).is_file()


def test_the_document_says_where_it_comes_from(run, publish, tmp_path):
    publish(run, "coco", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())

    assert document["info"]["lineage"]["bundle_sha256"] == "ab" * 32
    assert document["info"]["background"] == "background"
    assert [(each["id"], each["name"]) for each in document["categories"]] == [
        (1, "sunburn"),
        (2, "Fäule"),
        (3, "wind scar"),
    ]


def test_regions_of_the_run_give_their_probability_as_score(publish, tmp_path):
    class_map_HW = np.zeros((6, 8), np.uint8)
    class_map_HW[1:3, 2:6] = 1
    class_map_HW[4, 0] = 1
    listed = {
        "item_id": "a.png", "frame_index": 0, "region": 0, "class_id": 1, "class_name": "sunburn", "pixels": 8,
        "top_px": 1, "left_px": 2, "height_px": 2, "width_px": 4, "centroid_row": 1.5, "centroid_column": 3.5,
        "mean_probability": 0.75, "touches_border": False,
    }  # fmt: skip
    items = [picture_runs.image(tmp_path, "a.png", class_map_HW)]
    run = picture_runs.finished(tmp_path / "run", items, regions=[listed])
    publish(run, "coco", tmp_path / "out")
    annotations = _opened(tmp_path / "out").anns.values()

    assert [(each["area"], each.get("score")) for each in annotations] == [(8, 0.75), (1, None)]


def test_three_hundred_classes_stay_whole(publish, tmp_path):
    run, class_map_HW = picture_runs.of_many_classes(tmp_path)
    publish(run, "coco", tmp_path / "out")

    np.testing.assert_array_equal(_class_maps(_opened(tmp_path / "out"))["a.png", 0], class_map_HW)


@pytest.mark.parametrize("names", [["whole"], ["background", "a"]], ids=["one class", "all failed"])
def test_a_run_without_regions_is_a_valid_document(names, publish, tmp_path):
    items = [picture_runs.image(tmp_path, "a.png", np.zeros((4, 4), np.uint8))]
    if len(names) > 1:
        items = [picture_runs.failed("a"), picture_runs.failed("b")]
    run = picture_runs.finished(tmp_path / "run", items, names=names)
    code, document, _ = publish(run, "coco", tmp_path / "out")
    coco = _opened(tmp_path / "out")

    assert (code, document["rows"], document["failed_items"]) == (0, len(coco.imgs), 3 - len(coco.imgs) * 3 and 2)
    assert coco.anns == {}


def test_images_of_two_buckets_have_names_of_their_own(publish, tmp_path):
    mask_HW = np.zeros((4, 4), np.uint8)
    items = [picture_runs.image(tmp_path / "in", name, mask_HW) for name in ("a.png", "b.png")]
    uris = ("s3://one/day/a.png", "s3://two/day/a.png")
    items = [replace(item, uri=uri) for item, uri in zip(items, uris, strict=True)]
    code, _, _ = publish(picture_runs.finished(tmp_path / "run", items), "coco", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())

    assert (code, document["info"]["image_root"]) == (0, None)
    assert [image["file_name"] for image in document["images"]] == ["images/a.png", "images/b.png"]


def test_a_video_that_failed_after_some_of_its_segments_keeps_its_name(publish, tmp_path):
    uri = str(tmp_path / "run")
    with ledger.claim_run(
        uri, fingerprint={"classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]]}, details={}
    ) as at:
        ledger.commit(at, ledger.video("clip.mp4", 2, 2)[1])
        ledger.commit(at, ledger.image("clip.mp4", failed=True))
        ledger.publish(at, {"items": {"total": 1}})

    assert plan_frames(uri, Choice()).names.path("clip.mp4") == "clip.mp4"
