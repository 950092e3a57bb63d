"""Ultralytics' instance networks (`-seg`): boxes, coefficients and prototypes of masks become a class map in the graph.

The steps are those of its predictor with its defaults: the best class of every box, non-maximum suppression per class,
masks enlarged to the input, cut at their boxes, positive ones inside. Where masks overlap, the most confident instance
has the pixel; pixels of none are background. Knows graphs and no files.
"""

# N images, B boxes, D instances and one for the background, H×W pixels of the input, h×w cells of the prototypes

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.graph import opset_of, real_inputs, sizes_of

CONFIDENCE = 0.25
IOU = 0.7
MOST_INSTANCES = 300
"""Defaults of Ultralytics' predictor: conf, iou and max_det."""

_CLASS_OFFSET_PX = 7680.0
"""Moves boxes of different classes apart before they suppress each other (max_wh)."""
_OUTSIDE_PX = 1e9
_AXES_ARE_INPUTS = 13
"""Opset from which Unsqueeze takes its axes as an input."""
_OLDEST_OPSET = 11
"""First opset whose Resize has half-pixel centres."""


def with_class_map(model: onnx.ModelProto, *, num_classes: int, end2end: bool) -> onnx.ModelProto:
    """Return the model with one output: the class map [N, H, W] of one image, 0 for background, then the classes.

    Args:
        model: an export with the boxes and the prototypes as outputs; changed in place.
        num_classes: classes of the instances, without background.
        end2end: whether the boxes are the final ones, [1, B, 6 + coefficients], sorted by confidence; else they are
            all boxes, [1, 4 + classes + coefficients, B].

    Raises:
        ConfigError: the outputs are no such pair, or the opset is too old.
    """
    boxes, prototypes = _outputs(model, num_classes, end2end=end2end)
    tail = _Tail(model)
    rows = tail.add("Gather", boxes, tail.constant(0, np.int64), axis=0)
    corners, best, coefficients = (_final if end2end else _suppressed)(tail, rows, num_classes)
    ids = tail.add("Add", best, tail.constant([1], np.int64))
    ids = tail.add("Concat", ids, tail.constant([0], np.int64), axis=0)
    first = tail.add("ArgMax", _inside(tail, corners, coefficients, prototypes), axis=0, keepdims=0)
    class_map = tail.add("Gather", ids, first, axis=0)
    class_map = tail.add("Cast", class_map, to=TensorProto.INT32)
    result = tail.add("Unsqueeze", class_map, axes=[0])
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(result, TensorProto.INT32, [1, None, None]))
    return model


def _outputs(model: onnx.ModelProto, num_classes: int, *, end2end: bool) -> tuple[str, str]:
    """Return the names of boxes and prototypes.

    Raises:
        ConfigError: there are no such outputs.
    """
    if opset_of(model) < _OLDEST_OPSET:
        raise ConfigError(
            f"the model has opset {opset_of(model)}, expected {_OLDEST_OPSET} or above; export it again with a later "
            "opset"
        )
    by_rank = {len(sizes_of(value)): value for value in model.graph.output}
    if len(model.graph.output) != 2 or {*by_rank} != {3, 4}:  # noqa: PLR2004 - boxes and prototypes
        found = [(value.name, sizes_of(value)) for value in model.graph.output]
        raise ConfigError(
            f"the model has the outputs {found}, expected boxes of three axes and prototypes of four; export it again"
        )
    boxes, prototypes = sizes_of(by_rank[3]), sizes_of(by_rank[4])[1]
    channels = boxes[2] if end2end else boxes[1]
    expected = (6 if end2end else 4 + num_classes) + (prototypes or 0)
    if prototypes is None or channels not in {None, expected}:
        raise ConfigError(
            f"the boxes of the model are {boxes} with {prototypes} prototypes, expected {expected} numbers for each of "
            f"{num_classes} classes; export it again"
        )
    return by_rank[3].name, by_rank[4].name


def _final(tail: "_Tail", rows: str, _: int) -> tuple[str, str, str]:
    """Return corners, classes and coefficients of final boxes that are confident enough."""
    confident = tail.add("Greater", tail.columns(rows, 4, 5), tail.constant(CONFIDENCE))
    kept = tail.add("NonZero", tail.add("Reshape", confident, tail.constant([-1], np.int64)))
    kept = tail.add("Reshape", kept, tail.constant([-1], np.int64))
    rows = tail.add("Gather", rows, kept, axis=0)
    best = tail.add("Reshape", tail.columns(rows, 5, 6), tail.constant([-1], np.int64))
    return tail.columns(rows, 0, 4), tail.add("Cast", best, to=TensorProto.INT64), tail.columns(rows, 6)


def _suppressed(tail: "_Tail", rows: str, num_classes: int) -> tuple[str, str, str]:
    """Return corners, classes and coefficients of the boxes that non-maximum suppression leaves, best first."""
    rows = tail.add("Transpose", rows, perm=[1, 0])
    scores = tail.columns(rows, 4, 4 + num_classes)
    best = tail.add("ArgMax", scores, axis=1, keepdims=1)
    confidence = tail.add("GatherElements", scores, best, axis=1)
    centre, half = tail.columns(rows, 0, 2), tail.add("Div", tail.columns(rows, 2, 4), tail.constant(2.0))
    corners = tail.add("Concat", tail.add("Sub", centre, half), tail.add("Add", centre, half), axis=1)
    offset = tail.add("Mul", tail.add("Cast", best, to=TensorProto.FLOAT), tail.constant(_CLASS_OFFSET_PX))
    apart = tail.add("Unsqueeze", tail.add("Add", corners, offset), axes=[0])
    kept = tail.add(
        "NonMaxSuppression",
        apart,
        tail.add("Reshape", confidence, tail.constant([1, 1, -1], np.int64)),
        tail.constant([MOST_INSTANCES], np.int64),
        tail.constant([IOU]),
        tail.constant([CONFIDENCE]),
    )
    kept = tail.add("Reshape", tail.columns(kept, 2), tail.constant([-1], np.int64))
    corners, best, rows = (tail.add("Gather", value, kept, axis=0) for value in (corners, best, rows))
    best = tail.add("Reshape", best, tail.constant([-1], np.int64))
    return corners, best, tail.columns(rows, 4 + num_classes)


def _inside(tail: "_Tail", corners: str, coefficients: str, prototypes: str) -> str:
    """Return for each instance, and last the background, which pixels are its: uint8 [D, H, W]."""
    planes = tail.add("Gather", prototypes, tail.constant(0, np.int64), axis=0)
    count = tail.sides(planes, 0, 1)
    masks = tail.add("MatMul", coefficients, tail.add("Reshape", planes, tail.join(count, [-1])))
    # The background is everywhere: its mask has the value 1, and its box no end.
    masks = tail.add("Concat", masks, tail.filled(tail.join([1], tail.sides(masks, 1, 2)), 1.0), axis=0)
    corners = tail.add("Concat", corners, tail.constant([[-1.0, -1.0, _OUTSIDE_PX, _OUTSIDE_PX]]), axis=0)
    instances = tail.sides(masks, 0, 1)
    masks = tail.add("Reshape", masks, tail.join([1], instances, tail.sides(planes, 1, 3)))
    image = real_inputs(tail.model)[0].name
    sizes = tail.join([1], instances, tail.sides(image, 2, 4))
    empty = tail.constant(np.zeros(0))
    masks = tail.add("Resize", masks, empty, empty, sizes, mode="linear")
    positive = tail.add("Greater", tail.add("Gather", masks, tail.constant(0, np.int64), axis=0), tail.constant(0.0))
    parts = [positive]
    for axis in (0, 1):  # columns, then rows
        length = tail.add("Gather", tail.add("Shape", image), tail.constant(3 - axis, np.int64), axis=0)
        numbers = tail.add("Range", tail.constant(0, np.int64), length, tail.constant(1, np.int64))
        shape = [1, 1, -1] if axis == 0 else [1, -1, 1]
        numbers = tail.add("Reshape", tail.add("Cast", numbers, to=TensorProto.FLOAT), tail.constant(shape, np.int64))
        low, high = (
            tail.add("Reshape", tail.columns(corners, at, at + 1), tail.constant([-1, 1, 1], np.int64))
            for at in (axis, axis + 2)
        )
        parts.append(tail.add("Not", tail.add("Less", numbers, low)))
        parts.append(tail.add("Less", numbers, high))
    inside = parts[0]
    for part in parts[1:]:
        inside = tail.add("And", inside, part)
    return tail.add("Cast", inside, to=TensorProto.INT32)


class _Tail:
    """Appends nodes to a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"fsf/instances/{self._count}"

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant; returns its name."""
        name = self._name()
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op_type: str, *inputs: str, axes: list[int] | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        name = self._name()
        more = [self.constant(axes, np.int64)] if axes is not None and opset_of(self.model) >= _AXES_ARE_INPUTS else []
        if axes is not None and not more:
            attributes["axes"] = axes
        self.model.graph.node.append(helper.make_node(op_type, [*inputs, *more], [name], name=name, **attributes))
        return name

    def columns(self, value: str, start: int, end: int = np.iinfo(np.int64).max) -> str:
        """Append a slice of the second axis."""
        limits = ([start], [end], [1])
        return self.add("Slice", value, *(self.constant(limit, np.int64) for limit in limits))

    def sides(self, value: str, start: int, end: int) -> str:
        """Append some of the sizes of a value: int64."""
        shape = self.add("Shape", value)
        limits = ([start], [end], [0])
        return self.add("Slice", shape, *(self.constant(limit, np.int64) for limit in limits))

    def join(self, *parts: "str | list[int]") -> str:
        """Append a shape that is put together from constants and values."""
        values = [part if isinstance(part, str) else self.constant(part, np.int64) for part in parts]
        return self.add("Concat", *values, axis=0)

    def filled(self, shape: str, number: float) -> str:
        """Append a tensor of one number."""
        value = numpy_helper.from_array(np.array([number], np.float32))
        return self.add("ConstantOfShape", shape, value=value)
