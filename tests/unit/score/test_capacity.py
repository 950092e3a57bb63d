"""What fits on the nodes of a cluster, and on those that its autoscaler may add."""

import contextlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsf_core.score.autoscaler import Autoscaler, Bundle, NodeType, _read_on_head, parse_config, parse_scaling_v1
from fsf_core.score.capacity import Capacity, Node, describe

ACTOR = {"GPU": 1.0, "CPU": 1.0}
STAGES = ({"CPU": 0.75}, {"CPU": 0.6}, {"CPU": 0.65})


def _node(number: int, *, type_name: str = "", draining: bool = False, **resources: float) -> Node:
    return Node(node_id=str(number), address="::1", resources=resources, type_name=type_name, draining=draining)


def _type(name: str, most: int, **resources: float) -> NodeType:
    return NodeType(name=name, resources=resources, min_nodes=0, max_nodes=most)


def _scaling(*types: NodeType, nodes: tuple[Node, ...] = (), most: int | None = None) -> Capacity:
    head = Node(node_id="0", address="::1", resources={"CPU": 0.0}, is_head=True)
    return Capacity(nodes=(head, *nodes), autoscaler=Autoscaler(node_types=types, max_nodes=most))


def test_bundles_must_fit_on_single_nodes() -> None:
    capacity = Capacity(nodes=(_node(1, CPU=2.0), _node(2, CPU=2.0)))

    assert capacity.unplaced([{"CPU": 3.0}]) == [{"CPU": 3.0}], "although there are 4 CPUs"
    assert capacity.unplaced([{"CPU": 2.0}] * 2) == []
    assert capacity.room({"CPU": 1.5}, most=99) == 2


def test_stages_without_gpus_are_placed_beside_the_gpus_only_where_nothing_else_is_free() -> None:
    apart = Capacity(nodes=(_node(1, CPU=1.0, GPU=1.0), _node(2, CPU=2.0)))
    together = Capacity(nodes=(_node(1, CPU=4.0, GPU=4.0),))

    assert apart.room(ACTOR, beside=STAGES, most=9) == 1
    assert together.room(ACTOR, beside=STAGES, most=9) == 2, "of 4 CPUs 2 are for decode, mask and write"


def test_a_share_of_a_gpu_is_of_one_card_and_whole_ones_are_of_cards_that_nobody_shares() -> None:
    share, two = {"GPU": 0.6}, Capacity(nodes=(_node(1, CPU=9.0, GPU=2.0),))

    assert two.room(share, most=9) == 2, "although 2 GPUs have 3 times 0.6"
    assert two.room({"GPU": 0.5}, most=9) == 4
    assert two.room({"GPU": 0.1}, most=99) == 20
    assert two.unplaced([share, {"GPU": 1.0}]) == []
    assert two.unplaced([share, share, {"GPU": 0.4}, {"GPU": 0.4}]) == []
    assert two.unplaced([share, {"GPU": 0.4}, {"GPU": 1.0}]) == [], "the fullest card that has room is taken"
    assert two.unplaced([{"GPU": 2.0}]) == []
    assert two.unplaced([share, {"GPU": 2.0}]) == [share], "whole cards are placed first"
    assert two.unplaced([{"GPU": 3.0}]) == [{"GPU": 3.0}]


def test_the_autoscaler_adds_a_node_for_what_no_card_holds() -> None:
    half = _scaling(_type("gpu", 3, CPU=8.0, GPU=1.0))

    assert half.room({"GPU": 0.5, "CPU": 1.0}, most=99, scaled=True) == 6
    assert half.room({"GPU": 0.6, "CPU": 1.0}, most=99, scaled=True) == 3


def test_a_node_that_is_being_drained_has_no_room() -> None:
    capacity = Capacity(nodes=(_node(1, CPU=4.0, draining=True), _node(2, CPU=1.0)))

    assert capacity.room({"CPU": 1.0}, most=99) == 1
    assert capacity.describe() == "1 CPU, 0 GPUs"


def test_the_autoscaler_adds_nodes_up_to_the_limit_of_their_type_and_of_all() -> None:
    types = (_type("cpu", 10, CPU=4.0), _type("gpu", 3, CPU=8.0, GPU=2.0))

    assert _scaling(*types).room(ACTOR, most=99) == 0
    assert _scaling(*types).room(ACTOR, most=99, scaled=True) == 6
    assert _scaling(*types, most=2).room(ACTOR, most=99, scaled=True) == 4
    running = _node(1, type_name="gpu", CPU=8.0, GPU=2.0)
    assert _scaling(*types, nodes=(running,)).room(ACTOR, most=99, scaled=True) == 6, "one of the three exists"
    unnamed = _node(1, CPU=8.0, GPU=2.0)
    assert _scaling(*types, nodes=(unnamed,)).room(ACTOR, most=99, scaled=True) == 6, "version 1 names no types"
    own = _node(1, CPU=16.0, GPU=4.0)
    assert _scaling(*types, nodes=(own,)).room(ACTOR, most=99, scaled=True) == 10, "a node that somebody joined"


def test_without_an_autoscaler_nothing_is_added_and_with_unknown_types_anything_may_be() -> None:
    nodes = (_node(1, CPU=1.0),)
    unknown = Capacity(nodes=nodes, autoscaler=Autoscaler(node_types=None))

    assert Capacity(nodes=nodes).unplaced([ACTOR], scaled=True) == [ACTOR]
    assert unknown.unplaced([ACTOR]) == [ACTOR]
    assert unknown.unplaced([ACTOR], scaled=True) == []


def test_the_configuration_of_ray_up_gives_the_types_without_the_head_and_without_empty_ones() -> None:
    workers = {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 1, "max_workers": 4}
    config = {
        "max_workers": 6,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 2}, "max_workers": 0},
            "gpu": workers,
            "cpu": {"resources": {"CPU": 4}},
            "off": {"resources": {"CPU": 4}, "max_workers": 0},
        },
    }

    found = parse_config(config)

    assert found.node_types == (
        NodeType(name="gpu", resources={"CPU": 8.0, "GPU": 1.0}, min_nodes=1, max_nodes=4),
        NodeType(name="cpu", resources={"CPU": 4.0}, min_nodes=0, max_nodes=6),
    )
    assert found.max_nodes == 6
    assert found.describe() == "may add gpu up to 4, cpu up to 6"
    assert parse_config({}).node_types is None


def test_version_1_of_the_autoscaler_reports_launches_and_their_failures() -> None:
    lacking = {"category": "InsufficientCapacity", "description": "no g5.xlarge left in eu-west-1a"}
    report = {
        "pending_launches": {"gpu": 2},
        "pending_nodes": [["10.0.0.7", "gpu", "waiting-for-ssh"], ["10.0.0.8", "cpu", "setting-up"]],
        "node_availability_summary": {
            "node_availabilities": {
                "cpu": {"is_available": True, "unavailable_node_information": None},
                "gpu": {"is_available": False, "unavailable_node_information": lacking},
            }
        },
    }

    found = parse_scaling_v1(report)

    assert found.launching == {"gpu": 3, "cpu": 1}
    assert found.failures == ("gpu: no g5.xlarge left in eu-west-1a",)
    assert parse_scaling_v1({}).launching == {}


def test_the_configuration_is_that_of_the_autoscaler_of_this_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts of their own on one machine have the same port, and each has a log_monitor.py with the same address."""
    for program in ("monitor.py", "log_monitor.py"):
        (tmp_path / program).write_text("print(flush=True)\nimport time\ntime.sleep(60)\n")
    (tmp_path / "ours.yaml").write_text("max_workers: 3\n")
    words = {
        "10.0.0.1:6379": [f"--autoscaling-config={tmp_path}/ours.yaml"],
        "10.0.0.2:6379": [],
        "10.0.0.3:7000": [f"--autoscaling-config={tmp_path}/gone.yaml"],
    }
    with contextlib.ExitStack() as stack:
        programs = [("monitor.py", address, more) for address, more in words.items()]
        for program, address, more in [*programs, ("log_monitor.py", "10.0.0.1:6379", [])]:
            monitor = subprocess.Popen(
                [sys.executable, tmp_path / program, f"--gcs-address={address}", *more], stdout=subprocess.PIPE
            )
            stack.callback(monitor.communicate)
            stack.callback(monitor.kill)
            assert monitor.stdout
            monitor.stdout.readline()
        found = []
        for address in [*words, "10.0.0.9:1"]:
            here = SimpleNamespace(gcs_address=address)
            monkeypatch.setattr("ray.get_runtime_context", lambda here=here: here)
            found.append(_read_on_head())

    assert found == [{"max_workers": 3}, None, {}, {}], "a file, no autoscaler, a file that is gone, no such cluster"


@pytest.mark.parametrize(
    ("bundles", "text"),
    [([ACTOR], "1 GPU, 1 CPU"), ([ACTOR, ACTOR, *STAGES], "2 GPUs, 4 CPUs"), ([{"CPU": 0.5}], "0.5 CPUs")],
)
def test_needs_are_described_by_their_sum(bundles: list[Bundle], text: str) -> None:
    assert describe(bundles) == text
