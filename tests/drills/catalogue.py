"""The drills: a run on a cluster of hosts, a fault in its middle, and what must be true afterwards.

Right is: the job ends with the tables of the undisturbed local run, or with exit code 75, and the same command then
gives those tables; never later than the limit of the drill.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fsf_core import runs
from tests.drills import from_nothing
from tests.drills.cluster import (
    BEGUN_PARTS,
    FRAME_S,
    HEAD_LIMIT_S,
    LIMIT_S,
    Result,
    add_workers,
    cluster,
    event_of,
    finish,
    node_id,
    resume,
    start_again,
)
from tests.drills.workload import PYTHONPATH, Run, Workload
from tests.support.hosts import Host, Hosts, open_hosts

GPU_LABEL = ("python", "-m", "tests.drills.gpu_label")


@contextlib.contextmanager
def _begun(work: Workload, out: Path) -> Iterator[tuple[Hosts, Run]]:
    """Begin a run on two workers whose CPUs its actors take, up to the instant of the fault."""
    with cluster("one", "two") as hosts:
        run = Run(work=work, out=out)
        run.start(hosts["head"], "--actors", "2", address=hosts["head"].gcs)
        run.until_parts(BEGUN_PARTS)
        run.fault()
        yield hosts, run


def worker_killed(work: Workload, out: Path) -> Result:
    """A worker loses power; one operator, all CPUs taken by actors."""
    with _begun(work, out) as (hosts, run):
        hosts["two"].kill()
        return finish(run)


def worker_killed_stages(work: Workload, out: Path) -> Result:
    """A worker loses power; stages of their own, GPUs as labels."""
    with cluster("one", "two", cpus=3, gpus=1) as hosts:
        run = Run(work=work.without_probabilities(), out=out)
        run.start(hosts["head"], address=hosts["head"].gcs, program=GPU_LABEL)
        run.until_parts(2)
        run.fault()
        hosts["two"].kill()
        return finish(run)


def worker_processes_killed(work: Workload, out: Path) -> Result:
    """Everything on a worker is killed (-9); its kernel refuses connections."""
    with _begun(work, out) as (hosts, run):
        hosts["two"].kill_processes()
        return finish(run)


def worker_cut_30_s(work: Workload, out: Path) -> Result:
    """A worker is cut off for 30 s, and is back."""
    with _begun(work, out) as (hosts, run):
        hosts["two"].cut()
        healing = threading.Timer(30, hosts["two"].heal)
        healing.start()
        try:
            return finish(run)
        finally:
            healing.cancel()


def worker_cut(work: Workload, out: Path) -> Result:
    """A worker is cut off for ever; it sees the disk of the run, works on and commits, as one beside a bucket may."""
    with _begun(work, out) as (hosts, run):
        hosts["two"].cut()
        return finish(run)


def worker_drained(work: Workload, out: Path) -> Result:
    """A spot node gets its notice, 20 s later it is gone."""
    with _begun(work, out) as (hosts, run):
        two = node_id(hosts, "two")
        hosts["head"].must(
            "ray", "drain-node", "--address", hosts["head"].gcs, "--node-id", two, "--reason",
            "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "20",
        )  # fmt: skip
        ending = threading.Timer(20, hosts["two"].kill)
        ending.start()
        try:
            return finish(run)
        finally:
            ending.cancel()


def head_killed(work: Workload, out: Path) -> Result:
    """The control service is killed; the driver runs on the head, and a new head takes its place."""
    with cluster("one", "two") as hosts:
        head, run = hosts["head"], Run(work=work, out=out)

        def start() -> None:
            run.start(head, "--actors", "2", address=head.gcs)

        start()
        run.until_parts(BEGUN_PARTS)
        run.fault()
        head.signal_program("gcs_server", signal.SIGKILL)
        return resume(
            run, start, limit_s=HEAD_LIMIT_S, reason="the head of the Ray cluster", recover=lambda: start_again(hosts)
        )


def head_lost(work: Workload, out: Path) -> Result:
    """The head's machine loses power; the driver runs elsewhere."""
    with cluster("one", "two", others=("spare",)) as hosts:
        run = Run(work=work, out=out)
        run.start(hosts["one"], "--actors", "2", address=hosts["head"].gcs)
        run.until_parts(BEGUN_PARTS)
        run.fault()
        hosts["head"].kill()

        def recover() -> None:
            for name in ("one", "two"):
                hosts[name].kill_processes()
            hosts["spare"].start_head()
            for name in ("one", "two"):
                hosts[name].start_worker(hosts["spare"], cpus=1)

        def start() -> None:
            run.start(hosts["one"], "--actors", "2", address=hosts["spare"].gcs)

        return resume(
            run, start, limit_s=HEAD_LIMIT_S, reason="the head of the Ray cluster|node on this machine", recover=recover
        )


def head_replaced(work: Workload, out: Path) -> Result:
    """The head is killed, and another with an empty state listens at its address; the driver runs elsewhere."""
    with cluster("one", "two") as hosts:
        run = Run(work=work, out=out)

        def start() -> None:
            run.start(hosts["one"], "--actors", "2", address=hosts["head"].gcs)

        start()
        run.until_parts(BEGUN_PARTS)
        run.fault()
        hosts["head"].kill_processes()
        hosts["head"].start_head()

        def recover() -> None:
            for name in ("one", "two"):
                hosts[name].kill_processes()
            add_workers(hosts, "one", "two")

        return resume(
            run, start, limit_s=HEAD_LIMIT_S, reason="the head of the Ray cluster|node on this machine", recover=recover
        )


def head_cut(work: Workload, out: Path) -> Result:
    """The head is cut off from the driver and all workers, and comes back after the job has given up."""
    with cluster("one", "two") as hosts:
        run = Run(work=work, out=out)

        def start() -> None:
            run.start(hosts["one"], "--actors", "2", address=hosts["head"].gcs)

        def recover() -> None:
            hosts["head"].heal()
            for name in ("head", "one", "two"):
                hosts[name].kill_processes()
            hosts["head"].start_head()
            add_workers(hosts, "one", "two")

        start()
        run.until_parts(BEGUN_PARTS)
        run.fault()
        hosts["head"].cut()
        return resume(
            run, start, limit_s=HEAD_LIMIT_S, reason="the head of the Ray cluster|node on this machine", recover=recover
        )


def head_hangs(work: Workload, out: Path) -> Result:
    """The control service is stopped (SIGSTOP): its machine accepts connections, and nobody responds."""
    with cluster("one", "two") as hosts:
        head, run = hosts["head"], Run(work=work, out=out)

        def start() -> None:
            run.start(head, "--actors", "2", address=head.gcs)

        start()
        run.until_parts(BEGUN_PARTS)
        run.fault()
        head.signal_program("gcs_server", signal.SIGSTOP)
        return resume(
            run, start, limit_s=HEAD_LIMIT_S, reason="the head of the Ray cluster", recover=lambda: start_again(hosts)
        )


def drivers_node_killed(work: Workload, out: Path) -> Result:
    """The node of Ray on the driver's machine is killed; the cluster goes on without it."""
    with cluster("one", "two") as hosts:
        run = Run(work=work, out=out)

        def start() -> None:
            run.start(hosts["one"], "--actors", "2" if not run.codes else "1", address=hosts["head"].gcs)

        start()
        run.until_parts(BEGUN_PARTS)
        run.fault()
        hosts["one"].signal_program("raylet", signal.SIGKILL)

        def recover() -> None:
            hosts["one"].kill_processes()
            add_workers(hosts, "one")

        return resume(run, start, limit_s=HEAD_LIMIT_S, reason="node on this machine ended", recover=recover)


def bad_node(kind: str) -> Callable[[Workload, Path], Result]:
    """Return the drill of a node on which the model does not start."""

    def drill(work: Workload, out: Path) -> Result:
        with cluster("one", "two", faults={"two": kind}) as hosts:
            run = Run(work=work, out=out)
            run.start(hosts["head"], "--actors", "2", address=hosts["head"].gcs)
            run.fault()
            result = finish(run)
            if kind != "hang":
                assert f"node {hosts['two'].address}: " in run.text(), f"the bad node is not named: {run.text()}"
            return replace(result, note=event_of(run, "actor_not_started"))

    drill.__doc__ = f"On one of two workers the model does not start: {kind}."
    return drill


def slow_node(work: Workload, out: Path) -> Result:
    """A worker runs for a tenth of the time only, from the middle of the run on; compared with a run without that."""
    with cluster("one", "two") as hosts:
        calm = Run(work=work, out=out.with_name("calm"))
        calm.start(hosts["head"], "--actors", "2", address=hosts["head"].gcs)
        calm.until_parts(BEGUN_PARTS)
        calm.fault()
        alone = finish(calm)
        run = Run(work=work, out=out)
        run.start(hosts["head"], "--actors", "2", address=hosts["head"].gcs)
        run.until_parts(BEGUN_PARTS)
        run.fault()
        hosts["two"].throttle(0.1)
        try:
            result = finish(run)
        finally:
            hosts["two"].throttle(1)
        return replace(result, note=f"the rest of the same run without it: {alone.ended_s:.0f} s")


def worker_clock(work: Workload, out: Path) -> Result:
    """The clock of one worker is 90 s fast, that of the other 90 s slow."""
    with cluster("one", "two", clocks={"one": 90, "two": -90}) as hosts:
        run = Run(work=work, out=out)
        run.start(hosts["head"], "--actors", "2", address=hosts["head"].gcs)
        run.fault()
        return replace(finish(run), note=event_of(run, "node_differs"))


def driver_paused(work: Workload, out: Path) -> Result:
    """A driver is stopped (SIGSTOP) while its workers work on; another takes its folder, and it wakes."""
    with cluster("one", "two") as hosts:
        return pause_driver(hosts, Run(work=work, out=out), second=hosts["one"])


def pause_driver(hosts: Hosts, run: Run, *, second: Host) -> Result:
    """Stop the driver of a run on the head, let another host take the run over, and wake the first."""
    head = hosts["head"]
    run.start(head, "--actors", "1", address=head.gcs)
    run.until_parts(BEGUN_PARTS)
    run.fault()
    run.pause()
    (run.out / ".lock").unlink()
    successor = Run(work=run.work, out=run.out, label=".successor", fault_at=run.fault_at)
    successor.start(second, "--actors", "1", address=head.gcs)
    successor.until(lambda: _attempts(run.out) == 2, limit_s=LIMIT_S, what="second attempt")
    run.go_on()
    code = run.wait(HEAD_LIMIT_S)
    assert code == 75, run.text()
    assert "LeaseLostError" in run.text(), run.text()
    assert "took it over" in run.text(), run.text()
    result = finish(successor)
    return replace(result, codes=(75, 0), ended_s=run.after_fault_s, note=run.last_line[:110])


def _attempts(out: Path) -> int:
    """Return how many starts a run has had."""
    return len(runs.read_document(str(out), "run.json")["attempts"])


def from_an_empty_machine(work: Workload, out: Path) -> Result:
    """From nothing, with a bucket and `fsf submit`: of three workers one is killed, and one is cut off for ever."""
    environment = {"PYTHONPATH": PYTHONPATH, "FSF_DRILL_FRAME_S": str(FRAME_S)}
    with open_hosts("head", "one", "two", "three", "laptop", environment=environment) as hosts:
        hosts["head"].start_head()
        add_workers(hosts, "one", "two", "three")
        _, seconds = from_nothing.score_through_faults(hosts, work, out, cut_s=None, scored_again=True)
        return Result(codes=(0,), ended_s=seconds)


DRILLS: dict[str, Callable[[Workload, Path], Result]] = {
    "from-nothing": from_an_empty_machine,
    "worker-killed": worker_killed,
    "worker-killed-stages": worker_killed_stages,
    "worker-processes-killed": worker_processes_killed,
    "worker-cut-30s": worker_cut_30_s,
    "worker-cut": worker_cut,
    "worker-drained": worker_drained,
    "head-killed": head_killed,
    "head-lost": head_lost,
    "head-replaced": head_replaced,
    "head-cut": head_cut,
    "head-hangs": head_hangs,
    "drivers-node-killed": drivers_node_killed,
    "bad-node-raises": bad_node("raise"),
    "bad-node-dies": bad_node("kill"),
    "bad-node-disk-full": bad_node("disk"),
    "bad-node-hangs": bad_node("hang"),
    "slow-node": slow_node,
    "worker-clocks": worker_clock,
    "driver-paused": driver_paused,
}
