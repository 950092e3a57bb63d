"""An ONNX file, read with its weights, of versions that the runtime reads, for any machine.

Knows bytes, folders, versions and operators. Knows no images and no classes, and runs nothing.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

from fsf_core import storage
from fsf_core.errors import BundleError, ConfigError, FetchError
from fsf_core.export.fuse import OLDEST_OPSET as HALF_PIXEL_OPSET
from fsf_core.export.graph import LARGEST_BYTES, attribute_of, first_line, opset_of
from fsf_core.model.session import newest_ir_version, newest_opset, runtime_version

_ONE_MACHINE = {"com.microsoft.nchwc", "com.ms.internal.nhwc"}
"""Domains of operators that onnxruntime's optimiser writes for the processor that it runs on."""


def load_onnx(source: str | Path | bytes, *, name: str = "the model") -> onnx.ModelProto:
    """Read an ONNX file with its weights.

    Args:
        source: path, URI or bytes. Weights in files in the folder of a local path, or below it, are loaded too.
        name: of bytes, for messages.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
        ConfigError: its weights are elsewhere, or its versions or operators are not those of this runtime.
    """
    shown = name if isinstance(source, bytes) else str(source)
    model = _parse(source, shown)
    if not model.graph.node:
        raise BundleError(f"{shown} holds no graph; expected an ONNX model")
    _lower_ir_version(model)
    _require_known_operators(model)
    _load_weights(model, source)
    return model


def nodes_of(model: onnx.ModelProto) -> Iterator[NodeProto]:
    """Yield every node: of the graph, of the graphs inside If, Loop and Scan, and of the model's own functions."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(nodes: object) -> Iterator[NodeProto]:
    for node in nodes:  # type: ignore[attr-defined] # protobuf's containers have no public type
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)


# ---------------------------------------------------------------------------------------------------------- the bytes


def _parse(source: str | Path | bytes, shown: str) -> onnx.ModelProto:
    try:
        data = source if isinstance(source, bytes) else storage.read_bytes(str(source))
        return onnx.load_model_from_string(data)
    except FetchError as error:
        reason = error if storage.exists(str(source)) else f"{shown} does not exist"
        raise BundleError(f"the ONNX file cannot be read: {reason}; check --onnx") from error
    except Exception as error:  # protobuf's DecodeError is private to its implementation
        raise BundleError(
            f"{shown} is not an ONNX file ({first_line(error)}); expected a model, "
            "pass a PyTorch checkpoint with --checkpoint"
        ) from error


# ------------------------------------------------------------------------------------------------------- the versions


def _lower_ir_version(model: onnx.ModelProto) -> None:
    """Write an older version of the file format where the runtime does not read it: the graph stays the same."""
    newest = min(onnx.IR_VERSION, newest_ir_version())
    if model.ir_version > newest:
        needed = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
        model.ir_version = min(newest, max(needed, 10))


def _require_known_operators(model: onnx.ModelProto) -> None:
    """Refuse operators that are newer than the runtime, that have changed their meaning, or that fit one machine.

    Raises:
        ConfigError: there is one.
    """
    opset = opset_of(model)
    newest = min(onnx.defs.onnx_opset_version(), newest_opset())
    if opset > newest:
        raise ConfigError(
            f"the model has opset {opset}, onnxruntime {runtime_version()} reads up to {newest}; export it again with "
            f"opset {newest} or below (opset_version in torch.onnx.export)"
        )
    for node in nodes_of(model):
        if node.domain in _ONE_MACHINE:
            raise ConfigError(
                f"the model has operators of {node.domain} ({node.op_type}): onnxruntime optimised it for one kind of "
                "processor, and others may compute something else; give the file that it was made from, or save it "
                "with ORT_ENABLE_EXTENDED or below"
            )
        if opset < HALF_PIXEL_OPSET and node.op_type in {"Resize", "Upsample"} and not node.domain:
            mode = attribute_of(node, "mode", b"nearest").decode()
            if mode != "nearest":
                raise ConfigError(
                    f"the model has opset {opset} with a {mode} {node.op_type}, which has half-pixel centres, as "
                    f"networks are trained with, only since opset {HALF_PIXEL_OPSET}; export it again with that opset "
                    "or a later one"
                )


# -------------------------------------------------------------------------------------------------------- the weights


def _load_weights(model: onnx.ModelProto, source: str | Path | bytes) -> None:
    """Load the weights that are in files, in place.

    Raises:
        ConfigError: they are outside the folder of the model, or more than a bundle holds.
        BundleError: a file is missing or too short.
    """
    outside = [tensor for tensor in _tensors(model) if uses_external_data(tensor)]
    names = sorted({ExternalDataInfo(tensor).location for tensor in outside})
    if not outside:
        return
    if isinstance(source, bytes) or not storage.is_local(str(source)):
        raise ConfigError(f"the model keeps weights in {names}; pass the path of a local file beside them")
    folder = storage.local_path(storage.absolute(str(source))).parent
    if any(not _inside(folder, name) for name in names):
        raise ConfigError(
            f"the model keeps weights in {names}, outside its own folder {folder}; copy these files into it (cp -L "
            "follows links) or export the model as one file"
        )
    total_bytes = sum(_size_bytes(tensor) for tensor in outside)
    if total_bytes > LARGEST_BYTES:
        raise ConfigError(
            f"the model has weights of {total_bytes} bytes, one ONNX file holds {LARGEST_BYTES}, and a bundle keeps "
            "each model in one; use a smaller network, or export its weights as float16"
        )
    try:
        for tensor in outside:
            load_external_data_for_tensor(tensor, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BundleError(
            f"the weights of {source} in {names} cannot be read: {first_line(error)}; put the whole files, under "
            "these names, beside the model"
        ) from error


def _inside(folder: Path, name: str) -> bool:
    """Return whether a file is in the folder or below it, and no link leads out."""
    leads_out = Path(name).is_absolute() or ".." in Path(name).parts
    return not leads_out and (folder / name).resolve().is_relative_to(folder.resolve())


def _size_bytes(tensor: TensorProto) -> int:
    """Return the bytes of a tensor by its shape and type; the length of its part of a file may be left out."""
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield every constant: of the graph, of the graphs inside it, and of the model's own functions."""
    graphs = [model.graph, *(g for node in nodes_of(model) for a in node.attribute for g in (a.g, *a.graphs))]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes_of(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
