"""Jobs as processes, killed before, within and after every change of a file, then started again with the same command.

    python -m tests.crash.jobs                              one point of each kind of change, every kind of run
    python -m tests.crash.jobs --runs compact,publish --points all
    python -m tests.crash.jobs --points 20 --crashes 3      20 points of each run, at least 3 kills before it may end

The changes of an unbroken job are recorded first. Then, for every point: the starting state is restored, the job runs
until its point, all its processes are killed (-9), and the same command runs to its end. The result must equal that of
the unbroken job byte for byte, `fsf verify` must find nothing, and nothing may be left behind. A reader polls the run
all the time (see readers.py). Prints every difference, and a line per kind of run; exits with 1 if there is any.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fsf_core import render, runs
from fsf_core.config import ExportConfig
from fsf_core.export.job import export
from fsf_core.runs import video_stats
from tests.crash.hooked import HookedJob, Point, points_of
from tests.crash.readers import Poll, State, delta_rows, finished_state, leftovers, problem_of, state_of
from tests.support import assets, clips
from tests.support.tiny_onnx import tiny_onnx

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
IMAGES, VIDEO_FRAMES, SEGMENT_FRAMES, PART_UNITS = 3, 8, 4, 2
PARTS_OF_A_BROKEN_JOB = 2
SLOW_S = 0.03
"""Pause before every change of a recorded job, so that the polling reader sees every step."""

REACH_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """A kind of run: where it starts, and its command."""

    words: Sequence[str] = ()
    """Further options of the command; EARLIER is the finished run, TABLES a folder for Delta tables."""
    start: str = "nothing"
    """nothing, finished (by the same command without `words`), broken (the same, killed) or rendered."""
    changed: bool = False
    """Whether a broken image was repaired and another one added since the finished run."""
    command: str = "score"


KEEP = "--keep-failures"
RUNS = {
    "new": Run(),
    "resume": Run(start="broken"),
    "retry": Run(start="finished", changed=True),  # one item failed and is repaired now, one is new
    "reuse": Run(words=["--reuse", "EARLIER"], changed=True),
    "compact": Run(start="finished", words=[KEEP, "--compact-mb", "64"]),
    "new-compact": Run(words=["--compact-mb", "64"]),
    "delta": Run(start="finished", words=[KEEP, "--delta", "TABLES"]),
    "render": Run(start="finished", command="render"),
    "score-render": Run(start="finished", words=[KEEP, "--render", "mask"]),
    "render-again": Run(start="rendered", command="render", words=["--style", "mask"]),
    "publish": Run(start="finished", words=[KEEP]),
}


@dataclass(kw_only=True)
class Tally:
    """What the crashes of one kind of run showed."""

    points: int = 0
    not_reached: int = 0
    kills: int = 0
    reads: int = 0
    different: list[str] = field(default_factory=list)
    """Runs that differ in the end, or that cannot be resumed."""
    wrong_instants: list[str] = field(default_factory=list)
    """What a reader of a finished run saw and should not have."""
    seconds: float = 0.0


class Workshop:
    """A scratch folder with media, a bundle and runs to start from, each made when it is first needed."""

    def __init__(self, scratch: Path, *, bundle: str | None = None, module: str = "fsf_core.cli"):
        """Prepare.

        Args:
            scratch: an existing folder.
            bundle: the model; made if there is none.
            module: the command to test.
        """
        self.scratch, self.module, self._bundle = scratch.resolve(), module, bundle
        self.out, self.tables = self.scratch / "run", self.scratch / "tables"
        (self.scratch / "ray").mkdir(exist_ok=True)
        self.environment = {"RAY_TMPDIR": str(self.scratch / "ray")}

    @cached_property
    def bundle(self) -> str:
        """The given bundle, or one of a model of five nodes."""
        if self._bundle is None:
            model = self.scratch / "model.onnx"
            model.write_bytes(tiny_onnx().SerializeToString())
            request = ExportConfig(
                onnx=str(model), classes=CLASSES, profile="fastsegformer", out=str(self.scratch / "bundle")
            )
            self._bundle = export(request).bundle.uri
        return self._bundle

    @cached_property
    def media(self) -> dict[bool, Path]:
        """Folders of items by whether they are changed; the second has one more image, and one repaired."""
        made = {changed: self.scratch / f"media-{'new' if changed else 'old'}" for changed in (False, True)}
        made[False].mkdir()
        for number in range(IMAGES):
            (made[False] / f"{number}.jpg").write_bytes(_image(number))
        (made[False] / "clip.mp4").write_bytes(clips.clip(frames=VIDEO_FRAMES, gop=4))
        (made[False] / "repaired.jpg").write_bytes(b"no image")
        shutil.copytree(made[False], made[True])
        for name in (f"{IMAGES}.jpg", "repaired.jpg"):
            (made[True] / name).write_bytes(_image(IMAGES + len(name)))
        return made

    def command(self, run: Run) -> list[str]:
        """Return the command of a kind of run, without its module."""
        places = {"EARLIER": str(self._kept("finished")), "TABLES": str(self.tables)}
        words = [places.get(word, word) for word in run.words]
        if run.command == "render":
            return ["render", str(self.out), *words]
        return [
            "score", "--bundle", self.bundle, "--manifest", str(self.scratch / "media"), "--out", str(self.out),
            "--overlays", "--provider", "cpu", "--actors", "1", "--part-units", str(PART_UNITS),
            "--segment-frames", str(SEGMENT_FRAMES), *words,
        ]  # fmt: skip

    def job(self, run: Run, **options) -> HookedJob:
        """Start the command of a kind of run."""
        return HookedJob(
            *self.command(run), roots=[self.out], scratch=self.scratch, module=self.module,
            environment=self.environment, forked=True, **options,
        )  # fmt: skip

    def restore(self, run: Run) -> None:
        """Bring run, tables and media into the starting state of a kind of run."""
        if "EARLIER" in run.words:
            self.finished()
        make = {"nothing": None, "finished": self.finished, "broken": self.broken, "rendered": self.rendered}[run.start]
        start = make() if make else None
        shutil.rmtree(self.tables, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)
        if start:
            shutil.copytree(start, self.out)
        self._place_media(changed=run.changed)

    def _kept(self, name: str) -> Path:
        return self.scratch / f"start-{name}"

    def finished(self) -> Path:
        """Return an unbroken run of the unchanged media."""
        return self._make("finished", Run())

    def rendered(self) -> Path:
        """Return it with its video rendered."""
        return self._make("rendered", Run(start="finished", command="render"))

    def broken(self) -> Path:
        """Return a run whose job was killed after some parts."""
        receipt = Point(pattern=r"rename .* -> .*receipts/[^/]*$", number=PARTS_OF_A_BROKEN_JOB, when="after")
        return self._make("broken", Run(), stop=receipt)

    def _make(self, name: str, run: Run, stop: Point | None = None) -> Path:
        kept = self._kept(name)
        if not kept.exists():
            self.restore(run)
            with self.job(run, stop=stop) as job:
                if stop:
                    assert job.reached(timeout_s=REACH_TIMEOUT_S), job.output()
                else:
                    code, output = job.wait()
                    assert code == 0, output
            shutil.copytree(self.out, kept)
        return kept

    def _place_media(self, *, changed: bool) -> None:
        """Make the folder of the media, the same for all runs, a copy of the old or the new one."""
        shutil.rmtree(self.scratch / "media", ignore_errors=True)
        shutil.copytree(self.media[changed], self.scratch / "media")  # with its times, which are versions


class Trial:
    """The unbroken job of one kind of run, and jobs that are killed at its points."""

    def __init__(self, workshop: Workshop, run: Run, *, report: Callable[[str], None], slowly: bool = True):
        """Record the unbroken job.

        Args:
            workshop: where it runs.
            run: its kind.
            report: called with every problem at once.
            slowly: whether it runs once more, with a pause at every change, while a reader polls.
        """
        self.workshop, self.run, self.report = workshop, run, report
        self.tally = Tally()
        began = time.monotonic()
        workshop.restore(run)
        before = finished_state(workshop.out)
        self.allowed: list[State] = [] if before is None else [before]
        code, self.changes, self.truth = self._unbroken()
        assert code == 0
        assert self.truth
        self.allowed.append(self.truth)
        if slowly:
            self._poll_slow_job()
        self.points = points_of(self.changes)
        self.tally.seconds += time.monotonic() - began

    def _unbroken(self) -> tuple[int, list[str], State | None]:
        with self.workshop.job(self.run) as job:
            code, output = job.wait()
            if code:
                sys.exit(f"the unbroken job ended with exit code {code}: {output}")
            return code, job.changes(), finished_state(self.workshop.out)

    def _poll_slow_job(self) -> None:
        self.workshop.restore(self.run)
        with (
            Poll(self.workshop.out, self.allowed, share=1.0).running() as poll,
            self.workshop.job(self.run, slow_s=SLOW_S) as job,
        ):
            job.wait()
        self._note_instants("unbroken", poll)

    def crash(self, points: Sequence[Point]) -> None:
        """Kill the job at each of these points in turn, start it once more, and compare."""
        began = time.monotonic()
        self.workshop.restore(self.run)
        name = ", then ".join(map(str, points))
        with Poll(self.workshop.out, self.allowed).running() as poll:
            for point in points:
                self.tally.points += 1
                with self.workshop.job(self.run, stop=point) as job:
                    reached = job.reached(timeout_s=REACH_TIMEOUT_S)
                    if reached:
                        poll.look()
                    elif job.process.returncode:
                        self._note(self.tally.different, f"{name}: exit code {job.process.returncode}: {job.output()}")
                self.tally.kills += reached is not None
                self.tally.not_reached += reached is None
                poll.look()
            with self.workshop.job(self.run) as job:
                code, output = job.wait()
            poll.look()
        self._note_instants(name, poll)
        if reason := _last_line(output) if code else self._difference():
            self._note(self.tally.different, f"{name}: {f'exit code {code}: ' if code else ''}{reason}")
        self.tally.seconds += time.monotonic() - began

    def _difference(self) -> str:
        """Return how the run differs from the unbroken one; empty if it does not."""
        out = self.workshop.out
        if reason := problem_of(out, [self.truth]):
            return reason
        if not (out / "_SUCCESS").exists():
            return "no _SUCCESS"
        if (found := state_of(out)) != self.truth:
            return f"found {found}, expected {self.truth}"
        if problems := runs.verify(str(out)) + video_stats.verify(str(out)) + render.verify(str(out)):
            return f"fsf verify: {problems[0]}"
        if left := leftovers(out):
            return f"left behind: {', '.join(left)}"
        return self._delta_difference() if "--delta" in self.run.words else ""

    def _delta_difference(self) -> str:
        run_id = json.loads((self.workshop.out / "run.json").read_text())["run_id"]
        found = delta_rows(self.workshop.tables, run_id)
        expected = {name: (self.truth.tables[name][0],) * 2 for name in found}
        return "" if found == expected else f"Delta tables have rows and distinct rows {found}, expected {expected}"

    def _note_instants(self, name: str, poll: Poll) -> None:
        self.tally.reads += poll.reads
        for problem in poll.problems:
            self._note(self.tally.wrong_instants, f"{name}: {problem}")

    def _note(self, problems: list[str], problem: str) -> None:
        problems.append(problem)
        self.report(problem)


def chosen(points: Sequence[Point], which: str, rng: random.Random) -> list[Point]:
    """Return all points, a sample of a size, or the first and the last of each kind."""
    if which == "all":
        return list(points)
    if which == "each":
        first = {(point.pattern, point.when): point for point in reversed(points)}
        last = {(point.pattern, point.when): point for point in points}
        return [point for point in points if point in (first[key := (point.pattern, point.when)], last[key])]
    return rng.sample(points, min(int(which), len(points)))


def crash_run(
    workshop: Workshop, run: Run, *, which: str, crashes: int, seed: int, report: Callable[[str], None]
) -> Tally:
    """Record a kind of run and kill it at the chosen points, `crashes` of them before it may end."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    trial = Trial(workshop, run, report=report)
    points = chosen(trial.points, which, rng)
    rng.shuffle(points)
    for start in range(0, len(points), crashes):
        trial.crash(points[start : start + crashes])
    return trial.tally


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder with a short path: Ray keeps sockets in it, and their paths have at most 107 bytes."""
    folder = tempfile.mkdtemp(prefix="fc-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _image(number: int) -> bytes:
    return assets.pillow(assets.picture(60 + number, 80), "JPEG")


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:300] if lines else "nothing printed"


def main() -> int:
    """Crash the chosen kinds of runs; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default=",".join(RUNS), help="kinds of runs (default: all)")
    parser.add_argument("--points", default="each", help="all, each (first and last of a kind), or a number")
    parser.add_argument("--crashes", type=int, default=1, help="kills before the job may end (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", help="model to use (default: a tiny one)")
    parser.add_argument("--module", default="fsf_core.cli", help="module of the command")
    options = parser.parse_args()
    names = options.runs.split(",")
    if unknown := {*names} - {*RUNS}:
        parser.error(f"--runs has {sorted(unknown)}, expected some of {', '.join(RUNS)}")
    wrong = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # so that no job outlives this process
    print(f"{'run':14}{'points':>8}{'reached':>9}{'reads':>8}{'different':>11}{'wrong instants':>16}{'seconds':>9}")
    with scratch_folder() as scratch:
        workshop = Workshop(scratch, bundle=options.bundle, module=options.module)
        for name in names:
            tally = crash_run(
                workshop, RUNS[name], which=options.points, crashes=options.crashes, seed=options.seed,
                report=lambda problem: print(f"  {problem}", flush=True),
            )  # fmt: skip
            wrong += len(tally.different) + len(tally.wrong_instants)
            print(
                f"{name:14}{tally.points:8}{tally.points - tally.not_reached:9}{tally.reads:8}"
                f"{len(tally.different):11}{len(tally.wrong_instants):16}{tally.seconds:9.0f}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.exit(main())
