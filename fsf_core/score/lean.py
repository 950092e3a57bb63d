"""Ray without the processes that it starts beside every job and that a cluster of our own has no use for.

A node's: the dashboard's server, which starts even where no dashboard is wanted and which `ray.init` waits for, the
monitor of the autoscaler, and the monitor of the logs, which brings workers' output to drivers that want it. Ray Data's
actors: one asks the autoscaler for nodes, one keeps figures for the dashboard, one knows on which node an actor is.
Here are one node, no autoscaler and no dashboard, and each of the six is a Python process that others wait for.
On a cluster that was there before, all is left as it is.
"""

import contextlib
import importlib
import pkgutil
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import ray

KNOWN_VERSIONS = ("2.60.",)
"""Of Ray, on which this was tried: what is replaced has no promise to stay. Of others nothing is replaced."""


def lean_node() -> contextlib.AbstractContextManager[None]:
    """Leave them out of a node that is started meanwhile."""
    names = ("start_api_server", "start_monitor", "start_log_monitor")
    return _replaced({("ray._private.node:Node", name): _not_started for name in names})


def lean_data() -> contextlib.AbstractContextManager[None]:
    """Leave them out of what Ray Data runs meanwhile."""
    data = "ray.data._internal"
    return _replaced(
        {
            (f"{data}.execution.streaming_executor", "create_cluster_autoscaler"): _FixedCluster,
            (f"{data}.stats", "get_or_create_stats_actor"): _Unheard,
            (f"{data}.execution.operators.actor_pool_map_operator", "get_or_create_actor_location_tracker"): _OneNode,
            (f"{data}.utils.cached_ray_internals", "get_or_create_actor_location_tracker"): _OneNode,
        }
    )


@contextlib.contextmanager
def _replaced(places: Mapping[tuple[str, str], Any]) -> Iterator[None]:
    """Ours in place of theirs, where Ray is one that is known."""
    with contextlib.ExitStack() as restored:
        for (where, name), ours in places.items() if ray.__version__.startswith(KNOWN_VERSIONS) else ():
            holder = pkgutil.resolve_name(where)
            restored.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, ours)
        yield


def _not_started(node: Any, **_: Any) -> None:
    """In place of the start of a process of the node."""


class _FixedCluster:
    """In place of an autoscaler: what is there is there, at once and to the end."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Whatever an autoscaler is made from."""

    def try_trigger_scaling(self) -> None:
        """No node will come."""

    def on_executor_shutdown(self) -> None:
        """Nothing was asked for."""

    def get_total_resources(self) -> Any:
        """All that the cluster has."""
        resources = importlib.import_module("ray.data._internal.execution.interfaces").ExecutionResources
        return resources.from_resource_dict(ray.cluster_resources())  # type: ignore[no-untyped-call] # Ray publishes no type


class _OneNode:
    """Need not know on which node an actor is; travels to the actors."""

    @property
    def update_actor_location(self) -> "_Call":
        """Told by an actor where it is."""
        return _Call(None)

    @property
    def get_actor_locations(self) -> "_Call":
        """Asked where actors are: where they were."""
        return _Call({})


class _Unheard:
    """Takes the figures for the dashboard, and gives a dataset its name."""

    def __getattr__(self, method: str) -> "_Call":
        return _Call(uuid.uuid4().hex if method == "gen_dataset_id" else None)


class _Call:
    """A method of an actor that is none."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def remote(self, *_: Any, **__: Any) -> Any:
        """The answer at once; only the driver asks for any."""
        return None if self._answer is None else ray.put(self._answer)
