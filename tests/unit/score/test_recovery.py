"""How often a block was started and is to blame for its end."""

from typing import Any

import pytest

from fsf_core.score import recovery
from fsf_core.score.tracker import JobTracker


class Handle:
    """The tracker, called in this process as Ray calls it in its own."""

    def __init__(self) -> None:
        tracker = JobTracker(early_items=None, early_failed_share=1.0, earlier_segments={})
        self.begin_block: Any = type("Method", (), {"remote": staticmethod(tracker.begin_block)})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Nodes, and whether each is alive; the current one is `here`."""
    nodes = {"here": True}
    ray = recovery.ray
    context = type("Context", (), {"get_node_id": lambda _: "here"})()
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": name, "Alive": alive} for name, alive in nodes.items()])
    return nodes


def test_a_block_is_not_blamed_for_nodes_that_were_lost_under_it(cluster: dict[str, bool]) -> None:
    """Its items failed when a third node was preempted."""
    tracker = Handle()
    for node in ("spot 1", "spot 2", "spot 3"):
        cluster[node] = False
        tracker.begin_block.remote("block", node)

    assert recovery._begin_block("block", tracker) == 1


def test_a_block_is_blamed_for_workers_that_ended_on_living_nodes(cluster: dict[str, bool]) -> None:
    tracker = Handle()
    cluster["other"] = True
    tracker.begin_block.remote("block", "other")
    tracker.begin_block.remote("block", "here")

    assert recovery._begin_block("block", tracker) == 3
