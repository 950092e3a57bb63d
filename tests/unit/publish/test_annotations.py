"""The way to an annotation tool and back: what is chosen is published, and what was drawn becomes labels."""

import copy
import json

import cv2
import numpy as np
import pytest

from fsf_core import masks
from fsf_core.cli.app import main
from fsf_core.errors import ConfigError
from fsf_core.manifest import open_manifest
from fsf_core.publish.annotations import write_labels
from fsf_core.publish.run_lengths import brush_bytes, brush_mask
from fsf_core.runs import open_run
from tests.support import picture_runs
from tests.support.brushes import decode_brush


@pytest.fixture
def chosen(run, tmp_path, capsys):
    """Pictures and frames of the run that `fsf select` chose, by id and frame."""
    listed = tmp_path / "next.csv"
    assert main(["select", run, "--by", "random", "--n", "5", "--min-gap-s", "0.08", "--out", str(listed)]) == 0
    items = json.loads(capsys.readouterr().out.splitlines()[-1])["items"]
    return str(listed), {(item["id"], item["frame_index"]) for item in items}


@pytest.fixture
def exported(run, chosen, publish, tmp_path):
    """Return tasks as Label Studio exports them when annotators have accepted every pre-label."""
    publish(run, "label-studio", tmp_path / "tasks", "--items", chosen[0], "--with-images")
    tasks = [task for path in (tmp_path / "tasks").glob("tasks-*.json") for task in json.loads(path.read_text())]
    for number, task in enumerate(tasks):
        result = task.pop("predictions")[0]["result"]
        task["id"], task["annotations"] = number, [{"id": number, "was_cancelled": False, "result": result}]
    return tasks


@pytest.fixture
def back(run, tmp_path):
    """Return a function that writes labels of an export."""

    def write(tasks):
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return write_labels(open_run(run), str(tmp_path / "export.json"), str(tmp_path / "labels"))

    return write


def labels_of(folder):
    paths = sorted(path for path in folder.rglob("*.png"))
    return {str(path.relative_to(folder)): masks.decode_png(path.read_bytes()) for path in paths}


def test_what_was_chosen_becomes_tasks_for_those_frames_alone(exported, chosen):
    assert {(task["data"]["item_id"], task["data"]["frame_index"]) for task in exported} == chosen[1]


@pytest.mark.parametrize("form", ["cvat", "png", "coco"])
def test_every_form_publishes_what_was_chosen(form, run, chosen, publish, tmp_path):
    code, document, _ = publish(run, form, tmp_path / "out", "--items", chosen[0])

    assert (code, document["rows"]) == (0, len(chosen[1]))


def test_accepted_pre_labels_come_back_as_labels_equal_to_the_masks(run, exported, back, tmp_path):
    written = back(exported)

    expected = picture_runs.class_maps(run)
    found = labels_of(tmp_path / "labels")
    assert (written.labels, written.without_annotation, len(found)) == (len(exported), 0, len(exported))
    keys = sorted((task["data"]["item_id"], task["data"]["frame_index"]) for task in exported)
    assert sorted(label.tobytes() for label in found.values()) == sorted(expected[key].tobytes() for key in keys)
    manifest = open_manifest(str(tmp_path / "labels" / "labels.csv"))
    listed = {row["item_id"]: row["label_uri"] for batch in manifest.batches() for row in batch.to_pylist()}
    assert {*listed} == {item_id for item_id, _ in keys}
    for item_id, address in listed.items():
        frames = [frame for item, frame in keys if item == item_id]
        if item_id == "belt/clip.mp4":
            label = masks.decode_png(open(f"{address}/{frames[0]:06d}.png", "rb").read())  # noqa: SIM115, PTH123
        else:
            label = masks.decode_png(open(address, "rb").read())  # noqa: SIM115, PTH123
        np.testing.assert_array_equal(label, expected[item_id, frames[0]])


def test_what_annotators_changed_is_in_the_label(run, exported, back, tmp_path):
    task = exported[0]
    class_map_HW = picture_runs.class_maps(run)[task["data"]["item_id"], task["data"]["frame_index"]]
    height_px, width_px = class_map_HW.shape
    drawn_HW = np.zeros((height_px, width_px), bool)
    drawn_HW[1:5, 2:6] = True
    stroke = {
        "type": "brushlabels",
        "original_height": height_px,
        "original_width": width_px,
        "value": {"format": "rle", "rle": [*brush_bytes(drawn_HW)], "brushlabels": ["wind scar"]},
    }
    older = copy.deepcopy(task["annotations"][0]) | {"updated_at": "2026-11-26T10:00:00Z"}
    newer = {"updated_at": "2026-11-27T09:00:00Z", "result": [*older["result"], stroke, {"type": "choices"}]}
    dropped = {"updated_at": "2026-11-28T09:00:00Z", "was_cancelled": True, "result": []}

    back([task | {"annotations": [dropped, newer, older]}])

    (label_HW,) = labels_of(tmp_path / "labels").values()
    np.testing.assert_array_equal(label_HW, np.where(drawn_HW, 3, class_map_HW))


def test_a_picture_without_a_stroke_is_labelled_and_one_without_an_annotation_is_not(exported, back, tmp_path):
    exported[0]["annotations"][0]["result"] = []
    exported[1]["annotations"] = []

    written = back(exported[:2])

    assert (written.labels, written.without_annotation) == (1, 1)
    (label_HW,) = labels_of(tmp_path / "labels").values()
    assert not label_HW.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task["data"].update(item_id="elsewhere"), "which the run does not have; give the run"),
        (lambda task: task.pop("annotations"), r"expected Label Studio's format JSON \(not JSON-MIN\)"),
        (lambda task: first(task).update(type="polygonlabels"), "has polygonlabels, expected brush strokes"),
        (lambda task: first(task)["value"].update(brushlabels=["rust"]), "has the label 'rust', expected one of"),
        (lambda task: first(task).update(original_width=3), "was drawn on a picture of 3×"),
        (lambda task: first(task)["value"].update(rle=[0, 0]), "has a stroke that cannot be read: it ends after 2"),
    ],
)
def test_an_export_that_does_not_fit_is_refused(change, message, exported, back):
    task = next(task for task in exported if task["annotations"][0]["result"])
    change(task)

    with pytest.raises(ConfigError, match=message):
        back([task])


def first(task):
    return task["annotations"][0]["result"][0]


def test_strokes_are_decoded_like_the_definition_of_their_format():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (64, 97)):
        mask_HW = cv2.GaussianBlur(rng.random(shape), (0, 0), 2) > 0.5
        data = brush_bytes(mask_HW)
        np.testing.assert_array_equal(brush_mask(data, shape), mask_HW)
        np.testing.assert_array_equal(brush_mask(data, shape), decode_brush(data, shape) == 255)


def test_strokes_with_soft_edges_and_single_values_are_decoded():
    """A stroke of four pixels: alpha 0, 100, 128 and 255, as one block of single values, bit by bit."""
    values = [value for alpha in (0, 100, 128, 255) for value in [alpha] * 4]
    bits = f"{16:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "01" + f"{15:04b}" + "".join(f"{value:08b}" for value in values)
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    assert brush_mask(data, (2, 2)).tolist() == [[False, False], [True, True]]
    with pytest.raises(ValueError, match="it has 16 values, expected 4 for each of 3×2 pixels"):
        brush_mask(data, (2, 3))
