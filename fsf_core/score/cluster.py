"""Joining a Ray cluster or starting one on this machine, and leaving it in order."""

import contextlib
import importlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fsf_core import storage
from fsf_core.errors import ClusterError, FSFError
from fsf_core.process import interruptible, kept_handlers, tolerant_stream, uninterrupted
from fsf_core.score.cluster_address import REMEDY, require_cluster
from fsf_core.score.cluster_watch import reported_exit, watched_cluster
from fsf_core.score.local_ray.authentication import private_token
from fsf_core.score.local_ray.patches import patched_node
from fsf_core.score.local_ray.session_folder import session_folder
from fsf_core.stages.precompile import compiling_ahead
from fsf_core.store_settings import settings_hook

KEEP_WORKERS = {"idle_worker_killing_time_threshold_ms": 3_600_000}
"""For a local cluster: by default Ray ends a worker that has been idle for a second as soon as there are more workers
than CPUs, actors counted, and starts another one for the next task. Each start imports Ray Data and pandas: 1,000
images through a null model took 108 s of CPU that way, and 72 s with workers that stay (2 busy cores, 2026-11-24).
Raising num_workers_soft_limit instead would start a worker for every waiting task: 21 for 40 tasks on 4 CPUs."""

NO_TASK_EVENTS = {"task_events_report_interval_ms": 0}
"""For a local cluster: by default every process sends what its tasks and calls went through to the cluster's state, for
a dashboard, which is not started here. Without it that process stays at 24 MB instead of growing by 13 KB a block, and
a block costs the driver 6.2 ms of CPU instead of 8.2, the tracker 2.9 instead of 3.3 (`python -m
tests.bench.bench_scaling --only blocks --forms operator --block-actors 1`, one run each, 2 busy cores, 2026-11-28)."""

QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
"""What Ray raises is reported once, by the command."""

RAY_LOG_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,]+ [A-Z] \d+ \d+\] (\(\w+\) )?\S+\.(cc|h):\d+:")


class _SameImports(JobConfig):
    """A job whose workers look for modules where this process does.

    Ray puts the current folder first for them, whether this process looks there or not: a random.py that a user keeps
    there would end them, and a checkout of another version would be run instead of the program.
    """

    def __init__(self, **options: Any) -> None:
        mine = {Path(path).absolute() for path in sys.path}  # "" is the current folder
        added = (Path.cwd(), Path(sys.argv[0]).resolve().parent)
        super().__init__(_py_driver_sys_path=[str(path) for path in added if path in mine], **options)

    def _runtime_env_has_working_dir(self) -> bool:
        """Return what keeps Ray from adding folders itself."""
        return True


def joins_cluster(address: str | None) -> bool:
    """Return whether the job runs on an existing cluster."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


@contextlib.contextmanager
def connected_cluster(address: str | None, *, out: str = "") -> Iterator[None]:
    """Join the given cluster, or start one on this machine, for as long as the block lasts.

    A process that is already connected to a cluster stays connected to it.

    Args:
        address: of the cluster.
        out: folder of the run, which the dashboard of a joined cluster shows.

    Raises:
        ClusterError: the cluster cannot be reached, or this machine cannot start one.
    """
    with _without_ray_log(), contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            is_local = not joins_cluster(address)
            stack.enter_context(_without_ray_messages())
            joined = _joined_cluster(address or os.environ.get("RAY_ADDRESS", ""), out)
            stack.enter_context(local_cluster() if is_local else joined)
            stack.enter_context(watched_cluster(is_local=is_local))
        stack.enter_context(interruptible())
        yield


@contextlib.contextmanager
def local_cluster() -> Iterator[None]:
    """Start a cluster on this machine, with a token of its own, and end it with the block.

    Raises:
        ClusterError: this machine cannot start one.
    """
    # Ray Data imports much, and the start of Ray mostly waits for the processes that it starts in turn.
    threading.Thread(target=importlib.import_module, args=("ray.data",), daemon=True).start()
    # Logical CPUs: one per actor, and as many again for the other stages. The operating system schedules the cores, and
    # none is idle while a stage has work.
    cpus = 2 * max(2, os.cpu_count() or 1)
    with compiling_ahead(finish=False), private_token(), session_folder() as folder, contextlib.ExitStack() as stack:
        stack.callback(_leave_cluster)
        try:
            with patched_node(), kept_handlers(), reported_exit("starting"):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    _temp_dir=str(folder),
                    _system_config=KEEP_WORKERS | NO_TASK_EVENTS,
                    job_config=_SameImports(),
                    **QUIET,
                )
        except FSFError:  # a signal
            raise
        except Exception as error:  # Ray raises a bare Exception where its node takes more than 30 s to appear
            raise ClusterError(
                f"Ray did not start on this machine: {_first_line(error)}; if the machine is very busy, start the same "
                "command again"
            ) from error
        yield


def _leave_cluster() -> None:
    """Disconnect from the cluster, and end it if it is this process's own.

    Where a signal cuts Ray's shutdown short, Ray goes on as Python exits, and makes the folder of its session again,
    which is removed by then.
    """
    with uninterrupted(), reported_exit("leaving"):
        ray.shutdown()


@contextlib.contextmanager
def _joined_cluster(address: str, out: str) -> Iterator[None]:
    """Connect to an existing cluster, and disconnect with the block.

    Raises:
        ClusterError: it cannot be reached.
    """
    require_cluster(address)
    with contextlib.ExitStack() as stack:
        stack.callback(_leave_cluster)
        try:
            metadata = {"fsf_out": storage.redact(out)} if out else {}
            environment = {"worker_process_setup_hook": settings_hook()}
            with kept_handlers(), reported_exit("joining"):
                ray.init(address=address, runtime_env=environment, job_config=_SameImports(metadata=metadata), **QUIET)
        except (ConnectionError, ray.exceptions.RayError, ValueError, RuntimeError) as error:
            if different := _different_versions(str(error)):
                raise ClusterError(
                    f"the cluster at {storage.redact(address)} runs {different}; expected the same versions: install "
                    "them here, or submit the job to the cluster, where its own Python runs it"
                ) from error
            raise ClusterError(
                f"no Ray cluster can be joined at {storage.redact(address)}: {_first_line(error)}; {REMEDY}"
            ) from error
        yield


def _different_versions(message: str) -> str:
    """Return both pairs of versions out of Ray's refusal of another version; empty if it refuses for another reason."""
    found = re.findall(r"^\s*(Ray|Python): (\S+)$", message, flags=re.MULTILINE)
    if "ersion mismatch" not in message or len(found) != 4:  # noqa: PLR2004 - two of the cluster, two of this process
        return ""
    pairs = [f"{name} {version}" for name, version in found]
    return f"{' and '.join(pairs[:2])}, this process {' and '.join(pairs[2:])}"


def _first_line(error: Exception) -> str:
    """Return what went wrong without the pages of advice below it."""
    return storage.redact(str(error).strip().partition("\n")[0]) or type(error).__name__


def resources() -> dict[str, float]:
    """Return the logical CPUs and GPUs of all nodes."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray publishes no type
    return {name: found.get(name, 0.0) for name in ("CPU", "GPU")}


def on_this_node() -> Any:
    """Return the placement of an actor that all workers of a job wait for: the driver's node.

    Without that node the job is lost anyway; on another one, all of them would wait while it is cut off. A soft
    affinity does not hold for an actor without CPUs: Ray places it anywhere (2.60).
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def find_fsf_error(error: BaseException) -> FSFError | None:
    """Return the FSFError that a worker raised, from below Ray's wrappers; None if there is none.

    Ray Data appends lines on its own settings to the message; they are removed.
    """
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        found = queue.pop()
        if isinstance(found, FSFError) and type(found).__module__.startswith("fsf_core"):
            found.args = (str(found).partition("\n")[0], *found.args[1:])
            return found
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            queue += [found.__cause__, found.__context__, getattr(found, "cause", None)]
    return None


@contextlib.contextmanager
def unwrap_worker_errors() -> Iterator[None]:
    """Re-raise an FSFError from a worker without Ray's wrapper.

    Raises:
        FSFError: what the worker raised.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        raise find_fsf_error(error) or error from None


@contextlib.contextmanager
def _without_ray_messages() -> Iterator[None]:
    """Drop what a thread of Ray prints to stdout about nodes, workers and retries; lost nodes are logged by the watch.

    Results go to stdout, and nothing else.
    """
    owner: Any = ray._private.worker  # noqa: SLF001 - no option of Ray's turns it off
    printing = getattr(owner, "print_to_stdstream", None)
    owner.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        owner.print_to_stdstream = printing


@contextlib.contextmanager
def _without_ray_log() -> Iterator[None]:
    """Drop what Ray's C++ side logs to stderr: what ends a job is reported by the command, once.

    One line is written as an error for every actor pool, though nothing is wrong (Ray issue 57733).
    """
    try:
        stderr_fd = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    read_fd, write_fd = os.pipe()
    os.dup2(write_fd, 2)
    os.close(write_fd)

    def copy_lines() -> None:
        with os.fdopen(read_fd, "rb") as lines:
            for line in lines:
                if not RAY_LOG_LINE.match(line):
                    with contextlib.suppress(OSError):  # or else whatever writes to this pipe would wait for ever
                        os.write(stderr_fd, line)

    thread = threading.Thread(target=copy_lines, daemon=True)
    thread.start()
    # What Python writes, the progress line above all, goes to the old stderr directly.
    previous, sys.stderr = sys.stderr, tolerant_stream(stderr_fd)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = previous
        os.dup2(stderr_fd, 2)
        thread.join(timeout=1)
        if not thread.is_alive():  # a child of this process may still hold the pipe open
            os.close(stderr_fd)
