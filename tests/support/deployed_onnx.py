"""Small networks as deployment tools export them: with scores, or class maps of any type and layout."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

End = Literal["logits", "softmax", "uint8 NHW", "int32 NHW", "int64 N1HW"]
_TYPES = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "int64": TensorProto.INT64}


def deployed_onnx(
    *,
    end: End,
    num_classes: int = 5,
    size: tuple[int, int] | None = None,
    batch: int | str = "batch",
    enlarge: bool = True,
    names: tuple[str, str] = ("input", "output"),
    scale: float = 1.0,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Return a network of two convolutions on a grid of a quarter of the input.

    Args:
        end: what it returns: scores, or their argmax.
        num_classes: channels of the scores; of one channel the class map is where it is above 0.
        size: rows and columns of the input; None for free ones.
        batch: images per call.
        enlarge: whether scores are enlarged to the size of the input, half-pixel, before the end.
        names: of the input and the output.
        scale: of the weights of the first layer: small for levels up to 255.
        metadata: entries of the file.
    """
    rng = np.random.default_rng(7)
    weights = {
        "w1": np.asarray(rng.normal(0, 0.5 * scale, (8, 3, 5, 5)), np.float32),
        "b1": np.asarray(rng.normal(0, 0.2, 8), np.float32),
        "w2": np.asarray(rng.normal(0, 0.8, (num_classes, 8, 1, 1)), np.float32),
        "roi": np.zeros(0, np.float32),
        "none": np.zeros(0, np.float32),
        "second": np.array([2], np.int64),
        "last": np.array([4], np.int64),
        "first": np.array([0], np.int64),
        "axis": np.array([1], np.int64),
        "zero": np.zeros((), np.float32),
    }
    image, result = names
    nodes = [
        helper.make_node("Conv", [image, "w1", "b1"], ["a"], pads=[2] * 4, strides=[4, 4]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["small"]),
    ]
    scores = "small"
    if enlarge:
        nodes += [
            helper.make_node("Shape", [image], ["shape"]),
            helper.make_node("Slice", ["shape", "second", "last"], ["sides"]),
            helper.make_node("Shape", ["small"], ["small_shape"]),
            helper.make_node("Slice", ["small_shape", "first", "second"], ["kept"]),
            helper.make_node("Concat", ["kept", "sides"], ["sizes"], axis=0),
            helper.make_node("Resize", ["small", "roi", "none", "sizes"], ["scores"], mode="linear"),
        ]
        scores = "scores"
    rank = 4
    kind = TensorProto.FLOAT
    if end in {"logits", "softmax"}:
        nodes.append(helper.make_node("Identity" if end == "logits" else "Softmax", [scores], [result], **_axis(end)))
    else:
        dtype, layout = end.split()
        kind, rank = _TYPES[dtype], len(layout)
        nodes += _class_map(scores, result, num_classes, kind, keep=layout == "N1HW")
    axes = [batch, *({4: [num_classes if kind == TensorProto.FLOAT else 1], 3: []}[rank])]
    sides: list[Any] = list(size) if size else ["height", "width"]
    grid = sides if enlarge else [side // 4 for side in size] if size else ["rows", "columns"]
    graph = helper.make_graph(
        nodes,
        "deployed",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, 3, *sides])],
        [helper.make_tensor_value_info(result, kind, [*axes, *grid])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    return model


def _axis(end: str) -> dict[str, int]:
    return {"axis": 1} if end == "softmax" else {}


def _class_map(scores: str, result: str, num_classes: int, kind: int, *, keep: bool) -> list[onnx.NodeProto]:
    """Return the nodes from scores to a class map of a type."""
    if num_classes > 1:
        reduce = [helper.make_node("ArgMax", [scores], ["ids"], axis=1, keepdims=int(keep))]
    else:
        squeeze = [] if keep else [helper.make_node("Squeeze", [scores, "axis"], ["flat"])]
        reduce = [*squeeze, helper.make_node("Greater", [scores if keep else "flat", "zero"], ["ids"])]
    return [*reduce, helper.make_node("Cast", ["ids"], [result], to=kind)]
