"""Graphs with a number of images built in, whatever the label says; the reference is onnxruntime, fed what it takes."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.from_onnx import from_onnx, original_session, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import model_bytes, signature_of
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]
CELLS = (1, 4, 56, 56)


@pytest.fixture(name="batch_NCHW", scope="module")
def noise():
    return np.random.default_rng(0).random((5, 3, 224, 224), np.float32)


def with_nodes(nodes, constants, label):
    """The tiny model, whose first logits `c` become `r` by these nodes before they are resized to the image's size."""
    model = tiny_onnx(batch=label)
    resize = model.graph.node[3]
    resize.input[0] = "r"
    kept = [*model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*kept[:3], *nodes, *kept[3:]])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return model


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], **attributes)


def built_for(count):
    """Graphs that take `count` images and no other number, by the operator that holds the number."""
    shape = np.array([count, *CELLS[1:]], np.int64)
    prior = np.random.default_rng(1).random((count, *CELLS[1:])).astype(np.float32)
    halves = [node("Slice", ["t", "from", "to", "axes"], "r")]
    ends = {"from": [0], "to": [4], "axes": [1]}
    parts = [f"part{index}" for index in range(count)]
    built = {
        "Expand": (
            [node("Expand", ["zero", "shape"], "e"), node("Concat", ["c", "e"], "t", axis=1), *halves],
            {"zero": np.zeros(CELLS, np.float32), "shape": shape, **ends},
        ),
        "Concat": ([node("Concat", ["c", "prior"], "t", axis=1), *halves], {"prior": prior, **ends}),
        "Reshape": (
            [node("Reshape", ["c", "flat"], "f"), node("Reshape", ["f", "shape"], "r")],
            {"flat": [count * 4, 56 * 56], "shape": shape},
        ),
        "Resize": ([node("Resize", ["c", "", "", "shape"], "r", mode="linear")], {"shape": shape}),
        "Split": (
            [helper.make_node("Split", ["c", "ones"], parts), node("Concat", parts, "r", axis=0)],
            {"ones": [1] * count},
        ),
    }
    if count == 1:
        built["Squeeze"] = (
            [node("Squeeze", ["c", "first"], "q"), node("Unsqueeze", ["q", "first"], "r")],
            {"first": [0]},
        )
    return built


CASES = [(count, name, label) for count in (1, 4) for name, label in itertools.product(built_for(count), (count, "n"))]


@pytest.mark.parametrize(("count", "name", "label"), CASES)
def test_a_batch_that_is_built_in_is_filled_up(count, name, label, batch_NCHW, capfd):
    original = with_nodes(*built_for(count)[name], label)
    read = read_onnx(original.SerializeToString())
    model = from_onnx(read, PROFILE)
    assert signature_of(model).input_shape[0] == count
    original.graph.input[0].type.tensor_type.shape.dim[0].dim_value = count
    reference = Session(original.SerializeToString())
    expected = np.concatenate(
        [reference._session.run(None, {"images:0": np.repeat(x[None], count, 0)})[0][:1] for x in batch_NCHW]
    )
    plain = Session(model_bytes(model))
    assert np.allclose(plain.run(batch_NCHW), expected, atol=1e-5)
    assert np.allclose(original_session(read, model).run(batch_NCHW), expected, atol=1e-5)
    into = np.full((7, 4, 224, 224), -1, np.float32)
    plain.run_into(batch_NCHW, into[1:6])
    assert np.allclose(into[1:6], expected, atol=1e-5)
    assert (into[[0, 6]] == -1).all()
    frames_NHWC = np.round(batch_NCHW.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    maps, counts = Session(model_bytes(fuse(model, PROFILE))).run_fused(frames_NHWC, height_px=224, width_px=224)
    levels = plain.run(np.ascontiguousarray(frames_NHWC.transpose(0, 3, 1, 2), np.float32) / np.float32(255))
    assert (maps == levels.argmax(1)).mean() > 0.9999
    assert counts.sum() == maps.size
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("label", [1, 8, "n"])
def test_a_label_alone_fixes_nothing(label):
    """A number on the batch axis of a graph that takes any: it stays free, and so fast."""
    assert (
        signature_of(from_onnx(read_onnx(tiny_onnx(batch=label).SerializeToString()), PROFILE)).input_shape[0] is None
    )


def mixing(operator):
    if operator == "BatchNormalization":
        statistics = {"scale": 1, "bias": 0, "mean": 0, "variance": 1}
        outputs = ["r", "next_mean", "next_variance"]
        training = helper.make_node(operator, ["c", *statistics], outputs, training_mode=1, name="bn")
        return [training], {name: np.full(4, value, np.float32) for name, value in statistics.items()}
    if operator == "ReduceMean":
        return [node(operator, ["c"], "m", axes=[0, 2, 3], keepdims=1), node("Sub", ["c", "m"], "r")], {}
    backwards = {"from": [-1], "to": [-100], "axes": [0], "steps": [-1]}
    return [node(operator, ["c", *backwards], "r")], backwards


@pytest.mark.parametrize("operator", ["ReduceMean", "Slice"])
@pytest.mark.parametrize("label", ["n", 4])
def test_a_model_that_mixes_the_pictures_of_a_batch_is_refused_with_that_reason(operator, label):
    """Batch norm in training mode, taken apart, and a batch in another order."""
    model = with_nodes(*mixing(operator), label)
    with pytest.raises(ConfigError, match=r"depends on the other pictures of its batch .*training.* evaluation mode"):
        from_onnx(read_onnx(model.SerializeToString()), PROFILE)


@pytest.mark.parametrize("label", ["n", 4, 1])
def test_batch_norm_in_training_mode_is_refused_by_its_name(label):
    """With onnxruntime's optimisations it also depends on the calls before, which change its statistics."""
    model = with_nodes(*mixing("BatchNormalization"), label)
    with pytest.raises(ConfigError, match=r"(differ|depends).*BatchNormalization 'bn'.*training mode"):
        from_onnx(read_onnx(model.SerializeToString()), PROFILE)


def test_statistics_of_each_picture_at_a_batch_of_one_are_scored_one_by_one(batch_NCHW):
    """What mixes the pictures of a batch mixes nothing in a batch of one: exporters write instance norm that way."""
    original = with_nodes(*mixing("ReduceMean"), 1)
    model = from_onnx(read_onnx(original.SerializeToString()), PROFILE)
    assert signature_of(model).input_shape[0] == 1
    reference = Session(original.SerializeToString())._session
    expected = np.concatenate([reference.run(None, {"images:0": x[None]})[0] for x in batch_NCHW])
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)


@pytest.mark.parametrize("operator", ["Dropout", "RandomNormalLike"])
def test_a_model_with_random_output_is_refused_with_that_reason(operator):
    model = with_nodes([node("RandomNormalLike", ["c"], "k", scale=0.5), node("Add", ["c", "k"], "r")], {}, "n")
    if operator == "Dropout":  # the last step: before it, onnxruntime's optimiser removes it
        model = tiny_onnx(last="Dropout")
        model.graph.node[-1].input.extend(["ratio", "yes"])
        constants = {"ratio": np.float32(0.4), "yes": np.array(True)}
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    with pytest.raises(ConfigError, match=rf"two calls .* differ by up to .*{operator}.*training mode"):
        from_onnx(read_onnx(model.SerializeToString()), PROFILE)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("ids", [False, True])
def test_an_output_without_an_axis_for_its_one_picture_gets_it(opset, ids, batch_NCHW):
    """Logits K, H, W or class ids H, W: what is squeezed away with a batch of one."""
    original = tiny_onnx(opset=opset, batch=1, last="ArgMax" if ids else "Identity")
    last = original.graph.node[-1]
    last.output[0] = "whole"
    axes = {"axes": [0, 1] if ids else [0]}
    squeeze = helper.make_node("Squeeze", ["whole"], ["seg/scores"], **(axes if opset < 13 else {}))
    if opset >= 13:
        squeeze.input.append("axes")
        original.graph.initializer.append(numpy_helper.from_array(np.array(axes["axes"]), "axes"))
    original.graph.node.append(squeeze)
    kind = TensorProto.INT64 if ids else TensorProto.FLOAT
    original.graph.output[0].CopyFrom(helper.make_tensor_value_info("seg/scores", kind, None))
    read = read_onnx(original.SerializeToString())
    model = from_onnx(read, PROFILE)
    reference = Session(original.SerializeToString())._session
    expected = np.stack([reference.run(None, {"images:0": image[None]})[0] for image in batch_NCHW])
    assert expected.ndim == (3 if ids else 4)
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)
    assert np.array_equal(original_session(read, model).run(batch_NCHW), expected)
