"""Ray without what it does beside every job and what a cluster of our own has no use for.

A node's processes: the dashboard's server, which starts even where no dashboard is wanted and which `ray.init` waits
for, its agent, the monitor of the autoscaler, and the monitor of the logs, which brings workers' output to drivers that
want it. Ray Data's actors: one asks the autoscaler for nodes, one keeps figures for the dashboard, one knows on which
node an actor is. Here are one node, no autoscaler and no dashboard, and each of these is a Python process that others
wait for. And Ray Data's loop goes round ten times a second, where minutes may lie between one block and the next.
On a cluster that was there before, all is left as it is.
"""

import contextlib
import importlib
import pkgutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from fsf_core.score.local_ray import dashboard_agent_stub

KNOWN_VERSIONS = ("2.60.",)
"""Of Ray, on which this was tried: what is replaced has no promise to stay. Of others nothing is replaced."""

GATHER_S, LEAST_S, MOST_S = 0.05, 0.1, 0.8
"""Seconds that Ray Data's loop waits: for more of what came; for anything to come, twice as long each time in vain."""


def patched_node() -> contextlib.AbstractContextManager[None]:
    """Leave them out of a node that is started meanwhile."""
    names = ("start_api_server", "start_monitor", "start_log_monitor")
    command = ("ray._private.services", "_build_python_executable_command_memory_profileable")
    return _replaced({**{("ray._private.node:Node", name): _not_started for name in names}, command: _agent_of_ours})


def patched_ray_data() -> contextlib.AbstractContextManager[None]:
    """Leave them out of what Ray Data runs meanwhile."""
    data = "ray.data._internal"
    return _replaced(
        {
            (f"{data}.execution.streaming_executor", "create_cluster_autoscaler"): _FixedCluster,
            (f"{data}.stats", "get_or_create_stats_actor"): _NullStatsActor,
            (
                f"{data}.execution.operators.actor_pool_map_operator",
                "get_or_create_actor_location_tracker",
            ): _NullLocationTracker,
            (f"{data}.utils.cached_ray_internals", "get_or_create_actor_location_tracker"): _NullLocationTracker,
            (f"{data}.execution.streaming_executor_state", "ray"): _BackoffWait(),
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


def _agent_of_ours(component: str, *_: Any, **__: Any) -> list[str]:
    """How the command begins that starts a part of the node."""
    return [
        sys.executable,
        *(["-I", "-S", dashboard_agent_stub.__file__] if component == "dashboard_agent" else ["-u"]),
    ]


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


class _BackoffWait:
    """Ray as it is, but who waits for tasks sleeps until one is ready, and looks round the less the longer none is.

    Theirs sleeps a tenth of a second, whatever is ready.
    """

    def __init__(self) -> None:
        self._next_s = LEAST_S

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def wait(self, refs: list[Any], *, num_returns: int, fetch_local: bool, timeout: float) -> tuple[Any, Any]:
        """What is ready of the references, and the others."""
        del timeout
        found: tuple[Any, Any] = ray.wait(refs, num_returns=1, fetch_local=fetch_local, timeout=self._next_s)
        self._next_s = LEAST_S if found[0] else min(2 * self._next_s, MOST_S)
        if found[0]:
            found = ray.wait(refs, num_returns=num_returns, fetch_local=fetch_local, timeout=GATHER_S)
        return found


class _NullLocationTracker:
    """Need not know on which node an actor is; travels to the actors."""

    @property
    def update_actor_location(self) -> "_Call":
        """Told by an actor where it is."""
        return _Call(None)

    @property
    def get_actor_locations(self) -> "_Call":
        """Asked where actors are: where they were."""
        return _Call({})


class _NullStatsActor:
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
