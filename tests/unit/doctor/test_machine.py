"""Facts of a machine, judged."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fsf_core.config import DoctorConfig
from fsf_core.doctor import model
from fsf_core.doctor.machine import judge_machine
from fsf_core.doctor.model import _judge_memory, _judge_session
from fsf_core.score.node_facts import node_facts
from fsf_core.score.node_tasks import Node

NODE = Node(id="0123456789abcdef", address="10.0.0.2", resources={"CPU": 4.0, "object_store_memory": 2e9})
ROOMY = {"shm": (4e9, 4e9), "disks": {"/data/ray/s": (100e9, 50e9)}, "open_files": 65536, "nvidia_driver": "590.44.01"}


def test_a_roomy_machine_is_one_line() -> None:
    [finding] = judge_machine(NODE, node_facts({}) | ROOMY)

    assert finding.status == "ok"
    assert "4 CPUs, 0 GPUs, " in finding.found
    assert "50 GB free in /data/ray/s" in finding.found


@pytest.mark.parametrize(
    ("facts", "found", "do"),
    [
        ({"shm": (64e6, 64e6)}, "shared memory of 0.1 GB, below Ray's 2.0 GB of objects", "docker run --shm-size"),
        ({"disks": {"/data/ray/s": (100e9, 4e9)}}, "has 4.0 of 100.0 GB free", "another --temp-dir"),
        ({"disks": {"/data/ray/s": (1000e9, 40e9)}}, "has 40.0 of 1000.0 GB free", "stops at 95 %"),
        ({"open_files": 256}, "256 open files are allowed", "ulimit -n 65536"),
        ({"nvidia_driver": "535.183.06"}, "535.183.06, and CUDA 13 needs 580", "onnxruntime-gpu for CUDA 12, 1.26.0"),
    ],
)
def test_what_is_too_small_is_a_warning_with_advice(facts: dict[str, Any], found: str, do: str) -> None:
    [finding] = judge_machine(NODE, node_facts({}) | ROOMY | facts)

    assert finding.status == "warn"
    assert found in finding.found
    assert do in finding.do


@pytest.mark.parametrize(
    ("peak_bytes", "status", "do"),
    [(1e9, "ok", ""), (3.6e9, "warn", "--actors for at most 3 per node"), (6e9, "fail", "--actors for at most 2 per")],
)
def test_the_actors_of_a_node_must_fit_into_its_memory(peak_bytes: float, status: str, do: str) -> None:
    found = {"peak_bytes": peak_bytes, "batch_frames": 4}

    finding = _judge_memory(NODE, found, {"memory_bytes": 16e9}, actors=4, tiled=False)

    assert finding.status == status
    assert do in finding.do


def test_the_memory_that_is_not_counted_is_named_with_windows_and_without() -> None:
    found, facts = {"peak_bytes": 1e9, "batch_frames": 4}, {"memory_bytes": 16e9}

    assert "; images in decoding are extra)" in _judge_memory(NODE, found, facts, actors=4, tiled=False).found
    assert (
        "; the picture that each reads and its mask are extra)"
        in _judge_memory(NODE, found, facts, actors=4, tiled=True).found
    )


@pytest.mark.parametrize(("precision", "tried"), [("int8", ("cpu", 0.0)), ("fp32", ("auto", 0.5))])
def test_the_provider_that_the_job_would_try_is_tried(
    precision: Any, tried: tuple[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a GPU int8 runs on CPUs."""
    calls: list[tuple[str, float]] = []

    def call_on_nodes(nodes: Any, _: Any, asked: Any, **more: Any) -> dict[Node, Any]:
        assert len(nodes) == 1
        calls.append((asked["provider"], more["num_gpus"]))
        return {}

    monkeypatch.setattr(model, "call_on_nodes", call_on_nodes)
    monkeypatch.setattr(model, "available_resources", dict)
    config = DoctorConfig(bundle="b", precision=precision, gpus_per_actor=0.5)
    subject: Any = SimpleNamespace(config=config, required_bundle=lambda: None)
    nodes: Any = SimpleNamespace(required_nodes=lambda: [replace(NODE, resources={"CPU": 4.0, "GPU": 1.0})])

    model.Model(subject, nodes).sessions.get()

    assert calls == [tried]


def test_a_session_on_a_gpu_is_described_with_card_share_and_libraries() -> None:
    found = {"provider": "cuda", "note": "", "open_s": 3.14, "batch_frames": 32, "batch_s": 0.9}
    found |= {"libraries": {"cudart": "13.0.96"}, "card": "NVIDIA H100 80GB HBM3, 42.0 GB for each actor"}

    finding = _judge_session(NODE, found, "cuda")

    assert (finding.status, finding.found) == (
        "ok",
        "cuda: opened in 3.1 s, 32 frames in 0.90 s, NVIDIA H100 80GB HBM3, 42.0 GB for each actor, cudart 13.0.96",
    )
    on_cpu = _judge_session(NODE, found | {"provider": "cpu", "libraries": {}, "card": ""}, "cpu")
    assert on_cpu.found == "cpu: opened in 3.1 s, 32 frames in 0.90 s"
