"""A cluster on hosts of its own, and how a job ends after a fault on it."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.drills.workload import PYTHONPATH, Run
from tests.support.hosts import Hosts, open_hosts

LIMIT_S = 240.0
"""Longest time from a fault to the end of a job."""

HEAD_LIMIT_S = 75.0
"""Longest time in which a driver notices that the head is lost: 45 s, and what a busy machine adds."""

FRAME_S = 0.12
BEGUN_PARTS = 6
"""Parts that are committed when the fault comes: the videos, and some images."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a drill ended; a wrong end is an AssertionError."""

    codes: tuple[int, ...]
    """Exit codes of the starts of the job."""
    ended_s: float
    """From the fault to the end of the job that it hit."""
    standstill_s: float | None = None
    """Longest time after the fault without a committed part, where it was watched."""
    note: str = ""


@contextlib.contextmanager
def cluster(
    *workers: str,
    others: tuple[str, ...] = (),
    cpus: float = 1,
    gpus: float = 0,
    clocks: Mapping[str, float] | None = None,
    faults: Mapping[str, str] | None = None,
) -> Iterator[Hosts]:
    """Make a cluster of a head without CPUs and of workers, whose model takes its time.

    Args:
        workers: names of hosts with CPUs.
        others: names of hosts that the cluster does not have at first.
        cpus: of each worker.
        gpus: of each worker, as a label.
        clocks: by how much the clocks of hosts are fast.
        faults: kind of fault in starting the model, by host.
    """
    environment = {"PYTHONPATH": PYTHONPATH, "FSF_DRILL_FRAME_S": str(FRAME_S)}
    with open_hosts("head", *workers, *others, environment=environment, clocks=clocks) as hosts:
        hosts["head"].start_head()
        add_workers(hosts, *workers, cpus=cpus, gpus=gpus, faults=faults)
        yield hosts


def add_workers(
    hosts: Hosts, *names: str, cpus: float = 1, gpus: float = 0, faults: Mapping[str, str] | None = None
) -> None:
    """Let hosts join the cluster, all at the same time."""
    errors: list[BaseException] = []

    def join(name: str) -> None:
        more = {"FSF_DRILL_START": faults[name]} if faults and name in faults else {}
        try:
            hosts[name].start_worker(hosts["head"], cpus=cpus, gpus=gpus, **more)
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=join, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def finish(run: Run, *, limit_s: float = LIMIT_S) -> Result:
    """Wait for a job that must survive its fault."""
    with run.watched():
        code = run.wait(limit_s)
    assert code == 0, run.text()
    run.judge()
    return Result(codes=(0,), ended_s=run.after_fault_s, standstill_s=run.standstill_s)


def resume(run: Run, start: Callable[[], None], *, limit_s: float, reason: str, recover: Callable[[], None]) -> Result:
    """Wait for a job that must end with 75 and a reason, and complete its run with the same command."""
    with run.watched():
        code = run.wait(limit_s)
        assert code == 75, f"exit code {code}: {run.text()}"
        assert re.search(reason, run.text()), run.text()
        assert "the same command resumes the run" in run.text()
        ended_s, standstill_s, note = run.after_fault_s, run.standstill_s, run.last_line
    recover()
    start()
    assert run.wait(LIMIT_S) == 0, run.text()
    run.judge()
    return Result(codes=tuple(run.codes), ended_s=ended_s, standstill_s=standstill_s, note=note[:110])


def node_id(hosts: Hosts, name: str) -> str:
    """Return Ray's id of a node."""
    code = (
        "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False);"
        "print('node', *[n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == sys.argv[2]])"
    )
    output = hosts["head"].must("python", "-c", code, hosts["head"].gcs, hosts[name].address)
    return re.findall(r"^node (\w+)", output, re.MULTILINE)[0]


def start_again(hosts: Hosts) -> None:
    """Start the cluster again from nothing, on the same hosts."""
    for host in hosts.values():
        host.kill_processes()
    hosts["head"].start_head()
    add_workers(hosts, *[name for name in hosts if name != "head"])


def event_of(run: Run, name: str) -> str:
    """Return the last line of an event in the output of a job."""
    lines = [line for line in run.text().splitlines() if f"event={name} " in line]
    return lines[-1].partition("event=")[2][:110] if lines else ""
