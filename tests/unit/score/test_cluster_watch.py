"""What is logged of a cluster whose nodes come and go, and how the watch ends."""

import contextlib
import select
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from fsf_core.score import cluster_watch
from fsf_core.score.cluster_watch import log_changes, watched_cluster


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


def test_a_watch_that_is_busy_when_the_job_ends_sees_that_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor was closed: a traceback, or it went on and ended the process of a notebook with code 75."""
    over: list[bool] = []
    ended = threading.Event()

    def watch_late(_: Mapping[str, int], stop_fd: int) -> None:
        time.sleep(0.3)  # as while a head that hangs is probed
        with contextlib.suppress(OSError):
            over.append(bool(select.select([stop_fd], [], [], 10)[0]))
        ended.set()

    monkeypatch.setattr(cluster_watch, "PROBE_INTERVAL_S", 0.05)
    monkeypatch.setattr(cluster_watch, "_watch_processes", watch_late)
    with watched_cluster(is_local=True):
        pass

    assert ended.wait(20)
    assert over == [True]
