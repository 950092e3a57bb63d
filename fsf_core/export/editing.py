"""A graph that is being rewritten: who makes and who reads each value, constants, shapes, and affine steps.

Knows ONNX and no rule; those are in `rewrite`.
"""

# N images, C channels, H rows, W columns

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from fsf_core.export.graph import (
    BATCH,
    add_constant,
    attribute_of,
    named_sizes,
    names_of,
    real_inputs,
    sizes_of,
    subgraphs_of,
    unused_name,
)

Size = int | str | None
"""A number, BATCH, or None where it is unknown."""
Shape = tuple[Size, ...]

IMAGES = 4
"""Axes of images: N, C, H, W."""

_SMALL_BYTES = 1024
"""Constants up to here may be sizes, which shape inference reads."""

_Step = tuple[str, NDArray[np.float64], NDArray[np.float64]]
"""What a node computes: a source, and a factor and an offset for each channel of it."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """A value as factor · source + offset, with a factor and an offset for each channel."""

    value: str
    source: str
    factor_C: NDArray[np.float64]
    offset_C: NDArray[np.float64]
    nodes: tuple[NodeProto, ...]
    """The steps that compute it, the last one first; none where the value is its own source."""

    @property
    def is_finite(self) -> bool:
        """Return whether every factor and offset is a number."""
        return bool(np.isfinite([self.factor_C, self.offset_C]).all())


class Editor:
    """A model that rules change, and the maps of its graph.

    Attributes:
        model: the model.
        graph: its graph.
        maker: the node that makes a value.
        readers: the nodes that read a value, in their subgraphs too.
        shapes: of all values that shape inference knows.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take a model, which is changed; constants that nodes make become initializers."""
        self.model = model
        self.graph = model.graph
        _name_constants(self.graph)
        self.shapes = {name: shape for name, (_, shape) in inferred(model).items()}
        self._constants: dict[str, NDArray[Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Remove what nothing reads, and read the graph again; called after every change."""
        self._remove_unread()
        self.outputs = {value.name for value in self.graph.output}
        self.maker = {output: node for node in self.graph.node for output in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(_read_by(node)):
                self.readers.setdefault(name, []).append(node)
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}

    def _remove_unread(self) -> None:
        """Remove nodes and constants that no output of the graph needs."""
        read = {value.name for value in self.graph.output}
        for place in reversed(range(len(self.graph.node))):
            node = self.graph.node[place]
            if read.isdisjoint(node.output):
                del self.graph.node[place]
            else:
                read.update(_read_by(node))
        unread = {tensor.name for tensor in self.graph.initializer} - read
        for values in (self.graph.initializer, self.graph.input):  # old files list constants among the inputs
            for place in reversed([place for place, one in enumerate(values) if one.name in unread]):
                del values[place]

    def nodes(self, operator: str) -> list[NodeProto]:
        """Return the nodes of one of ONNX's own operators."""
        return [node for node in self.graph.node if is_a(node, operator)]

    def made_by(self, operator: str, name: str) -> NodeProto | None:
        """Return the node that makes a value, if it is of this operator."""
        node = self.maker.get(name)
        return node if node is not None and is_a(node, operator) else None

    def read_once(self, name: str) -> bool:
        """Return whether one node reads a value, and nothing outside of the graph."""
        return len(self.readers.get(name, ())) == 1 and name not in self.outputs

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant, or None for a value that is computed."""
        if name not in self._initializers:
            return None
        if name not in self._constants:
            self._constants[name] = numpy_helper.to_array(self._initializers[name])
        return self._constants[name]

    def input_constant(self, node: NodeProto, index: int) -> NDArray[Any] | None:
        """Return an input of a node if it is a constant; None where it has no such input too."""
        return self.constant(node.input[index]) if len(node.input) > index else None

    def add(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant under this name, or one like it; returns its name, which may be that of one that is gone."""
        added = add_constant(self.model, name, value)
        self._constants.pop(added, None)
        return added

    def new_value(self, name: str, shape: Shape) -> str:
        """Return an unused name like this one for a value of this shape."""
        unused = unused_name(self.model, name)
        self.shapes[unused] = shape
        return unused

    def insert_behind(self, node: NodeProto, *new: NodeProto) -> None:
        """Insert nodes behind another."""
        for one in reversed(new):
            self.graph.node.insert(self._place(node) + 1, one)

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        """Remove nodes, whose values others make from now on."""
        for place in sorted((self._place(node) for node in nodes), reverse=True):
            del self.graph.node[place]

    def _place(self, node: NodeProto) -> int:
        return next(place for place, one in enumerate(self.graph.node) if one is node)

    def channels(self, name: str) -> int | None:
        """Return C of a value of shape [N, C, H, W]; None for another, or where it is unknown."""
        shape = self.shapes.get(name, ())
        return shape[1] if len(shape) == IMAGES and isinstance(shape[1], int) else None

    def affine(self, value: str) -> Affine:
        """Return a value as what its last steps multiply each channel with, and add to it.

        Only constants with a number for each channel count: a single number may be part of a function that runtimes
        recognise, such as Gelu.
        """
        count = self.channels(value) or 0
        factor_C, offset_C = np.ones(count), np.zeros(count)
        nodes: list[NodeProto] = []
        source = value
        while source in self.maker and (step := self._step(self.maker[source], count)):
            nodes.append(self.maker[source])
            source, factor, offset = step
            offset_C = offset_C + factor_C * offset
            factor_C = factor_C * factor
        return Affine(value=value, source=source, factor_C=factor_C, offset_C=offset_C, nodes=tuple(nodes))

    def affines(self) -> list[Affine]:
        """Return the values with affine steps that no further such step follows, each factor and offset finite."""
        found = [self.affine(output) for node in self.graph.node for output in node.output]
        followed = {step.output[0] for one in found for step in one.nodes[1:]}
        return [one for one in found if one.nodes and one.value not in followed and one.is_finite]

    def is_chain(self, affine: Affine) -> bool:
        """Return whether nothing but the next step reads what each step makes."""
        return all(self.read_once(step.output[0]) for step in affine.nodes[1:])

    def _step(self, node: NodeProto, count: int) -> _Step | None:
        """Return the affine step that a node is, or None."""
        if is_a(node, "BatchNormalization"):
            return self._normalisation(node, count)
        if not (is_a(node, "Mul") or is_a(node, "Add")):
            return None
        for source, other in (tuple(node.input), tuple(node.input)[::-1]):
            value_C = self._per_channel(other, count)
            if value_C is not None and self.channels(source) == count:
                neutral = (np.ones(count), np.zeros(count))
                return (source, value_C, neutral[1]) if node.op_type == "Mul" else (source, neutral[0], value_C)
        return None

    def _normalisation(self, node: NodeProto, count: int) -> _Step | None:
        """Return the step that a batch norm with its running statistics is, or None."""
        values = [self.constant(name) for name in node.input[1:]]
        if attribute_of(node, "training_mode", 0) or self.channels(node.input[0]) != count:
            return None
        numbers = [value.astype(np.float64) for value in values if value is not None and value.dtype == np.float32]
        if len(numbers) < len(values):
            return None
        scale_C, bias_C, mean_C, variance_C = numbers
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is left alone
            factor_C = scale_C / np.sqrt(variance_C + attribute_of(node, "epsilon", 1e-5))
            return node.input[0], factor_C, bias_C - mean_C * factor_C

    def _per_channel(self, name: str, count: int) -> NDArray[np.float64] | None:
        """Return a constant with a float32 number for each of several channels of images, or None."""
        value = self.constant(name)
        if value is None or value.dtype != np.float32 or count < 2:  # noqa: PLR2004 - one number is for all of them
            return None
        return value.astype(np.float64).reshape(count) if value.shape in {(count, 1, 1), (1, count, 1, 1)} else None


def is_a(node: NodeProto, operator: str) -> bool:
    """Return whether a node is of one of ONNX's own operators."""
    return node.op_type == operator and node.domain in {"", "ai.onnx"}


def inferred(model: onnx.ModelProto) -> dict[str, tuple[int, Shape]]:
    """Return type and shape of every value, where BATCH is the size that follows the number of images.

    They are inferred for two numbers of images: inference with a name instead of a number loses it in a Resize, and in
    a Reshape that computes a size.
    """
    skeleton, image = _without_weights(model), real_inputs(model)[0]
    if sizes_of(image)[0] is not None:
        return _inferred(skeleton)
    two, three = (_inferred(_with_batch(skeleton, image.name, count)) for count in (2, 3))
    return {
        name: (kind, tuple(_joined(*sizes) for sizes in zip(shape, three[name][1], strict=True)))
        for name, (kind, shape) in two.items()
        if name in three and len(three[name][1]) == len(shape)
    }


def _joined(of_two: Size, of_three: Size) -> Size:
    """Return a size that is this for two and that for three images."""
    return of_two if of_two == of_three else BATCH if (of_two, of_three) == (2, 3) else None


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its large constants as inputs, which spares inference their bytes."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    del skeleton.graph.value_info[:]
    declared = {value.name for value in skeleton.graph.input}
    for place in reversed(range(len(skeleton.graph.initializer))):
        tensor = skeleton.graph.initializer[place]
        if tensor.ByteSize() > _SMALL_BYTES:
            if tensor.name not in declared:
                value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                skeleton.graph.input.append(value)
            del skeleton.graph.initializer[place]
    return skeleton


def _with_batch(skeleton: onnx.ModelProto, image: str, count: int) -> onnx.ModelProto:
    """Set the number of images of the input of this name, and of the output; in place."""
    images = [value for value in skeleton.graph.input if value.name == image]
    for value in (*images, *skeleton.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = count
    return skeleton


def _inferred(skeleton: onnx.ModelProto) -> dict[str, tuple[int, Shape]]:
    graph = shape_inference.infer_shapes(skeleton, data_prop=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: (value.type.tensor_type.elem_type, sizes_of(value)) for value in values}


def name_shapes(model: onnx.ModelProto) -> bool:
    """Write down every shape that is known but for the number of images, in place; returns whether one was unknown.

    onnxruntime fuses the addition of two values into a convolution where their shapes are equal by name and number.
    """
    known = {value.name: tuple(named_sizes(value)) for value in model.graph.value_info}
    named = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in inferred(model).items()
        if kind != TensorProto.UNDEFINED and None not in shape and name in known and known[name] != shape
    ]
    replaced = {value.name for value in named}
    kept = [value for value in model.graph.value_info if value.name not in replaced]
    del model.graph.value_info[:]
    model.graph.value_info.extend([*kept, *named])
    return bool(named)


def _read_by(node: NodeProto) -> list[str]:
    """Return the names that a node reads, in its subgraphs too."""
    graphs = [graph for entry in node.attribute for graph in subgraphs_of(entry)]
    return [name for name in (*node.input, *(name for graph in graphs for name in names_of(graph))) if name]


def _name_constants(graph: onnx.GraphProto) -> None:
    """Turn the nodes that make constant tensors into initializers."""
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        value = attribute_of(node, "value") if is_a(node, "Constant") else None
        if isinstance(value, TensorProto):
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            del graph.node[place]
