"""The class map that is added to an instance model equals Ultralytics' steps, written in NumPy from its definition."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.families.ultralytics_instances import with_class_map
from tests.support.instances import painted, suppressed

NUM_CLASSES, COEFFICIENTS, HEIGHT_PX, WIDTH_PX = 3, 4, 64, 96
CELLS = (COEFFICIENTS, HEIGHT_PX // 4, WIDTH_PX // 4)


def exported(boxes, prototypes, *, opset=17):
    """Return a model that takes an image and returns constants: what a network gave for it."""
    constants = {"boxes": boxes, "prototypes": prototypes, "zero": np.zeros(1, np.float32)}
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Add", ["boxes", "nothing"], ["output0"]),
        helper.make_node("Add", ["prototypes", "nothing"], ["output1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "instances",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, boxes.shape),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, prototypes.shape),
        ],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def class_map(boxes, prototypes, *, end2end=False, opset=17):
    model = with_class_map(exported(boxes, prototypes, opset=opset), num_classes=NUM_CLASSES, end2end=end2end)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": np.zeros((1, 3, HEIGHT_PX, WIDTH_PX), np.float32)})[0]


def all_boxes(seed, count=40):
    """Return boxes [1, 4 + classes + coefficients, B], many of which overlap, and prototypes."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (count, 2)) * (WIDTH_PX, HEIGHT_PX)
    sides = rng.uniform(8, 60, (count, 2))
    scores = rng.uniform(0, 0.6, (count, NUM_CLASSES))
    coefficients = rng.normal(0, 1, (count, COEFFICIENTS))
    near = np.concatenate([centres, sides], axis=1) + rng.normal(0, 0.5, (count, 4))
    doubled = np.concatenate([np.concatenate([centres, sides], axis=1), near])
    rows = np.concatenate([doubled, np.tile(scores, (2, 1)) * rng.uniform(0.9, 1, (2 * count, 1))], axis=1)
    rows = np.concatenate([rows, np.tile(coefficients, (2, 1))], axis=1)
    return rows.T[None].astype(np.float32), rng.normal(0, 1, (1, *CELLS)).astype(np.float32)


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("seed", range(5))
def test_all_boxes_are_suppressed_and_painted(seed, opset):
    boxes, prototypes = all_boxes(seed)
    corners, _, classes, coefficients = suppressed(boxes, NUM_CLASSES)
    assert len(corners) < boxes.shape[2] * 0.6
    expected = painted(corners, classes, coefficients, prototypes, (HEIGHT_PX, WIDTH_PX))
    found = class_map(boxes, prototypes, opset=opset)
    assert found.shape == (1, HEIGHT_PX, WIDTH_PX)
    assert len(np.unique(expected)) == NUM_CLASSES + 1
    np.testing.assert_array_equal(found[0], expected)


def test_final_boxes_are_painted_where_they_are_confident():
    corners, confidence, classes, coefficients = suppressed(all_boxes(1)[0], NUM_CLASSES)
    prototypes = all_boxes(1)[1]
    rows = np.concatenate([corners, confidence[:, None], classes[:, None], coefficients], axis=1)
    doubtful = rows[:3] * np.where(np.arange(rows.shape[1]) == 4, 0.1, 1)
    found = class_map(np.concatenate([rows, doubtful])[None].astype(np.float32), prototypes, end2end=True)
    np.testing.assert_array_equal(found[0], painted(corners, classes, coefficients, prototypes, (HEIGHT_PX, WIDTH_PX)))


@pytest.mark.parametrize("end2end", [False, True])
def test_without_instances_all_is_background(end2end):
    shape = (1, 300, 6 + COEFFICIENTS) if end2end else (1, 4 + NUM_CLASSES + COEFFICIENTS, 126)
    assert not class_map(np.zeros(shape, np.float32), np.ones((1, *CELLS), np.float32), end2end=end2end).any()


def test_other_outputs_are_refused():
    boxes, prototypes = all_boxes(0)
    with pytest.raises(ConfigError, match="expected 13 numbers for each of 5 classes"):
        with_class_map(exported(boxes, prototypes), num_classes=5, end2end=False)
    with pytest.raises(ConfigError, match="expected boxes of three axes and prototypes of four"):
        with_class_map(exported(boxes, boxes), num_classes=NUM_CLASSES, end2end=False)
    with pytest.raises(ConfigError, match="opset 10, expected 11 or above"):
        with_class_map(exported(boxes, prototypes, opset=10), num_classes=NUM_CLASSES, end2end=False)
