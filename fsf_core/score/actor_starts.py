"""Starts of model actors on a joined cluster: what becomes of a job if a node cannot load the model.

Ray would end the job with the first actor whose constructor raises, and restart one whose process dies without end.
Here an actor that cannot load the model tells the tracker, waits, and ends its process, so that Ray starts it again,
there or elsewhere; actors on other nodes do the work meanwhile. The job ends only where that leads nowhere: no node has
loaded the model, or an actor that holds blocks cannot come back.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util import get_node_ip_address

import fsf_core
from fsf_core.errors import ClusterError
from fsf_core.safe_text import redact_message
from fsf_core.score.node_facts import code_digest
from fsf_core.stages.watchdog import watchdog

MAX_FAILURES = 3
"""Failed starts of an actor in a row after which the job ends if nothing else does its work."""

WAITS_S = (1.0, 5.0, 20.0, 60.0)
"""Pause after the first, second, … failed start of an actor."""

LOAD_LIMIT_S = 1800.0
"""Longest time that loading may take; TensorRT builds engines for minutes. Then the process ends."""

TRACKER_TIMEOUT_S = 10.0
MAX_REASON = 300
"""Characters of a reason."""

EXIT_CODE = 70
"""Of a process that could not load the model."""


@dataclass(frozen=True, kw_only=True)
class FailedStart:
    """What an actor does that could not load the model."""

    wait_s: float
    """Pause before the next start."""
    is_last: bool
    """Whether the job ends instead."""


@dataclass(kw_only=True)
class _Actor:
    """The starts of one actor."""

    loaded: bool = False
    """Whether it ever loaded the model; then it may hold blocks."""
    failures: int = 0
    """In a row."""
    loading: str = ""
    """Node on which it is loading the model."""


@dataclass(kw_only=True)
class ActorStarts:
    """The starts of all actors of a job."""

    failed_nodes: dict[str, str] = field(default_factory=dict)
    """Newest reason of every node that could not load the model."""
    _actors: dict[str, _Actor] = field(default_factory=dict)

    def begin(self, actor: str, node: str) -> FailedStart | None:
        """Note that an actor loads the model; returns what to do if its process ended while it did so before."""
        known = self._actors.setdefault(actor, _Actor())
        before, known.loading = known.loading, node
        if not before:
            return None
        outcome = self.fail(actor, before, "its process ended while it loaded the model")
        known.loading = node
        return outcome

    def fail(self, actor: str, node: str, reason: str) -> FailedStart:
        """Note that an actor could not load the model; returns what to do."""
        known = self._actors.setdefault(actor, _Actor())
        known.loading = ""
        known.failures += 1
        self.failed_nodes[node] = reason
        others_work = not known.loaded and any(other.loaded for other in self._actors.values())
        return FailedStart(
            wait_s=WAITS_S[min(known.failures, len(WAITS_S)) - 1],
            is_last=known.failures >= MAX_FAILURES and not others_work,
        )

    def end(self, actor: str) -> None:
        """Note that an actor has loaded the model."""
        known = self._actors.setdefault(actor, _Actor())
        known.loaded, known.failures, known.loading = True, 0, ""


@contextlib.contextmanager
def reported_start(tracker: Any, *, joined: bool = True) -> Iterator[None]:
    """Load the model in the block; if that fails, end this process so that Ray starts the actor again.

    Args:
        tracker: of the job.
        joined: whether the cluster is one that the job has joined; on its own cluster errors pass unchanged.

    Raises:
        ClusterError: the job must end, because nothing else does the work of this actor.
    """
    if not joined:
        yield
        return
    actor, node = ray.get_runtime_context().get_actor_id(), own_address()
    before: FailedStart | None = ray.get(tracker.begin_start.remote(actor, node, own_code()))
    if before and before.is_last:
        raise ClusterError(describe({node: "the process ends while it loads the model"}))
    time.sleep(before.wait_s if before else 0)
    watchdog(LOAD_LIMIT_S, running=True)
    try:
        yield
    except Exception as error:
        watchdog(LOAD_LIMIT_S, running=False)
        reason = f"{type(error).__name__}: {redact_message(str(error))[:MAX_REASON]}"
        failed: FailedStart = ray.get(tracker.fail_start.remote(actor, node, reason))
        if failed.is_last:
            raise ClusterError(describe({node: reason})) from error
        time.sleep(failed.wait_s)
        os._exit(EXIT_CODE)
    watchdog(LOAD_LIMIT_S, running=False)
    ray.get(tracker.end_start.remote(actor))


@contextlib.contextmanager
def explained_failures(tracker: Any) -> Iterator[None]:
    """Name the nodes that could not load the model where Ray only says that actors died.

    Raises:
        ClusterError: an execution ended because actors could not load the model.
    """
    try:
        yield
    except ray.exceptions.ActorDiedError as error:
        nodes: dict[str, str] = {}
        with contextlib.suppress(ray.exceptions.RayError):
            nodes = ray.get(tracker.progress.remote(), timeout=TRACKER_TIMEOUT_S).failed_nodes
        if not nodes:
            raise
        raise ClusterError(describe(nodes)) from error


def own_code() -> str:
    """Return the digest of the code that this process runs."""
    return code_digest(str(fsf_core.__path__[0]))


def own_address() -> str:
    """Return the address of this node."""
    return str(get_node_ip_address())  # type: ignore[no-untyped-call] # Ray publishes no type


def describe(nodes: Mapping[str, str]) -> str:
    """Return which nodes cannot load the model and why, and what to do about it."""
    found = "; ".join(f"node {node}: {reason}" for node, reason in sorted(nodes.items()))
    return f"the model cannot be loaded ({found}); repair the node, or take it out of the cluster"
