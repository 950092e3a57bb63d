"""One call on every node of the cluster, with a limit: what each node returned, or why it did not.

Knows Ray's nodes and tasks; knows no facts and no advice.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fsf_core.safe_text import redact_message
from fsf_core.score import node_facts
from fsf_core.score.cluster import find_fsf_error

ray.cloudpickle.register_pickle_by_value(node_facts)  # type: ignore[no-untyped-call] # a node may lack fsf

CLOCK_ROUNDS = 3
"""Readings of a node's clock; the one with the shortest round trip counts."""

CLOCK_LIMIT_S = 10.0
MAX_REASON = 300
"""Characters of a reason that comes from Ray."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that is alive."""

    id: str
    address: str
    resources: Mapping[str, float] = field(compare=False)

    def __str__(self) -> str:
        """Return the address with the first digits of the id: several nodes may have one address."""
        return f"{self.address} ({self.id[:8]})"

    @property
    def works(self) -> bool:
        """Whether tasks of the job may run there; the head of a cluster often has no CPU for them."""
        return bool(self.resources.get("CPU") or self.resources.get("GPU"))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call on a node returned, or why it returned nothing."""

    value: Any = None
    reason: str = ""
    """Empty if the call returned."""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """How far the clock of a node is ahead of the driver's."""

    ahead_s: float
    uncertainty_s: float
    """Half of the round trip."""


def alive_nodes() -> list[Node]:
    """Return the nodes that are alive, in the order of their addresses."""
    found = [
        Node(id=node["NodeID"], address=node["NodeManagerAddress"], resources=node["Resources"])
        for node in ray.nodes()  # type: ignore[no-untyped-call] # Ray publishes no type
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.address, node.id))


def available_resources() -> dict[str, dict[str, float]]:
    """Return by node id what no task and no actor uses now; empty where Ray does not report it."""
    with contextlib.suppress(Exception):  # of Ray's C++ side, and through a proxy
        read: Any = ray._private.state.available_resources_per_node  # noqa: SLF001 - has no public name
        return dict(read())
    return {}


def call_on_nodes(
    nodes: Sequence[Node],
    call: Callable[..., Any],
    *arguments: Any,
    limit_s: float,
    num_gpus: float = 0,
    alone: bool = False,
) -> dict[Node, Outcome]:
    """Call a function once on each of the nodes, at the same time.

    Args:
        nodes: where.
        call: a function that every node can import, or one of `node_facts`.
        arguments: of the call.
        limit_s: a node that has not returned by then has no value; its task is cancelled.
        num_gpus: GPUs of the call, or a share of one.
        alone: whether the process of the call ends with it: for what loads a model.

    Returns:
        The outcome of every node.
    """
    remote: Any = ray.remote(num_cpus=0, num_gpus=num_gpus, max_retries=0, max_calls=1 if alone else 0)(call)
    return _outcomes({node: _on(node, remote).remote(*arguments) for node in nodes}, limit_s)


def fetch_around(nodes: Sequence[Node], *, size_bytes: int, limit_s: float) -> dict[Node, Outcome]:
    """Let every node fetch an object from the node before it in the list, and the first one from the last.

    Returns:
        By node, the bytes that it has fetched.
    """
    make: Any = ray.remote(num_cpus=0, max_retries=0)(node_facts.make_object)
    fetch: Any = ray.remote(num_cpus=0, max_retries=0)(node_facts.length)
    objects = {node: _on(node, make).remote(size_bytes) for node in nodes}
    before = dict(zip(nodes, [*nodes[-1:], *nodes[:-1]], strict=True))
    return _outcomes({node: _on(node, fetch).remote(objects[before[node]]) for node in nodes}, limit_s)


def _on(node: Node, remote: Any) -> Any:
    """Return a remote function that runs on one node."""
    return remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))


def _outcomes(tasks: Mapping[Node, Any], limit_s: float) -> dict[Node, Outcome]:
    """Wait for the tasks of several nodes."""
    begun = time.monotonic()
    outcomes = {}
    for node, task in tasks.items():
        try:
            value = ray.get(task, timeout=max(0.0, begun + limit_s - time.monotonic()))
            outcomes[node] = Outcome(value=value)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(task, force=True)
            outcomes[node] = Outcome(reason=f"no task ended there within {limit_s:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever a task raises is the reason of its node
            outcomes[node] = Outcome(reason=reason_of(error))
    return outcomes


def clock_offsets(nodes: Sequence[Node]) -> dict[Node, Offset]:
    """Measure how far the clock of each node is from this process's; nodes that do not return in time are left out."""
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(node_facts.clock)

    def measure(node: Node) -> Offset | None:
        measured = []
        for _ in range(CLOCK_ROUNDS):
            sent_s = time.time()
            try:
                there_s = ray.get(_on(node, remote).remote(), timeout=CLOCK_LIMIT_S)
            except ray.exceptions.RayError:
                break
            received_s = time.time()
            half_s = (received_s - sent_s) / 2
            measured.append(Offset(ahead_s=there_s - sent_s - half_s, uncertainty_s=half_s))
        return min(measured, key=lambda offset: offset.uncertainty_s, default=None)

    if not nodes:
        return {}
    with ThreadPoolExecutor(min(16, len(nodes))) as pool:
        found = dict(zip(nodes, pool.map(measure, nodes), strict=True))
    return {node: offset for node, offset in found.items() if offset is not None}


def reason_of(error: BaseException) -> str:
    """Return why a task failed on one line: what it raised, or what Ray reports of its process."""
    own = find_fsf_error(error)
    if own is not None:
        return str(own)
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(cause, BaseException):
        text = f"{type(cause).__name__}: {cause}"
    else:
        text = str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(cause, BaseException):
        lines = lines[-1:]  # of a traceback the last line names the error
    shown = redact_message(" ".join(lines) or type(error).__name__)
    return shown if len(shown) <= MAX_REASON else shown[:MAX_REASON] + "…"
