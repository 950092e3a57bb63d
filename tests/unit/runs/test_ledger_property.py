"""A run that crashes, retries and resumes any number of times ends in the tables of an unbroken one."""

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core import runs, storage
from fsf_core.errors import StorageError
from fsf_core.keys import item_key, item_keys
from fsf_core.schema import PART_TABLES
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


CHANGES = (
    "write_bytes",
    "create",
    "write_file",
    "move",
    "remove",
    "create_folder",
    "rename_folder",
    "remove_folder",
)
"""Functions of storage that change files; a ledger uses no others."""


class Faults:
    """Allows a number of changes to files, then dies before one, after one, or in the middle of it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._left: int | None = None
        self._how = "before"
        for name in CHANGES:
            patch.setattr(storage, name, partial(self._change, name, getattr(storage, name)))
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

    def _change(self, name: str, really: Callable[..., Any], uri: str, *given: Any, **options: Any) -> Any:
        due = self._due()
        if due and self._how == "amid":
            _leave_half(name, uri, *given)
        if due and self._how == "full" and not name.startswith("remove"):
            raise StorageError(f"{uri} cannot be written: No space left on device; make room")
        if due and self._how in {"before", "amid"}:
            raise KilledError
        done = really(uri, *given, **options)
        if due and self._how == "after":
            raise KilledError
        return done


def _leave_half(name: str, uri: str, *given: Any) -> None:
    """Leave what a change has done when its process dies in its middle; renames and deletions of a file have none."""
    path = Path(uri)
    if name in {"write_bytes", "create"} and path.parent.is_dir():
        path.with_name(f".{path.name}.dead.tmp").write_bytes(given[0][: len(given[0]) // 2])
    elif name == "move" and Path(uri).exists():
        Path(given[0]).parent.mkdir(parents=True, exist_ok=True)
    elif name == "remove_folder":
        files = sorted(each for each in path.rglob("*") if each.is_file())
        for each in files[::2]:
            each.unlink()


@st.composite
def corpora(draw):
    """A few items: images, and videos of several segments, some of them without frames."""
    planned = []
    salt = draw(st.integers(0, 999))  # names of parts follow from names of items, and their order decides much
    for number in range(draw(st.integers(1, 3))):
        frames = draw(st.lists(st.integers(0, 3), min_size=2, max_size=3))
        has_label = draw(st.booleans())
        units = video(f"{salt}-{number}.mp4", *frames) if draw(st.booleans()) else [image(f"{salt}-{number}.jpg")]
        for unit in units:
            fate = draw(st.sampled_from(["good", "bad", "flaky"]))
            before = draw(st.integers(0, max(0, unit.frames - 1)))
            frames_before = before if unit.segments > 1 else 0
            planned.append(
                Planned(unit=replace(unit, optional=has_label), fate=fate, frames_before_failure=frames_before)
            )
    return planned


deaths = st.none() | st.tuples(
    st.integers(0, 8) | st.integers(9, 50), st.sampled_from(["before", "after", "amid", "full"])
)


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
    tasks = st.tuples(st.sampled_from(groups), st.booleans(), deaths, st.booleans())
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


def run_task(staging: runs.Staging, units: list[ScoredUnit], *, attempt: int) -> None:
    """Commit as the write stage does: good and failed units in separate parts, each in order."""
    for failed in (False, True):
        chosen = sorted(
            (unit for unit in units if unit.failed is failed), key=lambda unit: (unit.item_id, unit.segment)
        )
        if chosen:
            commit(staging, *chosen, attempt=attempt)


def pending(attempt: runs.Attempt, corpus: list[Planned]) -> list[Planned]:
    """Return the units that a resumed job still scores."""
    found = runs.load_ledger(attempt.uri)
    found.retry_before = attempt.number
    done = runs.find_completed(found)
    over = set(itertools.compress(corpus, done.holds(item_keys(one.unit.item_id for one in corpus))))
    begun = done.segments
    return [
        one
        for one in corpus
        if one not in over and one.unit.segment not in begun.get(item_key(one.unit.item_id), frozenset())
    ]


def broken_session(uri: str, corpus: list[Planned], session: dict, faults: Faults, attempt: int) -> None:
    """Run a start of the job in which tasks, or the driver, may die anywhere."""
    with faults.dying(session["opening"]), ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as earlier:
        pass
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
        assert opened.number > earlier.number
        for numbers, fails, death, is_late in session["tasks"]:
            # Any units, done or not: a retried task has other units.
            units = [scored(corpus[number], fails=fails) for number in numbers]
            if is_late:
                assert_refused(replace(earlier, lease=ledger.HeldLease()), units)
            try:
                with faults.dying(death):
                    run_task(opened.staging, units, attempt=attempt)
            except (KilledError, StorageError):
                if session["driver_dies_with_a_task"]:
                    raise
        if session["closing"] != "never":
            with faults.dying(session["closing"]):
                ledger.publish(opened, summary(corpus), keep_failures=session["keeps_failures"])


def assert_refused(earlier: runs.Attempt, units: list[ScoredUnit]) -> None:
    """A task of an earlier start that still runs commits nothing, and its driver changes nothing."""
    before = ledger.snapshot(earlier.uri)
    with pytest.raises(StorageError):
        run_task(earlier.staging, units, attempt=99)
    with pytest.raises(StorageError):
        earlier.replace("manifest.json", b"late")
    assert ledger.snapshot(earlier.uri) == before


def last_session(uri: str, corpus: list[Planned], attempt: int) -> None:
    """Run a start of the job in which only bad units fail."""
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
        left = [scored(one, fails=False) for one in pending(opened, corpus)]
        for at in range(0, len(left), 3):
            run_task(opened.staging, left[at : at + 3], attempt=attempt)
        ledger.publish(opened, summary(corpus), keep_failures=False)


def summary(corpus: list[Planned]) -> dict:
    return {"items": {"total": len({one.unit.item_id for one in corpus}), "not_in_manifest": 0}}


def assert_readable(uri: str) -> None:
    """At any moment every part with a receipt is complete, and a finished run is what its manifest lists."""
    if storage.exists(storage.join(uri, "run.json")):
        assert [line for line in runs.verify(uri) if "torn" in line or "has a receipt" in line] == []
        for name in PART_TABLES:
            runs.read_table(uri, name)
    if storage.exists(storage.join(uri, "_SUCCESS")):
        ledger.assert_folders_are_the_manifest(uri)
        keys = Counter(key for receipt in runs.receipts(uri) for key in receipt.units.column("unit_key").to_pylist())
        assert set(keys.values()) <= {1}


def assert_equal_runs(uri: str, unbroken: str, corpus: list[Planned]) -> None:
    assert runs.verify(uri) == runs.verify(unbroken) == []
    assert_same_rows(uri, unbroken, corpus)
    manifest = [item_keys(sorted({one.unit.item_id for one in corpus}))]
    totals = runs.count_totals(runs.load_ledger(uri), manifest)
    assert totals == runs.count_totals(runs.load_ledger(unbroken), manifest)
    assert totals.missing_items == totals.foreign_items == 0


def assert_same_rows(uri: str, unbroken: str, corpus: list[Planned]) -> None:
    """Every unit once, the same rows and masks byte for byte, and no file without a receipt."""
    keys = Counter(key for receipt in runs.receipts(uri) for key in receipt.units.column("unit_key").to_pylist())
    assert keys == Counter(one.unit.key for one in corpus)
    for name in ("masks", "class_stats", "confusion", "regions"):
        assert sorted_rows(uri, name) == sorted_rows(unbroken, name)
    found, expected = (sorted_rows(each, "failures", but=["attempts"]) for each in (uri, unbroken))
    assert sorted(found, key=str) == sorted(expected, key=str)
    ledger.assert_folders_are_the_manifest(uri)
    assert not list(Path(uri).glob(".attempt-*"))
    hidden = {entry.relative for entry in storage.list_files(uri, hidden=True) if "/." in f"/{entry.relative}"}
    assert hidden <= {".lock"}


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


@given(duplicated(), deaths, st.integers(0, 6))
@settings(deadline=None, max_examples=60)
def test_reconciling_any_overlap_of_parts_keeps_every_unit_once_with_its_own_rows(parts, death, of_first_attempt):
    corpus, groups = parts
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        uri, unbroken = f"{folder}/run", f"{folder}/unbroken"
        faults = Faults(patch)
        for chosen_groups in (groups[:of_first_attempt], groups[of_first_attempt:]):
            with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
                for numbers in chosen_groups:
                    run_task(opened.staging, [scored(corpus[number], fails=False) for number in numbers], attempt=1)
        chosen = [corpus[number] for number in sorted(set().union(*groups))]
        with ledger.claim_run(unbroken, fingerprint=FINGERPRINT, details={}) as opened:
            run_task(opened.staging, [scored(one, fails=False) for one in chosen], attempt=1)
            ledger.publish(opened, summary(chosen))

        with contextlib.suppress(KilledError, StorageError), faults.dying(death):
            ledger.publish(uri, summary(chosen))
        assert_readable(uri)
        with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
            ledger.publish(opened, summary(chosen))

        assert_same_rows(uri, unbroken, chosen)
