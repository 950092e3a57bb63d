"""A series of nights, without Ray: a night, and a prune, that end at any of their changes, and the same command again.

    python -m tests.crash.nights                      every point, on a disk in memory
    python -m tests.crash.nights --points 20          20 points of each, drawn from a seed
    python -m tests.crash.nights --store --points 40  in an S3 store, at its requests

For every point a child process runs the command and ends (os._exit) before a change, or with half of a write done;
another one runs the same command to its end, which must give the series of the unbroken command. Before every change
in every process the runs are read: a stranger finds each of them whole or without `_SUCCESS`, `open_run` reads whole
tables or refuses, and the pointer leads to a finished run. Prints every problem; exits with 1 if there is any.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsf_core import open_run, runs
from fsf_core.errors import OutputError, RunError
from fsf_core.nights.prune import prune
from fsf_core.nights.series import series_of
from fsf_core.runs import removal
from tests.crash import ledger as single
from tests.crash.hook import sitecustomize as hook
from tests.crash.readers import State, WrongInstantError, finished_state
from tests.support import ledger as made
from tests.support.series import make_run

TODAY = dt.datetime.now(dt.UTC).date()
ROWS = 1
"""Rows of masks of every run."""


def day(age: int) -> str:
    """Return the name of a night."""
    return str(TODAY - dt.timedelta(days=age))


def start(root: Path) -> None:
    """Make a series with nights to remove, to keep, one that is reused, and one that is unfinished."""
    for age in (2, 40, 41, 42):
        make_run(f"{root}/{day(age)}")
    reused = json.loads((root / day(41) / "run.json").read_text())["run_id"]
    make_run(f"{root}/{day(1)}", finished=False, details={"reuse": {"run": "elsewhere", "run_id": reused}})
    series = series_of(f"{root}/{{date}}")
    assert series
    series.advance()


def night(root: str) -> None:
    """Score a night as the job does, and move the pointer."""
    series = series_of(f"{root}/{{date}}")
    assert series
    with series.locked():
        uri = f"{root}/{day(0)}"
        fingerprint = {"classes": list(made.CLASSES), "palette": [[0, 0, 0], [1, 2, 3]]}
        with runs.lock_run(uri, fingerprint=fingerprint) as lease:
            attempt = runs.begin_attempt(uri, lease, fingerprint=fingerprint, details={})
            series.advance()
            done = runs.find_completed(runs.load_ledger(uri))
            if not done.holds(single.made_keys([made.image("a")]))[0]:
                made.commit(attempt, made.image("a"))
            made.publish(attempt, {"items": {"total": 1}, "frames": 1})
            series.advance()


def remove_old(root: str) -> None:
    """Remove what is older than 30 days."""
    prune(root, keep="30d", keep_last=None)


COMMANDS: dict[str, Callable[[str], None]] = {"night": night, "prune": remove_old}


@dataclass(kw_only=True)
class Outcome:
    """What a child process reports."""

    code: int
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reads: int = 0
    trace: str = ""


class Ending:
    """Reads the series before every change of a process, and ends the process at one of them."""

    def __init__(self, folder: "single.Disk | single.Bucket", *, at: int, when: str, whole: State):
        self.settings = hook.Settings(roots=[folder.uri], when=when)
        self.folder, self.at, self.whole = folder, at, whole
        self.changes: list[str] = []
        self.problems: list[str] = []
        self.reads = 0
        self.crash: Callable[[], None] = lambda: None
        self._lock, self._seen, self._runs = threading.RLock(), set[Any](), set[Any]()

    def begin(self, change: str) -> bool:
        """Note a change and read the series before it; returns whether the process ends within or after it."""
        with self._lock:
            self.read(change)
            self.changes.append(change)
            due = len(self.changes) == self.at
            if due and self.settings.when == "before":
                self.crash()
            return due

    def stop(self, change: str) -> None:
        """End the process."""
        del change
        self.crash()

    def read(self, change: str) -> None:
        """Read every run, and the pointer, unless nothing has changed since the last time."""
        signature = self.folder.signature()
        if signature in self._seen:
            return
        self._seen.add(signature)
        self.reads += 1
        self.problems += [
            f"before {change}: {each}" for each in problems_of(self.folder.local(), self.whole, self._runs)
        ]


def problems_of(root: Path, whole: State, seen: set[Any]) -> list[str]:
    """Return what a reader of a series sees at this instant that none may see.

    Args:
        root: a local folder.
        whole: what every finished run holds.
        seen: the states of folders of runs that were read already.
    """
    found = []
    for path in sorted(root.iterdir()) if root.exists() else ():
        state = tuple(sorted((str(each), each.stat().st_mtime_ns) for each in path.rglob("*")))
        if path.is_dir() and not path.name.startswith(".") and state not in seen:
            seen.add(state)
            found += [f"{path.name}: {problem}" for problem in _problems_of_run(path, whole)]
    try:
        newest = Path(runs.find_run(str(root / "latest")))
    except OutputError as error:
        return [*found, f"latest: {error}"]
    if newest.name not in {day(0), day(2), "latest"}:
        found.append(f"latest names {newest.name}")
    return found


def _problems_of_run(path: Path, whole: State) -> Iterator[str]:
    try:
        state = finished_state(path)
    except WrongInstantError as error:
        yield str(error)
        return
    if state is not None and state != whole:
        yield f"found {state}, expected {whole}"
    try:
        rows = open_run(str(path)).masks(columns=["item_id"]).num_rows
    except RunError as error:
        if not re.search("is being removed by|holds no run", str(error)):
            yield f"no clear refusal: {error}"
        return
    if rows != ROWS and (path / "manifest.json").exists():
        yield f"open_run reads {rows} rows"


class Bench:
    """Runs a command in child processes."""

    def __init__(self, folder: "single.Disk | single.Bucket", scratch: Path, command: str):
        self.folder, self.command = folder, COMMANDS[command]
        self.origin = scratch / "origin"
        start(self.origin)
        self.whole = finished_state(self.origin / day(2))
        assert self.whole is not None
        self.reads = 0
        self.restore()
        self.unbroken = self.run()
        self.truth = content(folder.local())

    def restore(self) -> None:
        """Bring the series into the starting state."""
        self.folder.restore(self.origin)

    def run(self, *, at: int = 0, when: str = "before") -> Outcome:
        """Run the command in a child process, to its end or to a point."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reading)
            self._work(writing, at=at, when=when)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        outcome: Outcome = pickle.loads(data)  # noqa: S301 - from our own child
        self.reads += outcome.reads
        return outcome

    def _work(self, writing: int, *, at: int, when: str) -> None:
        """Run the command, report, and end this process."""
        assert self.whole is not None
        watch = Ending(self.folder, at=at, when=when, whole=self.whole)

        def end(code: int, trace: str = "") -> None:
            with os.fdopen(writing, "wb") as pipe:
                found = Outcome(
                    code=code, changes=watch.changes, problems=watch.problems, reads=watch.reads, trace=trace
                )  # fmt: skip
                pickle.dump(found, pipe)
            os._exit(code)

        watch.crash = lambda: end(single.CRASHED)
        hook.install(watch)
        try:
            self.command(self.folder.uri)
            watch.read("the end")
        except BaseException:  # noqa: BLE001 - reported to the parent
            end(1, traceback.format_exc())
        end(0)

    def judge(self, name: str, *outcomes: Outcome) -> list[str]:
        """Return the problems of processes of which the last one ran to the end."""
        found = [f"{name}: {problem}" for outcome in outcomes for problem in outcome.problems]
        found += [f"{name}: {each.trace}" for each in outcomes if each.code not in {0, single.CRASHED}]
        if not found and content(self.folder.local()) != self.truth:
            found.append(f"{name}: found {content(self.folder.local())}, expected {self.truth}")
        return found


def content(root: Path) -> dict[str, Any]:
    """Return what a series holds: rows of the runs, the run that the pointer names, and everything that is hidden."""
    found: dict[str, Any] = {"latest": json.loads((root / "latest.json").read_text())["run"]}
    for path in sorted(root.iterdir()):
        if path.is_dir() and not (path / "run.json").exists() and not path.name.startswith("."):
            found[path.name] = sorted(each.name for each in path.rglob("*"))
        elif path.is_dir() and not path.name.startswith("."):
            finished = runs.is_finished(str(path))
            problems = runs.verify(str(path)) if finished else []
            found[path.name] = (finished, open_run(str(path)).masks().num_rows, problems)
    names = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    hidden = (name for name in names if "/." in f"/{name}")
    left = [name for name in hidden if not name.rpartition("/")[2].startswith((".lock", ".lease-"))]
    found["hidden"] = sorted(re.sub(r"\.attempt-\d+", ".attempt", re.sub(r"-\d{4}\.\w+\.", ".", name)) for name in left)
    return found


def crash_command(
    folder: "single.Disk | single.Bucket", scratch: Path, command: str, *, points: str, rng: random.Random
) -> tuple[Bench, int, list[str]]:
    """End a command at the chosen points; returns its bench, the number of kills, and the problems."""
    bench = Bench(folder, scratch, command)
    problems = bench.judge("unbroken", bench.unbroken)
    chosen = [
        (number, when)
        for number, change in enumerate(bench.unbroken.changes, 1)
        for when in folder.positions
        if when != "half" or change.startswith("write ")
    ]
    chosen = chosen if points == "all" else rng.sample(chosen, min(int(points), len(chosen)))
    for number, when in chosen:
        bench.restore()
        crashed, last = bench.run(at=number, when=when), bench.run()
        problems += bench.judge(f"{when} {number} ({bench.unbroken.changes[number - 1]})", crashed, last)
    return bench, len(chosen), problems


def main() -> int:
    """Crash the chosen commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default=",".join(COMMANDS), help="commands (default: all)")
    parser.add_argument("--points", default="all", help="all, or a number for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sabotage", action="store_true", help="delete runs where they are: there must be problems")
    parser.add_argument("--store", action="store_true", help="in an S3 store on this machine instead of a disk")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # so that no folder and no server is left
    if options.sabotage:
        removal.withdraw = lambda root, path, **_: shutil.rmtree(f"{root}/{path}")  # type: ignore[assignment, return-value, misc] # a fault
    rng = random.Random(options.seed)  # noqa: S311 - reproducible, not secret
    wrong = 0
    print(f"{'command':12}{'changes':>9}{'kills':>7}{'reads':>7}{'problems':>10}{'seconds':>9}")
    with contextlib.ExitStack() as stack:
        bucket = single.start_store(stack) if options.store else None
        for command in options.commands.split(","):
            began = time.monotonic()
            scratch = stack.enter_context(single.memory_folder())
            folder = single.Bucket(bucket, scratch) if bucket else single.Disk(scratch)
            bench, kills, problems = crash_command(folder, scratch, command, points=options.points, rng=rng)
            for problem in problems:
                print(f"  {problem}", flush=True)
            wrong += len(problems)
            print(
                f"{command:12}{len(bench.unbroken.changes):9}{kills:7}{bench.reads:7}{len(problems):10}"
                f"{time.monotonic() - began:9.1f}",
                flush=True,
            )
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
