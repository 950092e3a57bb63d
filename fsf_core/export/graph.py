"""The plain ONNX model that every later step relies on: its form, its check, its bytes and its text.

float32 NCHW in, float32 logits NKHW out, weights inside, batch free, shapes written down. Knows onnx, no torch, and no
meaning of the numbers.
"""

# N images, C channels, K classes, H rows, W columns

import warnings
from typing import cast

import onnx
from onnx import TensorProto, helper, shape_inference

from fsf_core.errors import ConfigError
from fsf_core.model.bundle import Signature

LARGEST_BYTES = 2**31 - 1
"""A protobuf message ends here; a bundle holds its model in one file."""

BATCH = "batch"
"""Name of the free axis."""


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred shapes, after ONNX's own full check.

    Raises:
        ConfigError: it breaks the standard, or exceeds what one file can hold.
    """
    if model.ByteSize() > LARGEST_BYTES:
        raise ConfigError(
            f"the model has {model.ByteSize()} bytes, one ONNX file holds {LARGEST_BYTES}; use a smaller network"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
        return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ConfigError(f"the graph breaks the ONNX standard: {first_line(error)}; export it again") from error


def printable(model: onnx.ModelProto) -> str:
    """The graph as text for people: inputs, nodes, outputs, the sizes of the weights but not their values."""
    with warnings.catch_warnings():
        # Deprecated since onnx 1.19, but its successor prints every weight: 60 MB of text for FastSegFormer-E.
        warnings.simplefilter("ignore", DeprecationWarning)
        return str(helper.printable_graph(model.graph))


def model_bytes(model: onnx.ModelProto) -> bytes:
    """The file; equal models give equal bytes."""
    return cast("bytes", model.SerializeToString(deterministic=True))


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators in the model."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def signature_of(model: onnx.ModelProto) -> Signature:
    """Names and shapes of a model that this module made."""
    picture, logits = real_inputs(model)[0], model.graph.output[0]
    _, channels, height_px, width_px = sizes_of(picture)
    _, classes, rows, columns = sizes_of(logits)
    assert channels and height_px and width_px and classes and rows and columns, "state_shapes wrote them"  # noqa: PT018 - one fact
    return Signature(
        input_name=picture.name,
        input_shape=(None, channels, height_px, width_px),
        output_name=logits.name,
        output_shape=(None, classes, rows, columns),
    )


def state_shapes(model: onnx.ModelProto, size: tuple[int, ...], logits: tuple[int, ...]) -> None:
    """Write down the shapes that were seen; TorchScript leaves inventions such as 'Resizeoutput_dim_3'."""
    del model.graph.value_info[:]  # stale beside the new shapes; checked() infers them again
    for value, sizes in ((real_inputs(model)[0], size), (model.graph.output[0], logits)):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [BATCH, *sizes]))


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs without the weights, which old files list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def sizes_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes of a tensor, None where any goes."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    )


def first_line(error: object) -> str:
    """What an error says, without the pages that libraries add to it."""
    return str(error).strip().split("\n", 1)[0][:300]
