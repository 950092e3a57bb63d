"""How many actors the options mean on a cluster, with what its autoscaler may add."""

import contextlib
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from fsf_core.config import ScoreConfig
from fsf_core.errors import ClusterError, ProviderError
from fsf_core.model.cuda_driver import Card
from fsf_core.options import ResolvedProvider
from fsf_core.score import card_share, placement
from fsf_core.score.autoscaler import Autoscaler, NodeType
from fsf_core.score.capacity import Capacity, Node
from fsf_core.score.job import _count_few_images
from fsf_core.score.spec import gpu_share, other_bundles

HEAD = Node(node_id="0", address="::1", resources={"CPU": 0.0}, is_head=True)
WORKERS = tuple(Node(node_id=str(number), address="::1", resources={"CPU": 4.0}) for number in (1, 2))
GPU_NODE = Node(node_id="3", address="::1", resources={"CPU": 8.0, "GPU": 2.0})


def _autoscaler(**most: int) -> Autoscaler:
    shapes = {"cpu": {"CPU": 4.0}, "gpu": {"CPU": 8.0, "GPU": 2.0}}
    types = (NodeType(name=name, resources=shapes[name], min_nodes=0, max_nodes=count) for name, count in most.items())
    return Autoscaler(node_types=tuple(types))


ONE_GPU_NODE = Capacity(nodes=(GPU_NODE,))
FIXED = Capacity(nodes=(HEAD, *WORKERS))
EMPTY = Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3, gpu=4))
UNKNOWN = Capacity(nodes=(HEAD,), autoscaler=Autoscaler(node_types=None))


def _config(**options: Any) -> ScoreConfig:
    return ScoreConfig(bundle="b", manifest="m", out="o", ray_address="10.0.0.1:6379", **options)


@pytest.mark.parametrize(
    ("capacity", "gpus", "actors", "expected"),
    [
        (FIXED, 0.0, None, (8, 8)),
        (FIXED, 0.0, 8, (8, 8)),
        (FIXED, 0.0, "2-6", (2, 6)),
        (FIXED, 0.0, "2-99", (2, 8)),
        (EMPTY, 0.0, None, (1, 12)),  # a node with GPUs is not started for its CPUs
        (EMPTY, 0.0, "4-32", (4, 32)),  # unless the user asks for that many
        (EMPTY, 1.0, None, (1, 8)),
        (EMPTY, 1.0, "2-99", (2, 8)),
        (EMPTY, 0.5, "2-99", (2, 16)),
        (UNKNOWN, 1.0, "4-32", (4, 32)),
        (UNKNOWN, 0.5, None, (1, placement.MOST_ACTORS)),
        (UNKNOWN, 0.0, None, (1, placement.MOST_ACTORS)),
        (ONE_GPU_NODE, 1.0, None, (2, 2)),
        (ONE_GPU_NODE, 0.5, None, (4, 4)),
        (ONE_GPU_NODE, 0.5, 3, (3, 3)),
        (ONE_GPU_NODE, 0.3333, None, (6, 6)),
        (ONE_GPU_NODE, 0.6, None, (2, 2)),  # of 2 GPUs 0.4 are left on each: no card has room for a third actor
        (ONE_GPU_NODE, 0.05, None, (6, 6)),  # as many as CPUs beside decode, mask and write
    ],
)
def test_actors_are_those_of_the_options_within_what_the_cluster_may_have(
    capacity: Capacity,
    gpus: float,
    actors: Any,
    expected: tuple[int, int],
) -> None:
    assert placement._actors(_config(actors=actors), capacity, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("capacity", "gpus", "actors", "message"),
    [
        (
            FIXED,
            0.0,
            "9-12",
            r"^found room for 8 actors \(8 CPUs, 0 GPUs\), expected 9; add CPUs, or pass a smaller --actors",
        ),
        (
            EMPTY,
            1.0,
            "9-12",
            r"^found room for 8 actors beside .* 2 CPUs \(0 CPUs, 0 GPUs, .* gpu up to 4\), expected 9",
        ),
        (ONE_GPU_NODE, 1.0, 3, r"^found room for 2 actors beside .*, expected 3; "),
        (ONE_GPU_NODE, 0.5, 5, r"^found room for 4 actors of 0.5 GPUs beside .*, expected 5; add GPUs or CPUs, or "),
    ],
)
def test_more_actors_than_the_cluster_may_have_are_refused(
    capacity: Capacity,
    gpus: float,
    actors: Any,
    message: str,
) -> None:
    with pytest.raises(ClusterError, match=message):
        placement._actors(_config(actors=actors), capacity, gpus=gpus)


def test_gpus_that_the_autoscaler_may_add_count_and_those_of_no_type_do_not() -> None:
    assert placement._has_gpu(EMPTY)
    assert not placement._has_gpu(FIXED)
    assert not placement._has_gpu(Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3)))
    assert not placement._has_gpu(UNKNOWN), "so that auto does not wait for what may never come"
    placement._require_gpu(_config(provider="cuda"), UNKNOWN)
    with pytest.raises(ProviderError, match="whose autoscaler may add cpu up to 3; add a GPU node or pass"):
        placement._require_gpu(_config(provider="cuda"), Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3)))


def _place(monkeypatch: pytest.MonkeyPatch, works: ResolvedProvider, **options: Any) -> tuple[Any, list[Any]]:
    """Place a job on one node of two GPUs; returns the placement, and what was waited for and tried there."""
    asked: list[Any] = []

    def wait_for(needs: Any, capacity: Capacity, **_: Any) -> Capacity:
        asked.append(needs)
        return capacity

    def run_task(*_: Any, needs: Any, **__: Any) -> tuple[ResolvedProvider, str]:
        asked.append(needs)
        return works, "a reason"

    monkeypatch.setattr(placement, "read_capacity", lambda **_: ONE_GPU_NODE)
    monkeypatch.setattr(placement, "wait_for", wait_for)
    monkeypatch.setattr(placement, "run_task", run_task)
    bundle: Any = SimpleNamespace(uri="b", sha256="0" * 64)
    return placement.place(_config(**options), bundle), asked


def test_a_share_of_a_gpu_is_waited_for_tried_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    placed, (waited, tried) = _place(monkeypatch, "cuda", provider="cuda", actors="3-9", gpus_per_actor=0.5)

    assert waited == [{"CPU": 1.0, "GPU": 0.5}] * 3 + other_bundles(gpus=0.5)
    assert tried == {"CPU": 1.0, "GPU": 0.5}
    assert (placed.provider, placed.min_actors, placed.actors) == ("cuda", 3, 4)


def test_a_share_without_a_gpu_that_works_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    placed, asked = _place(monkeypatch, "cpu", gpus_per_actor=0.5)

    assert (placed.provider, placed.actors) == ("cpu", 8)
    assert asked[-1] == [{"CPU": 1.0}] * 8, "CPUs are waited for instead"
    assert "event=option_unused option=--gpus-per-actor reason='the model runs on cpu'" in caplog.text


@pytest.mark.parametrize(("given", "expected"), [(1 / 3, 0.3333), (0.5, 0.5), (0.29, 0.29), (1.0, 1.0), (0.07, 0.07)])
def test_a_share_has_the_steps_that_ray_has(given: float, expected: float) -> None:
    assert gpu_share(given) == expected


CARD = Card(name="NVIDIA T4", compute="7.5", memory_bytes=16_000_000_000, cuda="13.0")


def test_an_actor_gets_its_share_of_the_memory_without_what_cuda_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_share, "first_card", lambda: CARD)
    assert card_share.memory_limit(0.5) == 8_000_000_000 - card_share.RESERVED_BYTES
    assert card_share.memory_limit(1.0) is None
    with pytest.raises(ProviderError, match=r"0.05 of the 16.0 GB of NVIDIA T4 .* pass --gpus-per-actor 0.07 or more"):
        card_share.memory_limit(0.05)
    assert (card_share.memory_limit(0.07) or 0) > card_share.LEAST_BYTES


def test_an_actor_on_cpus_has_no_limit_and_asks_no_driver() -> None:
    assert card_share.memory_limit(0.0) is None


@pytest.mark.parametrize(("found", "refused"), [("cuda", True), ("cpu", False)])
def test_a_share_that_is_too_small_is_refused_before_the_job_begins(
    found: ResolvedProvider, *, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_share, "first_card", lambda: CARD)
    monkeypatch.setattr(placement, "probe", lambda *_, **__: (found, "a reason"))
    with pytest.raises(ProviderError, match="CUDA's own") if refused else contextlib.nullcontext():
        assert placement._probe("b", "0" * 64, "fp32", "auto", 0.05, None) == (found, "a reason")


def test_int8_is_tried_on_the_cpu_even_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[Any, ...]] = []

    def probe(*asked: Any) -> tuple[ResolvedProvider, str]:
        tried.append(asked)
        return "cpu", ""

    monkeypatch.setattr(placement, "read_capacity", lambda **_: ONE_GPU_NODE)
    monkeypatch.setattr(placement, "joins_cluster", lambda _: False)
    monkeypatch.setattr(placement, "_probe", probe)
    config = ScoreConfig(bundle="b", manifest="m", out="o", precision="int8", actors=1)
    placed = placement.place(config, SimpleNamespace(uri="b", sha256="0"))  # type: ignore[arg-type] # what is read

    assert placed.provider == "cpu"
    assert [asked[:4] for asked in tried] == [("b", "0", "int8-plain", "cpu")]


@pytest.mark.parametrize(
    ("images", "options", "expected"),
    [
        (16, {}, (1, 4)),
        (17, {}, (4, 1)),
        (None, {}, (4, 1)),  # a video, or what may be one
        (16, {"threads": 8}, (1, 8)),
        (16, {"actors": 3}, (3, 1)),
    ],
)
def test_few_images_are_scored_by_one_actor_with_the_threads_of_all(
    images: int | None, options: dict[str, Any], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    this_machine = Capacity(nodes=(Node(node_id="0", address="::1", resources={"CPU": 8.0}),))
    monkeypatch.setattr(placement, "read_capacity", lambda **_: this_machine)
    monkeypatch.setattr(placement, "_probe", lambda *_: ("cpu", ""))
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    bundle: Any = SimpleNamespace(uri="b", sha256="0" * 64)
    config = ScoreConfig(bundle="b", manifest="m", out="o", ray_address="local", provider="cpu", **options)
    placed = placement.place(config, bundle, images=images)

    assert (placed.actors, placed.threads) == expected
    assert placed.min_actors == placed.asked_actors == placed.actors


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["a.tif", "b.jpg"], {}, 2),
        (["a.tif", "b.mp4"], {}, None),
        (["a.tif"] * 17, {}, None),
        (["a.tif", "b.jpg"], {"pages": "all"}, None),
        (["a.tif", "b.jpg"], {"tile": True}, None),
    ],
)
def test_what_may_have_many_frames_or_windows_is_no_list_of_few_images(
    names: list[str], options: dict[str, Any], expected: int | None
) -> None:
    table = pa.table({"kind": pa.nulls(len(names), pa.string()), "uri": names})
    manifest: Any = SimpleNamespace(items=len(names), batches=lambda: [table])

    assert _count_few_images(ScoreConfig(bundle="b", manifest="m", out="o", **options), manifest) == expected
