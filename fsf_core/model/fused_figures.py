"""Further outputs of a fused model: what class maps alone do not tell of the probabilities they were made from.

They are added when the model is loaded, so that the bundles of every version have them and keep their identity. An ONNX
file is a protobuf message, and two messages one after the other are one, whose lists are joined: what is appended here
are a few nodes, constants and outputs. Scoring does without the package onnx, which only export needs.

All arithmetic is float32, of operators that onnxruntime has for CUDA.
"""

# N images, K classes, h×w cells of the network's grid

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.schema import UNCERTAIN_MARGIN

PREFIX = "figures/"
"""Of every name that is added; those of the network begin with net/, those of fusing with fsf/."""

WON_MEANS = f"{PREFIX}won_means"
"""float32 NK: sum of its probability over the cells that the class wins, divided by the number of all cells."""
WON_SHARES = f"{PREFIX}won_shares"
"""float32 NK: share of the cells that the class wins; the lowest class wins a tie."""
UNCERTAIN_SHARES = f"{PREFIX}uncertain_shares"
"""float32 N: share of the cells whose two largest probabilities differ by less than 0.2."""
MEANS = f"{PREFIX}means"
"""float32 N: mean of all probabilities, which is finite only if each of them is."""
WINNERS = f"{PREFIX}winners"
"""int32 N1hw: the class that wins the cell."""
LARGEST = f"{PREFIX}largest"
"""float32 N1hw: its probability, the largest unless other scores decide."""

FIGURES = (WON_MEANS, WON_SHARES, UNCERTAIN_SHARES, MEANS)
"""Outputs of a few numbers per frame."""
PLANES = (WINNERS, LARGEST)
"""Outputs of a number per cell, which are copied only where regions are wanted."""

_RESIZED = "fsf/resized"
"""The node of a fused graph whose input are the scores on the network's grid that decide the class map."""
_PROBABILITIES = "fsf/probabilities"
"""The node that makes the probabilities, unless the scores are the probabilities."""

_FLOAT, _INT32, _INT64 = 1, 6, 7
_BELOW_ALL = -1e30
_AXES_ARE_INPUTS = 18
"""Opset from which ReduceMax and ReduceMean take their axes as an input."""


def figure_outputs(model: bytes) -> bytes:
    """Return what appended to a fused model makes it output its figures.

    Args:
        model: content of an ONNX file.

    Returns:
        Empty for a plain model, and for a fused one of class maps, which has no probabilities; also for a damaged file,
        which onnxruntime refuses with its reason.
    """
    try:
        graph = next((part for number, part in _fields(model) if number == _MODEL_GRAPH), b"")
        scores = _input_of(graph, _RESIZED)
        probabilities = _PROBABILITIES if _input_of(graph, _PROBABILITIES) else scores
        return _Suffix(_opset_of(model), scores, probabilities).build(_classes_of(graph)) if scores else b""
    except (IndexError, KeyError, TypeError, ValueError):  # what reading a damaged message raises
        return b""


class _Suffix:
    """Nodes, constants and outputs that are appended to the graph of a model."""

    def __init__(self, opset: int, scores: str, probabilities: str) -> None:
        self._opset = opset
        self._scores = scores
        self._probabilities = probabilities
        self._graph = bytearray()
        self._constants: set[str] = set()

    def build(self, num_classes: int) -> bytes:
        """Return the message; see the constants of this module for its outputs."""
        p_NKhw = self._probabilities
        ids_K = self._constant("ids", np.arange(num_classes, dtype=np.int32).reshape(1, -1, 1, 1), _INT32)
        below = self._constant("below", np.float32(_BELOW_ALL), _FLOAT)
        winner = self._node("ArgMax", [self._scores], "winner", {"axis": 1})
        winner = self._node("Cast", [winner], WINNERS, {"to": _INT32})
        wins_NKhw = self._node("Equal", [winner, ids_K], "wins")
        by_probability = self._scores == p_NKhw
        winners_only = p_NKhw if by_probability else self._node("Where", [wins_NKhw, p_NKhw, below], "winners_only")
        largest = self._reduce("ReduceMax", winners_only, LARGEST, [1])
        others = self._node("Where", [wins_NKhw, below, p_NKhw], "others")
        second = self._reduce("ReduceMax", others, "second", [1])
        margin = self._node("Sub", [largest, second], "margin")
        margin = margin if by_probability else self._node("Abs", [margin], "distance")
        close = self._node("Less", [margin, self._constant("margin", np.float32(UNCERTAIN_MARGIN), _FLOAT)], "close")
        close = self._node("Cast", [close], "close_float", {"to": _FLOAT})
        self._reduce("ReduceMean", close, UNCERTAIN_SHARES, [1, 2, 3], keep=0)
        won_NKhw = self._node("Cast", [wins_NKhw], "won", {"to": _FLOAT})
        self._reduce("ReduceMean", won_NKhw, WON_SHARES, [2, 3], keep=0)
        won_NKhw = self._node("Mul", [won_NKhw, largest], "won_probabilities")
        # Row by row: one float32 sum over 1024×1024 equal probabilities is wrong by 0.1 %.
        won_NKh = self._reduce("ReduceMean", won_NKhw, "won_rows", [3], keep=0)
        self._reduce("ReduceMean", won_NKh, WON_MEANS, [2], keep=0)
        self._reduce("ReduceMean", p_NKhw, MEANS, [1, 2, 3], keep=0)
        for name in (*FIGURES, *PLANES):
            self._output(name, _INT32 if name == WINNERS else _FLOAT)
        return _encoded(_MODEL_GRAPH, bytes(self._graph))

    def _node(self, op_type: str, inputs: Sequence[str], name: str, attributes: Mapping[str, int] | None = None) -> str:
        """Append a node; returns the name of its output."""
        output = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
        self._append_node(op_type, inputs, output, b"".join(map(_int_attribute, (attributes or {}).items())))
        return output

    def _reduce(self, op_type: str, value: str, name: str, axes: Sequence[int], *, keep: int = 1) -> str:
        """Append a reduction over axes; returns the name of its output."""
        output = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
        kept = _int_attribute(("keepdims", keep))
        if self._opset >= _AXES_ARE_INPUTS:
            self._append_node(
                op_type, [value, self._constant(f"{op_type}{axes}", np.asarray(axes), _INT64)], output, kept
            )
        else:
            self._append_node(op_type, [value], output, kept + _ints_attribute("axes", axes))
        return output

    def _append_node(self, op_type: str, inputs: Sequence[str], output: str, attributes: bytes) -> None:
        content = b"".join(_encoded(_NODE_INPUT, name.encode()) for name in inputs)
        content += _encoded(_NODE_OUTPUT, output.encode()) + _encoded(_NODE_NAME, output.encode())
        self._graph += _encoded(_GRAPH_NODE, content + _encoded(_NODE_TYPE, op_type.encode()) + attributes)

    def _constant(self, name: str, value: NDArray[Any] | np.generic, data_type: int) -> str:
        """Append a constant, once per name; returns its name."""
        full = f"{PREFIX}constant/{name}"
        if full not in self._constants:
            self._constants.add(full)
            content = b"".join(_encoded(_TENSOR_DIMS, size) for size in value.shape)
            content += _encoded(_TENSOR_TYPE, data_type) + _encoded(_TENSOR_NAME, full.encode())
            little_endian = value.astype(value.dtype.newbyteorder("<")).tobytes()
            self._graph += _encoded(_GRAPH_INITIALIZER, content + _encoded(_TENSOR_RAW, little_endian))
        return full

    def _output(self, name: str, data_type: int) -> None:
        """Append an output, whose shape onnxruntime infers."""
        tensor = _encoded(_TYPE_TENSOR, _encoded(_TENSOR_TYPE_ELEMENT, data_type))
        self._graph += _encoded(_GRAPH_OUTPUT, _encoded(_VALUE_NAME, name.encode()) + _encoded(_VALUE_TYPE, tensor))


# ----------------------------------------------------------------------------- protobuf, with the numbers of onnx.proto

_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 3, 8, 20
_INT_TYPE, _INTS_TYPE = 2, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE = 1, 1, 2
_SHAPE_DIM, _DIM_VALUE = 1, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _opset_of(model: bytes | memoryview) -> int:
    """Return the version of ONNX's own operators in a model."""
    for number, opset in _fields(model):
        if number == _MODEL_OPSET:
            facts = dict(_fields(opset))
            if not bytes(facts.get(_OPSET_DOMAIN, b"")):
                return int(facts[_OPSET_VERSION])
    return 1


def _input_of(graph: memoryview | bytes, node_name: str) -> str:
    """Return the name of the first input of a node; "" if the graph has no such node."""
    for number, node in _fields(graph):
        if number == _GRAPH_NODE:
            parts = [*_fields(node)]
            if (_NODE_NAME, node_name.encode()) in parts:
                return next(bytes(value).decode() for field, value in parts if field == _NODE_INPUT)
    return ""


def _classes_of(graph: memoryview | bytes) -> int:
    """Return the number of classes of a fused graph: the last size of its second output, the pixel counts."""
    counts = [value for number, value in _fields(graph) if number == _GRAPH_OUTPUT][1]
    tensor = dict(_fields(dict(_fields(counts))[_VALUE_TYPE]))[_TYPE_TENSOR]
    sizes = [dim for number, dim in _fields(dict(_fields(tensor))[_TENSOR_TYPE_SHAPE]) if number == _SHAPE_DIM]
    return int(dict(_fields(sizes[-1]))[_DIM_VALUE])


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of every field of a message: an int, or a view of bytes."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield key >> 3, value
        else:
            size, at = (8, at) if wire == _FIXED64 else (4, at) if wire == _FIXED32 else _varint(view, at)
            yield key >> 3, view[at : at + size]
            at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:  # noqa: PLR2004 - the highest bit says that more follow
            return value, at


def _encoded(number: int, value: int | bytes) -> bytes:
    """Return one field of a message; ints are not negative."""
    if isinstance(value, int):
        return _encoded_varint(number << 3 | _VARINT) + _encoded_varint(value)
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(value)) + value


def _encoded_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:  # noqa: PLR2004 - seven bits a byte
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _int_attribute(attribute: tuple[str, int]) -> bytes:
    name, value = attribute
    content = _encoded(_ATTRIBUTE_NAME, name.encode()) + _encoded(_ATTRIBUTE_INT, value)
    return _encoded(_NODE_ATTRIBUTE, content + _encoded(_ATTRIBUTE_TYPE, _INT_TYPE))


def _ints_attribute(name: str, values: Sequence[int]) -> bytes:
    content = _encoded(_ATTRIBUTE_NAME, name.encode()) + b"".join(_encoded(_ATTRIBUTE_INTS, value) for value in values)
    return _encoded(_NODE_ATTRIBUTE, content + _encoded(_ATTRIBUTE_TYPE, _INTS_TYPE))
