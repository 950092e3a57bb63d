"""Further outputs of a fused model: what class maps alone do not tell of the probabilities they were made from.

They are added when the model is loaded, so that the bundles of every version have them and keep their identity. An ONNX
file is a protobuf message, and two messages one after the other are one, whose lists are joined: what is appended here
are a few nodes, constants and outputs.

All arithmetic is float32, of operators that onnxruntime has for CUDA.
"""

# N images, K classes, h×w cells of the network's grid

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.model import onnx_bytes
from fsf_core.model.onnx_bytes import FLOAT, INT32, INT64, encoded
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

RESIZED = "fsf/resized"
"""The node of a fused graph whose input are the scores on the network's grid that decide the class map."""
_PROBABILITIES = "fsf/probabilities"
"""The node that makes the probabilities, unless the scores are the probabilities."""

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
        graph = onnx_bytes.graph_of(model)
        scores = onnx_bytes.input_of(graph, RESIZED)
        probabilities = _PROBABILITIES if onnx_bytes.input_of(graph, _PROBABILITIES) else scores
        return _Suffix(onnx_bytes.opset_of(model), scores, probabilities).build(_classes_of(graph)) if scores else b""
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
        ids_K = self._constant("ids", np.arange(num_classes, dtype=np.int32).reshape(1, -1, 1, 1), INT32)
        below = self._constant("below", np.float32(_BELOW_ALL), FLOAT)
        winner = self._node("ArgMax", [self._scores], "winner", {"axis": 1})
        winner = self._node("Cast", [winner], WINNERS, {"to": INT32})
        wins_NKhw = self._node("Equal", [winner, ids_K], "wins")
        by_probability = self._scores == p_NKhw
        winners_only = p_NKhw if by_probability else self._node("Where", [wins_NKhw, p_NKhw, below], "winners_only")
        largest = self._reduce("ReduceMax", winners_only, LARGEST, [1])
        others = self._node("Where", [wins_NKhw, below, p_NKhw], "others")
        second = self._reduce("ReduceMax", others, "second", [1])
        margin = self._node("Sub", [largest, second], "margin")
        margin = margin if by_probability else self._node("Abs", [margin], "distance")
        close = self._node("Less", [margin, self._constant("margin", np.float32(UNCERTAIN_MARGIN), FLOAT)], "close")
        close = self._node("Cast", [close], "close_float", {"to": FLOAT})
        self._reduce("ReduceMean", close, UNCERTAIN_SHARES, [1, 2, 3], keep=0)
        won_NKhw = self._node("Cast", [wins_NKhw], "won", {"to": FLOAT})
        self._reduce("ReduceMean", won_NKhw, WON_SHARES, [2, 3], keep=0)
        won_NKhw = self._node("Mul", [won_NKhw, largest], "won_probabilities")
        # Row by row: one float32 sum over 1024×1024 equal probabilities is wrong by 0.1 %.
        won_NKh = self._reduce("ReduceMean", won_NKhw, "won_rows", [3], keep=0)
        self._reduce("ReduceMean", won_NKh, WON_MEANS, [2], keep=0)
        self._reduce("ReduceMean", p_NKhw, MEANS, [1, 2, 3], keep=0)
        for name in (*FIGURES, *PLANES):
            self._output(name, INT32 if name == WINNERS else FLOAT)
        return encoded(onnx_bytes.MODEL_GRAPH, bytes(self._graph))

    def _node(self, op_type: str, inputs: Sequence[str], name: str, attributes: Mapping[str, int] | None = None) -> str:
        """Append a node; returns the name of its output."""
        output = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
        self._append_node(op_type, inputs, output, b"".join(map(onnx_bytes.int_attribute, (attributes or {}).items())))
        return output

    def _reduce(self, op_type: str, value: str, name: str, axes: Sequence[int], *, keep: int = 1) -> str:
        """Append a reduction over axes; returns the name of its output."""
        output = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
        kept = onnx_bytes.int_attribute(("keepdims", keep))
        if self._opset >= _AXES_ARE_INPUTS:
            self._append_node(
                op_type, [value, self._constant(f"{op_type}{axes}", np.asarray(axes), INT64)], output, kept
            )
        else:
            self._append_node(op_type, [value], output, kept + onnx_bytes.ints_attribute("axes", axes))
        return output

    def _append_node(self, op_type: str, inputs: Sequence[str], output: str, attributes: bytes) -> None:
        content = b"".join(encoded(onnx_bytes.NODE_INPUT, name.encode()) for name in inputs)
        content += encoded(onnx_bytes.NODE_OUTPUT, output.encode()) + encoded(onnx_bytes.NODE_NAME, output.encode())
        self._graph += encoded(
            onnx_bytes.GRAPH_NODE, content + encoded(onnx_bytes.NODE_TYPE, op_type.encode()) + attributes
        )

    def _constant(self, name: str, value: NDArray[Any] | np.generic, data_type: int) -> str:
        """Append a constant, once per name; returns its name."""
        full = f"{PREFIX}constant/{name}"
        if full not in self._constants:
            self._constants.add(full)
            content = b"".join(encoded(onnx_bytes.TENSOR_DIMS, size) for size in value.shape)
            content += encoded(onnx_bytes.TENSOR_TYPE, data_type) + encoded(onnx_bytes.TENSOR_NAME, full.encode())
            little_endian = value.astype(value.dtype.newbyteorder("<")).tobytes()
            self._graph += encoded(
                onnx_bytes.GRAPH_INITIALIZER, content + encoded(onnx_bytes.TENSOR_RAW, little_endian)
            )
        return full

    def _output(self, name: str, data_type: int) -> None:
        """Append an output, whose shape onnxruntime infers."""
        self._graph += encoded(onnx_bytes.GRAPH_OUTPUT, onnx_bytes.encoded_value(name, data_type))


def _classes_of(graph: onnx_bytes.Message) -> int:
    """Return the number of classes of a fused graph: the last size of its second output, the pixel counts."""
    counts = [value for number, value in onnx_bytes.fields(graph) if number == onnx_bytes.GRAPH_OUTPUT][1]
    return int(onnx_bytes.sizes_of(counts)[-1] or 0)
