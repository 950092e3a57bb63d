"""Between a model as it was given and the plain form of a bundle: types, layouts, and one channel for two classes.

The graph gets nodes at both ends; the original, which the graph is compared with, is adapted by NumPy instead. Knows
no meaning of pixels and runs no model.
"""

# N images, K classes, C channels, H rows, W columns

import copy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fsf_core.errors import ConfigError
from fsf_core.export.enlarge import add_enlargement, enlarged
from fsf_core.export.graph import (
    BATCH,
    add_constant,
    checked,
    named_sizes,
    opset_of,
    real_inputs,
    sizes_of,
    state_shapes,
    unused_name,
)
from fsf_core.export.input_sizes import declared_hw
from fsf_core.export.interface import FileInput
from fsf_core.export.model_document import CHANNELS
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile
from fsf_core.options import InputLayout, InputType, OutputLayout

_TYPES: dict[int, InputType] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
}
_TENSOR_TYPES = {name: number for number, name in _TYPES.items()}

FOREGROUND = np.float32(1 - 2.0**-24)
"""The largest float32 below 1. Background gets this minus the probability of the foreground, so that at 0.5, where both
would be equal and the lower class would win, the foreground wins."""

BACKGROUND_LOGIT = np.float32(-(2.0**-24))
"""Logit of the background beside that of the foreground, for the same reason."""

_SAME_SHAPE = np.zeros(4, np.int64)
"""A Reshape to this changes nothing, and keeps onnxruntime from dropping a cast to float16 and back: it would compute
in float32 what the model as given rounds, and logits would differ by their rounding."""

_RESIZES = 11
"""Opset from which Resize has half-pixel centres."""

_AXES_ARE_INPUTS = 13
"""Opset from which Unsqueeze takes its axes as an input."""


def read_input(model: onnx.ModelProto, source: str) -> FileInput:
    """Return what a file fixes about its input.

    Raises:
        ConfigError: there are several inputs, or the one is no batch of images of three channels.
    """
    inputs = real_inputs(model)
    image = next((value for value in inputs if len(sizes_of(value)) == 4), inputs[0])  # noqa: PLR2004 - NCHW
    others = [value.name for value in inputs if value.name != image.name]
    if others:
        raise ConfigError(
            f"{source} has the inputs {[value.name for value in inputs]}, expected the images alone: nothing here can "
            f"feed {', '.join(map(repr, others))}; export the model with a constant for it"
        )
    kind = image.type.tensor_type.elem_type
    if kind not in _TYPES:
        raise ConfigError(
            f"input {image.name!r} of {source} is {TensorProto.DataType.Name(kind).lower()}, expected one of "
            f"{', '.join(_TYPES.values())}; export the model with one of these"
        )
    sizes = sizes_of(image)
    if len(sizes) != 4 or not {CHANNELS, None} & {sizes[1], sizes[3]}:  # noqa: PLR2004 - NCHW
        raise ConfigError(
            f"input {image.name!r} of {source} is {_shown(sizes)}, expected a batch of images of 3 channels, [N, 3, H, "
            "W] or [N, H, W, 3]; export the model with such an input"
        )
    layout = _layout_of(sizes[1], sizes[3])
    height_px, width_px = (None, None) if layout is None else sizes[2:] if layout == "NCHW" else sizes[1:3]
    return FileInput(name=image.name, height_px=height_px, width_px=width_px, layout=layout, dtype=_TYPES[kind])


def _layout_of(second: int | None, last: int | None) -> InputLayout | None:
    """Return the layout, or None where the sizes of the axes do not show it."""
    for fits in ((second == CHANNELS, last == CHANNELS), (second in {CHANNELS, None}, last in {CHANNELS, None})):
        if fits[0] != fits[1]:
            return "NCHW" if fits[0] else "NHWC"
    return None


def _shown(sizes: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


# ------------------------------------------------------------------------------------------------- around the original


def feed(batch_NCHW: NDArray[np.float32], profile: Profile) -> NDArray[Any]:
    """Return a batch as the model as given takes it."""
    batch = batch_NCHW if profile.layout == "NCHW" else np.ascontiguousarray(batch_NCHW.transpose(0, 2, 3, 1))
    return batch.astype(profile.dtype, copy=False)


def to_scores(raw: NDArray[Any], output: Output, input_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the output of the model as given, for inputs of this size, in the form of the plain variant."""
    scores = raw.astype(np.float32)
    if output.layout == "NHW":
        scores = scores[:, None]
    elif output.layout == "NHWK":
        scores = np.ascontiguousarray(scores.transpose(0, 3, 1, 2))
    if output.grid == "input":
        scores = enlarged(scores, output, input_hw)
    if output.is_binary and output.holds_logits:
        return np.concatenate([scores * np.float32(0) + BACKGROUND_LOGIT, scores], axis=1)
    if output.kind == "binary_logit":
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and its probability 0
            scores = np.asarray(1 / (1 + np.exp(-scores)), np.float32)
    return np.concatenate([FOREGROUND - scores, scores], axis=1) if output.is_binary else scores


# --------------------------------------------------------------------------------------------------- in the graph


def without_bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose input and output are float32 where they were bfloat16, a type that NumPy lacks."""
    ends = (real_inputs(model)[0], model.graph.output[0])
    is_input, is_output = (value.type.tensor_type.elem_type == TensorProto.BFLOAT16 for value in ends)
    if not (is_input or is_output):
        return model
    cast = copy.deepcopy(model)
    if is_input:
        image = real_inputs(cast)[0]
        fed = unused_name(cast, f"{image.name}/float32")
        _prepend(cast, [helper.make_node("Cast", [fed], [image.name], name=fed, to=TensorProto.BFLOAT16)])
        image.name, image.type.tensor_type.elem_type = fed, TensorProto.FLOAT
    if is_output:
        result = unused_name(cast, f"{cast.graph.output[0].name}/float32")
        cast.graph.node.append(
            helper.make_node("Cast", [cast.graph.output[0].name], [result], name=result, to=TensorProto.FLOAT)
        )
        cast.graph.output[0].name, cast.graph.output[0].type.tensor_type.elem_type = result, TensorProto.FLOAT
    return cast


def adapt_input(model: onnx.ModelProto, profile: Profile) -> None:
    """Let a model take float32 NCHW, in place."""
    if profile.layout == "NCHW" and profile.dtype == "float32":
        return
    image = real_inputs(model)[0]
    fed = unused_name(model, f"{image.name}/float32")
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if profile.dtype != "float32":
        steps.append(("Cast", [], {"to": _TENSOR_TYPES[profile.dtype]}))
    if profile.dtype == "float16":
        steps.append(("Reshape", [add_constant(model, f"{image.name}/shape", _SAME_SHAPE)], {}))
    if profile.layout == "NHWC":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    nodes, value = [], fed
    for number, (op_type, constants, attributes) in enumerate(steps, start=1):
        target = image.name if number == len(steps) else unused_name(model, f"{image.name}/{op_type.lower()}")
        nodes.append(helper.make_node(op_type, [value, *constants], [target], name=target, **attributes))
        value = target
    batch = image.type.tensor_type.shape.dim[0].dim_value or BATCH
    size = (CHANNELS, *declared_hw(profile))
    image.CopyFrom(helper.make_tensor_value_info(fed, TensorProto.FLOAT, [batch, *size]))
    _prepend(model, nodes)


def _prepend(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes in front of all others, in place."""
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    del model.graph.value_info[:]  # stale beside other types


def adapt_output(model: onnx.ModelProto, output: Output) -> None:
    """Let a model return what the plain variant returns, in place."""
    value = model.graph.output[0].name
    graph = _Tail(model, value)
    if output.dtype == "float16":
        axes = len(model.graph.output[0].type.tensor_type.shape.dim)
        graph.add("Reshape", graph.constant("shape", _SAME_SHAPE[:axes]))
    if output.dtype != "float32":
        graph.add("Cast", to=TensorProto.FLOAT)
    if output.layout == "NHWK":
        graph.add("Transpose", perm=[0, 3, 1, 2])
    if output.layout == "NHW":
        if opset_of(model) >= _AXES_ARE_INPUTS:
            graph.add("Unsqueeze", graph.constant("axis", np.array([1], np.int64)))
        else:
            graph.add("Unsqueeze", axes=[1])
    if output.grid == "input":
        graph.value = add_enlargement(model, graph.value, output)
    if output.kind == "binary_logit" and not output.holds_logits:
        graph.add("Sigmoid")
    if output.is_binary:
        _add_background(graph, output)
    if graph.value != value:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(graph.value, TensorProto.FLOAT, None))


def _add_background(graph: "_Tail", output: Output) -> None:
    """Put the background's channel before that of the foreground."""
    foreground = graph.value
    if output.holds_logits:  # times 0: NaN and infinity of the foreground stay visible
        graph.add("Mul", graph.constant("zero", np.float32(0)))
        graph.add("Add", graph.constant("background", BACKGROUND_LOGIT))
    else:
        graph.add("Sub", before=graph.constant("one", FOREGROUND))
    graph.add("Concat", foreground, axis=1)


def with_plain_output(model: onnx.ModelProto, output: Output) -> onnx.ModelProto:
    """Return a model that returns what the plain variant returns.

    Raises:
        ConfigError: it does not fit into one file, or its opset cannot enlarge scores.
    """
    if output.grid == "input" and opset_of(model) < _RESIZES:
        raise ConfigError(
            f"the grid of the output is given as input, which opset {opset_of(model)} of the model cannot do: its "
            f"Resize has no half-pixel centres; export the model with opset {_RESIZES} or above"
        )
    count, *image = named_sizes(real_inputs(model)[0])
    _, *raw = named_sizes(model.graph.output[0])
    shapes: dict[OutputLayout, list[int | str]] = {"NHWK": [*raw[2:], *raw[:2]], "NHW": [1, *raw]}
    channels, *grid = shapes.get(output.layout, raw)
    adapt_output(model, output)
    channels = 2 if output.is_binary else channels
    grid = image[1:] if output.grid == "input" else grid
    state_shapes(model, tuple(image), (channels, *grid), batch=count)
    return checked(model)


class _Tail:
    """Appends nodes behind an output, one behind the other."""

    def __init__(self, model: onnx.ModelProto, value: str) -> None:
        self._model, self._output = model, value
        self.value = value

    def constant(self, name: str, number: Any) -> str:
        """Add a constant; returns its name."""
        return add_constant(self._model, f"{self._output}/{name}", number)

    def add(self, op_type: str, *more: str, before: str | None = None, **attributes: Any) -> None:
        """Append a node that reads the last value, after `before` and in front of `more`."""
        name = unused_name(self._model, f"{self._output}/{op_type.lower()}")
        inputs = [*([before] if before else []), self.value, *more]
        self._model.graph.node.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        self.value = name
