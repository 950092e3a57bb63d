"""Rewrites of a graph: each computes what was computed before, and leaves alone what it does not cover exactly."""

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.export.editing import Editor
from fsf_core.export.graph import checked, model_bytes
from fsf_core.export.rewrite import rewrite
from fsf_core.model.session import Session

CHANNELS, SIDE = 8, 12
rng = np.random.default_rng(5)


def per_channel(*, low=0.5, high=2.0, count=CHANNELS):
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def kernel(makes, reads, side=1):
    return rng.normal(0, 0.4, (makes, reads, side, side)).astype(np.float32)


def model(*nodes, opset=20, batch="batch", side=SIDE, channels=CHANNELS, **constants):
    """Nodes from images "x" through a convolution "s" to "y"; a node is operator, inputs, output and attributes."""
    constants = {"stem": kernel(channels, 3), **constants}
    made = [helper.make_node("Conv", ["x", "stem"], ["s"])]
    for operator, inputs, output, *attributes in nodes:
        made.append(helper.make_node(operator, inputs.split(), [output], **(attributes[0] if attributes else {})))
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, None, None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return checked(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9))


def operators(one):
    return Counter(node.op_type for node in one.graph.node)


def equal(before, after, images=3):
    """Whether two models give the same numbers, up to rounding, for images with values around 1 at borders too."""
    image, _, height, width = (dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim)
    batch = (
        np.random.default_rng(0).normal(1, 1, (image or images, 3, height or SIDE, width or SIDE)).astype(np.float32)
    )
    wanted, found = (Session(model_bytes(one)).run(batch) for one in (before, after))
    return wanted.shape == found.shape and np.abs(wanted - found).max() <= 2e-6 * np.abs(wanted).max()


def pool(**attributes):
    return {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1], **attributes}


def mixer(**attributes):
    return (
        ("Relu", "s", "u"),
        ("Mul", "u w", "scaled"),
        ("Add", "scaled b", "v"),
        ("AveragePool", "v", "mean", pool(**attributes)),
        ("Sub", "mean v", "difference"),
        ("Mul", "difference g", "branch"),
        ("Add", "u branch", "y"),
    )


def test_a_pool_less_its_input_needs_one_factor_and_no_offset():
    before = model(*mixer(), w=per_channel(), b=per_channel(), g=per_channel())
    after = rewrite(before)
    assert operators(after.model) == {"Conv": 1, "Relu": 1, "AveragePool": 1, "Sub": 1, "Mul": 1, "Add": 1}
    assert after.rules == {"affine_out_of_pool_difference": 1, "affine_steps_merged": 1}
    assert equal(before, after.model)


@pytest.mark.parametrize("attributes", [{"count_include_pad": 1}, {"ceil_mode": 1}])
def test_an_offset_that_a_pool_does_not_keep_stays_before_it(attributes):
    before = model(*mixer(**attributes), w=per_channel(), b=per_channel(), g=per_channel())
    after = rewrite(before).model
    assert "affine_out_of_pool_difference" not in rewrite(before).rules
    assert equal(before, after)


def test_a_pool_that_counts_padding_of_no_pixels_keeps_constants():
    nodes = [*mixer(kernel_shape=[1, 1], pads=[0] * 4, count_include_pad=1)]
    assert rewrite(model(*nodes, w=per_channel(), b=per_channel(), g=per_channel())).rules[
        "affine_out_of_pool_difference"
    ]


def test_an_input_of_a_pool_that_others_read_too_is_computed_as_before():
    nodes = [*mixer()[:-1], ("Add", "v branch", "y")]
    before = model(*nodes, w=per_channel(), b=per_channel(), g=per_channel())
    assert not rewrite(before).rules


def test_the_name_of_a_constant_that_is_gone_may_be_that_of_another():
    editor = Editor(model(("Mul", "s w", "y"), w=per_channel()))
    factor = editor.made_by("Mul", "y")
    for name, value in (("w", per_channel()), ("v", per_channel()), ("w", per_channel())):
        assert editor.constant(factor.input[1]) is not None
        factor.input[1] = editor.add(name, value)
        editor.refresh()
        assert (editor.constant(factor.input[1]) == value).all()
    assert factor.input[1] == "w"


def test_factor_and_offset_go_into_the_convolution_before():
    nodes = (("Conv", "s k bias", "c", {"pads": [1] * 4}), ("Mul", "w c", "m"), ("Add", "m b", "a"), ("Relu", "a", "y"))
    before = model(
        *nodes, k=kernel(6, 8, 3), bias=rng.random(6, np.float32), w=per_channel(count=6), b=per_channel(count=6)
    )
    after = rewrite(before).model
    assert operators(after) == {"Conv": 2, "Relu": 1}
    assert equal(before, after)


def test_what_is_added_before_a_factor_is_multiplied_too():
    nodes = (("Conv", "s k", "c"), ("Add", "c b", "a"), ("Mul", "a w", "m"), ("Add", "m d", "y"))
    before = model(*nodes, k=kernel(8, 8), b=per_channel(), w=per_channel(), d=per_channel())
    after = rewrite(before).model
    assert operators(after) == {"Conv": 2}
    assert equal(before, after)


def test_a_batch_norm_goes_into_the_convolution_before():
    norm = {name: rng.uniform(0.5, 2, 5).astype(np.float32) for name in ("scale", "shift", "mean", "var")}
    nodes = (("Conv", "s k", "c"), ("BatchNormalization", "c scale shift mean var", "y", {"epsilon": 1e-3}))
    before = model(*nodes, k=kernel(5, 8), **norm)
    after = rewrite(before).model
    assert operators(after) == {"Conv": 2}
    assert equal(before, after)


def test_a_batch_norm_that_divides_by_zero_stays():
    norm = {name: np.zeros(8, np.float32) for name in ("scale", "shift", "mean", "var")}
    before = model(("BatchNormalization", "s scale shift mean var", "y", {"epsilon": 0.0}), **norm)
    assert operators(rewrite(before).model)["BatchNormalization"] == 1


def test_a_convolution_that_others_read_too_keeps_its_weights():
    before = model(("Mul", "s w", "m"), ("Add", "m s", "y"), w=per_channel())
    assert not rewrite(before).rules


def test_weights_that_two_convolutions_share_are_folded_for_one():
    nodes = (("Conv", "s k", "c"), ("Mul", "c w", "m"), ("Relu", "m", "r"), ("Conv", "r k", "d"), ("Relu", "d", "y"))
    before = model(*nodes, k=kernel(8, 8), w=per_channel())
    after = rewrite(before)
    assert after.rules == {"affine_into_convolution_before": 1}
    assert equal(before, after.model)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_factor_and_offset_go_into_all_convolutions_behind(groups):
    nodes = (
        ("Relu", "s", "u"),
        ("Mul", "u w", "m"),
        ("Add", "b m", "v"),
        ("Conv", "v k bias", "c", {"group": groups}),
        ("Conv", "v l", "d"),
        ("Add", "c d", "y"),
    )
    constants = {"k": kernel(16, 8 // groups), "bias": rng.random(16, np.float32), "l": kernel(16, 8)}
    before = model(*nodes, **constants, w=per_channel(), b=per_channel())
    after = rewrite(before).model
    assert operators(after) == {"Conv": 3, "Relu": 1, "Add": 1}
    assert equal(before, after)


@pytest.mark.parametrize("pads", [{"pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}])
def test_an_offset_stays_before_a_convolution_that_pads_with_zeros(pads):
    nodes = (("Relu", "s", "u"), ("Mul", "u w", "m"), ("Add", "b m", "v"), ("Conv", "v k", "y", pads))
    assert not rewrite(model(*nodes, k=kernel(4, 8, 3), w=per_channel(), b=per_channel())).rules


def test_a_factor_alone_goes_into_a_convolution_that_pads_with_zeros():
    nodes = (("Relu", "s", "u"), ("Mul", "u w", "v"), ("Conv", "v k", "y", {"pads": [1] * 4}))
    before = model(*nodes, k=kernel(4, 8, 3), w=per_channel())
    after = rewrite(before).model
    assert operators(after) == {"Conv": 2, "Relu": 1}
    assert equal(before, after)


def test_a_value_that_more_than_convolutions_read_is_computed_as_before():
    nodes = (("Relu", "s", "u"), ("Mul", "u w", "v"), ("Conv", "v k", "c"), ("Add", "c v", "y"))
    assert not rewrite(model(*nodes, k=kernel(8, 8), w=per_channel())).rules


def test_an_output_of_the_graph_is_computed_although_no_convolution_reads_it():
    assert not rewrite(model(("Relu", "s", "u"), ("Mul", "u w", "y"), w=per_channel())).rules
    also_read = (("Relu", "s", "u"), ("Mul", "u w", "y"), ("Conv", "y k", "unread"))
    assert not rewrite(model(*also_read, w=per_channel(), k=kernel(8, 8))).rules


@pytest.mark.parametrize(("channels", "shape"), [(CHANNELS, ()), (CHANNELS, (1, 1, 1)), (1, (1, 1, 1))])
def test_single_numbers_stay_where_runtimes_recognise_gelu(channels, shape):
    root, one, half = (np.full(shape, number, np.float32) for number in (2**0.5, 1, 0.5))
    nodes = (
        ("Conv", "s k", "c"),
        ("Div", "c root", "d"),
        ("Erf", "d", "e"),
        ("Add", "e one", "f"),
        ("Mul", "c f", "g"),
        ("Mul", "g half", "h"),
        ("Conv", "h k", "y"),
    )
    before = model(*nodes, channels=channels, k=kernel(channels, channels), root=root, one=one, half=half)
    assert not rewrite(before).rules


def test_one_channel_that_is_multiplied_to_many_is_no_factor_of_a_convolution():
    nodes = (("Relu", "s", "u"), ("Mul", "u w", "v"), ("Conv", "v k", "y"))
    before = model(*nodes, channels=1, k=kernel(4, 8), w=per_channel())
    assert not rewrite(before).rules


def test_rows_that_are_as_many_as_channels_are_no_channels():
    before = model(("Mul", "s w", "y"), side=8, w=rng.random((8, 1), np.float32))
    assert not rewrite(before).rules


RESIZE = {"mode": "linear"}
TWICE = np.array([1, 1, 2, 2], np.float32)


@pytest.mark.parametrize("corners", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
def test_a_pointwise_convolution_runs_before_the_enlargement(corners):
    nodes = (
        ("Relu", "s", "u"),
        ("Resize", "u none scales", "r", {**RESIZE, "coordinate_transformation_mode": corners}),
        ("Conv", "r k bias", "y"),
    )
    constants = {"none": np.zeros(0, np.float32), "scales": TWICE, "k": kernel(4, 8), "bias": rng.random(4, np.float32)}
    before = model(*nodes, **constants)
    after = rewrite(before).model
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu", "Conv", "Resize"]
    assert equal(before, after)


@pytest.mark.parametrize(
    ("attributes", "scales", "makes", "convolution"),
    [
        (RESIZE, TWICE, 16, {}),  # more channels to enlarge
        (RESIZE, TWICE / 2, 4, {}),
        (RESIZE, np.array([1, 1, 2, 0.5], np.float32), 4, {}),
        ({"mode": "cubic"}, TWICE, 4, {}),  # its weights may overshoot: left as it was proved
        ({**RESIZE, "coordinate_transformation_mode": "tf_crop_and_resize"}, TWICE, 4, {}),  # values out of nothing
        (RESIZE, TWICE, 4, {"pads": [1] * 4}),
        (RESIZE, TWICE, 4, {"strides": [2, 2]}),
    ],
)
def test_a_convolution_stays_behind_a_resize_where_it_would_cost_more_or_differ(attributes, scales, makes, convolution):
    nodes = (("Relu", "s", "u"), ("Resize", "u none scales", "r", attributes), ("Conv", "r k", "y", convolution))
    roi = np.array([0, 0, -1, -1, 1, 1, 2, 2], np.float32)  # read by tf_crop_and_resize alone
    before = model(*nodes, none=roi, scales=scales, k=kernel(makes, 8))
    assert "convolution_before_resize" not in rewrite(before).rules


def test_behind_an_operator_of_another_domain_shapes_are_unknown_and_rules_leave_the_graph_alone():
    nodes = (("Gelu", "s", "u"), ("Resize", "u none scales", "r", RESIZE), ("Conv", "r k", "y"))
    plain = model(*nodes, none=np.zeros(0, np.float32), scales=TWICE, k=kernel(4, 8))
    del plain.graph.value_info[:]
    next(node for node in plain.graph.node if node.op_type == "Gelu").domain = "com.microsoft"
    plain.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    before = checked(plain)
    after = rewrite(before)
    assert not after.rules
    assert equal(before, after.model)


def sized(side, *, opset=20):
    """A Resize of the stem to a side whose sizes are computed from the shape, as exporters write it."""
    nodes = (
        ("Shape", "s", "shape"),
        ("Slice", "shape from to", "start"),
        ("Concat", "start sides", "sizes", {"axis": 0}),
        ("Resize", "s none none sizes", "y", {**RESIZE, "coordinate_transformation_mode": "align_corners"}),
    )
    numbers = {"from": np.array([0]), "to": np.array([2]), "sides": np.array([side, side])}
    return model(*nodes, none=np.zeros(0, np.float32), opset=opset, **numbers)


@pytest.mark.parametrize("side", [SIDE * 4, SIDE, SIDE // 2])
def test_a_resize_to_known_sides_needs_no_computed_sizes(side):
    before = sized(side)
    after = rewrite(before).model
    assert operators(after) == {"Conv": 1, "Resize": 1}
    assert equal(before, after)


@pytest.mark.parametrize("side", [SIDE * 3 // 2, SIDE // 3, 7])
def test_a_resize_by_a_ratio_that_is_rounded_keeps_its_sizes(side):
    assert "resize_by_scales" not in rewrite(sized(side)).rules


def test_a_resize_by_scales_beside_empty_sizes_keeps_its_scales():
    resize = ("Resize", "s none scales", "y", {**RESIZE, "coordinate_transformation_mode": "asymmetric"})
    before = model(resize, none=np.zeros(0, np.float32), scales=np.array([1, 1, 2.05, 2.05], np.float32))
    before.graph.node[-1].input.append("")  # 12 pixels become 24, as by scales of 2, but from other places
    assert "resize_by_scales" not in rewrite(before).rules


def test_a_reshape_back_to_known_sizes_needs_no_computed_shape():
    nodes = (("Reshape", "s flat", "f"), ("Softmax", "f", "p"), ("Shape", "s", "shape"), ("Reshape", "p shape", "y"))
    before = model(*nodes, flat=np.array([0, 1, -1]))
    after = rewrite(before).model
    assert operators(after) == {"Conv": 1, "Reshape": 2, "Softmax": 1}
    assert equal(before, after)
    assert equal(before, after, images=1)


def test_a_reshape_that_moves_the_batch_is_left_alone():
    nodes = (("Transpose", "s", "t", {"perm": [1, 0, 2, 3]}), ("Shape", "s", "shape"), ("Reshape", "t shape", "y"))
    assert not rewrite(model(*nodes)).rules


def test_the_batch_keeps_its_name_behind_a_resize():
    nodes = (("Resize", "s none scales", "r", RESIZE), ("Relu", "r", "y"))
    before = model(*nodes, none=np.zeros(0, np.float32), scales=TWICE)
    after = rewrite(before)
    sizes = next(value for value in after.model.graph.value_info if value.name == "r").type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in sizes] == ["batch", 8, 24, 24]
    assert after.rules == {"batch_named": 1}


def test_a_model_of_one_number_of_images_is_rewritten_too():
    before = model(*mixer(), w=per_channel(), b=per_channel(), g=per_channel(), batch=2)
    after = rewrite(before)
    assert after.rules["affine_out_of_pool_difference"] == 1
    assert equal(before, after.model)


def test_a_model_of_free_sizes_is_rewritten_where_no_size_matters():
    nodes = (*mixer()[:-1], ("Add", "u branch", "z"), ("Resize", "z none scales", "r", RESIZE), ("Conv", "r k", "y"))
    constants = {"none": np.zeros(0, np.float32), "scales": TWICE, "k": kernel(4, 8)}
    before = model(*nodes, **constants, w=per_channel(), b=per_channel(), g=per_channel(), side="side")
    after = rewrite(before)
    assert {"affine_out_of_pool_difference", "convolution_before_resize"} <= {*after.rules}
    assert equal(before, after.model)


def test_a_model_without_any_pattern_is_the_same_model():
    before = model(("Relu", "s", "y"))
    assert rewrite(before).model is before


def test_the_given_model_is_not_changed():
    before = model(*mixer(), w=per_channel(), b=per_channel(), g=per_channel())
    content = model_bytes(before)
    rewrite(before)
    assert model_bytes(before) == content


def test_equal_models_are_rewritten_to_equal_bytes():
    before = model(*mixer(), w=per_channel(), b=per_channel(), g=per_channel())
    assert model_bytes(rewrite(before).model) == model_bytes(rewrite(before).model)


def test_a_constant_that_an_old_file_lists_as_an_input_leaves_both_lists():
    before = model(("Conv", "s k", "c"), ("Mul", "c w", "y"), k=kernel(8, 8), w=per_channel())
    before.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 1, 1]))
    after = rewrite(before).model
    assert [value.name for value in after.graph.input] == ["x"]
    assert equal(before, after)


def test_an_opset_whose_operators_had_other_inputs_is_left_alone():
    nodes = (("Conv", "s k", "c"), ("Mul", "c w", "y"))
    assert not rewrite(model(*nodes, opset=11, k=kernel(8, 8), w=per_channel())).rules


def test_a_quantized_model_whose_steps_enlarge_what_rounding_changes_is_left_alone():
    quantize = (("QuantizeLinear", "s scale zero", "q"), ("DequantizeLinear", "q scale zero", "d"))
    constants = {"scale": np.float32(0.02), "zero": np.uint8(128), "k": kernel(8, 8), "w": per_channel()}
    assert not rewrite(model(*quantize, ("Conv", "d k", "c"), ("Mul", "c w", "y"), **constants)).rules


def test_what_a_subgraph_reads_is_still_computed():
    inner = helper.make_graph(
        [helper.make_node("Relu", ["c"], ["i"])],
        "inner",
        [],
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)],
    )
    nodes = (
        ("Conv", "s k", "c"),
        ("Mul", "c w", "m"),
        ("If", "yes", "j", {"then_branch": inner, "else_branch": inner}),
        ("Add", "m j", "y"),
    )
    before = model(*nodes, k=kernel(8, 8), w=per_channel(), yes=np.array(True))
    after = rewrite(before).model
    assert operators(after)["Mul"] == 1
    assert equal(before, after)
