"""Patches that keep a local Ray node and Ray Data from starting processes this job does not use.

A local cluster has one node, no autoscaler and no dashboard. Ray starts Python processes for them all the same, and
`ray.init` or the pipeline waits for these. Ray Data's loop is patched to wake when a task is ready, and to poll rarely
while none is. A joined cluster is never patched.

The patched names are private to Ray. So patches apply to tested versions only, and a missing name switches its patch
off. Either is logged once, and the job runs without the patch.
"""

import contextlib
import functools
import importlib
import logging
import pkgutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import ray

from fsf_core.score.local_ray import agent_stub
from fsf_core.score.local_ray.session_folder import SESSION_NAME

TESTED_VERSIONS = ("2.60.",)
"""Prefixes of the Ray versions that the patches were tested with."""

READY_GATHER_S, MIN_POLL_S, MAX_POLL_S = 0.05, 0.1, 0.8
"""Waits of Ray Data's loop: for more tasks once one is ready; for a first one, doubling while none is."""

STUBBED_AGENTS = ("dashboard_agent", "runtime_env_agent")
"""The agents of a node as Ray names them; the second one would make environments for workers, which ask for none."""

log = logging.getLogger("fsf")


def patched_node() -> contextlib.AbstractContextManager[None]:
    """Start nodes in the block without the processes that a local cluster does not need."""
    node, services = "ray._private.node:Node", "ray._private.services"
    return _patched(
        {
            # Serves dashboard and job submission; starts even with include_dashboard=False, and ray.init waits for it.
            (node, "start_api_server"): _skip_start,
            # Runs the autoscaler; this cluster has one node.
            (node, "start_monitor"): _skip_start,
            # Forwards the workers' output to drivers that ask for it; this one does not.
            (node, "start_log_monitor"): _skip_start,
            # Starts the node's agents, which import much; the node needs their files, and ends if one ends.
            (services, "_build_python_executable_command_memory_profileable"): _python_command,
            # Asks for an environment for workers under `uv run`, with RAY_RUNTIME_ENV_HOOK and in submitted jobs. Here
            # they have this process's: the same Python, variables and current folder.
            ("ray._private.worker", "_maybe_modify_runtime_env"): _no_runtime_env,
            # Starts node and cluster state. In a session of its own, the agent stub knows a node's descendants, and
            # signals of a terminal reach the driver alone.
            (services, "ConsolePopen"): functools.partial(subprocess.Popen, start_new_session=True),
            # Returns the name of an earlier session; ours is short, for the paths of the sockets.
            (node, "check_persisted_session_name"): _session_name,
        }
    )


def patched_ray_data() -> contextlib.AbstractContextManager[None]:
    """Execute datasets in the block without the actors that a local cluster does not need."""
    data, execution = "ray.data._internal", "ray.data._internal.execution"
    tracker = "get_or_create_actor_location_tracker"
    return _patched(
        {
            # Starts an actor that asks the autoscaler for nodes.
            (f"{execution}.streaming_executor", "create_cluster_autoscaler"): _FixedCluster,
            # Starts an actor that collects metrics for the dashboard.
            (f"{data}.stats", "get_or_create_stats_actor"): _NullStatsActor,
            # Start an actor that knows the node of each actor; there is one node.
            (f"{execution}.operators.actor_pool_map_operator", tracker): _NullLocationTracker,
            (f"{data}.utils.cached_ray_internals", tracker): _NullLocationTracker,
            # Its ray.wait asks for all tasks: a round takes 0.1 s even if one is ready, and there are ten rounds per
            # second even if none is for minutes.
            (f"{execution}.streaming_executor_state", "ray"): _BackoffWait(),
        }
    )


@contextlib.contextmanager
def _patched(replacements: dict[tuple[str, str], Any]) -> Iterator[None]:
    """Replace names of modules or classes for as long as the block lasts."""
    with contextlib.ExitStack() as restored:
        if ray.__version__.startswith(TESTED_VERSIONS):
            for (owner_name, name), replacement in replacements.items():
                try:
                    owner = pkgutil.resolve_name(owner_name)
                    original = getattr(owner, name)
                except (ImportError, AttributeError) as error:
                    _log_once(f"event=ray_patch_off patch={owner_name}.{name} reason={str(error)!r}")
                    continue
                restored.callback(setattr, owner, name, original)
                setattr(owner, name, replacement)
        else:
            tested = ", ".join(version + "x" for version in TESTED_VERSIONS)
            _log_once(f"event=ray_patches_off ray={ray.__version__} tested={tested} effect='the job starts slower'")
        yield


@functools.cache
def _log_once(message: str) -> None:
    """Log a message the first time it occurs."""
    log.info("%s", message)


def _session_name(_: Any) -> bytes:
    """Return the name of the session, in place of a method of the node."""
    return SESSION_NAME.encode()


def _skip_start(node: Any, **_: Any) -> None:
    """Start nothing, in place of a method of the node."""


def _no_runtime_env(*_: Any, **__: Any) -> None:
    """Return no environment that workers are to have, in place of a function of Ray's."""


def _python_command(component: str, *_: Any, **__: Any) -> list[str]:
    """Return the beginning of the command that starts a process of the node."""
    stub = ["-I", "-S", agent_stub.__file__]
    return [sys.executable, *(stub if component in STUBBED_AGENTS else ["-u"])]


class _FixedCluster:
    """An autoscaler of a cluster that does not change."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Accept the arguments of any autoscaler."""

    def try_trigger_scaling(self) -> None:
        """Do nothing."""

    def on_executor_shutdown(self) -> None:
        """Do nothing."""

    def get_total_resources(self) -> Any:
        """Return all resources of the cluster."""
        resources = importlib.import_module("ray.data._internal.execution.interfaces").ExecutionResources
        return resources.from_resource_dict(ray.cluster_resources())  # type: ignore[no-untyped-call] # Ray publishes no type


class _BackoffWait:
    """The module `ray`, but `wait` returns as soon as one task is ready, and waits longer the longer none is."""

    def __init__(self) -> None:
        self._next_s = MIN_POLL_S

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def wait(self, refs: list[Any], *, num_returns: int, fetch_local: bool, timeout: float) -> tuple[Any, Any]:
        """Return the references that are ready, and the others."""
        del timeout
        result: tuple[Any, Any] = ray.wait(refs, num_returns=1, fetch_local=fetch_local, timeout=self._next_s)
        self._next_s = MIN_POLL_S if result[0] else min(2 * self._next_s, MAX_POLL_S)
        if result[0]:
            result = ray.wait(refs, num_returns=num_returns, fetch_local=fetch_local, timeout=READY_GATHER_S)
        return result


class _NullLocationTracker:
    """A location tracker without an actor; it is pickled to the workers."""

    @property
    def update_actor_location(self) -> "_NullMethod":
        """Accept the node of an actor."""
        return _NullMethod(None)

    @property
    def get_actor_locations(self) -> "_NullMethod":
        """Return no locations."""
        return _NullMethod({})


class _NullStatsActor:
    """A stats actor without a process: drops metrics, and names datasets."""

    def __getattr__(self, method: str) -> "_NullMethod":
        return _NullMethod(uuid.uuid4().hex if method == "gen_dataset_id" else None)


class _NullMethod:
    """An actor method with a constant result."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def remote(self, *_: Any, **__: Any) -> Any:
        """Return a reference to the result; only the driver reads one."""
        return None if self._result is None else ray.put(self._result)
