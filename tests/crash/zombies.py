"""Jobs that are paused before a change of a file, and wake up while or after another job finishes their run.

    python -m tests.crash.zombies                               runs on a disk, one point of each kind of change
    python -m tests.crash.zombies --store s3                    in a bucket of SeaweedFS
    python -m tests.crash.zombies --runs new,compact --points manifest.json _SUCCESS --wake after

A job is stopped with SIGSTOP, driver and workers, before it makes a change. The same command with other sizes of parts
takes its run over: on a disk after `.lock` was deleted, in a bucket after the lease has run out. The sleeper is woken
while its successor is about to publish, or after it has ended. A reader polls the run all the time (see readers.py).

Right: the sleeper ends with exit code 75 and a reason, or, if all that it had left to do was to tidy up, with 0. Woken
after its successor, it changes no byte of the run. The run equals that of an undisturbed job, `fsf verify` finds
nothing, and the same command again finds nothing to score. Prints every problem and a line per kind of run; exits
with 1 if there is any.
"""

import argparse
import contextlib
import hashlib
import io
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsf_core import storage
from fsf_core.cli import verify
from fsf_core.errors import FSFError
from fsf_core.storage.filesystems import filesystem_of
from tests.crash.hooked import HookedJob, Point, anonymous
from tests.crash.jobs import KEEP, PART_UNITS, RUNS, Run, Workshop, scratch_folder
from tests.crash.readers import Poll, State, WrongInstantError, finished_state, leftovers, problem_of
from tests.support import stores

MODULE = "tests.crash.short_lease"
EXIT_LOST = 75
WAKES = ("during", "after")
DEFAULT_RUNS = ("new", "retry", "compact", "score-render", "render-again")
OTHER_PART_UNITS = 3
TO_PUBLISH = Point(pattern=r"(^put | -> )manifest\.json$", when="before")
"""Where a successor waits while the sleeper is woken."""

NO_POINTS = re.compile(r"(^| )\.(lock|write-check)$|^(mkdir|rmdir|create|write) ")
"""Changes by jobs that do not hold the run yet, of empty folders, and of drafts before they get their names."""

_POLL_PAUSE_S = 0.3


class Disk:
    """Runs on this machine's disk."""

    def __init__(self, workshop: Workshop):
        """Use the workshop's own folder for runs."""
        self.workshop = workshop
        self.root = str(workshop.out)

    def restore(self, run: Run) -> None:
        """Bring the run into the starting state of a kind of run."""
        self.workshop.restore(run)

    def release(self) -> None:
        """Make a successor possible while the holder sleeps."""
        (self.workshop.out / ".lock").unlink(missing_ok=True)

    def command(self, run: Run) -> list[str]:
        """Return the command of a kind of run."""
        return self.workshop.command(run)

    def local(self) -> Path:
        """Return a folder with the content of the run."""
        return self.workshop.out

    @contextlib.contextmanager
    def polled(self, allowed: Sequence[State]) -> Iterator[list[str]]:
        """Poll the run for as long as the block lasts; yields the problems that a reader of it met."""
        with Poll(self.workshop.out, allowed).running() as poll:
            yield poll.problems

    def leftovers(self) -> list[str]:
        """Return hidden files that a finished run should not have."""
        return leftovers(self.workshop.out)


class Bucket:
    """Runs in a bucket; every one has a prefix of its own, so that no late request of one is seen in another."""

    def __init__(self, workshop: Workshop, bucket: str):
        """Use a bucket that this process can read and write."""
        self.workshop, self.bucket, self._count = workshop, bucket, 0
        self.root = ""

    def restore(self, run: Run) -> None:
        """Copy the starting state of a kind of run to a new prefix."""
        self.workshop.restore(run)
        self._count += 1
        self.root = storage.join(self.bucket, f"run-{self._count}")
        for entry in storage.list_files(str(self.workshop.out)) if self.workshop.out.exists() else ():
            storage.write_bytes(storage.join(self.root, entry.relative), storage.read_bytes(entry.uri))

    def release(self) -> None:
        """Leave the lease to run out."""

    def command(self, run: Run) -> list[str]:
        """Return the command of a kind of run."""
        return [self.root if word == str(self.workshop.out) else word for word in self.workshop.command(run)]

    def local(self) -> Path:
        """Return a folder with a copy of the run."""
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self.workshop.scratch))
        self._copy(folder)
        return folder

    @contextlib.contextmanager
    def polled(self, allowed: Sequence[State]) -> Iterator[list[str]]:
        """Poll the run for as long as the block lasts; yields the problems that a reader of it met."""
        problems: list[str] = []
        ended = threading.Event()
        thread = threading.Thread(target=self._poll, args=(allowed, problems, ended))
        thread.start()
        try:
            yield problems
        finally:
            ended.set()
            thread.join()

    def leftovers(self) -> list[str]:
        """Return hidden objects that a finished run should not have; late files of an attempt are no part of it."""
        hidden = (
            entry.relative for entry in storage.list_files(self.root, hidden=True) if "/." in f"/{entry.relative}"
        )
        return [name for name in hidden if not name.startswith((".lease-", ".attempt-"))]

    def _poll(self, allowed: Sequence[State], problems: list[str], ended: threading.Event) -> None:
        while not ended.wait(_POLL_PAUSE_S):
            before = self._mark()
            if before is None:
                continue
            with tempfile.TemporaryDirectory(dir=self.workshop.scratch) as folder:
                try:
                    self._copy(Path(folder))
                    problem = problem_of(Path(folder), allowed)
                except (FSFError, OSError, WrongInstantError) as error:  # a problem only where the mark stays
                    problem = f"{type(error).__name__}: {error}"
            if problem and problem not in problems and self._mark() == before:
                problems.append(problem)

    def _mark(self) -> str | None:
        """Return what tells one `_SUCCESS` from another; all are empty, and times have seconds."""
        marks = [storage.join(self.root, name) for name in ("_SUCCESS", "summary.json")]
        try:
            facts = [filesystem_of(uri).info(uri) for uri in marks]
        except FileNotFoundError:
            return None
        return repr([(each["ETag"], each["LastModified"]) for each in facts])

    def _copy(self, folder: Path) -> None:
        for entry in storage.list_files(self.root):
            path = folder / entry.relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read_bytes(entry.uri))


@dataclass(kw_only=True)
class Tally:
    """What the sleepers of one kind of run showed."""

    cases: int = 0
    not_reached: int = 0
    problems: list[str] = field(default_factory=list)
    wake_s: float = 0.0
    """Longest time from waking to the end."""


class Drill:
    """The undisturbed job of one kind of run, and jobs that sleep at its points."""

    def __init__(self, place: Disk | Bucket, run: Run, report: Callable[[str], None]):
        """Run the undisturbed job."""
        self.place, self.run, self.report, self.tally = place, run, report, Tally()
        place.restore(run)
        before = finished_state(place.local())
        with self._job() as job:
            code, output = job.wait()
            assert code == 0, output
            self.changes = job.changes()
        truth = finished_state(place.local())
        assert truth
        self.truth = truth
        self.allowed = [truth] if before is None else [before, truth]

    def points(self, patterns: Sequence[str]) -> list[Point]:
        """Return a point before the last change of every kind, or of those whose text matches a pattern."""
        last: dict[str, Point] = {}
        seen: dict[str, int] = {}
        for change in self.changes:
            pattern = f"^{anonymous(change)}$"
            seen[pattern] = seen.get(pattern, 0) + 1
            if NO_POINTS.search(change) or (patterns and not any(re.search(each, change) for each in patterns)):
                continue
            last[_kind(change)] = Point(pattern=pattern, number=seen[pattern], when="before")
        return list(last.values())

    def sleep(self, point: Point, wake: str) -> None:
        """Stop a job at a point, let another one take its run over, wake it, and compare."""
        self.tally.cases += 1
        name = f"{point}, woken {wake}"
        self.place.restore(self.run)
        with self.place.polled(self.allowed) as seen, self._job(stop=point) as sleeper:
            if sleeper.reached() is None:
                self.tally.not_reached += 1
                return
            # The last change is the one that it has not made yet.
            complete = any(re.search(r"(^put | -> )_SUCCESS$", change) for change in sleeper.changes()[:-1])
            sleeper.signal_all(signal.SIGSTOP)
            self.place.release()
            with self._job(stop=TO_PUBLISH if wake == "during" else None, part_units=OTHER_PART_UNITS) as successor:
                published = wake == "during" and successor.reached() is not None
                if published:
                    ended = self._wake(sleeper)
                    successor.go_on()
                code, output = successor.wait()
            if code:
                self._note(f"{name}: the successor ended with exit code {code}: {_last(output)}")
            after = self._snapshot()
            if not published:
                ended = self._wake(sleeper)
        for problem in seen:
            self._note(f"{name}: a reader found: {problem}")
        code, output = ended
        lost = code == EXIT_LOST and "LeaseLostError: " in output and "took it over" in output
        if not lost and not (complete and code == 0):
            self._note(f"{name}: the sleeper ended with exit code {code}: {_last(output)}")
        if changed := _differences(after, self._snapshot()):
            self._note(f"{name}: after the successor had ended, {', '.join(changed)} changed")
        self._judge(name)

    def _wake(self, sleeper: HookedJob) -> tuple[int, str]:
        began = time.monotonic()
        sleeper.go_on()
        sleeper.signal_all(signal.SIGCONT)
        ended = sleeper.wait()
        self.tally.wake_s = max(self.tally.wake_s, time.monotonic() - began)
        return ended

    def _judge(self, name: str) -> None:
        """Report what is wrong with the run, and with what the same command makes of it."""
        self._require_whole(name)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = verify.run(self.place.root, repair=False)
        if code:
            self._note(f"{name}: fsf verify: {printed.getvalue().splitlines()[0]}")
        before = self._snapshot()
        with self._job(keep_failures=True) as job:
            code, output = job.wait()
        documents = ("run.json", "summary.json", "manifest.json", "_SUCCESS")
        changed = [path for path in _differences(before, self._snapshot()) if path not in documents]
        if code or changed:
            self._note(f"{name}: the same command again: exit code {code}, {changed or _last(output)}")
        self._require_whole(f"{name}, the same command again")

    def _require_whole(self, name: str) -> None:
        """Report how the run differs from the undisturbed one."""
        folder = self.place.local()
        if not (folder / "_SUCCESS").exists():
            self._note(f"{name}: no _SUCCESS")
        if problem := problem_of(folder, [self.truth]):
            self._note(f"{name}: {problem}")
        if left := self.place.leftovers():
            self._note(f"{name}: left behind: {', '.join(left)}")

    def _snapshot(self) -> dict[str, str]:
        """Return the digest of every visible file of the run."""
        folder = self.place.local()
        paths = [path for path in folder.rglob("*") if path.is_file()]
        names = {path: path.relative_to(folder).as_posix() for path in paths}
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path, name in names.items()
            if not any(part.startswith(".") for part in name.split("/"))
        }

    def _job(
        self, *, stop: Point | None = None, part_units: int = PART_UNITS, keep_failures: bool = False
    ) -> HookedJob:
        words = self.place.command(self.run)
        if keep_failures and words[0] == "score" and KEEP not in words:
            words.append(KEEP)
        if "--part-units" in words:
            words[words.index("--part-units") + 1] = str(part_units)
        workshop = self.place.workshop
        return HookedJob(
            *words, roots=[self.place.root], scratch=workshop.scratch, stop=stop, module=MODULE, forked=True,
            environment=workshop.environment,
        )  # fmt: skip

    def _note(self, problem: str) -> None:
        self.tally.problems.append(problem)
        self.report(problem)


@contextlib.contextmanager
def open_place(store: str, *, bundle: str | None = None) -> Iterator[Disk | Bucket]:
    """Prepare a place for runs: disk or s3.

    Args:
        store: its name.
        bundle: the model; made if there is none.
    """
    with scratch_folder() as scratch, contextlib.ExitStack() as stack:
        workshop = Workshop(scratch, bundle=bundle, module=MODULE)
        if store == "disk":
            yield Disk(workshop)
            return
        server = scratch / "server"
        server.mkdir()
        running = stack.enter_context(stores.seaweed(server))
        before = dict(os.environ)
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(running.environment)
        workshop.environment |= running.environment  # of jobs that are forked from an older process
        yield Bucket(workshop, running.bucket)


def _kind(change: str) -> str:
    """Return a change without the names that digests and numbers make different."""
    return re.sub(r"\d+", "N", re.sub(r"[^/ ]*[0-9a-f]{8,}[^/ ]*?(\.[a-z0-9]+)?(?= |$)", r"*\1", change))


def _differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))


def _last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:300] if lines else "nothing printed"


def main() -> int:
    """Run the drills; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("disk", "s3"), default="disk")
    parser.add_argument("--runs", default=",".join(DEFAULT_RUNS), help=f"some of {', '.join(RUNS)}")
    parser.add_argument("--points", nargs="*", default=[], help="regular expressions of changes (default: all kinds)")
    parser.add_argument("--wake", choices=WAKES, help="when the sleeper is woken (default: both)")
    parser.add_argument("--list", action="store_true", help="print the points instead")
    options = parser.parse_args()
    wrong = 0
    print(f"{'run':14}{'cases':>8}{'reached':>9}{'problems':>10}{'wake_s':>8}{'seconds':>9}")
    with open_place(options.store) as place:
        for name in options.runs.split(","):
            began = time.monotonic()
            drill = Drill(place, RUNS[name], lambda problem: print(f"  {problem}", flush=True))
            points = drill.points(options.points)
            if options.list:
                print("\n".join(map(str, points)))
                continue
            for point in points:
                for wake in [options.wake] if options.wake else WAKES:
                    print(f"{name}: {point}, woken {wake}", file=sys.stderr, flush=True)
                    drill.sleep(point, wake)
            tally = drill.tally
            wrong += len(tally.problems)
            print(
                f"{name:14}{tally.cases:8}{tally.cases - tally.not_reached:9}{len(tally.problems):10}"
                f"{tally.wake_s:8.1f}{time.monotonic() - began:9.0f}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.exit(main())
