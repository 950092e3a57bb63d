import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.graph import model_bytes, opset_of, signature_of
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]


def read(model):
    return read_onnx(model.SerializeToString())


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 20])
@pytest.mark.parametrize("batch", ["n", 1])
def test_a_foreign_file_keeps_names_and_opset_and_gets_a_free_batch(opset, batch, batch_NCHW):
    original = tiny_onnx(opset=opset, batch=batch)
    model = from_onnx(read(original), PROFILE)
    signature = signature_of(model)
    assert (signature.input_name, signature.output_name) == ("images:0", "seg/scores")
    assert signature.output_shape == (None, 4, 224, 224)
    assert opset_of(model) == opset
    single = Session(original.SerializeToString())
    expected = np.concatenate([single.run(batch_NCHW[i : i + 1]) for i in range(3)])
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)


def test_the_original_is_not_changed():
    original = read(tiny_onnx(batch=1))
    before = model_bytes(original)
    from_onnx(original, PROFILE)
    assert model_bytes(original) == before


def with_reshape(target):
    """The tiny model, with its output reshaped to a constant shape, as exporters write it."""
    model = tiny_onnx(batch=1, last="Reshape")
    model.graph.node[-1].input.append("target")
    model.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), "target"))
    return model


@pytest.mark.parametrize("target", [[1, 4, 224, 224], [1, 4, -1, 224], [0, 4, 224, 224]])
def test_a_reshape_to_a_batch_of_one_follows_the_batch(target, batch_NCHW):
    original = with_reshape(target)
    model = from_onnx(read(original), PROFILE)
    single = Session(original.SerializeToString())
    expected = np.concatenate([single.run(batch_NCHW[i : i + 1]) for i in range(3)])
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)


def test_the_output_is_chosen_by_name_where_there_are_several():
    model = tiny_onnx(opset=17)
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    with pytest.raises(ConfigError, match=r"outputs \['seg/scores', 'c'\]; name the one with"):
        read(model)
    chosen = read_onnx(model.SerializeToString(), output_name="c")
    assert signature_of(from_onnx(chosen, PROFILE)).output_shape == (None, 4, 56, 56)


def test_weights_that_are_listed_as_inputs_are_no_inputs():
    model = tiny_onnx(opset=11)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    assert signature_of(from_onnx(read(model), PROFILE)).input_name == "images:0"


def test_free_height_and_width_become_the_profiles():
    model = tiny_onnx()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images:0", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    assert signature_of(from_onnx(read(model), PROFILE)).input_shape == (None, 3, 224, 224)
