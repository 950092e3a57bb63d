"""Merged parts hold the rows of the small ones; a job that dies in between loses and duplicates nothing."""

import pytest

from fsf_core import runs
from fsf_core.runs import parts
from fsf_core.runs.compaction import compact
from tests.support import ledger


@pytest.fixture
def folder(tmp_path):
    """A run of twelve good parts of two images each, and two failed parts."""
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={}, details={}):
        for number in range(12):
            ledger.commit(uri, ledger.image(f"{number}-a"), ledger.image(f"{number}-b"))
        for name in ("x", "y"):
            ledger.commit(uri, ledger.image(name, failed=True))
    return uri


def rows(uri):
    return {name: ledger.sorted_rows(uri, name) for name in ("masks", "class_stats", "failures")}


def sizes(uri):
    return [sum(facts["bytes"] for facts in part.files.values()) for part in runs.receipts(uri)]


def test_small_parts_are_merged_into_few_with_the_same_rows(folder):
    before = rows(folder)

    assert compact(folder, target_bytes=1 << 20) == 14

    assert rows(folder) == before
    assert sorted(part.failed_units for part in runs.receipts(folder)) == [0, 2]
    assert not [line for line in runs.verify(folder) if "_SUCCESS" not in line]
    assert compact(folder, target_bytes=1 << 20) == 0


def test_merged_parts_stay_below_the_target_size(folder):
    small = max(sizes(folder))

    compact(folder, target_bytes=4 * small)

    assert len(sizes(folder)) < 14
    assert all(size <= 4 * small for size in sizes(folder))
    assert compact(folder, target_bytes=1) == 0


def test_failed_parts_can_be_retracted_after_a_compaction(folder):
    compact(folder, target_bytes=1 << 20)

    assert len(runs.retract_failed_parts(folder)) == 2
    assert len(runs.find_completed(folder).items) == 24


def test_a_compaction_that_dies_halfway_is_reconciled(folder, monkeypatch):
    before = rows(folder)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts, "retract", die)
        with pytest.raises(KeyboardInterrupt):
            compact(folder, target_bytes=1 << 20)
    assert len(runs.find_completed(folder).items) == 26
    runs.reconcile(folder)

    assert rows(folder) == before
    assert not [line for line in runs.verify(folder) if "_SUCCESS" not in line]
