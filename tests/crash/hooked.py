"""Commands as processes that report every change of a file and stop at a chosen one.

The changes, as text, are those of hook/sitecustomize.py. Kills and signals only processes that it started.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.crash.hook import sitecustomize as hook

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"

PRELOADED = ("ray", "ray.data", "onnxruntime", "deltalake", "fsf_core.score.job", "fsf_core.score.pipeline")
"""Modules that a forked job need not import."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A moment of a job: a change of a file, and a position at it."""

    pattern: str
    """Regular expression, searched in the change."""
    number: int = 1
    """Which match, from 1, over all processes of the job."""
    when: str = "before"
    """before, half (of a write) or after."""

    def __str__(self):
        return f"{self.when} {self.pattern} ({self.number})"


def exactly(change, number, when):
    """Return the point at the n-th occurrence of a change; names that differ between two runs match any such name."""
    return Point(pattern=f"^{anonymous(change)}$", number=number, when=when)


def anonymous(change):
    """Return a pattern of a change in which digests and random tokens match any other."""
    return re.sub(r"(?<![0-9a-z])[0-9a-f]{8,64}(?![0-9a-z])", "[0-9a-f]+", re.escape(change).replace(r"\-", "-"))


class HookedJob:
    """A running command, the leader of its own process group; with `stop`, it waits at that point."""

    def __init__(
        self,
        *arguments,
        roots: Sequence[str | Path],
        scratch: Path,
        stop: Point | None = None,
        freeze: bool = False,
        slow_s: float = 0.0,
        environment: Mapping[str, str] | None = None,
        module: str = "fsf_core.cli",
        forked: bool = False,
    ):
        """Start a command.

        Args:
            arguments: of the module.
            roots: folders or s3:// prefixes to watch.
            scratch: folder for the job's notes and output.
            stop: where to stop; nowhere by default.
            freeze: stop the process that gets there with SIGSTOP, all its threads, until SIGCONT; by default one
                thread waits for `go_on`.
            slow_s: seconds to sleep before every change.
            environment: further variables.
            module: what `python -m` runs.
            forked: fork a process that has imported the libraries, which saves 2 s of CPU.
        """
        self.notes = Path(tempfile.mkdtemp(prefix="job-", dir=scratch))
        settings = {"roots": [str(root) for root in roots], "freeze": freeze, "slow_s": slow_s}
        if stop:
            settings |= {"pattern": stop.pattern, "number": stop.number, "when": stop.when}
        (self.notes / "settings.json").write_text(json.dumps(settings))
        paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {**(environment or {}), "CRASH_DIR": str(self.notes), "PYTHONPATH": ":".join(paths)}
        words = [*map(str, arguments)]
        self.process = (_Forked if forked else _Started)(module, words, variables, self.notes / "output")
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def family(self) -> list[psutil.Process]:
        """Return the descendants that are alive, including those that were seen earlier and lost their parent."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family |= {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
        return [child for child in self._family.values() if _runs(child)]

    def reached(self, *, timeout_s=120.0) -> str | None:
        """Wait until the job stops at its point; return the process id and the change, None if it ends before."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            with contextlib.suppress(FileNotFoundError):
                reached = (self.notes / "reached").read_text()
                self.family()
                return reached
            if ended:
                return None
            time.sleep(0.01)
        raise TimeoutError(f"the job neither ended nor got to its point within {timeout_s:g} s: {self.output()}")

    def stopped_process(self) -> int:
        """Return the id of the process that waits at the point."""
        return int((self.notes / "reached").read_text().partition(" ")[0])

    def go_on(self) -> None:
        """Let the job go on from its point; a frozen process needs `signal_all(SIGCONT)` instead."""
        (self.notes / "go").touch()

    def signal_all(self, number: int) -> None:
        """Send a signal to the driver and to all its descendants: SIGSTOP freezes a whole machine."""
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)

    def kill(self) -> None:
        """Kill (-9) all processes of the job, and wait until they are gone."""
        self.family()
        self.signal_all(signal.SIGKILL)
        self.process.wait()
        self.signal_all(signal.SIGKILL)  # started in the meantime
        psutil.wait_procs(self._family.values(), timeout=30)

    def wait(self, *, timeout_s=300.0) -> tuple[int, str]:
        """Wait for the end; return the exit code and the output."""
        listed = time.monotonic()
        deadline = listed + timeout_s
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the job did not end within {timeout_s:g} s: {self.output()}")
            if (now := time.monotonic()) - listed > 0.5:  # listing all processes is slow
                self.family()
                listed = now
            time.sleep(0.01)
        return self.process.returncode, self.output()

    def output(self) -> str:
        """Return what the job has printed so far."""
        return (self.notes / "output").read_text(errors="replace")

    def changes(self) -> list[str]:
        """Return the changes so far, in order, without the ids of the processes."""
        return [line.partition(" ")[2] for line in self.log()]

    def log(self) -> list[str]:
        """Return the changes so far, each after the id of its process."""
        try:
            return (self.notes / "changes").read_text().splitlines()
        except FileNotFoundError:
            return []


class _Started(subprocess.Popen):
    """A command as a new process."""

    def __init__(self, module, arguments, environment, output):
        with output.open("wb") as file:
            super().__init__(
                [sys.executable, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **environment},
            )  # fmt: skip


class _Forked:
    """A command as a fork of a process that has imported the libraries; it is used like a subprocess.Popen."""

    def __init__(self, module, arguments, environment, output):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "fsf_core.cli.app", *PRELOADED])
        self._process = context.Process(target=_run_forked, args=(module, arguments, environment, str(output)))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def _run_forked(module, arguments, environment, output):
    os.setsid()
    os.chdir(ROOT)
    os.environ.update(environment)
    descriptors = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number, descriptor in zip((0, 1, 2), (descriptors[0], descriptors[1], descriptors[1]), strict=True):
        os.dup2(descriptor, number)
    hook.install_from(environment["CRASH_DIR"])
    sys.argv = [module, *arguments]
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "r" if number == 0 else "w") for number in (0, 1, 2))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def points_of(changes: Iterable[str]) -> list[Point]:
    """Return all points of a recorded job, in order: before and after every change, in the middle of every write."""
    seen: dict[str, int] = {}
    points = []
    for change in changes:
        key = anonymous(change)
        seen[key] = seen.get(key, 0) + 1
        positions = ("half",) if change.startswith("write ") else ("before", "after")
        points += [exactly(change, seen[key], when) for when in positions]
    return points


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
