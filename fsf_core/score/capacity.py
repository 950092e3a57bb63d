"""What a cluster has, what its autoscaler could add, and waiting until there is room for a job.

A bundle is what one node has to provide together, such as 1 GPU and 1 CPU; a share of a GPU is of one card. Only
logical resources count here, and all of a node, in use or not.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ray

from fsf_core.errors import ClusterError
from fsf_core.score.autoscaler import (
    Autoscaler,
    Bundle,
    NodeType,
    Scaling,
    node_type_names,
    read_autoscaler,
    read_scaling,
)
from fsf_core.score.demand import asking_for

POLL_INTERVAL_S = 1.0
LOG_INTERVAL_S = 30.0
INFEASIBLE_S = 15.0
"""After this time the autoscaler has read the request. Of known types of nodes, what it calls infeasible may only have
to wait: the limit may be reached by nodes of other jobs."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that is alive."""

    node_id: str
    address: str
    resources: Bundle
    is_head: bool = False
    type_name: str = ""
    """Its type in the configuration of the autoscaler; empty if it has none."""
    draining: bool = False
    """Whether it is about to be stopped."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a cluster has and could have."""

    nodes: tuple[Node, ...]
    autoscaler: Autoscaler | None = None

    def total(self, name: str) -> float:
        """Return the amount of a resource on all nodes that stay."""
        return sum(node.resources.get(name, 0.0) for node in self._staying())

    def unplaced(self, bundles: Sequence[Bundle], *, scaled: bool = False) -> list[Bundle]:
        """Return the bundles that do not fit on the nodes together.

        Args:
            bundles: what is needed at the same time.
            scaled: whether the autoscaler may add nodes for it; one of unknown types may add any node.
        """
        free = [_Free(node.resources) for node in self._staying()]
        add = self._node_maker() if scaled else lambda _: None
        if scaled and self.autoscaler and self.autoscaler.node_types is None:
            return []
        return [bundle for bundle in sorted(bundles, key=_scarcest_first) if not _place(bundle, free, add)]

    def room(self, bundle: Bundle, *, beside: Sequence[Bundle] = (), most: int, scaled: bool = False) -> int:
        """Return how many of a bundle fit beside others, at most a given number."""
        if self.unplaced(beside, scaled=scaled):
            return 0
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.unplaced([bundle] * middle + [*beside], scaled=scaled):
                high = middle - 1
            else:
                low = middle
        return low

    def describe(self) -> str:
        """Return the resources of all nodes as text for messages."""
        return describe([{"CPU": self.total("CPU"), "GPU": self.total("GPU")}], zero=True)

    def _staying(self) -> list[Node]:
        return [node for node in self.nodes if not node.draining]

    def _node_maker(self) -> "Callable[[Bundle], _Free | None]":
        """Return a function that adds the smallest node that holds a bundle, within the limits of the autoscaler."""
        types = self.autoscaler.node_types or () if self.autoscaler else ()
        existing = Counter(_type_of(node, types) for node in self._staying() if not node.is_head)
        left = {each.name: each.max_nodes - existing[each.name] for each in types}
        most = self.autoscaler.max_nodes if self.autoscaler else 0
        total_left = [(1 << 31) if most is None else most - sum(existing[each.name] for each in types)]

        def add(bundle: Bundle) -> _Free | None:
            fitting = [each for each in types if left[each.name] > 0 and _Free(each.resources).holds(bundle)]
            if not fitting or total_left[0] <= 0:
                return None
            chosen = min(fitting, key=lambda each: (each.resources.get("GPU", 0), each.resources.get("CPU", 0)))
            left[chosen.name] -= 1
            total_left[0] -= 1
            return _Free(chosen.resources)

        return add


def read_capacity(*, with_autoscaler: bool = True) -> Capacity:
    """Return what the connected cluster has and could have.

    Args:
        with_autoscaler: whether to read what could be added, which may take a second.
    """
    types = node_type_names()
    draining = _draining_nodes()
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call] # Ray publishes no type
    nodes = tuple(
        Node(
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            resources=dict(node["Resources"]),
            is_head="node:__internal_head__" in node["Resources"],
            type_name=types.get(node["NodeID"], ""),
            draining=node["NodeID"] in draining,
        )
        for node in alive
    )
    return Capacity(nodes=nodes, autoscaler=read_autoscaler() if with_autoscaler else None)


def wait_for(
    needs: Sequence[Bundle],
    known: Capacity | None = None,
    *,
    wishes: Sequence[Bundle] = (),
    limit_s: float,
    advice: str = "",
) -> Capacity:
    """Wait until the cluster has room for bundles, where its autoscaler may add it; returns what there is then.

    Args:
        needs: what there must be room for at the same time.
        known: the capacity of the cluster with its autoscaler, if it was read before.
        wishes: further bundles to ask for meanwhile, so that the nodes of a large pool come together.
        limit_s: longest time to wait.
        advice: what else the user can do if there is no room.

    Raises:
        ClusterError: there is no room, and none comes or came in time.
    """
    capacity = known or read_capacity(with_autoscaler=False)
    if not capacity.unplaced(needs):
        return capacity
    capacity = known or read_capacity()
    if capacity.unplaced(needs, scaled=True) or capacity.autoscaler is None:
        raise ClusterError(
            f"found {capacity.describe()} in the cluster{_limits(capacity)}, expected room for {describe(needs)}; "
            f"add nodes{advice}"
        )
    is_unknown = capacity.autoscaler.node_types is None
    started = time.monotonic()
    with asking_for([*needs, *wishes]):
        logged = _WaitLog(needs)
        for waited_s in _ticks(started):
            now = Capacity(nodes=read_capacity(with_autoscaler=False).nodes, autoscaler=capacity.autoscaler)
            if not now.unplaced(needs):
                if waited_s >= LOG_INTERVAL_S:
                    log.info("event=resources_found cluster=%r waited_s=%.0f", now.describe(), waited_s)
                return now
            scaling = read_scaling()
            logged.show(now, scaling, waited_s=waited_s, limit_s=limit_s)
            refused = is_unknown and waited_s > INFEASIBLE_S and _is_infeasible(now, needs, scaling)
            if refused or waited_s >= limit_s:
                raise ClusterError(
                    f"waited {waited_s:.0f} s for {describe(needs)}, found {now.describe()} in the cluster"
                    f"{_limits(now)}{'; the autoscaler has no type of node for it' if refused else ''}"
                    f"{_failures(scaling)}; see `ray status` on the head, raise --wait-s{advice}"
                )
    raise AssertionError("unreachable")


class _WaitLog:
    """Logs at intervals what is waited for."""

    def __init__(self, needs: Sequence[Bundle]) -> None:
        self._needs = describe(needs)
        self._next_s = 0.0

    def show(self, now: Capacity, scaling: Scaling, *, waited_s: float, limit_s: float) -> None:
        """Log the state, unless it was logged a moment ago."""
        if waited_s < self._next_s or now.autoscaler is None:
            return
        self._next_s = waited_s + LOG_INTERVAL_S
        launching = ", ".join(f"{count} {name}" for name, count in sorted(scaling.launching.items()) if count)
        log.info(
            "event=waiting_for_resources needs=%r cluster=%r autoscaler=%r launching=%r waited_s=%.0f of_s=%.0f%s",
            self._needs, now.describe(), now.autoscaler.describe(), launching, waited_s, limit_s,
            f" failed={scaling.failures[-1]!r}" if scaling.failures else "",
        )  # fmt: skip


def _ticks(started: float) -> Iterator[float]:
    """Yield the seconds since the start, at intervals."""
    while True:
        yield time.monotonic() - started
        time.sleep(POLL_INTERVAL_S)


def describe(bundles: Sequence[Bundle], *, zero: bool = False) -> str:
    """Return the sum of bundles as text for messages.

    Args:
        bundles: of CPUs and GPUs.
        zero: whether to name what there is none of.
    """
    sums = {name: round(sum(bundle.get(name, 0.0) for bundle in bundles), 2) for name in ("GPU", "CPU")}
    names = ("CPU", "GPU") if zero else ("GPU", "CPU")
    return ", ".join(f"{sums[name]:g} {name}{'' if sums[name] == 1 else 's'}" for name in names if zero or sums[name])


def _limits(capacity: Capacity) -> str:
    """Return what the autoscaler may add, as a part of a sentence."""
    if capacity.autoscaler is None:
        return ", which has no autoscaler"
    return f", whose autoscaler {capacity.autoscaler.describe()}"


def _failures(scaling: Scaling) -> str:
    """Return the last failure of the autoscaler, as a part of a sentence."""
    return f"; its last failure: {scaling.failures[-1]}" if scaling.failures else ""


def _is_infeasible(now: Capacity, needs: Sequence[Bundle], scaling: Scaling) -> bool:
    """Return whether the autoscaler reports that it cannot add what is missing."""
    missing = [{name: amount for name, amount in bundle.items() if amount} for bundle in now.unplaced(needs)]
    return any(all(bundle.get(name) == amount for name, amount in each.items()) for each in missing
               for bundle in scaling.infeasible)  # fmt: skip


def _draining_nodes() -> frozenset[str]:
    """Return the ids of nodes that are about to be stopped."""
    with contextlib.suppress(Exception):  # of Ray's C++ side, and through a proxy
        return frozenset(ray._private.state.state.get_draining_nodes())  # noqa: SLF001 - has no public name
    return frozenset()


def _type_of(node: Node, types: Sequence[NodeType]) -> str:
    """Return the type of a node: as it reports, or else the one with the same CPUs and GPUs."""
    if node.type_name:
        return node.type_name
    shape = [node.resources.get(name, 0.0) for name in ("CPU", "GPU")]
    alike = (each.name for each in types if [each.resources.get(name, 0.0) for name in ("CPU", "GPU")] == shape)
    return next(alike, "")


def _scarcest_first(bundle: Bundle) -> tuple[float, float]:
    return -bundle.get("GPU", 0.0), -bundle.get("CPU", 0.0)


class _Free:
    """What a node has free: amounts of resources, and each card by itself.

    Attributes:
        gpus: free on all cards together.
    """

    def __init__(self, resources: Bundle) -> None:
        self._amounts = {name: amount for name, amount in resources.items() if name != "GPU"}
        self.gpus = resources.get("GPU", 0.0)
        self._cards = [1.0] * int(self.gpus)

    def holds(self, bundle: Bundle) -> bool:
        """Return whether a bundle fits: a share of a GPU on one card, and whole GPUs on cards that nobody shares."""
        wanted = bundle.get("GPU", 0.0)
        fitting = sum(card >= min(wanted, 1.0) - _TOLERANCE for card in self._cards)
        if wanted and fitting < max(1.0, wanted):
            return False
        return all(
            self._amounts.get(name, 0.0) >= amount - _TOLERANCE for name, amount in bundle.items() if name != "GPU"
        )

    def take(self, bundle: Bundle) -> None:
        """Take a bundle that fits; a share of a GPU from the fullest card that has it, as Ray does."""
        for name, amount in bundle.items():
            if name != "GPU":
                self._amounts[name] = self._amounts.get(name, 0.0) - amount
        wanted = bundle.get("GPU", 0.0)
        self.gpus -= wanted
        while wanted > _TOLERANCE:
            part = min(wanted, 1.0)
            at = min(
                (at for at, card in enumerate(self._cards) if card >= part - _TOLERANCE), key=self._cards.__getitem__
            )
            self._cards[at] -= part
            wanted -= part


_TOLERANCE = 1e-6
"""Logical resources are multiples of 0.0001; sums of floats are not."""


def _place(bundle: Bundle, free: list[_Free], add: Callable[[Bundle], _Free | None]) -> bool:
    """Take a bundle from a node that has it free, one without GPUs if it needs none, or from a node that is added."""
    holding = min((node for node in free if node.holds(bundle)), key=lambda node: node.gpus, default=None)
    if holding is None:
        holding = add(bundle)
        if holding is None:
            return False
        free.append(holding)
    holding.take(bundle)
    return True
