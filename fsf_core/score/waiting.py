"""One task at the start of a job, waited for with limits: until it starts, which others may delay, and to its end."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray

from fsf_core.errors import ClusterError
from fsf_core.score.cluster import unwrap_worker_errors
from fsf_core.score.node_tasks import available_resources

LOG_INTERVAL_S = 30.0

log = logging.getLogger("fsf")


def run_task(
    call: Callable[..., Any],
    *arguments: Any,
    what: str,
    needs: Mapping[str, float],
    start_s: float,
    end_s: float,
) -> Any:
    """Run a call as a task on one of the nodes that have room for it, and return what it returns.

    Args:
        call: a function that every node can import.
        arguments: of the call.
        what: the task in messages, such as `the trial of the model`.
        needs: its logical CPU and GPU.
        start_s: longest time until it starts: other jobs may use what it needs.
        end_s: longest time from then to its end.

    Raises:
        ClusterError: a limit has passed; the message has the reason.
        FSFError: what the call raised.
    """
    remote: Any = ray.remote(
        num_cpus=needs.get("CPU", 0), num_gpus=needs.get("GPU", 0), max_retries=0, num_returns="streaming"
    )(_announced)
    steps = remote.remote(call, *arguments)
    try:
        with unwrap_worker_errors():
            _next(steps, what=what, limit_s=start_s, why=lambda: _why_not_started(needs))
            return _next(steps, what=what, limit_s=end_s, why=lambda: "it has started and not ended")
    except ClusterError:
        ray.cancel(steps, force=True)
        raise


def _announced(call: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Yield nothing first, so that the start is known, and then what the call returns."""
    yield None
    yield call(*arguments)


def _next(steps: Any, *, what: str, limit_s: float, why: Callable[[], str]) -> Any:
    """Return the next value of a task.

    Raises:
        ClusterError: it has not come within the limit.
    """
    begun = time.monotonic()
    while True:
        waited_s = time.monotonic() - begun
        ready, _ = ray.wait([steps], timeout=min(LOG_INTERVAL_S, max(0.0, limit_s - waited_s)), fetch_local=False)
        if ready:
            return ray.get(next(steps))
        waited_s = time.monotonic() - begun
        if waited_s >= limit_s:
            raise ClusterError(
                f"waited {waited_s:.0f} s for {what}: {why()}; start the same command again later, or raise --wait-s"
            )
        log.info("event=waiting_for_task task=%r reason=%r waited_s=%.0f of_s=%.0f", what, why(), waited_s, limit_s)


def _why_not_started(needs: Mapping[str, float]) -> str:
    """Return why a task of these needs has not started."""
    free = available_resources()
    if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in free.values()):
        return "a node has room for it and has not started it (see `ray status` and the node's raylet.out)"
    names = " and ".join(f"{name}s" for name, amount in needs.items() if amount)
    return f"all {names} are in use by other jobs"
