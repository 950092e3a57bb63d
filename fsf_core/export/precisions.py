"""Convert a model to extra precisions: float16 for GPUs, and int8 for CPUs, calibrated on images.

Knows ONNX Runtime's tools for graphs. Outputs are compared by `precision_parity`.
"""

# N images, C channels, H rows, W columns

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.graph import checked, first_line, model_bytes, opset_of, real_inputs, sizes_of
from fsf_core.model.session import Session

INT8_OPSET = 13
"""Opset that introduced scales per channel."""


LARGEST_FLOAT16 = 65504.0

_MASK = -1e9
"""Values below are masks, such as those of attention, and no activations: any large number serves there."""


def to_fp16(model: onnx.ModelProto, inputs_1CHW: Sequence[NDArray[np.float32]] = ()) -> onnx.ModelProto:
    """Convert weights and arithmetic to float16; input and logits stay float32.

    Args:
        model: the plain model.
        inputs_1CHW: the network's inputs for which its values must stay within float16. On CPUs onnxruntime computes
            in float32, so that a comparison of outputs there finds no overflow.

    Raises:
        ConfigError: the graph has an operator that cannot be converted, or its values overflow.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with _quiet(), _as_config_error("fp16"):
        half = OnnxModel(convert_float_to_float16(_copy(model), keep_io_types=True))
        half.topological_sort()  # the converter appends its casts at the end, which the standard forbids
    del half.model.graph.value_info[:]  # inferred again, in the new types
    converted = checked(half.model)
    _require_no_overflow(model, converted, inputs_1CHW)
    return converted


def _require_no_overflow(
    model: onnx.ModelProto, half: onnx.ModelProto, inputs_1CHW: Sequence[NDArray[np.float32]]
) -> None:
    """Refuse a conversion in which a value goes beyond float16 that does not go beyond float32.

    Raises:
        ConfigError: it does.
    """
    floats, halves = (_values_of(one, kind) for one, kind in ((model, TensorProto.FLOAT), (half, TensorProto.FLOAT16)))
    in_half = {name: name for name in halves if name in floats}
    casts = {node.output[0]: node.input[0] for node in half.graph.node if node.op_type == "Cast"}
    # The converter gives the outputs, which it casts back to float32, another name in front of the cast.
    in_half |= {name: cast for name, cast in casts.items() if name in floats and cast in halves}
    names = list(in_half)
    if not names or not inputs_1CHW:
        return
    with _as_config_error("fp16"):
        ranges = [
            Session(model_bytes(_with_ranges(model, names))),
            Session(model_bytes(_with_ranges(half, list(in_half.values())))),
        ]
    makers = {output: node for node in model.graph.node for output in node.output}
    for input_1CHW in inputs_1CHW:
        wanted, found = (session.run(input_1CHW).reshape(-1, 2) for session in ranges)
        for name, (lowest, highest), (half_lowest, half_highest) in zip(names, wanted, found, strict=True):
            if not (np.isfinite(lowest) and np.isfinite(highest)):
                continue
            lower = -half_lowest if lowest > _MASK else 0.0
            if not max(lower, half_highest) <= LARGEST_FLOAT16:  # NaN is no number below it
                raise ConfigError(
                    f"this network overflows in fp16: {makers[name].op_type} {name!r} reaches "
                    f"{max(-lowest, highest):.3g}, and float16 ends at {LARGEST_FLOAT16:.0f}; no picture changes that, "
                    "leave fp16 out of --precisions"
                )


def _values_of(model: onnx.ModelProto, kind: int) -> list[str]:
    """Return the names of the values of one type that nodes of the graph make."""
    made = {output for node in model.graph.node for output in node.output}
    known = {value.name: value.type.tensor_type.elem_type for value in [*model.graph.value_info, *model.graph.output]}
    return [name for name in known if name in made and known[name] == kind]


def _with_ranges(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a model whose only output, float32 [1, 2 · names], is the smallest and the largest value of each name."""
    copied = _copy(model)
    nodes = copied.graph.node
    for index, name in enumerate(names):
        nodes.append(helper.make_node("Cast", [name], [f"fsf/{index}"], to=TensorProto.FLOAT))
        for operator in ("ReduceMin", "ReduceMax"):
            reduced = f"fsf/{operator}{index}"
            nodes.append(helper.make_node(operator, [f"fsf/{index}"], [reduced], keepdims=0))
            nodes.append(helper.make_node("Reshape", [reduced, "fsf/cell"], [f"{reduced}/cell"]))
    copied.graph.initializer.append(numpy_helper.from_array(np.array([1, 1], np.int64), "fsf/cell"))
    cells = [f"fsf/{operator}{index}/cell" for index in range(len(names)) for operator in ("ReduceMin", "ReduceMax")]
    nodes.append(helper.make_node("Concat", cells, ["fsf/ranges"], axis=1))
    del copied.graph.output[:]
    copied.graph.output.append(helper.make_tensor_value_info("fsf/ranges", TensorProto.FLOAT, [1, len(cells)]))
    return copied


def to_int8(model: onnx.ModelProto, inputs_1CHW: Sequence[NDArray[np.float32]]) -> onnx.ModelProto:
    """Quantize convolutions to int8, weights per channel, with QuantizeLinear and DequantizeLinear around them.

    All else stays float32, the convolutions at both ends too: on FastSegFormer they lost most of the agreement and
    gained little time
    (with all operators in int8 its mean IoU was 0.87, with convolutions alone 0.91, without the ends the same 0.91 and
    for E 0.96 instead of 0.94; fitted weights, 23 photographs, 2026-11).

    Args:
        model: the plain model.
        inputs_1CHW: the network's input for each calibration image.

    Raises:
        ConfigError: the opset is too old, or the graph cannot be quantized.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if opset_of(model) < INT8_OPSET:
        raise ConfigError(
            f"found opset {opset_of(model)}, expected {INT8_OPSET} or above for int8; export with --opset 17, or leave "
            "int8 out of --precisions"
        )
    named = _copy(model)
    image = real_inputs(named)[0]
    for index, node in enumerate(named.graph.node):
        node.name = node.name or f"node{index}"  # nodes are excluded by name
    with tempfile.TemporaryDirectory() as folder, _quiet(), _as_config_error("int8"):
        path = Path(folder) / "int8.onnx"
        quantize_static(
            named,
            path,
            _CalibrationImages(image.name, inputs_1CHW, batch=sizes_of(image)[0] or 1),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(_end_convolutions(named.graph)),
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantized = onnx.load(path)
    for field in ("metadata_props", "doc_string"):
        quantized.ClearField(field)
    return checked(quantized)


class _CalibrationImages:
    """Calibration images as onnxruntime reads them: one dict per call, None at the end."""

    def __init__(self, input_name: str, inputs_1CHW: Sequence[NDArray[np.float32]], *, batch: int) -> None:
        self._feeds = iter([{input_name: np.repeat(input_1CHW, batch, axis=0)} for input_1CHW in inputs_1CHW])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return self._feeds


def _end_convolutions(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the convolutions with no other between them and the input, or the logits."""
    maker = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def behind(node: NodeProto) -> list[NodeProto]:
        return [reader for output in node.output for reader in readers.get(output, [])]

    def before(node: NodeProto) -> list[NodeProto]:
        return [maker[name] for name in node.input if name in maker]

    weights = {tensor.name for tensor in graph.initializer}
    image = next(value.name for value in graph.input if value.name not in weights)
    return _nearest_convolutions(readers.get(image, []), behind) | _nearest_convolutions(
        [maker[graph.output[0].name]], before
    )


def _nearest_convolutions(start: Sequence[NodeProto], step: Callable[[NodeProto], list[NodeProto]]) -> set[str]:
    """Return the names of the first convolutions on every path from these nodes."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type == "Conv":
            found.add(node.name)
        else:
            waiting += step(node)
    return found


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


@contextlib.contextmanager
def _as_config_error(precision: str) -> Iterator[None]:
    """Raise what the tools raise as a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # a foreign graph may raise anything in the tools
        raise ConfigError(
            f"this network cannot be converted to {precision}: {first_line(error)}; leave it out of --precisions"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tools' advice about preprocessing and about values that round to zero; parity is checked later."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
