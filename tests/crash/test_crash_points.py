"""Jobs that end at any change of a file and are started again end as undisturbed ones.

Some points of jobs.py and nights.py, and those of ledger.py at changes of published files; the commands test the rest.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle
from tests.crash.hooked import ROOT, Point
from tests.crash.jobs import RUNS, Trial, Workshop, scratch_folder

TO_MANIFEST, TO_SUCCESS, TO_RECEIPT = (
    rf"^rename .* -> {name}" for name in (r"manifest\.json$", "_SUCCESS$", ".*receipts/")
)


@pytest.fixture(scope="module")
def workshop(tiny_bundle: Bundle) -> Iterator[Workshop]:
    with scratch_folder() as scratch:
        yield Workshop(scratch, bundle=tiny_bundle.uri)


def _crash(workshop: Workshop, run: str, *crashes: list[Point]) -> Trial:
    problems: list[str] = []
    trial = Trial(workshop, RUNS[run], report=problems.append, slowly=False)
    for points in crashes:
        trial.crash(points)
    assert problems == []
    assert trial.tally.not_reached == 0
    return trial


def test_a_finished_run_survives_kills_around_every_step_of_its_publication(workshop: Workshop) -> None:
    steps = [Point(pattern=r"_SUCCESS", when="after"), Point(pattern=TO_MANIFEST, when="before")]
    steps += [Point(pattern=TO_MANIFEST, when="after"), Point(pattern=TO_SUCCESS, when="before")]
    trial = _crash(workshop, "compact", *([step] for step in steps), steps)

    assert trial.tally.reads


def test_failures_that_are_tried_again_stay_published_until_the_pointer_changes(workshop: Workshop) -> None:
    _crash(workshop, "retry", [Point(pattern=TO_RECEIPT, when="after"), Point(pattern=TO_MANIFEST, when="after")])


def test_a_mark_that_is_not_taken_away_is_found(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.finished()
    monkeypatch.setattr(workshop, "module", "tests.crash.sabotaged")
    problems: list[str] = []
    Trial(workshop, RUNS["compact"], report=problems.append).crash([Point(pattern="^rename masks/", when="after")])

    assert any("distinct" in problem or "manifest.json" in problem for problem in problems)


def test_a_table_that_differs_from_that_of_the_unbroken_job_is_found(workshop: Workshop, tmp_path: Path) -> None:
    problems: list[str] = []
    trial = Trial(workshop, RUNS["publish"], report=problems.append, slowly=False)
    trial.truth = trial.allowed[0].__class__(tables={**trial.truth.tables, "masks": (1, "")}, files=trial.truth.files)
    trial.crash([Point(pattern=TO_SUCCESS, when="after")])

    assert any("expected 1 masks" in problem for problem in problems)


def test_the_ledger_survives_the_end_of_a_job_at_every_change_of_a_published_file() -> None:
    jobs = "retry,compact,rotten,layout-1"
    code, printed = _ledger("--jobs", jobs, "--points", "published")

    assert code == 0, printed
    assert [line.split()[0] for line in printed.splitlines()[1:]] == jobs.split(",")


def test_a_ledger_whose_mark_is_not_taken_away_is_found() -> None:
    code, printed = _ledger("--jobs", "compact", "--points", "2", "--sabotage")

    assert code == 1, printed
    assert "distinct" in printed or "manifest.json" in printed


def test_a_series_survives_the_end_of_a_night_and_of_a_removal_at_any_change() -> None:
    code, printed = _forking("nights", "--points", "8")

    assert code == 0, printed
    assert [line.split()[0] for line in printed.splitlines()[1:]] == ["night", "prune"]


def test_a_run_that_is_deleted_where_it_is_is_found() -> None:
    code, printed = _forking("nights", "--commands", "prune", "--points", "0", "--sabotage")

    assert code == 1, printed
    assert "manifest.json" in printed or "no clear refusal" in printed


def _ledger(*options: str) -> tuple[int, str]:
    return _forking("ledger", *options)


def _forking(module: str, *options: str) -> tuple[int, str]:
    """Run a harness in a process of its own: it forks, which a process with threads must not."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.crash.{module}", *options], cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
