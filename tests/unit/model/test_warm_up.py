"""A session on a GPU counts as open when its first call is done: a missing library is no error of every item."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from fsf_core.errors import BundleError, ProviderError
from fsf_core.model import session
from fsf_core.model.session import Session
from fsf_core.model.warm_up import names_driver, warm_up
from tests.support.tiny_onnx import tiny_onnx

NO_CUDNN = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
NO_CUDNN += "Name:'net/conv' Status Message: cuDNN library was not found"


class _Opened:
    """A session of onnxruntime on a card, as it fails or works: what a machine without one can show."""

    def __init__(self, reason: str, *, shape: tuple[Any, ...] = ("batch", 3, 8, 8)) -> None:
        self._reason = reason
        self._shape = shape
        self.fed: dict[str, Any] = {}

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images", type="tensor(float)", shape=[*self._shape])]

    def run(self, names: None, feed: dict[str, Any]) -> None:
        assert names is None
        self.fed = feed
        if self._reason:
            raise RuntimeError(self._reason)


def test_a_library_that_the_first_call_lacks_is_an_error_of_the_provider_with_its_name() -> None:
    with pytest.raises(
        ProviderError, match=r"requested cuda, .*cuDNN library was not found; .*pip install 'fsf\[cuda\]'"
    ):
        session._warm_up(_Opened(NO_CUDNN), "cuda")


PLACE = "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::Allocate(size_t) "
FULL = [
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; expr=cudaMalloc((void**)&p, size);",
    f"{PLACE}Available memory of 1048576 is smaller than requested bytes of 4194304",
]


@pytest.mark.parametrize("full", FULL)
def test_a_full_card_is_an_error_that_says_so(full: str) -> None:
    with pytest.raises(
        ProviderError, match=r"(out of|Available) memory .*; end other programs on the card \(nvidia-smi"
    ):
        session._warm_up(_Opened(full), "cuda")


@pytest.mark.parametrize("full", FULL)
def test_a_card_that_is_too_full_for_the_weights_is_no_error_of_the_file(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(*_: object) -> None:
        raise BundleError("cannot load the model; export it again") from RuntimeError(full)

    monkeypatch.setattr(session, "_create", create)
    with pytest.raises(ProviderError, match="end other programs on the card"):
        session._create_on_gpu(b"", None, "cuda", [])


def test_sizes_that_are_guessed_may_be_wrong_and_libraries_may_not() -> None:
    free = (1, 3, "height", "width")
    session._warm_up(
        _Opened("Non-zero status code returned while running Reshape node: 448 is no multiple", shape=free), "cuda"
    )
    place = "/onnxruntime_src/onnxruntime/core/providers/cuda/tensor/concat.cc:77 onnxruntime::common::Status "
    place += "onnxruntime::cuda::Concat::ComputeInternal(onnxruntime::OpKernelContext*) const "
    session._warm_up(_Opened(f"Concat node. Status Message: {place}axis 2 must match", shape=free), "cuda")
    with pytest.raises(ProviderError, match="cuDNN"):
        session._warm_up(_Opened(NO_CUDNN, shape=free), "cuda")
    with pytest.raises(ProviderError, match="Reshape"):
        session._warm_up(_Opened("Reshape: no"), "cuda")


@pytest.mark.parametrize("batch", ["batch", 3])
def test_the_first_call_has_the_inputs_of_the_graph(batch: Any) -> None:
    opened = _Opened("", shape=(batch, 3, 8, 8))
    warm_up(opened)
    assert opened.fed["images"].shape == ((1 if batch == "batch" else 3), 3, 8, 8)
    assert not opened.fed["images"].any()


def test_models_of_the_tests_run_once_on_a_real_session() -> None:
    warm_up(Session(tiny_onnx().SerializeToString())._session)


def test_class_maps_of_a_fused_graph_get_a_size() -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
         helper.make_node("ConstantOfShape", ["size"], ["plane"])],
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 4, 4, 3]),
         helper.make_tensor_value_info("size", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("floats", TensorProto.FLOAT, None),
         helper.make_tensor_value_info("plane", TensorProto.FLOAT, ["h", "w"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    opened = Session(model.SerializeToString())._session
    fed: dict[str, Any] = {}

    def run(names: None, feed: dict[str, Any]) -> Any:
        fed.update(feed)
        return opened.run(names, feed)

    warm_up(SimpleNamespace(get_inputs=opened.get_inputs, run=run))
    assert fed["size"].tolist() == [8, 8]
    assert fed["frames"].dtype == np.uint8


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("libcublasLt.so.13: cannot open shared object file", True),
        ("CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED", True),
        ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("TensorRT EP could not build engine for fused node", True),
        ("dlopen failed for x", True),
        ("Got invalid dimensions for input: images for the following indices", False),
        ("Protobuf parsing failed.", False),
        ("Conv(11) is not a registered function/op", False),
    ],
)
def test_reasons_of_the_card_and_its_libraries_are_known_from_those_of_the_model(
    reason: str, *, expected: bool
) -> None:
    assert names_driver(reason) is expected
