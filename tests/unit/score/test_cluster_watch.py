"""What is logged of a cluster whose nodes come and go."""

from typing import Any

import pytest

from fsf_core.score.cluster_watch import log_changes


def node(name: str, *, alive: bool = True, reason: str = "") -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive, "DeathReasonMessage": reason}


def test_lost_and_joined_nodes_are_logged_with_address_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="fsf")
    before = [node("1"), node("2"), node("4", alive=False)]
    log_changes(before, [node("1"), node("2", alive=False, reason="missed heartbeats"), node("3"), before[2]])

    assert caplog.messages == [
        "event=node_lost node=10.0.0.2 nodes_left=2 reason='missed heartbeats'",
        "event=node_joined node=10.0.0.3 nodes=2",
    ]


def test_nodes_that_are_read_for_the_first_time_did_not_join(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="fsf")
    log_changes([], [node("1"), node("2", alive=False)])

    assert caplog.messages == []
