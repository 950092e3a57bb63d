"""Asking the autoscaler for nodes: tasks that wait for a place, and do nothing on it.

They are gone with this process, however it ends. A request to the autoscaler itself would outlast a killed job, and
keep its nodes running.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray

from fsf_core.score.autoscaler import Bundle

MAX_REQUESTS = 1_000
"""Tasks that may wait for nodes at the same time."""

CHECK_INTERVAL_S = 10.0

log = logging.getLogger("fsf")


@contextlib.contextmanager
def asking_for(bundles: Sequence[Bundle]) -> Iterator[None]:
    """Ask for bundles once, for as long as the block lasts."""
    tasks = [_ask(bundle) for bundle in bundles[:MAX_REQUESTS]]
    try:
        yield
    finally:
        _cancel(tasks)


@contextlib.contextmanager
def keep_asking(bundle: Bundle, missing: Callable[[], int]) -> Iterator[None]:
    """Ask for a bundle as often as it is missing, for as long as the block lasts.

    Args:
        bundle: what is asked for.
        missing: returns how many of it are missing now; called at intervals, in a thread.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=_keep_asking, args=(bundle, missing, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=CHECK_INTERVAL_S)


def _keep_asking(bundle: Bundle, missing: Callable[[], int], stopped: threading.Event) -> None:
    """Have as many tasks wait as bundles are missing."""
    tasks: list[Any] = []
    try:
        while True:
            _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=0) if tasks else ([], [])
            wanted = min(missing(), MAX_REQUESTS)
            _cancel(tasks[max(0, wanted) :])
            tasks = [*tasks[: max(0, wanted)], *(_ask(bundle) for _ in range(wanted - len(tasks)))]
            if stopped.wait(CHECK_INTERVAL_S):
                return
    except ray.exceptions.RayError as error:  # the job goes on with the nodes that it has
        log.warning("event=asking_for_nodes_ended error=%s", type(error).__name__)
    finally:
        _cancel(tasks)


def _ask(bundle: Bundle) -> Any:
    """Start a task that asks for a bundle."""
    remote: Any = ray.remote
    options: Mapping[str, float] = {"memory": bundle["memory"]} if "memory" in bundle else {}
    others = {name: amount for name, amount in bundle.items() if name not in {"CPU", "GPU", "memory"}}
    cpus, gpus = bundle.get("CPU", 0), bundle.get("GPU", 0)
    return remote(num_cpus=cpus, num_gpus=gpus, resources=others, max_retries=0, **options)(_found).remote()


def _found() -> None:
    """Do nothing: the node is there."""


def _cancel(tasks: Sequence[Any]) -> None:
    """Take tasks back that still wait."""
    for task in tasks:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(task)
