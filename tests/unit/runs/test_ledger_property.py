"""A run that crashes, retries and resumes any number of times ends in the tables of an unbroken one."""

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core import runs, storage
from fsf_core.errors import StorageError
from fsf_core.keys import item_key, item_keys
from fsf_core.schema import TABLES
from tests.support import ledger
from tests.support.ledger import ScoredUnit, broken, commit, image, sorted_rows, video

FINGERPRINT = {"bundle": "ab" * 32}


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A unit of the corpus, and whether it fails."""

    unit: ScoredUnit
    fate: str
    """good, bad (fails whenever it is tried) or flaky (may fail, until the last pass)."""
    frames_before_failure: int


class KilledError(BaseException):
    """The process died here: nothing after this line ran, and nothing was cleaned up."""


class Faults:
    """Allows a number of changes to files, then dies before one, after one, or in the middle of a write."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._write, self._remove = storage.write_bytes, storage.remove
        self._left: int | None = None
        self._how = "before"
        patch.setattr(storage, "write_bytes", self._writing)
        patch.setattr(storage, "remove", self._removing)
        # A process that dies loses nothing that it wrote; only a power cut would, and that is not tried here.
        patch.setattr(os, "fsync", lambda _: None)

    @contextlib.contextmanager
    def dying(self, death: tuple[int, str] | None):
        """Die at a change: how many changes come before it, and how it ends; None never dies."""
        self._left, self._how = death or (None, "")
        try:
            yield
        finally:
            self._left = None

    def _due(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def _writing(self, uri: str, data: bytes, *, durable: bool = False) -> None:
        due = self._due()
        if due and self._how == "amid":
            path = Path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.dead.tmp").write_bytes(data[: len(data) // 2])
        if due and self._how == "full":
            raise StorageError(f"{uri} cannot be written: No space left on device; make room")
        if due and self._how != "after":
            raise KilledError
        self._write(uri, data, durable=durable)
        if due:
            raise KilledError

    def _removing(self, uri: str) -> None:
        due = self._due()
        if due and self._how not in {"after", "full"}:
            raise KilledError
        self._remove(uri)
        if due and self._how == "after":
            raise KilledError


@st.composite
def corpora(draw):
    """A few items: images, and videos of several segments, some of them without frames."""
    planned = []
    salt = draw(st.integers(0, 999))  # names of parts follow from names of items, and their order decides much
    for number in range(draw(st.integers(1, 3))):
        frames = draw(st.lists(st.integers(0, 3), min_size=2, max_size=3))
        units = video(f"{salt}-{number}.mp4", *frames) if draw(st.booleans()) else [image(f"{salt}-{number}.jpg")]
        for unit in units:
            fate = draw(st.sampled_from(["good", "bad", "flaky"]))
            before = draw(st.integers(0, max(0, unit.frames - 1)))
            planned.append(Planned(unit=unit, fate=fate, frames_before_failure=before if unit.segments > 1 else 0))
    return planned


deaths = st.none() | st.tuples(st.integers(0, 8), st.sampled_from(["before", "after", "amid", "full"]))


def overlapping(size):
    """Groups of units, by number."""
    return st.lists(st.sets(st.integers(0, size - 1), min_size=1, max_size=3), min_size=1, max_size=6)


@st.composite
def duplicated(draw):
    """A corpus, and parts of it that hold some units more than once."""
    corpus = draw(corpora())
    return corpus, draw(overlapping(len(corpus)))


@st.composite
def histories(draw):
    """A corpus, and starts of the job: which tasks they run, what dies when, and how far they get.

    Tasks are drawn from a few overlapping groups of units, so that parts are written again and units are duplicated.
    """
    corpus = draw(corpora())
    groups = draw(overlapping(len(corpus)))
    tasks = st.tuples(st.sampled_from(groups), st.booleans(), deaths)
    session = st.fixed_dictionaries(
        {
            "opening": deaths,
            "keeps_failures": st.booleans(),
            "tasks": st.lists(tasks, min_size=1, max_size=6),
            "driver_dies_with_a_task": st.booleans(),
            "closing": st.just("never") | deaths,
        }
    )
    return corpus, draw(st.lists(session, min_size=1, max_size=3))


def scored(planned: Planned, *, fails: bool) -> ScoredUnit:
    """Return a unit as a task scores it this time."""
    failed = planned.fate == "bad" or (planned.fate == "flaky" and fails)
    return broken(planned.unit, frames=planned.frames_before_failure) if failed else planned.unit


def run_task(uri: str, units: list[ScoredUnit], *, attempt: int) -> None:
    """Commit as the write stage does: good and failed units in separate parts, each in order."""
    for failed in (False, True):
        chosen = sorted(
            (unit for unit in units if unit.failed is failed), key=lambda unit: (unit.item_id, unit.segment)
        )
        if chosen:
            commit(uri, *chosen, attempt=attempt)


def pending(uri: str, corpus: list[Planned]) -> list[Planned]:
    """Return the units that a resumed job still scores."""
    done = runs.find_completed(uri)
    over = set(itertools.compress(corpus, done.holds(item_keys(one.unit.item_id for one in corpus))))
    begun = done.segments
    return [
        one
        for one in corpus
        if one not in over and one.unit.segment not in begun.get(item_key(one.unit.item_id), frozenset())
    ]


def broken_session(uri: str, corpus: list[Planned], session: dict, faults: Faults, attempt: int) -> None:
    """Run a start of the job in which tasks, or the driver, may die anywhere."""
    with faults.dying(session["opening"]), ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        if not session["keeps_failures"]:
            runs.retract_failed_parts(uri)
        runs.unpublish(uri)
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        for numbers, fails, death in session["tasks"]:
            # Any units, done or not: tasks of an earlier start may still run, and a retried one has other units.
            units = [scored(corpus[number], fails=fails) for number in numbers]
            try:
                with faults.dying(death):
                    run_task(uri, units, attempt=attempt)
            except (KilledError, StorageError):
                if session["driver_dies_with_a_task"]:
                    raise
        if session["closing"] != "never":
            with faults.dying(session["closing"]):
                runs.reconcile(uri)
                runs.publish(uri, summary(corpus))


def last_session(uri: str, corpus: list[Planned], attempt: int) -> None:
    """Run a start of the job in which only bad units fail."""
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        runs.retract_failed_parts(uri)
        left = [scored(one, fails=False) for one in pending(uri, corpus)]
        for at in range(0, len(left), 3):
            run_task(uri, left[at : at + 3], attempt=attempt)
        runs.reconcile(uri)
        runs.publish(uri, summary(corpus))


def summary(corpus: list[Planned]) -> dict:
    return {"items": {"total": len({one.unit.item_id for one in corpus}), "not_in_manifest": 0}}


def assert_readable(uri: str) -> None:
    """At any moment every part with a receipt is complete."""
    if storage.exists(storage.join(uri, "run.json")):
        assert [line for line in runs.verify(uri) if "torn" in line or "has a receipt" in line] == []
        for name in TABLES:
            runs.read_table(uri, name)


def assert_equal_runs(uri: str, unbroken: str, corpus: list[Planned]) -> None:
    assert runs.verify(uri) == runs.verify(unbroken) == []
    assert_same_rows(uri, unbroken, corpus)
    manifest = [item_keys(sorted({one.unit.item_id for one in corpus}))]
    totals = runs.count_totals(uri, manifest)
    assert totals == runs.count_totals(unbroken, manifest)
    assert totals.missing_items == totals.foreign_items == 0


def assert_same_rows(uri: str, unbroken: str, corpus: list[Planned]) -> None:
    """Every unit once, the same rows and masks byte for byte, and no file without a receipt."""
    keys = Counter(key for receipt in runs.receipts(uri) for key in receipt.units.column("unit_key").to_pylist())
    assert keys == Counter(one.unit.key for one in corpus)
    for name in ("masks", "class_stats"):
        assert sorted_rows(uri, name) == sorted_rows(unbroken, name)
    found, expected = (sorted_rows(each, "failures", but=["attempts"]) for each in (uri, unbroken))
    assert sorted(found, key=str) == sorted(expected, key=str)
    for name in (*TABLES, "receipts"):
        files = {entry.relative for entry in storage.list_files(storage.join(uri, name), hidden=True)}
        listed = {facts["path"] for receipt in runs.receipts(uri) for facts in receipt.files.values()}
        listed |= {f"receipts/{receipt.part}.arrow" for receipt in runs.receipts(uri)}
        assert {f"{name}/{file}" for file in files} == {path for path in listed if path.startswith(f"{name}/")}


@given(histories())
@settings(deadline=None, max_examples=40)
def test_any_history_of_crashes_ends_in_the_tables_of_an_unbroken_run(history):
    corpus, broken_sessions = history
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        uri, unbroken = f"{folder}/run", f"{folder}/unbroken"
        faults = Faults(patch)
        last_session(unbroken, corpus, attempt=1)

        for attempt, session in enumerate(broken_sessions, 1):
            with contextlib.suppress(KilledError, StorageError):
                broken_session(uri, corpus, session, faults, attempt)
            assert_readable(uri)
        last_session(uri, corpus, attempt=len(broken_sessions) + 1)

        assert_equal_runs(uri, unbroken, corpus)


@given(duplicated(), deaths)
@settings(deadline=None, max_examples=100)
def test_reconciling_any_overlap_of_parts_keeps_every_unit_once_with_its_own_rows(parts, death):
    corpus, groups = parts
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        uri, unbroken = f"{folder}/run", f"{folder}/unbroken"
        faults = Faults(patch)
        for numbers in groups:
            run_task(uri, [scored(corpus[number], fails=False) for number in numbers], attempt=1)
        chosen = [corpus[number] for number in sorted(set().union(*groups))]
        run_task(unbroken, [scored(one, fails=False) for one in chosen], attempt=1)

        with contextlib.suppress(KilledError, StorageError), faults.dying(death):
            runs.reconcile(uri)
        runs.reconcile(uri)

        for each in (uri, unbroken):
            storage.write_bytes(f"{each}/run.json", b'{"layout": 1}')
        assert_same_rows(uri, unbroken, chosen)
