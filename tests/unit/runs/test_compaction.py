"""Merged parts hold the rows of the small ones; a job that dies in between loses and duplicates nothing."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.errors import DamagedPartError
from fsf_core.runs.compaction import compact
from fsf_core.schema import MASKS, with_columns
from tests.support import ledger

SUMMARY = {"items": {"total": 26}}


@pytest.fixture
def attempt(tmp_path):
    """A run of twelve good parts of two images each, and two failed parts."""
    with ledger.claim_run(str(tmp_path / "run"), fingerprint={}, details={}) as opened:
        for number in range(12):
            ledger.commit(opened, ledger.image(f"{number}-a"), ledger.image(f"{number}-b"))
        for name in ("x", "y"):
            ledger.commit(opened, ledger.image(name, failed=True))
        yield opened


def rows(uri):
    return {name: ledger.sorted_rows(uri, name) for name in ("masks", "class_stats", "failures")}


def sizes(parts):
    return [sum(facts["bytes"] for facts in part.files.values()) for part in parts.receipts()]


def test_small_parts_are_merged_into_few_with_the_same_rows(attempt):
    before = rows(attempt.uri)
    parts = runs.load_ledger(attempt.uri)

    assert compact(attempt.staging, parts, target_bytes=1 << 20) == 14
    assert compact(attempt.staging, parts, target_bytes=1 << 20) == 0
    runs.publish(attempt, parts, SUMMARY)

    assert rows(attempt.uri) == before
    assert sorted(part.failed_units for part in runs.receipts(attempt.uri)) == [0, 2]
    assert runs.verify(attempt.uri) == []
    ledger.assert_folders_are_the_manifest(attempt.uri)


def test_parts_of_an_older_version_and_new_ones_become_one_with_the_columns_of_this_version(attempt):
    ledger.commit_older(attempt, ledger.image("old"), passed=[(pa.field("camera", pa.string()), "left")])
    ledger.commit(attempt, replace(ledger.image("new"), notes="first of 2 pages"))
    before = runs.read_table(attempt.uri, "masks")
    parts = runs.load_ledger(attempt.uri)
    compact(attempt.staging, parts, target_bytes=1 << 20)
    runs.publish(attempt, parts, {"items": {"total": 28}})

    found = runs.read_table(attempt.uri, "masks")
    assert found.schema.equals(with_columns(MASKS, [pa.field("camera", pa.string())]), check_metadata=True)
    noted = {row["item_id"]: (row["camera"], row["notes"]) for row in found.to_pylist()}
    assert noted == {row["item_id"]: (row["camera"], row["notes"]) for row in before.to_pylist()}
    assert (noted["old"], noted["new"]) == (("left", None), (None, "first of 2 pages"))
    assert runs.verify(attempt.uri) == []


def test_merged_parts_stay_below_the_target_size(attempt):
    parts = runs.load_ledger(attempt.uri)
    small = max(sizes(parts))

    compact(attempt.staging, parts, target_bytes=4 * small)

    assert len(sizes(parts)) < 14
    assert all(size <= 4 * small for size in sizes(parts))
    assert compact(attempt.staging, parts, target_bytes=1) == 0


def test_failures_can_be_tried_again_after_a_compaction(attempt):
    ledger.publish(attempt, SUMMARY, compact_bytes=1 << 20)

    parts = runs.load_ledger(attempt.uri)
    assert len(runs.count_attempts(parts)) == 2
    parts.retry_before = runs.ALL_FAILURES
    assert len(runs.find_completed(parts).items) == 24


@pytest.mark.parametrize("dies_at", range(5))
def test_a_compaction_that_dies_halfway_leaves_every_unit_once_after_the_next_start(dies_at, attempt, monkeypatch):
    before = rows(attempt.uri)
    left = [dies_at]

    def die_later(really, *given, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return really(*given, **options)

    for name in ("write_bytes", "create"):
        monkeypatch.setattr(storage, name, partial(die_later, getattr(storage, name)))
    with pytest.raises(KeyboardInterrupt):
        compact(attempt.staging, runs.load_ledger(attempt.uri), target_bytes=1 << 20)
    monkeypatch.undo()

    assert len(runs.find_completed(runs.load_ledger(attempt.uri)).items) == 26
    second = runs.begin_change(attempt.uri, ledger.HeldLease())
    ledger.publish(second, SUMMARY)

    assert rows(attempt.uri) == before
    assert runs.verify(attempt.uri) == []
    ledger.assert_folders_are_the_manifest(attempt.uri)


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_rows_of_a_damaged_part_are_not_copied(damage, attempt):
    ledger.publish(attempt, SUMMARY)
    parts = runs.load_ledger(attempt.uri)
    damaged = next(each for each in parts.receipts() if "masks" in each.files)
    path = Path(attempt.uri, damaged.files["masks"]["path"])
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    second = runs.begin_change(attempt.uri, ledger.HeldLease())

    with pytest.raises(DamagedPartError, match=r"differs from its receipt|does not exist") as caught:
        compact(second.staging, parts, target_bytes=1 << 20)

    assert caught.value.part == damaged.part
    assert len(runs.load_ledger(attempt.uri).parts) == 14
