"""A file of weights is read without running code, or named as what it is; nothing in it is ever executed."""

import argparse
import collections
import functools
import gzip
import io
import pathlib
import pickle
import tarfile
import types
import warnings
import zipfile

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch

from fsf_core.config import ExportConfig
from fsf_core.errors import CheckpointError, InterruptedRunError
from fsf_core.export.checkpoint_file import read_checkpoint
from fsf_core.export.material import read_material
from fsf_core.export.numpy_pickle import PickledArray
from tests.support.tiny_onnx import tiny_onnx


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def state():
    return {"conv.weight": torch.arange(8.0).reshape(2, 1, 2, 2), "conv.bias": torch.zeros(2)}


WHOLE = {
    "new": saved(state()),
    "old": saved(state(), _use_new_zipfile_serialization=False),
    "safetensors": safetensors.torch.save(state()),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE.keys())
def test_the_formats_are_recognised_by_content_whatever_the_name(data, tmp_path):
    (tmp_path / "weights.bin").write_bytes(data)
    for checkpoint in (data, tmp_path / "weights.bin"):
        found = read_checkpoint(checkpoint)
        assert {key: tensor.tolist() for key, tensor in found.items()} == {k: v.tolist() for k, v in state().items()}


# --- NumPy beside the weights


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.8),
        np.float32(0.5),
        np.int64(-3),
        np.uint8(200),
        np.bool_(True),
        np.complex128(1 + 2j),
        np.str_("val/mIoU é"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("new_format", [True, False])
def test_numbers_of_numpy_are_read_as_numbers_of_python(value, new_format):
    found = read_checkpoint(saved({"best": value}, _use_new_zipfile_serialization=new_format))["best"]
    assert found == value.item()
    assert type(found) is type(value.item())


def test_numbers_and_arrays_of_numpy_1_are_read_too():
    data = saved({"best": np.float64(0.5), "mean": np.ones(2)}, _use_new_zipfile_serialization=False)
    found = read_checkpoint(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert found["best"] == 0.5
    assert found["mean"].array.tolist() == [1, 1]


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.4, 0.5]),
        np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        np.array([1, 2], ">i4"),
        np.array([]),
        np.array(3.0, np.float16),
        np.zeros((2, 0, 3), np.uint8),
        np.array(["a", "bc"]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_numpy_are_read_with_their_shape_and_type(array):
    found = read_checkpoint(saved({"mean": array}))["mean"]
    assert isinstance(found, PickledArray)
    assert np.array_equal(found.array, array)
    assert (found.array.shape, found.array.dtype) == (array.shape, array.dtype.newbyteorder("="))


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, "a"], object),
        np.array([(1, 2.0)], [("a", int), ("b", float)]),
        np.array([(None,)], [("a", object)]),
        np.ma.masked_array([1.0], [True]),
        np.random.default_rng(0),
    ],
    ids=["objects", "fields", "a field of objects", "a subclass", "a generator"],
)
def test_objects_of_numpy_are_refused(value):
    with pytest.raises(CheckpointError, match=r"save the weights alone with torch.save\(network.state_dict"):
        read_checkpoint(saved({"w": torch.ones(1), "x": value}))


class _Forged:
    """Pickles as calls of NumPy's functions with arguments that NumPy never writes."""

    def __init__(self, function, arguments, state=None):
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize(
    "value",
    [
        _Forged(np.dtype, ("O",)),
        _Forged(np.dtype, ("f8",), (3, b"<", None, None, None, -1, -1, 63)),
        _Forged(np.dtype, ("V8",), (3, "|", None, ("a",), {"a": (object, 0)}, 8, 1, 27)),
        _Forged(np._core.multiarray.scalar, (np.dtype("f8"), 5)),
        _Forged(np._core.multiarray._reconstruct, (dict, (0,), b"b")),
        _Forged(
            np._core.multiarray._reconstruct,
            (np.ndarray, (0,), b"b"),
            (1, (1 << 40,), np.dtype("f8"), False, b"12345678"),
        ),
    ],
    ids=["object type", "byte order", "fields", "scalar", "another class", "a shape beyond the bytes"],
)
def test_forged_numbers_of_numpy_are_refused(value):
    """Its own unpickling takes types and sizes from the pickle as they are, down to its C code."""
    with pytest.raises(CheckpointError):
        read_checkpoint(saved({"x": value}))


# --- settings beside the weights


@pytest.mark.parametrize("new_format", [True, False])
def test_options_and_paths_that_training_scripts_keep_are_no_obstacle(new_format):
    """The reference script of torchvision writes `"args": argparse.Namespace(...)` beside the weights."""
    args = argparse.Namespace(lr=0.1, output=pathlib.Path("runs/a"), nested=types.SimpleNamespace(aux=True))
    data = saved({"model": state(), "epoch": 3, "args": args}, _use_new_zipfile_serialization=new_format)
    found = read_checkpoint(data)
    assert found["args"].values["output"] == "runs/a"
    assert found["model"].keys() == state().keys()


def test_options_with_code_inside_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="pickled Python object"):
        read_checkpoint(saved({"w": torch.ones(1), "args": argparse.Namespace(x=_Exploit(tmp_path / "ran"))}))
    assert not (tmp_path / "ran").exists()


# --- code


class _Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "beside", [{}, {"score": np.float64(0.5), "mean": np.ones(3)}], ids=["alone", "beside numbers"]
)
def test_code_inside_a_checkpoint_is_refused_and_never_run(tmp_path, new_format, beside):
    trace = tmp_path / "it-ran"
    value = {"w": torch.ones(1), **beside, "x": _Exploit(trace)}
    with pytest.raises(CheckpointError, match=r"needs \S*open to be unpickled, which can run any code"):
        read_checkpoint(saved(value, _use_new_zipfile_serialization=new_format))
    assert not trace.exists()


def test_code_in_the_place_of_a_number_is_refused_and_never_run(tmp_path):
    trace = tmp_path / "it-ran"
    value = _Forged(np._core.multiarray.scalar, (np.dtype("f8"), _Exploit(trace)))
    with pytest.raises(CheckpointError, match="which can run any code"):
        read_checkpoint(saved({"x": value}))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Conv2d(1, 1, 1), "torch.nn.modules.conv.Conv2d"),
        ({"w": torch.ones(1), "args": functools.partial(print)}, "functools.partial"),
        ({"w": torch.ones(1), "log": collections.deque([1])}, "collections.deque"),
    ],
)
def test_objects_are_refused_by_name_with_the_way_out(value, name):
    with pytest.raises(CheckpointError, match=rf"needs {name} to be unpickled.*network.state_dict\(\)"):
        read_checkpoint(saved(value))


# --- files that hold no weights


def archive(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(1))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>rate limited</html>", "an HTML page"),
        (b"\n  <html>404</html>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (b'{"message": "Not Found"}', "a JSON document"),
        (gzip.compress(WHOLE["new"]), "compressed with gzip.*unpack"),
        (tar(), "a tar archive.*unpack"),
        (archive("run/weights.pth"), "a ZIP archive of run/weights.pth; .*unpack"),
        (npz(), "an archive of NumPy arrays"),
        (archive("metadata.json", "config.json", "model.weights.h5"), "Keras"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x18\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (script, "a TorchScript archive"),
        (archive("net/data/weights/weight_0", "net/models/model.json", "net/archive_format"), "an exported program of"),
        (archive("serialized_exported_program.json", "version"), "an exported program of torch.export"),
        (tiny_onnx().SerializeToString(), "an ONNX model; .*--onnx"),
        (pickle.dumps({"w": [1.0]}), "a pickle that torch.save did not write"),
        (b"not a checkpoint", "is not a checkpoint, it begins with b'not a ch'"),
    ],
)
def test_a_file_without_weights_is_refused_by_its_name_and_what_it_is(data, words, recwarn):
    content = data() if callable(data) else data
    recwarn.clear()
    with pytest.raises(CheckpointError, match=f"^weights.pth .*{words}"):
        read_checkpoint(content, source="weights.pth")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saved_model.pb", "a graph of TensorFlow"),
        ("model.ckpt.data-00000-of-00001", "a checkpoint of TensorFlow"),
        ("yolov4.weights", "weights of Darknet"),
        ("model.engine", "an engine of TensorRT"),
    ],
)
def test_a_format_without_a_signature_is_recognised_by_its_name(name, words):
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(b"\x0a\x01\x02\x03\x04\x05\x06\x07\x08", source=name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["saved_model.pb"], "a SavedModel of TensorFlow"),
        ([".metadata", "__0_0.distcp"], "a distributed checkpoint of PyTorch.*dcp_to_torch"),
        (
            ["config.json", "model.safetensors"],
            "a folder, expected one file; give a file in it, such as model.safetens",
        ),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"], "a folder of sharded weights"),
        ([], "a folder, expected one file; give the file with the weights"),
    ],
)
def test_a_folder_is_refused_as_what_it_is(tmp_path, names, words):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    config = ExportConfig(net="a.b:c", checkpoint=str(folder), classes=("a", "b"), out=str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match=f"{folder} is {words}"):
        read_material(config)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(CheckpointError, match=f"{path}: .*check the path"):
            read_checkpoint(path)


def test_a_signal_is_no_damage(monkeypatch):
    def interrupted(*_, **__):
        raise InterruptedRunError(15)

    monkeypatch.setattr(torch, "load", interrupted)
    with pytest.raises(InterruptedRunError):
        read_checkpoint(WHOLE["new"])


# --- damaged files


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE.keys())
def test_a_truncated_file_is_refused_wherever_it_ends(data):
    for length in range(0, len(data), 1 if len(data) < 500 else 37):
        with pytest.raises(CheckpointError):
            read_checkpoint(data[:length])


def test_a_damaged_file_is_refused_or_read_but_never_breaks_otherwise():
    rng = np.random.default_rng(1)
    whole = np.frombuffer(saved(state() | {"score": np.float64(1), "mean": np.ones(2)}), np.uint8)
    old = np.frombuffer(WHOLE["old"], np.uint8)
    refused = 0
    for data in [whole] * 100 + [old] * 100:
        damaged = data.copy()
        damaged[rng.integers(len(data), size=3)] ^= rng.integers(1, 256, size=3, dtype=np.uint8)
        try:
            read_checkpoint(damaged.tobytes())
        except CheckpointError:
            refused += 1
    assert refused > 50


def test_an_onnx_file_with_its_weights_outside_is_recognised_too():
    model = onnx.ModelProto()
    model.CopyFrom(tiny_onnx())
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    with pytest.raises(CheckpointError, match="an ONNX model"):
        read_checkpoint(model.SerializeToString())
