"""The job as a process: start it, wait for it to get somewhere, kill it or one of its own, look at what it left.

Knows processes and run folders. Kills only what it started.
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
    """One started command, in a process group of its own."""

    def __init__(self, *words: str, module: str = "fsf_core.cli", **environment: str) -> None:
        self.process = subprocess.Popen(  # its output must not fill a pipe that nobody reads
            [sys.executable, "-m", module, *words],
            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def family(self) -> list[psutil.Process]:
        """What this job started and what that started: on one machine, all of its Ray."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_worker(self, words: Collection[str], rng: random.Random, *, seconds: float) -> str | None:
        """Kill -9 of one of Ray's workers that is just now at one of these tasks or actors.

        A task may be over in milliseconds, so the titles of the workers, which say what they are doing, are read as
        fast as they can be.

        Returns:
            The word that was met, or None where the job or the seconds ended before.
        """
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            family = self.family()  # slow; new workers are not missed for long
            rng.shuffle(family)
            for _, process in itertools.product(range(20), family):
                if word := _at_work(process.pid, words):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                        return word
        return None

    def kill_group(self) -> list[psutil.Process]:
        """Kill -9 of the driver's process group; returns the family as it was, of which some may still be there."""
        family = self.family()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        return family

    def wait(self, seconds: float = 300) -> tuple[int, str]:
        """Exit code and what was said."""
        said, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, said


def kill_all(family: Iterable[psutil.Process]) -> None:
    """Kill -9 of those that are still there."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def fsf(*words: str, seconds: float = 300, **environment: str) -> tuple[int, str]:
    """Run a command to its end."""
    return Job(*words, **environment).wait(seconds)


def receipts(out: Path) -> int:
    """Parts that are committed so far."""
    return len(list((out / "receipts").glob("*.arrow")))


def wait_for(condition: Callable[[], Any], *, seconds: float = 120) -> None:
    """Look often, for a run of a tiny model is over soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def _at_work(pid: int, words: Collection[str]) -> str | None:
    """Which of the words stands in the title of this process, if it is a worker of Ray's."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return next((word for word in words if word in title), None) if title.startswith("ray::") else None


def rows_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    """All tables, in an order that does not depend on the parts, without what differs between any two runs."""
    return {
        "masks": ledger.sorted_rows(str(out), "masks", but=("run_id",)),
        "class_stats": ledger.sorted_rows(str(out), "class_stats"),
    }
