"""ONNX files as the protobuf messages that they are: read field by field, and written.

Scoring does without the package onnx, which only export needs. Two messages one after the other are one, whose lists
are joined.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Message = bytes | memoryview

# Numbers of fields, as in onnx.proto.
MODEL_GRAPH, MODEL_OPSET = 7, 8
OPSET_DOMAIN, OPSET_VERSION = 1, 2
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
GRAPH_SPARSE_INITIALIZER = 15
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_TYPE, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_GRAPH, ATTRIBUTE_INTS, ATTRIBUTE_GRAPHS, ATTRIBUTE_TYPE = 1, 3, 6, 8, 11, 20
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_TYPE_ELEMENT, TENSOR_TYPE_SHAPE = 1, 1, 2
SHAPE_DIM, DIM_VALUE, DIM_NAME = 1, 1, 2

FLOAT, INT32, INT64 = 1, 6, 7
"""Element types of tensors."""

_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node of a graph."""

    name: str
    inputs: tuple[str, ...]
    """Names of the values that it reads; of one with graphs inside also all names that these read."""
    outputs: tuple[str, ...]
    field: memoryview
    """The field of the graph that holds it."""


def graph_of(model: Message) -> Message:
    """Return the graph of a model, which may be written in several pieces; empty if it has none."""
    parts = [part for number, part in fields(model) if number == MODEL_GRAPH]
    return parts[0] if len(parts) == 1 else b"".join(parts)  # that of a whole file is large


def with_graph(model: Message, graph: bytes) -> bytes:
    """Return the model with another graph."""
    kept = [field for number, _, field in spans(model) if number != MODEL_GRAPH]
    return b"".join([*kept, encoded(MODEL_GRAPH, graph)])


def opset_of(model: Message) -> int:
    """Return the version of ONNX's own operators in a model."""
    for number, opset in fields(model):
        if number == MODEL_OPSET:
            facts = dict(fields(opset))
            if not bytes(facts.get(OPSET_DOMAIN, b"")):
                return int(facts[OPSET_VERSION])
    return 1


def input_of(graph: Message, node_name: str) -> str:
    """Return the name of the first input of a node; "" if the graph has no such node."""
    for number, node in fields(graph):
        if number == GRAPH_NODE:
            parts = [*fields(node)]
            if (NODE_NAME, node_name.encode()) in parts:
                return next(text(value) for field, value in parts if field == NODE_INPUT)
    return ""


def nodes_of(graph: Message) -> list[Node]:
    """Return the nodes of a graph in their order."""
    return [_node(part, field) for number, part, field in spans(graph) if number == GRAPH_NODE]


def _node(node: memoryview, field: memoryview) -> Node:
    parts = [*fields(node)]
    inputs = [text(value) for number, value in parts if number == NODE_INPUT]
    for number, attribute in parts:
        if number == NODE_ATTRIBUTE:
            graphs = [part for kind, part in fields(attribute) if kind in {ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS}]
            inputs += [name for graph in graphs for inner in nodes_of(graph) for name in inner.inputs]
            inputs += [name_of(value) for graph in graphs for kind, value in fields(graph) if kind == GRAPH_OUTPUT]
    return Node(
        name=next((text(value) for number, value in parts if number == NODE_NAME), ""),
        inputs=tuple(inputs),
        outputs=tuple(text(value) for number, value in parts if number == NODE_OUTPUT),
        field=field,
    )


def name_of(value: Message) -> str:
    """Return the name of an input, an output or a value of a graph."""
    return next((text(part) for number, part in fields(value) if number == VALUE_NAME), "")


def initializer_name(tensor: Message) -> str:
    """Return the name of a constant of a graph."""
    return next((text(part) for number, part in fields(tensor) if number == TENSOR_NAME), "")


def sizes_of(value: Message) -> list[int | None]:
    """Return the shape of an input, an output or a value, None for a size without a number."""
    tensor = dict(fields(dict(fields(value))[VALUE_TYPE]))[TYPE_TENSOR]
    dims = [dim for number, dim in fields(dict(fields(tensor))[TENSOR_TYPE_SHAPE]) if number == SHAPE_DIM]
    return [dict(fields(dim)).get(DIM_VALUE) for dim in dims]


def encoded_value(name: str, element: int, shape: Sequence[int | str] | None = None) -> bytes:
    """Return an input or an output; without a shape onnxruntime infers it."""
    tensor = encoded(TENSOR_TYPE_ELEMENT, element)
    if shape is not None:
        dims = [
            encoded(DIM_VALUE, size) if isinstance(size, int) else encoded(DIM_NAME, size.encode()) for size in shape
        ]
        tensor += encoded(TENSOR_TYPE_SHAPE, b"".join(encoded(SHAPE_DIM, dim) for dim in dims))
    return encoded(VALUE_NAME, name.encode()) + encoded(VALUE_TYPE, encoded(TYPE_TENSOR, tensor))


def text(value: Message) -> str:
    """Return a field as text."""
    return bytes(value).decode()


def fields(message: Message) -> Iterator[tuple[int, Any]]:
    """Yield number and value of every field of a message: an int, or a view of bytes."""
    for number, value, _ in spans(message):
        yield number, value


def spans(message: Message) -> Iterator[tuple[int, Any, memoryview]]:
    """Yield number, value and the bytes of every field of a message."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        start = at
        key, at = _varint(view, at)
        wire = key & 7
        value: Any
        if wire == _VARINT:
            value, at = _varint(view, at)
        else:
            size, at = (8, at) if wire == _FIXED64 else (4, at) if wire == _FIXED32 else _varint(view, at)
            value = view[at : at + size]
            at += size
        yield key >> 3, value, view[start:at]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:  # noqa: PLR2004 - the highest bit says that more follow
            return value, at


def encoded(number: int, value: int | bytes) -> bytes:
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


def int_attribute(attribute: tuple[str, int]) -> bytes:
    """Return an attribute of a node that is an integer."""
    name, value = attribute
    content = encoded(ATTRIBUTE_NAME, name.encode()) + encoded(ATTRIBUTE_INT, value)
    return encoded(NODE_ATTRIBUTE, content + encoded(ATTRIBUTE_TYPE, _INT_ATTRIBUTE))


def ints_attribute(name: str, values: Sequence[int]) -> bytes:
    """Return an attribute of a node that is a list of integers."""
    content = encoded(ATTRIBUTE_NAME, name.encode()) + b"".join(encoded(ATTRIBUTE_INTS, value) for value in values)
    return encoded(NODE_ATTRIBUTE, content + encoded(ATTRIBUTE_TYPE, _INTS_ATTRIBUTE))
