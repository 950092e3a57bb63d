"""Joining a Ray cluster or starting one on this machine, and leaving it in order.

Ray reads parts of its environment when it is imported, so this module sets them first: import it before ray.
"""

import contextlib
import importlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
    # A cluster of this process's own: a token that nobody else knows keeps it so.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import ray

from fsf_core.errors import ClusterError, FSFError
from fsf_core.score.local_ray.patches import patched_node

# On a cluster of its own: Ray ends a worker that idles for a second as soon as there are more workers than CPUs, actors
# counted, and starts another for the next task. Each start imports Ray Data and pandas: 1,000 pictures through a null
# model took 108 s of CPU so, and 72 s with workers that stay (2 cores under load, 2026-11-24). To raise the number
# instead (num_workers_soft_limit) would let it start workers for as many tasks as wait: 21 for 40 tasks on 4 CPUs.
_KEEP_WORKERS = {"RAY_idle_worker_killing_time_threshold_ms": "3600000"}


_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


STORE_VARIABLES = ("AWS_", "GOOGLE_", "GCSFS_", "STORAGE_EMULATOR_HOST", "AZURE_", "HF_", "FSSPEC_")
"""How the names begin of what stores go by; on a joined cluster the workers get them from the driver."""

NODE_VARIABLES = ("AWS_CONTAINER_", "AWS_EXECUTION_ENV", "AWS_LAMBDA_", "AWS_CA_BUNDLE")
"""Of these, what holds for one machine only."""


class InterruptedRunError(FSFError):
    """A signal ended the job; the run can be resumed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}; start the same command again to resume")
        self.exit_code = 128 + number


def joins_cluster(address: str | None) -> bool:
    """Whether the cluster was there before this job."""
    return bool(address or os.environ.get("RAY_ADDRESS"))


@contextlib.contextmanager
def connected_cluster(address: str | None) -> Iterator[None]:
    """Join the cluster that was asked for, or start one on this machine for as long as the block lasts.

    A process that is connected to a cluster already stays so.

    Raises:
        ClusterError: there is no such cluster, or this machine cannot start one.
    """
    with _without_known_noise(), contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            if joins_cluster(address):
                _join(address or os.environ["RAY_ADDRESS"])
            else:
                start_local_cluster()
        with _signals():
            yield


def start_local_cluster() -> None:
    """Start a cluster of this process's own on this machine.

    Raises:
        ClusterError: this machine cannot start one.
    """
    for name, value in _KEEP_WORKERS.items():
        os.environ.setdefault(name, value)
    # Ray Data takes 2 s to import, and the start of Ray mostly waits for the processes that it starts in turn.
    threading.Thread(target=importlib.import_module, args=("ray.data",), daemon=True).start()
    # Logical CPUs: one an actor, and as many again for the other stages. The operating system shares the cores, and
    # none idles while a stage has work.
    cpus = 2 * max(2, os.cpu_count() or 1)
    try:
        with patched_node():
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **_QUIET)
    except Exception as error:  # a bare Exception is what Ray raises where its node takes more than 30 s to appear
        raise ClusterError(
            f"Ray did not start on this machine: {error}; if the machine is very busy start the same command again"
        ) from error


def resources() -> dict[str, float]:
    """CPUs and GPUs of the whole cluster."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray publishes no type
    return {name: found.get(name, 0.0) for name in ("CPU", "GPU")}


def largest_node_cpus() -> float:
    """CPUs of the largest node; none for a cluster of one, which has no node to lose."""
    alive = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call] # as above
    return max(alive) if len(alive) > 1 else 0.0


def describe_resources() -> str:
    """What the cluster has, for people."""
    return ", ".join(f"{count:g} {name}s" for name, count in resources().items())


def our_error(error: BaseException) -> FSFError | None:
    """The error of ours that a worker raised, out of what Ray wrapped around it."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        found = queue.pop()
        if isinstance(found, FSFError) and type(found).__module__.startswith("fsf_core"):
            return found
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            queue += [found.__cause__, found.__context__, getattr(found, "cause", None)]
    return None


@contextlib.contextmanager
def unwrap_worker_errors() -> Iterator[None]:
    """Let an error of ours that a worker raised out as it is, without what Ray wrapped around it.

    Raises:
        FSFError: what the worker raised.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        raise our_error(error) or error from None


def _lent() -> dict[str, str]:
    """The store settings of this process that the nodes of a joined cluster may lack."""
    wanted = (name for name in os.environ if name.startswith(STORE_VARIABLES) and not name.startswith(NODE_VARIABLES))
    return {name: os.environ[name] for name in wanted}


def _lending() -> Callable[[], None]:
    """What every worker does first. A function, because Ray writes the variables of a runtime_env into its logs."""
    lent = _lent()

    def borrow_store_settings() -> None:
        os.environ.update(lent)

    return borrow_store_settings


def _join(address: str) -> None:
    try:
        ray.init(address=address, runtime_env={"worker_process_setup_hook": _lending()}, **_QUIET)
    except (ConnectionError, ray.exceptions.RayError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}; start one, or leave --ray-address and RAY_ADDRESS unset to "
            "run on this machine"
        ) from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the job in order; a second one kills. Set after ray.init, which sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise InterruptedRunError(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _without_known_noise() -> Iterator[None]:
    """Drop a line that Ray's C++ side writes as an error for every actor pool (its issue 57733: nothing is wrong)."""
    sys.stderr.flush()
    real = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def sift() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if b"has constructor arguments in the object store" not in line:
                    os.write(real, line)

    sifter = threading.Thread(target=sift, daemon=True)
    sifter.start()
    # Python's own words, the living line above all, go straight to where they went before.
    before, sys.stderr = sys.stderr, os.fdopen(os.dup(real), "w", buffering=1)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.dup2(real, 2)
        sifter.join(timeout=1)
