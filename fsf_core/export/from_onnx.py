"""Import an ONNX file of any exporter: any names, opset 11 or later, batch free or 1.

Knows what such files contain and what must be checked. Knows no torch; outputs are compared by the parity check.
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
"""Resize has had half-pixel centres since opset 11; an earlier opset cannot express a bilinear upsampling."""

_EXPORT_DYNAMIC = "export it again with a dynamic batch"


def read_onnx(source: str | Path | bytes, *, output_name: str | None = None) -> onnx.ModelProto:
    """Read an ONNX file with its weights and one output.

    Args:
        source: path, URI or bytes. Weights in files beside a local path are loaded too.
        output_name: the output with the logits, if there are several.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
        ConfigError: its weights are elsewhere, its opset is too old, or the output with the logits is ambiguous.
    """
    model = _load(source)
    if opset_of(model) < OLDEST_OPSET:
        raise ConfigError(
            f"the model has opset {opset_of(model)}, expected {OLDEST_OPSET} or later (half-pixel Resize); "
            "export it again"
        )
    _keep_output(model, output_name)
    return model


def from_onnx(original: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Convert a model to float32 NCHW in, logits NKHW out, with a free batch; names and opset stay.

    Args:
        original: of read_onnx; not changed.
        profile: gives the size of the input.

    Raises:
        ConfigError: input or output has another type or shape, or the graph has a fixed batch size.
        BundleError: onnxruntime cannot load it.
    """
    model = copy.deepcopy(original)
    image = _require_image_input(model, profile)
    size = (3, profile.height_px, profile.width_px)
    fixed_batch = image.type.tensor_type.shape.dim[0].dim_value
    if fixed_batch > 1:
        raise ConfigError(
            f"input {image.name!r} has a fixed batch of {fixed_batch}, expected a free batch axis or 1; "
            f"{_EXPORT_DYNAMIC}"
        )
    logits_shape = _output_shape(model, (1, *size))
    if fixed_batch:
        _free_reshapes(model)
    state_shapes(model, size, logits_shape[1:])
    for batch in (2, 3):
        try:
            shape = _output_shape(model, (batch, *size))
        except RuntimeError as error:
            raise ConfigError(f"the graph has a fixed batch size: {error}; {_EXPORT_DYNAMIC}") from error
        if shape != (batch, *logits_shape[1:]):
            raise ConfigError(
                f"a batch of {batch} gives logits {list(shape)}, expected {[batch, *logits_shape[1:]]}: "
                f"the graph has a fixed batch size; {_EXPORT_DYNAMIC}"
            )
    return checked(model)


def _load(source: str | Path | bytes) -> onnx.ModelProto:
    """Read a model with its weights; files with weights must be in the model's folder."""
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
    """Yield every constant of a graph and of its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)


def _locations(tensor: TensorProto) -> list[Any]:
    return [entry for entry in tensor.external_data if entry.key == "location"] if uses_external_data(tensor) else []


def _require_image_input(model: onnx.ModelProto, profile: Profile) -> onnx.ValueInfoProto:
    """Return the only input.

    Raises:
        ConfigError: there are several, or it does not take float32 images of the profile's size.
    """
    inputs = real_inputs(model)
    if len(inputs) != 1:
        raise ConfigError(f"the model has the inputs {[value.name for value in inputs]}, expected one: the image")
    image = inputs[0]
    kind = TensorProto.DataType.Name(image.type.tensor_type.elem_type)
    if kind != "FLOAT":
        raise ConfigError(f"input {image.name!r} is {kind}, expected FLOAT (float32); export it again")
    expected = (None, 3, profile.height_px, profile.width_px)
    sizes = sizes_of(image)
    fits = len(sizes) == len(expected) and all(
        found is None or wanted is None or found == wanted for found, wanted in zip(sizes, expected, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"input {image.name!r} is {list(sizes)}, expected [N, 3, {profile.height_px}, {profile.width_px}] as "
            f"profile {profile.name!r} has it; choose a profile of this size, or export the model as NCHW"
        )
    return image


def _keep_output(model: onnx.ModelProto, wanted: str | None) -> None:
    """Remove every output but the logits.

    Raises:
        ConfigError: the output with the logits is ambiguous, or is not logits.
    """
    names = [value.name for value in model.graph.output]
    if len(names) > 1 and wanted not in names:
        raise ConfigError(f"the model has the outputs {names}; name the one with the logits with --output-name")
    kept = next(value for value in model.graph.output if len(names) == 1 or value.name == wanted)
    maker = next((node for node in model.graph.node if kept.name in node.output), None)
    if maker is not None and maker.op_type in {"Softmax", "LogSoftmax", "ArgMax"}:
        raise ConfigError(
            f"output {kept.name!r} is written by {maker.op_type}, expected logits: softmax and argmax come after the "
            "resize to the original size; export the model without its last step"
        )
    names.remove(kept.name)
    for index in reversed([i for i, value in enumerate(model.graph.output) if value.name in names]):
        del model.graph.output[index]


def _free_reshapes(model: onnx.ModelProto) -> None:
    """Let `Reshape` to [1, …] follow the batch, in place: exporters write a batch of 1 into a graph that way.

    With the other sizes known, the first becomes -1; with one unknown, it becomes 0, which copies the input's.
    The result is checked elsewhere: from_onnx runs batches of 2 and 3, and the parity check compares outputs.
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


def _output_shape(model: onnx.ModelProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the logits for a batch of noise.

    Raises:
        ConfigError: the output is not float32 with four axes.
    """
    batch_NCHW = np.random.default_rng(0).random(shape, np.float32)
    logits = Session(model_bytes(model)).run(batch_NCHW)
    if logits.ndim != 4 or logits.dtype != np.float32:  # noqa: PLR2004 - NKHW
        raise ConfigError(
            f"the model outputs {logits.dtype} {list(logits.shape)}, expected float32 logits [N, K, H, W]; "
            "export it without the last step, or name another --output-name"
        )
    return tuple(logits.shape)


def _name(source: str | Path | bytes) -> str:
    return f"the file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
