"""The ledger alone, without Ray: a miniature job that ends at any of its changes, and the job that follows it.

    python -m tests.crash.ledger                        every point of every job, on a disk in memory
    python -m tests.crash.ledger --double 500           then 500 pairs of crashes: the second in the recovery
    python -m tests.crash.ledger --points published     the points at changes of files that readers see
    python -m tests.crash.ledger --store --points 40    40 points of each job in an S3 store, at its requests

The miniature jobs call what the score job calls, on made-up rows. For every point a child process runs the job and ends
(os._exit) before a change, with half of a write done, or after it; another one runs the same job to its end. The result
must equal that of the unbroken job, `fsf verify` must find nothing, and nothing may be left behind. Before every change
in every process the run is read as a stranger reads it (see readers.py): while it has `_SUCCESS`, it must be as before
or as after the job. Prints every problem, and a line per job; exits with 1 if there is any.
"""

import argparse
import contextlib
import importlib
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session

from fsf_core import render, runs, storage
from fsf_core.errors import DamagedPartError
from fsf_core.keys import item_key
from fsf_core.runs import video_stats
from fsf_core.runs.compaction import compact
from tests.crash.hook import sitecustomize as hook
from tests.crash.readers import State, WrongInstantError, finished_state, leftovers, state_of
from tests.crash.sabotaged import keep_the_mark
from tests.support import clips, rendered_runs, stores
from tests.support import ledger as made
from tests.support.ledger import ScoredUnit, broken, image, video

CRASHED = 41
FINGERPRINT = {"bundle_sha256": "ab" * 32, "classes": list(made.CLASSES)}
PART_UNITS = 2
BOTH, TARGET_BYTES = 2, 1 << 20


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a miniature job is given."""

    units: tuple[ScoredUnit, ...]
    keep_failures: bool = False
    compact: bool = False
    overlapping: bool = False
    """Whether each unit is committed in two parts, as tasks do that are tried twice in other compositions."""
    repair: bool = False
    """Whether `fsf verify --repair` runs before it."""
    style: render.RenderStyle | None = None
    """With it, the video is rendered."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job, and the run it starts from."""

    job: Job
    before: Callable[[Path], object] | None = None
    """Writes the run, a local folder, that the job starts from; none for a new run."""
    damaged: bool = False
    """Whether a reader finds that run damaged, and is not asked."""


FAILED = broken(image("b"))
MIXED = (image("a"), FAILED, *video("clip", 2, 1), image("c"))
REPAIRED = tuple(image("b") if unit is FAILED else unit for unit in MIXED)


def finished(run: Path) -> None:
    """Score the mixed units."""
    run_job(str(run), Job(units=MIXED))


def without_a_mask(run: Path) -> None:
    """Score the mixed units, and lose a file."""
    finished(run)
    min((run / "masks").glob("*.parquet")).unlink()


def rotten(run: Path) -> None:
    """Score the mixed units, and flip a bit of a mask."""
    finished(run)
    path = max((run / "masks").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89PNG") + 20] ^= 1
    path.write_bytes(data)


def layout_1(run: Path) -> None:
    """Unpack a run that an older version wrote: parts directly in the folders of their tables."""
    with tarfile.open(Path(__file__).parents[1] / "golden" / "layout_1.tar.gz") as archive:
        archive.extractall(run.parent / "layout 1", filter="data")
    found = next(path.parent for path in (run.parent / "layout 1").rglob("run.json"))
    shutil.copytree(found, run)


def rendered(run: Path) -> None:
    """Score a real video, and render it."""
    source = run.parent / "clip.mp4"
    if not source.exists():
        source.write_bytes(clips.clip(frames=4, width_px=48, height_px=32))
    rendered_runs.finished(run, source)
    run_job(str(run), Job(units=(), keep_failures=True, style=rendered_runs.look()))


CASES = {
    "new": Case(job=Job(units=MIXED)),
    "retry": Case(before=finished, job=Job(units=REPAIRED)),
    "fail-again": Case(before=finished, job=Job(units=MIXED)),
    "grow": Case(before=finished, job=Job(units=(*MIXED, image("d"), image("e")), keep_failures=True)),
    "publish": Case(before=finished, job=Job(units=MIXED, keep_failures=True)),
    "compact": Case(before=finished, job=Job(units=MIXED, keep_failures=True, compact=True)),
    "new-compact": Case(job=Job(units=MIXED, compact=True)),
    "tried-twice": Case(job=Job(units=MIXED, overlapping=True)),
    "render": Case(before=rendered, job=Job(units=(), style=rendered_runs.look(style="blend"))),
    "lost": Case(before=without_a_mask, damaged=True, job=Job(units=MIXED, keep_failures=True)),
    "rotten": Case(before=rotten, damaged=True, job=Job(units=MIXED, keep_failures=True, compact=True)),
    "repair": Case(before=rotten, damaged=True, job=Job(units=MIXED, keep_failures=True, repair=True)),
    "layout-1": Case(before=layout_1, job=Job(units=(), keep_failures=True)),
}


def run_job(uri: str, job: Job) -> None:
    """Do what the score job does: resume, score, reconcile, publish."""
    known = storage.exists(storage.join(uri, "run.json"))
    if job.repair and known:
        runs.repair(uri, render.derived_videos)
    fingerprint = runs.read_fingerprint(uri) if known else FINGERPRINT
    with runs.lock_run(uri, fingerprint=fingerprint) as lease:
        done = runs.find_completed(_load(uri, job, before=runs.ALL_FAILURES))
        attempt = runs.begin_attempt(uri, lease, fingerprint=fingerprint, details={})
        _score(attempt, job, done)
        loaded, removed = _settle(attempt, job)
        if job.style:
            _render(attempt, loaded, job.style)
        derived = [*video_stats.write_video_stats(attempt.staging, loaded)]
        derived += render.derived_videos(loaded, look=job.style)
        items = {"total": len(runs.find_completed(loaded).items)}
        runs.publish(attempt, loaded, {"items": items, "removed": removed}, derived=derived)


def _render(attempt: runs.Attempt, loaded: runs.Ledger, style: render.RenderStyle) -> None:
    """Render the videos that are not rendered in this style."""
    ready = {found.video.item_id for found in render.up_to_date(loaded, look=style)}
    for item in {*render.video_item_ids(loaded)} - ready:
        spans = render.locate_frames(loaded, [item]).get(item, ())
        plan = render.plan_render(attempt.staging, item, spans, style)
        for pieces in plan.tasks():
            render.encode_pieces(plan, pieces, heartbeat=lambda: None)
        render.assemble(plan)


def _load(uri: str, job: Job, *, before: int) -> runs.Ledger:
    loaded = runs.load_ledger(uri)
    loaded.retry_before = 0 if job.keep_failures else before
    return loaded


def _score(attempt: runs.Attempt, job: Job, done: runs.Completed) -> None:
    pending = [
        unit
        for unit in job.units
        if not done.holds(made_keys([unit]))[0] and unit.segment not in done.segments.get(item_key(unit.item_id), ())
    ]
    for start in range(0, len(pending), PART_UNITS - job.overlapping):
        block = pending[start : start + PART_UNITS]
        for failed in (False, True):
            if chosen := [unit for unit in block if unit.failed is failed]:
                made.commit(attempt, *chosen)


def made_keys(units: Sequence[ScoredUnit]) -> Any:
    """Return the item keys of units."""
    return runs.item_keys_of(_UnitRows(made.rows_of(units)))


@dataclass(frozen=True)
class _UnitRows:
    units: Any


def _settle(attempt: runs.Attempt, job: Job) -> tuple[runs.Ledger, dict[str, int]]:
    """Reconcile and compact, and score the units of damaged parts again."""
    damaged: set[str] = set()
    while True:
        loaded = _load(attempt.uri, job, before=attempt.number)
        for part in damaged:
            loaded.drop(part)
        try:
            removed = runs.reconcile(attempt.staging, loaded)
            if job.compact:
                compact(attempt.staging, loaded, target_bytes=TARGET_BYTES)
        except DamagedPartError as error:
            damaged.add(error.part)
            storage.remove(attempt.staging.uri(runs.receipt_path(error.part)))
            left = _load(attempt.uri, job, before=attempt.number)
            for part in damaged:
                left.drop(part)
            _score(attempt, job, runs.find_completed(left))
        else:
            return loaded, dict(removed)


class Ending:
    """The watch of a child process: reads the run at each of its changes, and ends the process at one of them."""

    def __init__(self, folder: "Disk | Bucket", *, at: int, when: str, allowed: Sequence[State] | None):
        """Watch.

        Args:
            folder: of the run.
            at: number of the change, from 1; 0 for none.
            when: before, half or after.
            allowed: what a reader of a finished run may see; None to not read it.
        """
        self.settings = hook.Settings(roots=[folder.uri], when=when)
        self.folder, self.at, self.allowed = folder, at, allowed
        self.changes: list[str] = []
        self.problems: list[str] = []
        self.reads = 0
        self.state: State | None = None
        """Of the last read."""
        self.crash: Callable[[], None] = lambda: None
        self._lock, self._seen = threading.RLock(), set[Any]()

    def begin(self, change: str) -> bool:
        """Note a change and read the run before it; returns whether the process ends within or after it."""
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
        """Read the run as a stranger does, if it is finished and has changed since the last read."""
        if self.allowed is None or not self.folder.is_finished():
            return
        signature = self.folder.signature()
        if signature in self._seen:
            return
        self._seen.add(signature)
        self.reads += 1
        self.state = None
        try:
            state = self.state = finished_state(self.folder.local())
        except WrongInstantError as error:
            self.problems.append(f"before {change}: {error}")
        else:
            if state is not None and state not in self.allowed:
                self.problems.append(f"before {change}: found {state}, expected {' or '.join(map(str, self.allowed))}")


class Disk:
    """A run on a disk."""

    positions = ("before", "half")
    """Where a process may end at a change; the state after it is that before the next."""

    def __init__(self, scratch: Path):
        self.path = scratch / "run"
        self.uri = str(self.path)

    def restore(self, source: Path | None) -> None:
        """Make the run a copy of a local folder, or nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if source:
            shutil.copytree(source, self.path)

    def is_finished(self) -> bool:
        """Return whether the run has its completion mark."""
        return (self.path / "_SUCCESS").exists()

    def signature(self) -> Any:
        """Return what changes with every change of a published file."""
        found = []
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                status = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - ten times as fast
                found.append((folder, name, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(sorted(found))

    def local(self) -> Path:
        """Return a local folder with the files of the run."""
        return self.path


class Bucket:
    """A run in a bucket; it is read and restored through botocore, by requests that are not watched."""

    positions = ("before", "after")

    def __init__(self, bucket: str, scratch: Path):
        self.bucket, self.prefix = bucket, f"{scratch.name}/run"
        self.uri = f"s3://{self.bucket}/{self.prefix}"
        self.path = scratch / "mirror"
        session = botocore.session.get_session()
        self._pid, self._own, self._of_children = os.getpid(), session.create_client("s3"), session.create_client("s3")

    @property
    def client(self) -> Any:
        """A client whose connections no other process has; making one takes 0.3 s of CPU."""
        return self._own if os.getpid() == self._pid else self._of_children

    def objects(self) -> dict[str, tuple[str, int, str]]:
        """Return etag, size and time of every object of the run by path."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return {
            each["Key"][len(self.prefix) + 1 :]: (each["ETag"], each["Size"], str(each["LastModified"]))
            for page in pages
            for each in page.get("Contents", ())
        }

    def restore(self, source: Path | None) -> None:
        """Make the run a copy of a local folder, or nothing."""
        for path in self.objects():
            self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}")
        for path in source.rglob("*") if source else ():
            if path.is_file():
                key = f"{self.prefix}/{path.relative_to(source)}"
                self.client.put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

    def is_finished(self) -> bool:
        """Return whether the run has its completion mark."""
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/_SUCCESS")
        return bool(found.get("KeyCount"))

    def signature(self) -> Any:
        """Return what changes with every change of a published object."""
        return tuple(sorted((path, *facts) for path, facts in self.objects().items() if not path.startswith(".")))

    def local(self) -> Path:
        """Return a local folder with the files of the run: what a reader of the bucket downloads."""
        shutil.rmtree(self.path, ignore_errors=True)
        for path in self.objects():
            target = self.path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}")["Body"].read())
        return self.path


@dataclass(kw_only=True)
class Outcome:
    """What a child process reports."""

    code: int
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Wrong instants."""
    reads: int = 0
    state: State | None = None
    """Of the finished run; None after a crash."""
    modules: list[str] = field(default_factory=list)
    """What the process has imported."""
    difference: str = ""
    """Why the end is wrong, apart from its state."""


class Bench:
    """Runs jobs of a case in child processes."""

    def __init__(self, folder: Disk | Bucket, scratch: Path, case: Case, *, sabotage: bool = False):
        """Make the starting state, and the unbroken run, twice: the second time with a reader."""
        self.folder, self.case, self.sabotage = folder, case, sabotage
        self.start = scratch / "start" / "run"
        self.reads = 0
        self.allowed: list[State] = []
        if case.before:
            self.start.parent.mkdir()
            self._expect(self._child(lambda _: case.before(self.start)))
            if not case.damaged:
                self.allowed.append(self._expect(self._child(lambda end: end(state=state_of(self.start)))).state)
        self.restore()
        self.truth = self._expect(self.run()).state
        self.allowed.append(self.truth)
        self.restore()
        self.unbroken = self.run(read=True)

    @staticmethod
    def _expect(outcome: Outcome) -> Any:
        if outcome.code or outcome.difference:
            sys.exit(f"an unbroken job ended with {outcome.code}: {outcome.difference}")
        return outcome

    def restore(self) -> None:
        """Bring the run into the starting state."""
        self.folder.restore(self.start if self.case.before else None)

    def points(self, changes: Sequence[str]) -> list[tuple[int, str]]:
        """Return all points of a process that made these changes."""
        found = [(number, when) for number in range(1, len(changes) + 1) for when in self.folder.positions]
        points = [
            (number, when) for number, when in found if when != "half" or changes[number - 1].startswith("write ")
        ]
        return points if "after" in self.folder.positions else [*points, (len(changes), "after")]

    def run(self, *, at: int = 0, when: str = "before", read: bool = False) -> Outcome:
        """Run the job in a child process, to its end or to a point.

        Args:
            at: number of the change to end at; 0 for none.
            when: before, half or after it.
            read: whether the run is read before every change.
        """
        watch = Ending(self.folder, at=at, when=when, allowed=self.allowed if read and not self.case.damaged else None)

        def work(end: Callable[..., None]) -> None:
            def report(**facts: Any) -> None:
                end(changes=watch.changes, problems=watch.problems, reads=watch.reads, **facts)

            watch.crash = lambda: report(code=CRASHED)
            if self.sabotage:
                keep_the_mark()
            hook.install(watch)
            try:
                run_job(self.folder.uri, self.case.job)
                watch.read("the end")
            except Exception:  # noqa: BLE001 - reported to the parent
                report(code=1, difference=traceback.format_exc())
            report(**self._end(watch.state))

        outcome = self._child(work)
        self.reads += outcome.reads
        return outcome

    def _child(self, work: Callable[[Callable[..., None]], object]) -> Outcome:
        """Call a function in a child process; it is given a function that reports and ends the process."""
        reading, writing = os.pipe()
        imported = {*sys.modules}
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reading)

            def end(*, code: int = 0, **facts: Any) -> None:
                modules = [] if code else [name for name in sys.modules if name not in imported]
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(Outcome(code=code, modules=modules, **facts), pipe)
                os._exit(code)

            try:
                work(end)
                end()
            except BaseException:  # noqa: BLE001 - reported to the parent
                end(code=1, difference=traceback.format_exc())
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        if not data:
            return Outcome(code=os.waitstatus_to_exitcode(status), difference="the process ended without a report")
        outcome: Outcome = pickle.loads(data)  # noqa: S301 - from our own child
        for name in outcome.modules:  # here, once, instead of in every child
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        return outcome

    def _end(self, known: State | None) -> dict[str, Any]:
        """Return state and problems of the finished run; the state may be known already."""
        uri, path = self.folder.uri, self.folder.local()
        problems = runs.verify(uri) + video_stats.verify(uri) + render.verify(uri)
        problems += [f"left behind: {name}" for name in leftovers(path)]
        if not self.folder.is_finished():
            problems.append("no _SUCCESS")
        return {"state": known or state_of(path), "difference": "; ".join(problems)}

    def judge(self, name: str, crashes: Sequence[Outcome], last: Outcome) -> list[str]:
        """Return the problems of processes that crashed, and of the one that ran to the end."""
        found = [f"{name}: {problem}" for outcome in (*crashes, last) for problem in outcome.problems]
        found += [f"{name}: {each.difference}" for each in crashes if each.code not in (0, CRASHED)]
        if last.code or last.difference:
            found.append(f"{name}: {last.difference}")
        elif last.state != self.truth:
            found.append(f"{name}: found {last.state}, expected {self.truth}")
        return found


def crash_case(
    bench: Bench, points: Sequence[tuple[int, str]], *, double: int, rng: random.Random
) -> Iterator[tuple[int, list[str]]]:
    """Crash a job at each point, and again in some of its recoveries; yield kills and problems."""
    recoveries: list[tuple[tuple[int, str], list[str]]] = []
    for number, when in points:
        bench.restore()
        crashed = bench.run(at=number, when=when, read=True)
        change = bench.unbroken.changes[number - 1] if number <= len(bench.unbroken.changes) else "?"
        last = bench.run(read=True)
        recoveries.append(((number, when), last.changes))
        yield 1, bench.judge(f"{when} {number} ({change})", [crashed], last)
    pairs = [(first, changes, point) for first, changes in recoveries for point in bench.points(changes)]
    for first, changes, second in rng.sample(pairs, min(double, len(pairs))):
        bench.restore()
        crashes = [bench.run(at=first[0], when=first[1]), bench.run(at=second[0], when=second[1], read=True)]
        change = changes[second[0] - 1] if second[0] <= len(changes) else "?"
        name = f"{first[1]} {first[0]}, then {second[1]} {second[0]} ({change})"
        yield BOTH, bench.judge(name, crashes, bench.run(read=True))


def chosen(
    points: Sequence[tuple[int, str]], changes: Sequence[str], which: str, rng: random.Random
) -> Sequence[tuple[int, str]]:
    """Return all points, a sample of a size, or those at changes of a path outside the folders of attempts."""
    if which == "published":
        return [point for point in points if re.search(r" (?!\.attempt-|->)", changes[point[0] - 1])]
    return points if which == "all" else rng.sample(points, min(int(which), len(points)))


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """Make a scratch folder, in memory where the system has such a place: a kill needs no disk to be a kill."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - mkdtemp makes a private folder in it
    folder = tempfile.mkdtemp(prefix="fsf-ledger-", dir=parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Crash the chosen jobs; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(CASES), help="jobs (default: all)")
    parser.add_argument("--points", default="all", help="all, published, or a number for each job")
    parser.add_argument("--double", type=int, default=0, help="pairs of crashes for each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sabotage", action="store_true", help="never take _SUCCESS away: there must be problems")
    parser.add_argument("--store", action="store_true", help="in an S3 store on this machine instead of a disk")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # so that no folder and no server is left
    with contextlib.ExitStack() as stack:
        bucket = start_store(stack) if options.store else None
        return _crash_all(options, bucket)


def start_store(stack: contextlib.ExitStack) -> str:
    """Start an S3 server, configure this process for it, and return the name of a bucket."""
    store = stack.enter_context(stores.seaweed(stack.enter_context(memory_folder())))
    os.environ.update(store.environment)
    os.environ["AWS_DEFAULT_REGION"] = store.environment["AWS_REGION"]
    return store.bucket.removeprefix("s3://")


def _crash_all(options: argparse.Namespace, bucket: str | None) -> int:
    rng = random.Random(options.seed)  # noqa: S311 - reproducible, not secret
    wrong = 0
    print(f"{'job':24}{'changes':>9}{'kills':>7}{'reads':>7}{'problems':>10}{'seconds':>9}")
    for name, case in CASES.items():
        if name not in options.jobs.split(","):
            continue
        began = time.monotonic()
        with memory_folder() as scratch:
            folder = Bucket(bucket, scratch) if bucket else Disk(scratch)
            bench = Bench(folder, scratch, case, sabotage=options.sabotage)
            problems = list(bench.judge("unbroken", [], bench.unbroken))
            points = bench.points(bench.unbroken.changes)
            points = chosen(points, bench.unbroken.changes, options.points, rng)
            kills = 0
            for killed, found in crash_case(bench, points, double=options.double, rng=rng):
                kills += killed
                problems += found
            for problem in problems:
                print(f"  {problem}", flush=True)
            wrong += len(problems)
            print(
                f"{name:24}{len(bench.unbroken.changes):9}{kills:7}{bench.reads:7}{len(problems):10}"
                f"{time.monotonic() - began:9.1f}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
