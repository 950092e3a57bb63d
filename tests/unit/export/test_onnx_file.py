"""Files as people have them: weights in other files, versions of any age, operators that fit one machine."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import BundleError, ConfigError
from fsf_core.export import onnx_file
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.graph import model_bytes, opset_of
from fsf_core.export.onnx_file import load_onnx
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session, newest_ir_version, newest_opset
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]


def read(model):
    return read_onnx(model.SerializeToString())


def save_in_two(folder, model=None, location="m.bin"):
    """Write m.onnx and its weights, which it looks for at `location`."""
    onnx.save_model(
        model or tiny_onnx(), folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    model = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_weights_in_a_file_beside_the_model_are_loaded(tmp_path, batch_NCHW):
    path = save_in_two(tmp_path)
    model = from_onnx(read_onnx(path), PROFILE)
    (tmp_path / "m.bin").unlink()
    expected = Session(tiny_onnx().SerializeToString()).run(batch_NCHW)
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)


@pytest.mark.parametrize("location", ["sub/m.bin", "./m.bin", "a/b/c/m.bin"])
def test_weights_below_the_folder_of_the_model_are_loaded(tmp_path, location, batch_NCHW):
    """Files whose weights are in a folder inside the model's own."""
    path = save_in_two(tmp_path, location=location)
    (tmp_path / location).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "m.bin").rename(tmp_path / location)
    expected = Session(tiny_onnx().SerializeToString()).run(batch_NCHW[:1])
    assert np.array_equal(Session(model_bytes(read_onnx(path))).run(batch_NCHW[:1]), expected)


def test_weights_that_are_missing_are_refused(tmp_path):
    path = save_in_two(tmp_path)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(BundleError, match=r"weights of .*m\.onnx in \['m\.bin'\] cannot be read"):
        read_onnx(path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin", "link.bin", "out/m.bin"]
)
def test_weights_outside_the_folder_of_the_model_are_refused(tmp_path, location):
    """A file from elsewhere must not make fsf read what it points to: by a path or by a link, of a file or a folder."""
    (tmp_path / "model").mkdir()
    path = save_in_two(tmp_path / "model", location=location)
    (tmp_path / "model" / "m.bin").rename(tmp_path / "m.bin")
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "m.bin")
    (tmp_path / "model" / "out").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="outside its own folder"):
        read_onnx(path)


def test_weights_beyond_one_file_are_refused_before_they_are_read(tmp_path):
    model = tiny_onnx()
    path = save_in_two(tmp_path, model)
    model = onnx.load(path, load_external_data=False)
    large = model.graph.initializer.add()
    large.CopyFrom(model.graph.initializer[0])
    large.name = "large"
    del large.dims[:]
    large.dims.extend([1 << 10, 1 << 20])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match=r"weights of 42949\d+ bytes, one ONNX file holds 2147483647"):
        read_onnx(path)


def test_weights_inside_a_branch_are_loaded(tmp_path):
    """Constants of the graphs inside If and Loop are in files too."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["d", "shift"], ["e"])],
        "then",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.full((1, 4, 1, 1), 2, np.float32), "shift")],
    )
    model = tiny_onnx()
    model.graph.node[-1].CopyFrom(
        helper.make_node("If", ["yes"], ["seg/scores"], then_branch=inner, else_branch=inner, name="choice")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    onnx.save_model(
        model,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    loaded = load_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.bin").unlink()
    image = np.zeros((1, 3, 224, 224), np.float32)
    expected = Session(tiny_onnx().SerializeToString()).run(image) + 2
    assert np.allclose(Session(model_bytes(from_onnx(loaded, PROFILE))).run(image), expected)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a checkpoint", b"\x00" * 100])
def test_a_file_that_is_no_model_is_refused(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"m\.onnx"):
        read_onnx(tmp_path / "m.onnx")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        read_onnx(tmp_path / "gone.onnx")


@pytest.mark.parametrize("version", [onnx.IR_VERSION, onnx.IR_VERSION + 7, 1000])
def test_a_format_newer_than_the_runtime_is_lowered(version, batch_NCHW):
    """The number of the file format says nothing about the graph, which stays the same."""
    model = tiny_onnx()
    model.ir_version = version
    loaded = read(model)
    assert loaded.ir_version <= newest_ir_version()
    assert loaded.graph == model.graph
    expected = Session(tiny_onnx().SerializeToString()).run(batch_NCHW)
    assert np.array_equal(Session(model_bytes(from_onnx(loaded, PROFILE))).run(batch_NCHW), expected)


@pytest.mark.parametrize("opset", [newest_opset() + 1, 99])
def test_an_opset_newer_than_the_runtime_is_refused_by_its_number(opset):
    model = tiny_onnx()
    model.opset_import[0].version = opset
    with pytest.raises(ConfigError, match=f"has opset {opset}, onnxruntime .* reads up to {newest_opset()}; export"):
        read(model)


def without_resize(opset):
    model = tiny_onnx(opset=opset)
    model.graph.node[3].CopyFrom(helper.make_node("Identity", ["c"], ["d"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("seg/scores", TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_an_old_opset_is_taken_where_no_operator_changed_its_meaning(opset, batch_NCHW):
    original = without_resize(opset)
    model = from_onnx(read(original), PROFILE)
    assert opset_of(model) == opset
    expected = Session(original.SerializeToString()).run(batch_NCHW)
    assert np.array_equal(Session(model_bytes(model)).run(batch_NCHW), expected)


@pytest.mark.parametrize(("opset", "operator"), [(10, "Resize"), (9, "Upsample"), (7, "Upsample")])
def test_a_bilinear_resize_before_half_pixel_centres_is_refused_by_its_name(opset, operator):
    model = without_resize(opset)
    scales = {"scales": [1.0, 1.0, 4.0, 4.0]} if opset == 7 else {}
    inputs = ["c"] if scales else ["c", "scales"]
    model.graph.node[3].CopyFrom(helper.make_node(operator, inputs, ["d"], mode="linear", **scales))
    with pytest.raises(ConfigError, match=f"opset {opset} with a linear {operator}"):
        read(model)
    model.graph.node[3].CopyFrom(helper.make_node(operator, inputs, ["d"], mode="nearest", **scales))
    from_onnx(read(model), PROFILE)


@pytest.mark.parametrize("domain", sorted(onnx_file._ONE_MACHINE))
def test_a_graph_that_was_optimised_for_one_processor_is_refused(domain):
    """onnxruntime's optimiser lays weights out for the processor it runs on; another computes something else."""
    model = tiny_onnx()
    model.graph.node[0].domain = domain
    model.opset_import.append(helper.make_opsetid(domain, 1))
    with pytest.raises(ConfigError, match=r"optimised it for one kind of processor.*ORT_ENABLE_EXTENDED"):
        read(model)
