"""The plain ONNX model that every later step relies on: its shapes, its check, its bytes and its text.

float32 NCHW in, float32 logits NKHW out, weights inside, batch free or of one number; height and width are fixed, or
free where they depend on the image. Knows onnx and no torch.
"""

# N images, C channels, K classes, H rows, W columns

import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from fsf_core.errors import ConfigError
from fsf_core.model.bundle import Signature

LARGEST_BYTES = 2**31 - 1
"""Limit of a protobuf message; a bundle holds each model in one file."""

BATCH = "batch"
"""Name of the free axis."""


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with inferred shapes, after ONNX's full check.

    Raises:
        ConfigError: it violates the standard, or does not fit into one file.
    """
    if model.ByteSize() > LARGEST_BYTES:
        raise ConfigError(
            f"the model has {model.ByteSize()} bytes, one ONNX file holds {LARGEST_BYTES}; use a smaller network"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
        return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ConfigError(f"the graph violates the ONNX standard: {first_line(error)}; export it again") from error


def printable(model: onnx.ModelProto) -> str:
    """Return the graph as text: inputs, nodes, outputs, the sizes of the weights but not their values."""
    with warnings.catch_warnings():
        # Deprecated since onnx 1.19, but its successor prints every weight: 60 MB of text for FastSegFormer-E.
        warnings.simplefilter("ignore", DeprecationWarning)
        return str(helper.printable_graph(model.graph))


def model_bytes(model: onnx.ModelProto) -> bytes:
    """Return the bytes of the file; equal models give equal bytes."""
    return cast("bytes", model.SerializeToString(deterministic=True))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators in the model."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=1)


def attribute_of(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute; text is bytes."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def signature_of(model: onnx.ModelProto) -> Signature:
    """Return names and shapes of a model whose shapes are written down; free sizes are None."""
    image, logits = real_inputs(model)[0], model.graph.output[0]
    count, channels, height_px, width_px = sizes_of(image)
    _, classes, rows, columns = sizes_of(logits)
    assert channels and classes, "state_shapes wrote them"  # noqa: PT018 - one fact
    return Signature(
        input_name=image.name,
        input_shape=(count, channels, height_px, width_px),
        output_name=logits.name,
        output_shape=(count, classes, rows, columns),
    )


def state_shapes(
    model: onnx.ModelProto,
    size: tuple[int | str, ...],
    logits: tuple[int | str, ...],
    *,
    batch: int | str = BATCH,
) -> None:
    """Set the shapes of input and output, in place; TorchScript leaves names such as 'Resizeoutput_dim_3'.

    Args:
        model: with one image as input, and one output, which keeps its type.
        size: C, H and W of an image, a name for a free one.
        logits: K, H and W, or the output's other sizes, likewise.
        batch: images per call if the graph is built for a number of them.
    """
    del model.graph.value_info[:]  # stale beside the new shapes; checked() infers them again
    image, output = real_inputs(model)[0], model.graph.output[0]
    kind = output.type.tensor_type.elem_type or TensorProto.FLOAT
    image.CopyFrom(helper.make_tensor_value_info(image.name, TensorProto.FLOAT, [batch, *size]))
    output.CopyFrom(helper.make_tensor_value_info(output.name, kind, [batch, *logits]))


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs without the weights, which old files list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def sizes_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the sizes of a tensor, None where any is allowed."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    )


def add_constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    """Add a constant under this name, or one like it; returns its name."""
    full = unused_name(model, name)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), full))
    return full


def unused_name(model: onnx.ModelProto, name: str) -> str:
    """Return the name, or the name with as many underscores behind it as make it new to the graph."""
    used = set(names_of(model.graph))
    while name in used:
        name += "_"
    return name


def names_of(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield every name of a graph and of its subgraphs."""
    yield from (value.name for value in [*graph.input, *graph.output, *graph.initializer])
    for node in graph.node:
        yield from [node.name, *node.input, *node.output]
        for attribute in node.attribute:
            for inner in subgraphs_of(attribute):
                yield from names_of(inner)


def subgraphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    """Return the graphs that an attribute of a node holds."""
    return [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def named_sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return the sizes of a tensor whose shape is written down: a number, or the name of a free one."""
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def first_line(error: object) -> str:
    """Return the first line of an error, at most 300 characters."""
    return str(error).strip().split("\n", 1)[0][:300]
