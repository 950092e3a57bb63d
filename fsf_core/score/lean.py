"""Ray Data without the actors that it starts beside every job and that a cluster of our own has no use for.

One asks a cluster's autoscaler for nodes, one keeps figures for a dashboard, one knows on which node an actor is. Here
are no autoscaler, no dashboard and one node, and each of the three is a Python process more, two of which import Ray
Data and pandas: a job waited for them before its own actors could begin. 200 pictures with FastSegFormer-P took 62 s
with them and 50 s without (2 slow cores, 2026-11-26). On a cluster that was there before, Ray Data is left as it is.
"""

import contextlib
import importlib
import uuid
from collections.abc import Iterator
from typing import Any

import ray

KNOWN_VERSIONS = ("2.60.",)
"""Of Ray, on which this was tried: what is replaced has no promise to stay. Of others nothing is replaced."""


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Leave them out of what Ray Data runs meanwhile."""
    if not ray.__version__.startswith(KNOWN_VERSIONS):
        yield
        return
    replaced = {
        ("execution.streaming_executor", "create_cluster_autoscaler"): _FixedCluster,
        ("stats", "get_or_create_stats_actor"): _Unheard,
        ("execution.operators.actor_pool_map_operator", "get_or_create_actor_location_tracker"): _OneNode,
        ("utils.cached_ray_internals", "get_or_create_actor_location_tracker"): _OneNode,
    }
    with contextlib.ExitStack() as restored:
        for (module, name), ours in replaced.items():
            holder = importlib.import_module(f"ray.data._internal.{module}")
            restored.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, ours)
        yield


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
