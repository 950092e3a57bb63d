import gc
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from fsf_core.errors import BundleError, ProviderError
from fsf_core.model import session
from fsf_core.model.cuda_driver import cuda_devices
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

without_gpu = pytest.mark.skipif(cuda_devices()[0] > 0, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def model():
    return tiny_onnx().SerializeToString()


@pytest.fixture(name="batch_NCHW", scope="module")
def noise():
    return np.random.default_rng(0).random((5, 3, 224, 224), np.float32)


def test_a_plain_model_has_the_names_and_shapes_of_its_graph(model):
    found = Session(model)
    assert (found.provider, found.provider_note, found.fused) == ("cpu", "", False)
    assert (found.input_name, found.input_shape) == ("images:0", (None, 3, 224, 224))
    assert (found.output_name, found.num_classes, found.grid_hw) == ("seg/scores", 4, (224, 224))


def test_logits_do_not_depend_on_batch_or_threads(model, batch_NCHW):
    one, two = Session(model), Session(model, threads=2)
    whole = one.run(batch_NCHW)
    assert whole.dtype == np.float32
    assert whole.shape == (5, 4, 224, 224)
    assert np.array_equal(np.concatenate([one.run(batch_NCHW[i : i + 1]) for i in range(5)]), whole)
    assert np.array_equal(two.run(batch_NCHW), whole)


def test_run_into_writes_the_bits_of_run_into_the_given_array(model, batch_NCHW):
    found = Session(model)
    wanted = np.full((7, 4, 224, 224), -1, np.float32)
    found.run_into(batch_NCHW, wanted[1:6])
    assert np.array_equal(wanted[1:6], found.run(batch_NCHW))
    assert (wanted[[0, 6]] == -1).all()


def test_logits_of_another_shape_are_rejected_and_not_written(model, batch_NCHW):
    wanted = np.full((6, 4, 224, 224), -1, np.float32)
    with pytest.raises(RuntimeError, match="onnxruntime on cpu rejected images:0"):
        Session(model).run_into(batch_NCHW, wanted)
    assert (wanted == -1).all()


def test_options_of_cuda_are_not_those_of_tensorrt():
    tensorrt, (name, cuda), cpu = session._providers("tensorrt", memory_bytes=1 << 30)
    assert (tensorrt, name, cpu) == ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert session._providers("cuda", memory_bytes=1 << 30) == [(name, cuda), cpu]


def test_the_limit_of_memory_and_the_search_of_algorithms_reach_the_provider():
    [(_, given), _] = session._providers("cuda", memory_bytes=1 << 30, conv_search="EXHAUSTIVE")
    [(_, default), _] = session._providers("cuda")

    assert (given["gpu_mem_limit"], given["cudnn_conv_algo_search"]) == ("1073741824", "EXHAUSTIVE")
    assert "gpu_mem_limit" not in default
    assert given["use_tf32"] == default["use_tf32"] == "0"


def test_a_model_is_read_from_a_path(tmp_path, model):
    path = tmp_path / "mödel.onnx"
    path.write_bytes(model)
    assert Session(path).num_classes == 4
    assert Session(str(path)).num_classes == 4


@without_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_missing_gpu_raises_provider_error(model, provider, capfd):
    with pytest.raises(ProviderError, match=rf"requested {provider}.*pass --provider cpu"):
        Session(model, provider=provider)
    assert capfd.readouterr() == ("", "")


@without_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_fallback_to_the_cpu_raises_provider_error(model, provider, monkeypatch, capfd):
    monkeypatch.setattr(session, "cuda_devices", lambda: (1, ""))  # a driver without the CUDA libraries
    with pytest.raises(ProviderError, match=r"(libcublasLt|libnvinfer)\.so\.\d+: cannot open .* pass --provider c"):
        Session(model, provider=provider)
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_auto_chooses_the_cpu_with_a_reason_and_without_output(model, capfd):
    found = Session(model, provider="auto")
    assert found.provider == "cpu"
    assert found.provider_note.startswith("auto chose cpu: ")
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_auto_chooses_the_cpu_if_the_gpu_does_not_work(model, monkeypatch, capfd):
    monkeypatch.setattr(session, "cuda_devices", lambda: (1, ""))
    found = Session(model, provider="auto")
    assert found.provider == "cpu"
    assert "CUDAExecutionProvider" in found.provider_note
    assert capfd.readouterr() == ("", "")


def test_an_operator_placed_on_the_cpu_raises_provider_error():
    class Node:
        op_type = "Conv"

    class Part:
        ep_name = "CPUExecutionProvider"

        def get_nodes(self):
            return [Node()]

    class HalfOnTheGpu:  # what onnxruntime reports when the provider has no kernel for an operator
        def get_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self):
            return [Part()]

    with pytest.raises(ProviderError, match="Conv would run on the CPU"):
        session._verify_placement(HalfOnTheGpu(), "cuda", "")


def test_external_weights_are_rejected_even_in_the_working_directory(tmp_path, monkeypatch):
    onnx.save_model(tiny_onnx(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="weights inside"):
        Session("m.onnx")


@pytest.mark.parametrize(
    "damage", [b"", b"no model", b"\xff", b"\x38\x01", *(tiny_onnx().SerializeToString()[:size] for size in (9, 500))]
)
def test_bytes_that_are_not_a_model_raise_bundle_error(damage, capfd):
    with pytest.raises(BundleError, match="cannot load the model"):
        Session(damage)
    assert capfd.readouterr() == ("", "")


def test_a_missing_model_raises_bundle_error(tmp_path):
    with pytest.raises(BundleError, match=r"gone\.onnx does not exist"):
        Session(tmp_path / "gone.onnx")


def test_a_batch_of_another_shape_raises_an_error_with_its_shape(model, capfd):
    with pytest.raises(RuntimeError, match=r"rejected images:0 float32 \[1, 3, 8, 8\]"):
        Session(model).run(np.zeros((1, 3, 8, 8), np.float32))
    assert capfd.readouterr() == ("", "")


def test_the_session_has_the_given_number_of_threads(model):
    options = Session(model, threads=3)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("damage", ["ir", "operator"])
def test_a_message_of_onnxruntime_is_one_sentence_without_places_in_its_sources(damage):
    model = tiny_onnx()
    if damage == "ir":
        model.ir_version = 99
    else:
        model.graph.node[1].op_type = "Magic"
    with pytest.raises(BundleError, match=r"IR version: 99|Magic.*without custom operators") as caught:
        Session(model.SerializeToString())
    assert "onnxruntime_src" not in str(caught.value)
    assert "::" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_newest_versions_are_those_that_load():
    model = tiny_onnx()
    model.ir_version = session.newest_ir_version()
    model.opset_import[0].version = session.newest_opset()
    assert Session(model.SerializeToString()).num_classes == 4


def test_a_session_that_keeps_no_memory_gives_that_of_its_outputs_back_and_the_same_bits(batch_NCHW):
    """The proof of an export with 847 classes held the outputs of three sessions at once."""
    many = tiny_onnx(num_classes=100).SerializeToString()
    grown, outputs = {}, []
    for keep_memory in (False, True):
        found = Session(many, keep_memory=keep_memory)
        found.run(batch_NCHW[:1, :, :, :])
        gc.collect()
        before = _resident_bytes()
        outputs.append(found.run(batch_NCHW)[:, ::25].copy())
        gc.collect()
        grown[keep_memory] = _resident_bytes() - before

    assert np.array_equal(*outputs)
    assert grown[False] < 40 << 20 < grown[True]  # the outputs have 96 MiB, and the copies that are compared 4


def _resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
