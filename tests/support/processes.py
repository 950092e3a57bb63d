"""A command as a process: start it, wait for its progress, kill it or one of its workers, read the run it leaves.

Knows processes and run folders. Kills only processes that it started.
"""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import psutil

from tests.support import ledger

ROOT = Path(__file__).parents[2]


class Job:
    """A running command, the leader of its own process group."""

    def __init__(self, *arguments: str, module: str = "fsf_core.cli", **environment: str) -> None:
        self.process = subprocess.Popen(  # output is read in wait()
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def family(self) -> list[psutil.Process]:
        """Return all descendants of the process: on one machine, every process of its Ray."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_worker(self, names: Collection[str], rng: random.Random, *, timeout_s: float) -> str | None:
        """Kill (-9) a Ray worker that is running one of the named tasks or actors.

        A task may take milliseconds, so the process titles, which name it, are polled without a pause.

        Returns:
            The name of the killed task or actor, or None if the job or the timeout ended first.
        """
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            family = self.family()  # slow, hence once per 20 polls
            rng.shuffle(family)
            for _, process in itertools.product(range(20), family):
                if name := _running_name(process.pid, names):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                        return name
        return None

    def kill_group(self) -> list[psutil.Process]:
        """Kill (-9) the driver's process group and return its descendants, some of which may still be alive."""
        family = self.family()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        return family

    def wait(self, timeout_s: float = 300) -> tuple[int, str]:
        """Wait for the end and return the exit code and the output."""
        output, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, output


def kill_all(family: Iterable[psutil.Process]) -> None:
    """Kill (-9) the processes that are still alive."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def fsf(*arguments: str, timeout_s: float = 300, **environment: str) -> tuple[int, str]:
    """Run `fsf` and return its exit code and output."""
    return Job(*arguments, **environment).wait(timeout_s)


def receipts(out: Path) -> int:
    """Count the committed parts of a run, published or not."""
    found = [*(out / "receipts").glob("*.arrow"), *out.glob(".attempt-*/receipts/part-*.arrow")]
    return len({path.name for path in found})


def wait_for(condition: Callable[[], Any], *, timeout_s: float = 120) -> None:
    """Poll a condition every 20 ms: a run of the tiny model takes only seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_s:g} s"
        time.sleep(0.02)


def _running_name(pid: int, names: Collection[str]) -> str | None:
    """Return the name that the title of this process contains, if it is a Ray worker."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return next((name for name in names if name in title), None) if title.startswith("ray::") else None


def rows_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the tables sorted by unit, without the columns that differ between any two runs."""
    return {
        "masks": ledger.sorted_rows(str(out), "masks", but=("run_id",)),
        "class_stats": ledger.sorted_rows(str(out), "class_stats"),
        "confusion": ledger.sorted_rows(str(out), "confusion"),
    }
