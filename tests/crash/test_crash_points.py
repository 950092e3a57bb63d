"""Jobs that are killed at any change of a file and started again end as undisturbed ones; some points of jobs.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle
from tests.crash.hooked import Point
from tests.crash.jobs import RUNS, Trial, Workshop, scratch_folder

TO_MANIFEST, TO_SUCCESS = (rf"^rename .* -> {name}$" for name in (r"manifest\.json", "_SUCCESS"))


@pytest.fixture(scope="module")
def workshop(tiny_bundle: Bundle) -> Iterator[Workshop]:
    with scratch_folder() as scratch:
        yield Workshop(scratch, bundle=tiny_bundle.uri)


def test_a_mark_that_is_not_taken_away_is_found(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.finished()
    monkeypatch.setattr(workshop, "module", "tests.crash.sabotaged")
    problems: list[str] = []
    Trial(workshop, RUNS["compact"], report=problems.append).crash([Point(pattern=TO_MANIFEST, when="before")])

    assert any("distinct" in problem or "manifest.json" in problem for problem in problems)


def test_a_table_that_differs_from_that_of_the_unbroken_job_is_found(workshop: Workshop, tmp_path: Path) -> None:
    problems: list[str] = []
    trial = Trial(workshop, RUNS["publish"], report=problems.append, slowly=False)
    trial.truth = trial.allowed[0].__class__(tables={**trial.truth.tables, "masks": (1, "")}, files=trial.truth.files)
    trial.crash([Point(pattern=TO_SUCCESS, when="after")])

    assert any("expected 1 masks" in problem for problem in problems)
