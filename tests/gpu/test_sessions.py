"""Sessions on the card: in float32, repeatable, and on the card or not at all, whatever is missing."""

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fsf_core.model.session import Session
from fsf_core.options import ResolvedProvider
from tests.gpu.conftest import REHEARSAL
from tests.support.tiny_onnx import tiny_onnx

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]

NEEDED = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13", "libcudnn.so.9", "libcuda.so.1")
OPTIONAL = ("libcufft.so.12", "libnvrtc.so.13")
"""Libraries of operators that segmentation networks need not have."""
OWN = "libonnxruntime_providers_cuda.so"
CHILDREN = {
    **{f"without {name}": ["cuda", name] for name in (*NEEDED, *OPTIONAL, OWN)},
    **{f"auto without {name}": ["auto", name] for name in ("libcudnn.so.9", "libcublas.so.13", "libcuda.so.1")},
    "auto": ["auto"],
    "complete": ["cuda"],
    "torch first": ["cuda", "--torch-first"],
    "no visible card": ["cuda"],
    "auto, no visible card": ["auto"],
}


class Children(dict[str, Future[dict[str, Any]]]):
    """What processes report that start with libraries missing, by name; each starts when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(2 if REHEARSAL else 8)

    def __missing__(self, name: str) -> Future[dict[str, Any]]:
        self[name] = self._pool.submit(_reported, name)
        return self[name]


def _reported(name: str) -> dict[str, Any]:
    environment = {**os.environ} | ({"CUDA_VISIBLE_DEVICES": ""} if "no visible card" in name else {})
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.session_child", *CHILDREN[name], *(["--rehearsal"] if REHEARSAL else [])],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.fixture(scope="module")
def children() -> Children:
    """The processes, all at once unless pytest's own share the tests."""
    found = Children()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for name in CHILDREN:
            found[name]
    return found


def names(library: str, message: str) -> bool:
    """Whether a message names a library, with or without `lib`."""
    return library.partition(".so")[0].removeprefix("lib").lower() in message.lower()


def test_logits_are_those_of_the_cpu(provider: ResolvedProvider) -> None:
    model = tiny_onnx().SerializeToString()
    batch_NCHW = np.random.default_rng(0).random((5, 3, 224, 224), np.float32)
    found, expected = Session(model, provider=provider), Session(model).run(batch_NCHW)

    assert found.provider == provider
    assert np.abs(found.run(batch_NCHW) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_float32_is_computed_in_float32(provider: ResolvedProvider) -> None:
    """TF32, which has 10 bits of mantissa, would give a relative error of 3e-4."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (32, 64, 3, 3)).astype(np.float32)
    batch_NCHW = rng.normal(0, 1, (4, 64, 40, 40)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64, 40, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32, 38, 38])],
        [numpy_helper.from_array(weights, "w")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    windows = np.lib.stride_tricks.sliding_window_view(batch_NCHW.astype(np.float64), (3, 3), (2, 3))
    expected = np.einsum("nchwij,kcij->nkhw", windows, weights.astype(np.float64), optimize=True)
    found = Session(model.SerializeToString(), provider=provider).run(batch_NCHW)

    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_auto_chooses_the_card_and_says_so(children: Children, provider: str) -> None:
    found = children["auto"].result()

    assert found["provider"] == provider
    assert found["note"].startswith(f"auto chose {provider}: ")
    assert found["difference"] <= 1e-4


@pytest.mark.parametrize("name", ["complete", "torch first"])
def test_a_session_runs_on_the_card_with_and_without_torch(name: str, children: Children, provider: str) -> None:
    found = children[name].result()

    if REHEARSAL:
        assert found["error"] == "ProviderError"
        assert "cannot open shared object file" in found["message"]
    else:
        assert found["provider"] == provider
        assert found["difference"] <= 1e-4


@pytest.mark.parametrize("name", [*NEEDED, OWN])
def test_a_missing_library_is_named_and_nothing_runs_on_the_cpu(name: str, children: Children, provider: str) -> None:
    found = children[f"without {name}"].result()

    assert found.get("error") == "ProviderError", found
    assert "pass --provider cpu" in found["message"]
    if not REHEARSAL:
        assert found["hidden"], "nothing was hidden"
        assert names(name, found["message"])


@pytest.mark.parametrize("name", OPTIONAL)
def test_without_a_library_of_other_operators_the_session_runs_on_the_card_or_says_what_is_missing(
    name: str, children: Children, provider: str
) -> None:
    found = children[f"without {name}"].result()

    if "error" in found:
        assert found["error"] == "ProviderError"
        assert REHEARSAL or names(name, found["message"])
    else:
        assert found["provider"] == provider
        assert found["difference"] <= 1e-4


@pytest.mark.parametrize("name", ["libcudnn.so.9", "libcublas.so.13", "libcuda.so.1"])
def test_auto_takes_the_cpu_only_with_the_name_of_what_is_missing(name: str, children: Children, provider: str) -> None:
    found = children[f"auto without {name}"].result()

    assert found["provider"] == "cpu"
    assert found["note"].startswith("auto chose cpu: ")
    assert REHEARSAL or names(name, found["note"])


@pytest.mark.parametrize("name", ["no visible card", "auto, no visible card"])
def test_a_hidden_card_is_refused_with_the_variable_that_hides_it(name: str, children: Children, provider: str) -> None:
    found = children[name].result()
    message = found["note"] if name.startswith("auto") else found["message"]

    assert found.get("error", found.get("provider")) == ("cpu" if name.startswith("auto") else "ProviderError")
    assert REHEARSAL or "CUDA_VISIBLE_DEVICES" in message, message
