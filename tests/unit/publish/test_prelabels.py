"""Pre-labels of annotation tools, read by decoders that are written from the definitions of their formats."""

import json
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.support import picture_runs
from tests.support.brushes import decode_brush


def _tasks(folder):
    return [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_text())]


def test_label_studio_draws_the_masks_of_the_run(run, publish, tmp_path):
    folder = tmp_path / "out"
    code, document, _ = publish(run, "label-studio", folder, "--with-images")
    expected = picture_runs.class_maps(run)
    config = ET.parse(folder / "label_config.xml").getroot()  # noqa: S314 - our own file
    labels = [label.get("value") for label in config.iter("Label")]
    brush, shown = config.find("BrushLabels"), config.find("Image")
    tasks = _tasks(folder)

    assert (code, document["rows"], len(tasks)) == (0, 10, 10)
    assert labels == [*picture_runs.NAMES[1:]]
    for task in tasks:
        class_map_HW = expected[task["data"]["item_id"], task["data"]["frame_index"]]
        drawn_HW = np.zeros_like(class_map_HW)
        for stroke in task["predictions"][0]["result"]:
            assert (stroke["from_name"], stroke["to_name"], stroke["type"]) == (
                brush.get("name"), shown.get("name"), "brushlabels",
            )  # fmt: skip
            shape = stroke["original_height"], stroke["original_width"]
            (name,) = stroke["value"]["brushlabels"]
            drawn_HW[decode_brush(stroke["value"]["rle"], shape) == 255] = picture_runs.NAMES.index(name)
        np.testing.assert_array_equal(drawn_HW, class_map_HW)
        address = task["data"][shown.get("value").removeprefix("$")]
        local = unquote(address.removeprefix("/data/local-files/?d="))
        assert (tmp_path.anchor + local).startswith(str(folder / "images"))
        assert (folder / "images" / (tmp_path.anchor + local).removeprefix(f"{folder}/images/")).is_file()


def test_label_studio_finds_pictures_where_they_are_or_below_an_address(run, items, publish, tmp_path):
    chosen = tmp_path / "chosen.csv"
    chosen.write_text("id\nnorth/ünï çø.png\n")
    source = next(item.source for item in items if item.item_id == "north/ünï çø.png")
    publish(run, "label-studio", tmp_path / "local", "--items", str(chosen))
    address = _tasks(tmp_path / "local")[0]["data"]["image"]
    assert "/" + unquote(address.removeprefix("/data/local-files/?d=")) == str(source)

    publish(run, "label-studio", tmp_path / "web", "--items", str(chosen), "--image-url", "https://host/p/")
    assert _tasks(tmp_path / "web")[0]["data"]["image"] == "https://host/p/north/%C3%BCn%C3%AF%20%C3%A7%C3%B8.png"


def test_label_studio_without_pictures_of_a_video_is_refused_before_anything_is_written(run, publish, tmp_path):
    code, _, error = publish(run, "label-studio", tmp_path / "out")

    assert code == 2
    assert "pass --with-images" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("uri", ["span://512+100!a.png/photos/all.tar", "https://host/a.png?sig=***"])
def test_label_studio_without_pictures_that_it_cannot_open_is_refused(uri, publish, tmp_path):
    item = replace(picture_runs.image(tmp_path / "in", "a.png", np.zeros((4, 4), np.uint8)), uri=uri)
    code, _, error = publish(picture_runs.finished(tmp_path / "run", [item]), "label-studio", tmp_path / "out")

    assert code == 2
    assert "members of archives, or addresses without their password" in error
    assert not (tmp_path / "out").exists()


def test_three_hundred_classes_stay_whole(publish, tmp_path):
    run, class_map_HW = picture_runs.of_many_classes(tmp_path)
    publish(run, "label-studio", tmp_path / "tasks")
    publish(run, "cvat", tmp_path / "xml")
    strokes = _tasks(tmp_path / "tasks")[0]["predictions"][0]["result"]
    masks = ET.parse(tmp_path / "xml" / "annotations.xml").getroot().findall("image/mask")  # noqa: S314 - our own file

    assert [stroke["value"]["brushlabels"] for stroke in strokes] == [[f"class {at}"] for at in range(1, 300)]
    last_HW = decode_brush(strokes[-1]["value"]["rle"], class_map_HW.shape) == 255
    np.testing.assert_array_equal(last_HW, class_map_HW == 299)
    assert [mask.get("label") for mask in masks] == [f"class {at}" for at in range(1, 300)]


@pytest.mark.parametrize("words", [[], ["--with-images"]], ids=["names", "copies"])
def test_cvat_draws_the_masks_of_the_run(words, run, publish, tmp_path):
    folder = tmp_path / "out"
    code, _, _ = publish(run, "cvat", folder, *words)
    expected = iter(picture_runs.class_maps(run).values())
    document = ET.parse(folder / "annotations.xml").getroot()  # noqa: S314 - our own file
    images = document.findall("image")

    assert (code, document.findtext("version"), document.findtext("meta/task/size")) == (0, "1.1", "10")
    assert [image.get("id") for image in images] == [str(number) for number in range(10)]
    for image, class_map_HW in zip(images, expected, strict=True):
        drawn_HW = np.zeros_like(class_map_HW)
        assert drawn_HW.shape == (int(image.get("height")), int(image.get("width")))
        for mask in image.findall("mask"):
            left, top, width, height = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
            counts = [int(count) for count in mask.get("rle").split(", ")]
            pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width) == 1
            drawn_HW[top : top + height, left : left + width][pixels] = picture_runs.NAMES.index(mask.get("label"))
        np.testing.assert_array_equal(drawn_HW, class_map_HW)
        assert not words or (folder / "images" / image.get("name")).is_file()
    labels = json.loads((folder / "labels.json").read_text())
    assert [(label["name"], label["color"]) for label in labels][1] == ("Fäule", "#008000")


def test_cvat_gets_the_path_of_each_picture_below_their_folder(publish, tmp_path):
    """A folder of the pictures may be named as that of the copies, and two pictures as one another."""
    mask_HW = np.zeros((4, 4), np.uint8)
    names = ("a.png", "images/a.png", "images/images/a.png")
    run = picture_runs.finished(
        tmp_path / "run", [picture_runs.image(tmp_path / "in", name, mask_HW) for name in names]
    )
    code, _, _ = publish(run, "cvat", tmp_path / "out")
    images = ET.parse(tmp_path / "out" / "annotations.xml").getroot().findall("image")  # noqa: S314 - our own file

    assert (code, sorted(image.get("name") for image in images)) == (0, [*names])
