"""Take over an ONNX file that somebody else exported: any names, opset 11 on, batch free or one.

Knows what foreign files look like and how far they can be trusted. Knows no torch, and leaves the judgement of the
numbers to the gate.
"""

# N images, K classes, H rows, W columns

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from fsf_core import storage
from fsf_core.errors import BundleError, ConfigError, FetchError
from fsf_core.export.graph import checked, first_line, model_bytes, opset_of, real_inputs, sizes_of, state_shapes
from fsf_core.model.preprocess import Profile
from fsf_core.model.session import Session

OLDEST_OPSET = 11
"""Resize has had half-pixel centres since opset 11; before it, a bilinear upsampling cannot be written down right."""

_EXPORT_DYNAMIC = "export it again with a dynamic batch"


def read_onnx(source: str | Path | bytes, *, output_name: str | None = None) -> onnx.ModelProto:
    """An ONNX file that exists already, as it is: its weights inside, and one output left.

    Args:
        source: path, URI or bytes. Weights in files beside a local path are taken in.
        output_name: which output holds the logits, if there are several.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
        ConfigError: it keeps weights elsewhere, is too old, or does not say which output holds the logits.
    """
    model = _load(source)
    if opset_of(model) < OLDEST_OPSET:
        raise ConfigError(
            f"the model is written in opset {opset_of(model)}, expected {OLDEST_OPSET} or later (half-pixel Resize); "
            "export it again"
        )
    _keep_output(model, output_name)
    return model


def from_onnx(original: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Bring a foreign model into our form; names and opset stay, a batch fixed at 1 is set free.

    Args:
        original: what read_onnx gave; it is left as it is.
        profile: the size that the network is to be fed.

    Raises:
        ConfigError: the model is of another form, or its batch size is built into the graph.
        BundleError: onnxruntime cannot load it.
    """
    model = copy.deepcopy(original)
    picture = _require_picture_input(model, profile)
    size = (3, profile.height_px, profile.width_px)
    fixed_batch = picture.type.tensor_type.shape.dim[0].dim_value
    if fixed_batch > 1:
        raise ConfigError(
            f"input {picture.name!r} is fixed at {fixed_batch} pictures, expected a free batch axis or 1; "
            f"{_EXPORT_DYNAMIC}"
        )
    logits_shape = _ask(model, (1, *size))
    if fixed_batch:
        _free_reshapes(model)
    state_shapes(model, size, logits_shape[1:])
    for batch in (2, 3):
        try:
            found = _ask(model, (batch, *size))
        except RuntimeError as error:
            raise ConfigError(f"the graph holds a fixed batch size: {error}; {_EXPORT_DYNAMIC}") from error
        if found != (batch, *logits_shape[1:]):
            raise ConfigError(
                f"{batch} pictures give logits {list(found)}, expected {[batch, *logits_shape[1:]]}: "
                f"the graph holds a fixed batch size; {_EXPORT_DYNAMIC}"
            )
    return checked(model)


def _load(source: str | Path | bytes) -> onnx.ModelProto:
    """Read a model with its weights; files with weights must lie in the model's own folder."""
    try:
        data = source if isinstance(source, bytes) else storage.read_bytes(str(source))
        model = onnx.load_model_from_string(data)
    except FetchError as error:
        reason = error if storage.exists(str(source)) else f"{_name(source)} does not exist"
        raise BundleError(f"the ONNX file cannot be read: {reason}; check --onnx") from error
    except Exception as error:  # protobuf's DecodeError is private to its implementation
        raise BundleError(
            f"{_name(source)} is not an ONNX file ({first_line(error)}); expected a model, "
            "pass a PyTorch checkpoint with --checkpoint"
        ) from error
    if not model.graph.node:
        raise BundleError(f"{_name(source)} holds no graph; expected an ONNX model")
    outside = {entry.value for tensor in _tensors(model.graph) for entry in _locations(tensor)}
    if not outside:
        return model
    if isinstance(source, bytes) or not storage.is_local(str(source)):
        raise ConfigError(f"the model keeps weights in {sorted(outside)}; pass the path of a local file beside them")
    if any(Path(name).name != name for name in outside):
        raise ConfigError(
            f"the model keeps weights in {sorted(outside)}, outside its own folder; export it as one file"
        )
    folder = storage.local_path(storage.absolute(str(source))).parent
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BundleError(
            f"the weights of {_name(source)} in {sorted(outside)} cannot be read: {first_line(error)}"
        ) from error
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Every constant of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)


def _locations(tensor: TensorProto) -> list[Any]:
    return [entry for entry in tensor.external_data if entry.key == "location"] if uses_external_data(tensor) else []


def _require_picture_input(model: onnx.ModelProto, profile: Profile) -> onnx.ValueInfoProto:
    """The one input, if it takes float32 pictures of the profile's size."""
    inputs = real_inputs(model)
    if len(inputs) != 1:
        raise ConfigError(f"the model has the inputs {[value.name for value in inputs]}, expected one: the picture")
    picture = inputs[0]
    kind = TensorProto.DataType.Name(picture.type.tensor_type.elem_type)
    if kind != "FLOAT":
        raise ConfigError(f"input {picture.name!r} is {kind}, expected FLOAT (float32) pictures; export it so")
    expected = (None, 3, profile.height_px, profile.width_px)
    sizes = sizes_of(picture)
    fits = len(sizes) == len(expected) and all(
        found is None or wanted is None or found == wanted for found, wanted in zip(sizes, expected, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"input {picture.name!r} is {list(sizes)}, expected [N, 3, {profile.height_px}, {profile.width_px}] as "
            f"profile {profile.name!r} has it; choose a profile of this size, or export the model as NCHW"
        )
    return picture


def _keep_output(model: onnx.ModelProto, wanted: str | None) -> None:
    """Leave the output with the logits and no other."""
    names = [value.name for value in model.graph.output]
    if len(names) > 1 and wanted not in names:
        raise ConfigError(f"the model has the outputs {names}; say with --output-name which of them holds the logits")
    kept = next(value for value in model.graph.output if len(names) == 1 or value.name == wanted)
    maker = next((node for node in model.graph.node if kept.name in node.output), None)
    if maker is not None and maker.op_type in {"Softmax", "LogSoftmax", "ArgMax"}:
        raise ConfigError(
            f"output {kept.name!r} is made by {maker.op_type}, expected logits: softmax and argmax come after the "
            "resize to the original size; export the model without its last step"
        )
    names.remove(kept.name)
    for index in reversed([i for i, value in enumerate(model.graph.output) if value.name in names]):
        del model.graph.output[index]


def _free_reshapes(model: onnx.ModelProto) -> None:
    """Let `Reshape` to [1, …] follow the batch: that is how exporters write a batch of one into a graph.

    With the other sizes known, the first becomes -1; with one unknown, it becomes 0, which copies the input's.
    Whether the result is right is not decided here: from_onnx asks for several pictures, and the gate compares them.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node if node.op_type == "Constant"}
    for node in model.graph.node:
        if node.op_type != "Reshape" or any(entry.name == "allowzero" and entry.i for entry in node.attribute):
            continue
        tensor = constants.get(node.input[1])
        if tensor is None and node.input[1] in nodes:
            tensor = next((entry.t for entry in nodes[node.input[1]].attribute if entry.name == "value"), None)
        target = [] if tensor is None else numpy_helper.to_array(tensor).tolist()
        if len(target) > 1 and target[0] == 1:
            target[0] = 0 if -1 in target else -1
            name = f"{node.output[0]}/free_batch"
            model.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
            node.input[1] = name


def _ask(model: onnx.ModelProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the logits that onnxruntime gives for a batch of grey noise."""
    batch_NCHW = np.random.default_rng(0).random(shape, np.float32)
    logits = Session(model_bytes(model)).run(batch_NCHW)
    if logits.ndim != 4 or logits.dtype != np.float32:  # noqa: PLR2004 - NKHW
        raise ConfigError(
            f"the model answers {logits.dtype} {list(logits.shape)}, expected float32 logits [N, K, H, W]; "
            "export it without the last step, or name another --output-name"
        )
    return tuple(logits.shape)


def _name(source: str | Path | bytes) -> str:
    return f"the file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
