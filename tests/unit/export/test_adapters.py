"""Models of other types and layouts are adapted in the graph: float32 NCHW in, what the output means as scores out.

The reference is onnxruntime asked directly with the model as it is, one image at a time, and NumPy around it.
"""

import dataclasses

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.adapters import FOREGROUND, feed, read_input, to_scores, with_plain_output, without_bfloat16
from fsf_core.export.enlarge import add_enlargement, enlarged
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.graph import model_bytes, signature_of
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES, Profile
from fsf_core.model.session import Session

SIDE = 16
PROFILE = dataclasses.replace(PROFILES["fastsegformer"], height_px=SIDE, width_px=SIDE)
BATCH_NCHW = np.random.default_rng(0).integers(0, 256, (3, 3, SIDE, SIDE)).astype(np.float32)


def make(nodes, *, classes=4, kind=TensorProto.FLOAT, layout="NCHW", out=TensorProto.FLOAT, opset=17, shape=None):
    """One convolution between these nodes, on weights of the input's type; `x` goes in and `y` comes out."""
    weights = np.random.default_rng(1).normal(0, 0.02, (classes, 3, 3, 3)).astype(np.float32)
    inner = TensorProto.FLOAT16 if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
    sizes = ["n", 3, SIDE, SIDE] if layout == "NCHW" else ["n", SIDE, SIDE, 3]
    graph = helper.make_graph(
        [*nodes[0], helper.make_node("Conv", ["c", "w"], ["s"], pads=[1] * 4, strides=[2, 2]), *nodes[1]],
        "foreign",
        [helper.make_tensor_value_info("x", kind, sizes)],
        [helper.make_tensor_value_info("y", out, shape or ["n", None, None, None])],
        [numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(inner)), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op_type, source, target, **attributes):
    return helper.make_node(op_type, [source], [target], **attributes)


SAME_IN, SAME_OUT = [node("Identity", "x", "c")], [node("Identity", "s", "y")]
TURN = [node("Transpose", "x", "c", perm=[0, 3, 1, 2])]
BYTES = [node("Cast", "x", "f", to=TensorProto.FLOAT), node("Transpose", "f", "c", perm=[0, 3, 1, 2])]
NARROW = [node("Cast", "x", "c", to=TensorProto.FLOAT)]


def alone(model, batch):
    """The outputs of onnxruntime for each image alone."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], {"x": batch[n : n + 1]})[0] for n in range(len(batch))])


def plain_of(model, profile: Profile, output: Output) -> Session:
    converted = from_onnx(read_onnx(model.SerializeToString()), profile)
    return Session(model_bytes(converted if output == Output() else with_plain_output(converted, output)))


@pytest.mark.parametrize(
    ("model", "layout", "dtype"),
    [
        (make((SAME_IN, SAME_OUT), kind=TensorProto.FLOAT16, out=TensorProto.FLOAT16), "NCHW", "float16"),
        (make((TURN, SAME_OUT), layout="NHWC"), "NHWC", "float32"),
        (make((BYTES, SAME_OUT), layout="NHWC", kind=TensorProto.UINT8), "NHWC", "uint8"),
        (make((NARROW, SAME_OUT), kind=TensorProto.UINT8), "NCHW", "uint8"),
        (make((NARROW, SAME_OUT), kind=TensorProto.DOUBLE), "NCHW", "float64"),
        (make((BYTES, SAME_OUT), layout="NHWC", kind=TensorProto.DOUBLE, opset=11), "NHWC", "float64"),
    ],
    ids=["float16", "nhwc", "uint8-nhwc", "uint8", "float64", "float64-nhwc-opset11"],
)
def test_an_input_of_another_type_or_layout_is_adapted_and_the_output_keeps_its_bits(model, layout, dtype):
    found = read_input(model, "m.onnx")
    assert (found.layout, found.dtype, found.height_px, found.width_px) == (layout, dtype, SIDE, SIDE)
    profile = dataclasses.replace(PROFILE, layout=layout, dtype=dtype)
    given = BATCH_NCHW if layout == "NCHW" else BATCH_NCHW.transpose(0, 2, 3, 1)
    expected = alone(model, np.ascontiguousarray(given.astype(dtype)))
    output = Output(dtype=str(expected.dtype))
    plain = plain_of(model, profile, output)

    assert (plain.input_shape, plain.run(BATCH_NCHW).dtype) == ((None, 3, SIDE, SIDE), np.float32)
    assert np.array_equal(plain.run(BATCH_NCHW), expected.astype(np.float32))
    original = to_scores(alone(model, feed(BATCH_NCHW, profile)), output, (SIDE, SIDE))
    assert np.array_equal(original, expected.astype(np.float32))


SIGMOID = [node("Sigmoid", "s", "y")]
OUTPUTS = {
    "nhwk": (4, [node("Transpose", "s", "y", perm=[0, 2, 3, 1])], {}, Output(layout="NHWK")),
    "float64": (
        4,
        [node("Cast", "s", "y", to=TensorProto.DOUBLE)],
        {"out": TensorProto.DOUBLE},
        Output(dtype="float64"),
    ),
    "float16": (
        4,
        [node("Cast", "s", "y", to=TensorProto.FLOAT16)],
        {"out": TensorProto.FLOAT16},
        Output(dtype="float16"),
    ),
    "sigmoid": (1, SIGMOID, {}, Output(kind="binary_probability", layout="N1HW")),
    "logit": (1, SAME_OUT, {}, Output(kind="binary_logit", layout="N1HW")),
    "logit-resized": (1, SAME_OUT, {}, Output(kind="binary_logit", layout="N1HW", resized="logits")),
    "logit-nhw1": (
        1,
        [node("Transpose", "s", "y", perm=[0, 2, 3, 1])],
        {},
        Output(kind="binary_logit", layout="NHWK"),
    ),
    "sigmoid-nhw": (
        1,
        [node("Squeeze", "s", "q", axes=[1]), node("Sigmoid", "q", "y")],
        {"opset": 12, "shape": ["n", None, None]},
        Output(kind="binary_probability", layout="NHW"),
    ),
    "ids": (
        4,
        [node("ArgMax", "s", "y", axis=1)],
        {"out": TensorProto.INT64},
        Output(kind="class_map", layout="N1HW", dtype="int64"),
    ),
    "ids-nhw": (
        4,
        [node("ArgMax", "s", "i", axis=1, keepdims=0), node("Cast", "i", "y", to=TensorProto.UINT8)],
        {"out": TensorProto.UINT8, "shape": ["n", None, None]},
        Output(kind="class_map", layout="NHW", dtype="uint8"),
    ),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_of_another_type_layout_or_meaning_becomes_scores(name):
    """One channel becomes background and foreground; ids become float32, which holds them exactly."""
    classes, nodes, options, output = OUTPUTS[name]
    model = make((SAME_IN, nodes), classes=classes, **options)
    raw = alone(model, BATCH_NCHW).astype(np.float32)
    if output.layout == "NHWK":
        raw = raw.transpose(0, 3, 1, 2)
    expected = raw.reshape(3, -1, SIDE // 2, SIDE // 2)
    if output.kind == "binary_logit" and output.resized == "probabilities":
        expected = 1 / (1 + np.exp(-expected.astype(np.float64)))
    if output.kind.startswith("binary"):
        expected = np.concatenate(
            [1 - expected if output.resized == "probabilities" else 0 * expected, expected], axis=1
        )
    plain = plain_of(model, PROFILE, output)
    found = plain.run(BATCH_NCHW)

    assert (found.dtype, found.shape, plain.output_shape[1:]) == (np.float32, expected.shape, expected.shape[1:])
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)
    original = to_scores(alone(model, BATCH_NCHW), output, (SIDE, SIDE))
    np.testing.assert_allclose(original, expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.49999997, 0.5, 0.50000006, 1.0])
def test_the_foreground_begins_at_one_half(probability):
    """The lower class wins a tie, so the background has the little less that lets the foreground win at 0.5."""
    scores = to_scores(
        np.full((1, 1, 1, 1), probability, np.float32), Output(kind="binary_probability", layout="N1HW"), (1, 1)
    )

    assert scores.argmax(1).item() == int(probability >= 0.5)
    assert np.nextafter(np.float32(1), np.float32(0)) == FOREGROUND


def test_names_of_the_file_that_the_adapted_graph_would_use_do_not_clash():
    model = make((TURN, [node("Sigmoid", "s", "y")]), classes=1, layout="NHWC")
    for old, new in (("x", "x"), ("s", "y/sub"), ("c", "x/float32")):
        for each in model.graph.node:
            each.input[:] = [new if name == old else name for name in each.input]
            each.output[:] = [new if name == old else name for name in each.output]
    profile = dataclasses.replace(PROFILE, layout="NHWC")
    output = Output(kind="binary_probability", layout="N1HW")
    expected = alone(model, np.ascontiguousarray(BATCH_NCHW.transpose(0, 2, 3, 1)))

    assert np.array_equal(plain_of(model, profile, output).run(BATCH_NCHW)[:, 1:], expected)


def test_bfloat16_which_numpy_lacks_is_cast_in_the_graph():
    model = make((NARROW, [node("Cast", "s", "y", to=TensorProto.BFLOAT16)]), kind=TensorProto.BFLOAT16, out=16)
    cast = without_bfloat16(model)
    assert read_input(cast, "m.onnx").dtype == "float32"
    bits = BATCH_NCHW.view(np.uint32) & 0xFFFF0000  # whole numbers up to 255 are exact in bfloat16
    assert np.array_equal(bits.view(np.float32), BATCH_NCHW)
    logits = alone(make((SAME_IN, SAME_OUT)), BATCH_NCHW)
    found = Session(model_bytes(from_onnx(cast, PROFILE))).run(BATCH_NCHW)

    np.testing.assert_allclose(found, logits, rtol=2**-7)
    assert not np.array_equal(found, logits)


@pytest.mark.parametrize(
    ("sizes", "layout", "size_hw"),
    [
        (["n", 3, "h", "w"], "NCHW", (None, None)),
        (["n", "c", 32, 64], "NCHW", (32, 64)),
        (["n", 32, 64, 3], "NHWC", (32, 64)),
        (["n", "h", 64, 3], "NHWC", (None, 64)),
        ([1, 32, 64, "c"], "NHWC", (32, 64)),
        (["n", "a", "b", "c"], None, (None, None)),
        (["n", 3, 8, 3], None, (None, None)),
    ],
)
def test_layout_and_size_are_what_the_shape_shows(sizes, layout, size_hw):
    model = make((SAME_IN, SAME_OUT))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes))
    found = read_input(model, "m.onnx")

    assert (found.layout, (found.height_px, found.width_px)) == (layout, size_hw)


@pytest.mark.parametrize(
    ("sizes", "kind", "message"),
    [
        (["n", 1, 32, 32], TensorProto.FLOAT, r"is \[\?, 1, 32, 32\], expected a batch of images of 3 channels"),
        (["n", 4, 32, 32], TensorProto.FLOAT, "3 channels"),
        ([3, 32, 32], TensorProto.FLOAT, "3 channels"),
        (["n", 3, 32, 32], TensorProto.INT32, "is int32, expected one of float32, float16, float64, uint8"),
    ],
)
def test_an_input_that_takes_no_images_of_three_channels_is_refused(sizes, kind, message):
    model = make((SAME_IN, SAME_OUT))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, sizes))
    with pytest.raises(ConfigError, match=f"input 'x' of m.onnx .*{message}"):
        read_input(model, "m.onnx")


@pytest.mark.parametrize("first", [True, False])
def test_a_second_input_is_refused_by_its_name_wherever_it_is(first):
    model = make((SAME_IN, SAME_OUT))
    model.graph.input.insert(0 if first else 1, helper.make_tensor_value_info("ratio", TensorProto.FLOAT, [1]))
    with pytest.raises(ConfigError, match="nothing here can feed 'ratio'"):
        read_input(model, "m.onnx")


def test_a_model_that_needs_no_adapting_keeps_its_names():
    signature = signature_of(from_onnx(read_onnx(make((SAME_IN, SAME_OUT)).SerializeToString()), PROFILE))

    assert (signature.input_name, signature.output_name) == ("x", "y")
    onnx.checker.check_model(make((SAME_IN, SAME_OUT)))


ENLARGED = {
    "logits": (4, SAME_OUT, {}, Output(grid="input")),
    "opset11": (4, SAME_OUT, {"opset": 11}, Output(grid="input")),
    "aligned": (4, SAME_OUT, {}, Output(grid="input", corners="aligned")),
    "nhwk": (4, [node("Transpose", "s", "y", perm=[0, 2, 3, 1])], {}, Output(layout="NHWK", grid="input")),
    "logit": (1, SAME_OUT, {}, Output(kind="binary_logit", layout="N1HW", grid="input")),
    "sigmoid": (1, SIGMOID, {}, Output(kind="binary_probability", layout="N1HW", grid="input")),
    "ids": (
        4,
        [node("ArgMax", "s", "y", axis=1)],
        {"out": TensorProto.INT64},
        Output(kind="class_map", layout="N1HW", dtype="int64", grid="input"),
    ),
}


@pytest.mark.parametrize("name", ENLARGED)
def test_scores_on_a_coarser_grid_are_enlarged_to_that_of_the_input_by_torch_s_rule(name):
    """What the model returns is enlarged, before any sigmoid; padding can be cropped from the result."""
    classes, nodes, options, output = ENLARGED[name]
    model = make((SAME_IN, nodes), classes=classes, **options)
    raw = alone(model, BATCH_NCHW).astype(np.float32)
    scores_NKHW = torch.from_numpy(raw.transpose(0, 3, 1, 2).copy() if output.layout == "NHWK" else raw)
    how = {"mode": "nearest"} if output.kind == "class_map" else {"mode": "bilinear"}
    how |= {} if output.kind == "class_map" else {"align_corners": output.corners == "aligned"}
    expected = torch.nn.functional.interpolate(scores_NKHW, size=(SIDE, SIDE), **how)
    if output.kind == "binary_logit":
        expected = torch.sigmoid(expected)
    if output.kind.startswith("binary"):
        expected = torch.cat([1 - expected, expected], dim=1)
    plain = plain_of(model, PROFILE, output)
    original = to_scores(alone(model, BATCH_NCHW), output, (SIDE, SIDE))

    assert scores_NKHW.shape[2:] == (SIDE // 2, SIDE // 2)
    assert plain.output_shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(plain.run(BATCH_NCHW), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(original, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("cells", "side"), [((7, 5), (32, 48)), ((3, 9), (50, 31)), ((64, 80), (32, 32))])
@pytest.mark.parametrize(
    ("kind", "corners"), [("logits", {}), ("class_map", {}), ("class_map", {"corners": "asymmetric"})]
)
def test_a_grid_of_any_size_is_enlarged_alike_in_the_graph_and_behind_the_original(kind, corners, cells, side):
    """Ids too: the nearest cell is found in integers on both sides."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *side])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, *side])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    values = np.random.default_rng(4).integers(0, 9, (2, 3, *cells)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, "values"))
    result = add_enlargement(model, "values", Output(kind=kind, grid="input", **corners))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [found] = session.run([result], {"x": np.zeros((1, 3, *side), np.float32)})

    np.testing.assert_allclose(found, enlarged(values, Output(kind=kind, **corners), side), rtol=0, atol=2e-5)
    if corners:
        assert np.array_equal(found, torch.nn.functional.interpolate(torch.from_numpy(values), size=side))
        return
    rows, columns = (np.floor((np.arange(s) + 0.5) * c / s).astype(int) for s, c in zip(side, cells, strict=True))
    if kind == "class_map":
        assert np.array_equal(found, values[:, :, rows][:, :, :, columns])


def test_an_opset_without_half_pixel_centres_cannot_enlarge_scores():
    model = make((SAME_IN, SAME_OUT), opset=10)

    with pytest.raises(ConfigError, match=r"opset 10 .* export the model with opset 11 or above"):
        with_plain_output(from_onnx(model, PROFILE), Output(grid="input"))
