"""Extra precisions: converted from the plain model, compared class by class, refused if they lose one."""

import numpy as np
import onnx
import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import checked, model_bytes
from fsf_core.export.parity import PRECISION_LIMITS, PrecisionLimits
from fsf_core.export.precision_parity import compare_precision
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.sample_images import drawn_images
from fsf_core.model.preprocess import PROFILES, fit, normalise
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]


@pytest.fixture(scope="module")
def inputs():
    return [normalise(fit(image.image_HWC, PROFILE)[None], PROFILE.levels()) for image in drawn_images()[:2]]


def three_convolutions(opset=17):
    """tiny_onnx with one more convolution in its middle, which is what int8 may take."""
    model = tiny_onnx(opset=opset)
    extra = onnx.helper.make_node("Conv", ["b", "w3"], ["b2"], pads=[1] * 4, name="middle")
    weights = np.random.default_rng(3).normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w3"))
    head = next(node for node in model.graph.node if node.name == "head")
    head.input[0] = "b2"
    model.graph.node.insert(2, extra)
    return model


def parity_of(session, limits, reference=None):
    original = reference or Session(model_bytes(three_convolutions()))
    return compare_precision(
        original.run,
        session,
        variant="int8-plain",
        limits=limits,
        profile=PROFILE,
        num_classes=4,
        images=drawn_images()[:2],
    )


def test_fp16_keeps_float32_at_both_ends_and_the_classes(inputs):
    half = to_fp16(three_convolutions())
    session = Session(model_bytes(half))
    assert {tensor.data_type for tensor in half.graph.initializer if tensor.name.startswith("w")} == {
        onnx.TensorProto.FLOAT16
    }
    assert session.run(inputs[0]).dtype == np.float32
    assert parity_of(session, PRECISION_LIMITS["fp16"]).violation == ""


def test_int8_takes_the_convolutions_between_the_ends_by_channel(inputs):
    quantized = to_int8(three_convolutions(), inputs)
    dequantized = {name for node in quantized.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    taken = {node.name for node in quantized.graph.node if node.op_type == "Conv" and node.input[1] in dequantized}
    scales = {t.name: t.dims for t in quantized.graph.initializer if "w3" in t.name and t.name.endswith("scale")}
    assert taken == {"middle"}
    assert [list(dims) for dims in scales.values()] == [[8]]
    assert parity_of(Session(model_bytes(quantized)), PRECISION_LIMITS["int8"]).violation == ""


def test_int8_is_the_same_bytes_every_time(inputs):
    assert model_bytes(to_int8(three_convolutions(), inputs)) == model_bytes(to_int8(three_convolutions(), inputs))


@pytest.mark.parametrize("convert", [to_fp16, lambda model: to_int8(model, [np.zeros((1, 3, 224, 224), np.float32)])])
def test_every_precision_has_a_fused_variant(convert):
    session = Session(model_bytes(fuse(convert(three_convolutions()), PROFILE)))
    assert session.fused
    assert parity_of(session, PrecisionLimits(min_mean_iou=0, min_class_iou=0, max_differing_share=1)).violation == ""


def test_the_plain_model_is_not_changed(inputs):
    model = three_convolutions()
    before = model_bytes(model)
    to_fp16(model)
    to_int8(model, inputs)
    assert model_bytes(model) == before


def test_an_opset_without_scales_by_channel_is_refused_for_int8(inputs):
    with pytest.raises(ConfigError, match="found opset 12, expected 13 or above"):
        to_int8(three_convolutions(opset=12), inputs)


def test_a_precision_that_loses_a_class_is_named_however_few_its_pixels():
    model = three_convolutions()
    session = Session(model_bytes(model))
    other = three_convolutions()
    for tensor in other.graph.initializer:
        if tensor.name == "w2":
            weights = onnx.numpy_helper.to_array(tensor).copy()
            weights[[1, 2]] = weights[[2, 1]]
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, "w2"))
    found = parity_of(Session(model_bytes(other)), PRECISION_LIMITS["int8"], session)
    assert "int8-plain: the mean IoU with the original is" in found.violation
    generous = PrecisionLimits(min_mean_iou=0, min_class_iou=0.7, max_differing_share=1)
    assert "keeps an IoU of" in parity_of(Session(model_bytes(other)), generous, session).violation
    shares = PrecisionLimits(min_mean_iou=0, min_class_iou=0, max_differing_share=0.05)
    assert "of the pixels of drawn-" in parity_of(Session(model_bytes(other)), shares, session).violation


def overflowing(by=1e5):
    """Logits multiplied and divided by the same number, which is nothing in float32 and too much in float16."""
    model = three_convolutions()
    nodes = [
        onnx.helper.make_node("Mul", ["c", "large"], ["larger"], name="times"),
        onnx.helper.make_node("Div", ["larger", "large"], ["c2"]),
    ]
    model.graph.node[4].input[0] = "c2"
    for at, node in enumerate(nodes, 4):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(by), "large"))
    return from_onnx(read_onnx(model.SerializeToString()), PROFILE)


@pytest.mark.parametrize("by", [6e4, 1e5, 1e10])
def test_values_beyond_float16_are_refused_with_that_reason(inputs, by):
    """onnxruntime computes float16 in float32 on CPUs: only the values between show what a GPU would lose."""
    with pytest.raises(ConfigError, match=r"overflows in fp16: Mul 'larger' reaches .* no picture .* leave fp16 out"):
        to_fp16(overflowing(by), inputs)


def test_large_values_within_float16_and_masks_beyond_are_no_overflow(inputs):
    """Attention adds -1e9 or -inf to what it hides; the softmax behind makes 0 of any such number."""
    to_fp16(overflowing(1e3), inputs)
    model = overflowing(1)
    mask = onnx.numpy_helper.from_array(np.float32(-3.4e38), "mask")
    node = next(node for node in model.graph.node if node.name == "times")
    node.op_type, node.input[1] = "Add", "mask"
    model.graph.initializer.append(mask)
    softmax = onnx.helper.make_node("Softmax", ["larger"], ["soft"], axis=1)
    at = [*model.graph.node].index(node)
    model.graph.node.insert(at + 1, softmax)
    model.graph.node[at + 2].input[0] = "soft"
    del model.graph.value_info[:]
    to_fp16(checked(model), inputs)


@pytest.mark.parametrize("convert", [to_fp16, to_int8])
def test_a_model_of_a_fixed_batch_has_every_precision(inputs, convert):
    original = three_convolutions()
    resize = next(node for node in original.graph.node if node.name == "up")
    resize.input[2] = ""
    resize.input.append("sizes")
    original.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 4, 224, 224]), "sizes"))
    plain = from_onnx(read_onnx(original.SerializeToString()), PROFILE)
    session = Session(model_bytes(convert(plain, inputs)))
    assert session.fixed_batch == 2
    assert parity_of(session, PRECISION_LIMITS["int8"]).violation == ""


def test_a_precision_that_outputs_nan_is_refused_with_that_reason():
    model = three_convolutions()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * np.float32(np.nan), "w2"))
    found = parity_of(Session(model_bytes(model)), PRECISION_LIMITS["int8"], Session(model_bytes(three_convolutions())))
    assert found.violation == "int8-plain: the logits hold NaN or infinity for drawn-0-512x512"


def test_ties_are_lost_in_no_precision():
    """Where float rounding decides between two classes, either is right: a small precision may take the other one."""
    model = three_convolutions()
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            weights = onnx.numpy_helper.to_array(tensor).copy()
            weights[3] = weights[1]
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, "w2"))
    original = Session(model_bytes(model))

    class Other:
        fused = False

        def run(self, batch_NCHW):
            logits = original.run(batch_NCHW)
            return logits + np.float32(1e-7) * (np.arange(4) == 3)[None, :, None, None].astype(np.float32)

    found = parity_of(Other(), PRECISION_LIMITS["fp16"], original)
    assert found.violation == ""
    assert found.worst_differing_share < 1e-4
