"""How many actors the options mean on a cluster, with what its autoscaler may add."""

from typing import Any

import pytest

from fsf_core.config import ScoreConfig
from fsf_core.errors import ClusterError, ProviderError
from fsf_core.score import placement
from fsf_core.score.autoscaler import Autoscaler, NodeType
from fsf_core.score.capacity import Capacity, Node

HEAD = Node(node_id="0", address="::1", resources={"CPU": 0.0}, is_head=True)
WORKERS = tuple(Node(node_id=str(number), address="::1", resources={"CPU": 4.0}) for number in (1, 2))
GPU_NODE = Node(node_id="3", address="::1", resources={"CPU": 8.0, "GPU": 2.0})


def _autoscaler(**most: int) -> Autoscaler:
    shapes = {"cpu": {"CPU": 4.0}, "gpu": {"CPU": 8.0, "GPU": 2.0}}
    types = (NodeType(name=name, resources=shapes[name], min_nodes=0, max_nodes=count) for name, count in most.items())
    return Autoscaler(node_types=tuple(types))


FIXED = Capacity(nodes=(HEAD, *WORKERS))
EMPTY = Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3, gpu=4))
UNKNOWN = Capacity(nodes=(HEAD,), autoscaler=Autoscaler(node_types=None))


def _config(**options: Any) -> ScoreConfig:
    return ScoreConfig(bundle="b", manifest="m", out="o", ray_address="10.0.0.1:6379", **options)


@pytest.mark.parametrize(
    ("capacity", "gpu", "actors", "expected"),
    [
        (FIXED, False, None, (8, 8)),
        (FIXED, False, 8, (8, 8)),
        (FIXED, False, "2-6", (2, 6)),
        (FIXED, False, "2-99", (2, 8)),
        (EMPTY, False, None, (1, 12)),  # a node with GPUs is not started for its CPUs
        (EMPTY, False, "4-32", (4, 32)),  # unless the user asks for that many
        (EMPTY, True, None, (1, 8)),
        (EMPTY, True, "2-99", (2, 8)),
        (UNKNOWN, True, "4-32", (4, 32)),
        (UNKNOWN, False, None, (1, placement.MOST_ACTORS)),
        (Capacity(nodes=(GPU_NODE,)), True, None, (2, 2)),
    ],
)
def test_actors_are_those_of_the_options_within_what_the_cluster_may_have(
    capacity: Capacity,
    gpu: Any,
    actors: Any,
    expected: tuple[int, int],
) -> None:
    assert placement._actors(_config(actors=actors), capacity, gpu=gpu) == expected


@pytest.mark.parametrize(
    ("capacity", "gpu", "actors", "message"),
    [
        (FIXED, False, "9-12", r"^found room for 8 actors \(8 CPUs, 0 GPUs\), expected 9; "),
        (
            EMPTY,
            True,
            "9-12",
            r"^found room for 8 actors beside .* 2 CPUs \(0 CPUs, 0 GPUs, .* gpu up to 4\), expected 9",
        ),
        (Capacity(nodes=(GPU_NODE,)), True, 3, r"^found room for 2 actors beside .*, expected 3; "),
    ],
)
def test_more_actors_than_the_cluster_may_have_are_refused(
    capacity: Capacity,
    gpu: Any,
    actors: Any,
    message: str,
) -> None:
    with pytest.raises(ClusterError, match=message):
        placement._actors(_config(actors=actors), capacity, gpu=gpu)


def test_gpus_that_the_autoscaler_may_add_count_and_those_of_no_type_do_not() -> None:
    assert placement._has_gpu(EMPTY)
    assert not placement._has_gpu(FIXED)
    assert not placement._has_gpu(Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3)))
    assert not placement._has_gpu(UNKNOWN), "so that auto does not wait for what may never come"
    placement._require_gpu(_config(provider="cuda"), UNKNOWN)
    with pytest.raises(ProviderError, match="whose autoscaler may add cpu up to 3; add a GPU node or pass"):
        placement._require_gpu(_config(provider="cuda"), Capacity(nodes=(HEAD,), autoscaler=_autoscaler(cpu=3)))
