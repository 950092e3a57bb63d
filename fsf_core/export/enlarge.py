"""Scores enlarged to the grid of the model's input, so that padding can be cropped from them.

In the graph by ONNX operators; behind the original, which the graph is compared with, by NumPy and OpenCV. Knows no
meaning of pixels and runs no model.
"""

# N images, K classes, H rows, W columns

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fsf_core.export.graph import add_constant, real_inputs, unused_name
from fsf_core.export.reference import nearest_cells, resized
from fsf_core.model.bundle import Output


def enlarged(scores_NKHW: NDArray[np.float32], output: Output, size_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """Return scores, or class ids N1HW, on a grid of this size: bilinear, ids by the nearest cell."""
    if scores_NKHW.shape[2:] == size_hw:
        return scores_NKHW
    height_px, width_px = size_hw
    if output.kind == "class_map":
        rows, columns = (
            nearest_cells(size, cells, output.corners)
            for size, cells in zip(size_hw, scores_NKHW.shape[2:], strict=True)
        )
        return np.ascontiguousarray(scores_NKHW[:, :, rows][:, :, :, columns])
    planes = [[resized(plane, height_px, width_px, output.corners) for plane in scores] for scores in scores_NKHW]
    return np.asarray(planes, np.float32)


def add_enlargement(model: onnx.ModelProto, value: str, output: Output) -> str:
    """Append what enlarges a value NKHW to the grid of the model's input NCHW; returns the name of the result.

    Needs opset 11. Sizes are read when the model runs, so that they may be free.
    """
    graph = _Steps(model, value)
    image = real_inputs(model)[0].name
    size = graph.node("Slice", graph.node("Shape", image), graph.number([2]), graph.number([4]))
    if output.kind == "class_map":
        for axis in (2, 3):
            nearest = _asymmetric_cells if output.corners == "asymmetric" else _nearest_cells
            value = graph.node("Gather", value, nearest(graph, value, size, axis), axis=axis)
        return value
    batch_and_classes = graph.node("Slice", graph.node("Shape", value), graph.number([0]), graph.number([2]))
    sizes = graph.node("Concat", batch_and_classes, size, axis=0)
    # Opset 11 requires roi and scales; empty means unused, in all later opsets too.
    unused = [graph.constant(np.empty(0, np.float32)) for _ in range(2)]
    mode = "half_pixel" if output.corners == "half-pixel" else "align_corners"
    return graph.node("Resize", value, *unused, sizes, mode="linear", coordinate_transformation_mode=mode)


def _nearest_cells(graph: "_Steps", value: str, size: str, axis: int) -> str:
    """Append the nearest cell of every pixel along one side, in integers: (2·pixel + 1)·cells / (2·pixels)."""
    one, two = graph.number(1), graph.number(2)
    pixels = graph.node("Gather", size, graph.number(axis - 2), axis=0)
    cells = graph.node("Gather", graph.node("Shape", value), graph.number(axis), axis=0)
    doubled = graph.node("Mul", graph.node("Range", graph.number(0), pixels, one), two)
    scaled = graph.node("Mul", graph.node("Add", doubled, one), cells)
    return graph.node("Div", scaled, graph.node("Mul", pixels, two))


def _asymmetric_cells(graph: "_Steps", value: str, size: str, axis: int) -> str:
    """Append the cell of every pixel along one side by its upper left corner: pixel · (cells / pixels) in float32."""
    pixels = graph.node("Gather", size, graph.number(axis - 2), axis=0)
    cells = graph.node("Gather", graph.node("Shape", value), graph.number(axis), axis=0)
    numbers = graph.node("Range", graph.number(0), pixels, graph.number(1))
    floats = [graph.node("Cast", number, to=TensorProto.FLOAT) for number in (numbers, cells, pixels)]
    scaled = graph.node("Mul", floats[0], graph.node("Div", floats[1], floats[2]))
    last = graph.node("Sub", cells, graph.number(1))
    # Cast truncates, and the numbers are positive. Min takes no int64 before opset 12.
    limit = graph.node("Cast", last, to=TensorProto.FLOAT)
    return graph.node("Cast", graph.node("Min", scaled, limit), to=TensorProto.INT64)


class _Steps:
    """Appends nodes behind a value."""

    def __init__(self, model: onnx.ModelProto, value: str) -> None:
        self._model, self._value = model, value

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        name = unused_name(self._model, f"{self._value}/{op_type.lower()}")
        self._model.graph.node.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant; returns its name."""
        return add_constant(self._model, f"{self._value}/constant", value)

    def number(self, value: int | list[int]) -> str:
        """Add a constant of int64; returns its name."""
        return self.constant(np.asarray(value, np.int64))
