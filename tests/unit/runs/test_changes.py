"""Rows that a list has changed since they were scored: their items are scored again, and their old units leave."""

from dataclasses import replace

import numpy as np
import pytest

from fsf_core import runs
from fsf_core.keys import item_keys, row_keys
from tests.support import ledger
from tests.support.ledger import commit, image, newest_staging, publish, sorted_rows, video

OLD, NEW, OTHER, UNKNOWN = b"\x01old row", b"new row\0", b"third ro", None


@pytest.fixture
def folder(tmp_path):
    """A run that was started."""
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={"columns": {}}, details={}):
        pass
    return uri


def of_row(units, digest):
    return [replace(unit, row_digest=digest) for unit in (units if isinstance(units, list) else [units])]


def listed(**digests):
    """Return the row keys of a list in two batches."""
    rows = row_keys(item_keys(digests), np.asarray([*digests.values()], "S8"))
    return [rows[:1], rows[1:]]


def compare(uri, **digests):
    """Compare as the job does; returns the changes and the work that still counts."""
    parts = runs.load_ledger(uri)
    changes = runs.find_changes(runs.find_completed(parts), listed(**digests))
    parts.superseded = changes.superseded
    return changes, runs.find_completed(parts)


def held(done, *names):
    return done.holds(item_keys(names)).tolist()


def settle(uri, changes):
    """Reconcile and publish without the superseded units; returns what was removed, and the rows by item."""
    parts = runs.load_ledger(uri)
    parts.superseded = changes.superseded
    removed = runs.reconcile(newest_staging(uri), parts)
    items = {"total": len(runs.find_completed(parts).items), "not_in_manifest": 0}
    runs.publish(ledger.newest_attempt(uri), parts, {"items": items}, derived=[])
    found = {}
    for row in sorted_rows(uri, "masks"):
        found.setdefault(row["item_id"], []).append((row["frame_index"], bytes.fromhex(row["uri"].partition("?")[2])))
    return dict(removed), found


def test_items_whose_rows_are_as_listed_are_finished(folder):
    commit(folder, *of_row(image("a"), OLD), *of_row(video("v", 2, 2), OLD))
    changes, done = compare(folder, a=OLD, v=OLD, new=NEW)

    assert (changes.finished_items, changes.changed_items, len(changes.superseded)) == (2, 0, 0)
    assert held(done, "a", "v", "new") == [True, True, False]


def test_an_item_with_another_row_is_pending_and_its_old_units_leave(folder):
    commit(folder, *of_row(image("a"), OLD), *of_row(image("b"), OLD))
    commit(folder, *of_row(image("c"), OLD), *of_row(image("gone"), OLD))
    changes, done = compare(folder, a=NEW, b=OLD, c=NEW)
    assert changes.changed_items == 2
    assert held(done, "a", "b", "c", "gone") == [False, True, False, True]
    commit(folder, *of_row(image("a"), NEW), *of_row(image("c"), NEW))
    removed, rows = settle(folder, changes)

    assert removed == {"superseded_units": 2}
    assert rows == {"a": [(0, NEW)], "b": [(0, OLD)], "c": [(0, NEW)], "gone": [(0, OLD)]}
    assert compare(folder, a=NEW, b=OLD, c=NEW)[0].changed_items == 0
    assert runs.verify(folder) == []


@pytest.mark.parametrize(("old", "new"), [((3, 3, 2), (3, 1)), ((3, 1), (3, 3, 2)), ((3,), (3, 3)), ((3, 3), (1,))])
def test_a_video_may_have_another_number_of_segments(old, new, folder):
    commit(folder, *of_row(image("a"), OLD), *of_row(video("v", *old), OLD))
    changes, done = compare(folder, a=OLD, v=NEW)
    assert (changes.changed_items, held(done, "a", "v"), done.segments) == (1, [True, False], {})
    for unit in of_row(video("v", *new), NEW):
        commit(folder, unit)
    removed, rows = settle(folder, changes)

    assert removed == {"superseded_units": len(old)}
    assert rows == {"a": [(0, OLD)], "v": [(frame, NEW) for frame in range(sum(new))]}
    assert runs.verify(folder) == []


def test_an_interrupted_start_goes_on_with_the_segments_of_the_listed_row(folder):
    commit(folder, *of_row(video("v", 3, 3), OLD))
    commit(folder, of_row(video("v", 3, 3, 2), NEW)[1])
    changes, done = compare(folder, v=NEW)

    assert list(done.segments.values()) == [frozenset({1})]
    assert changes.changed_items == 0, "the row had been changed before"
    back, done = compare(folder, v=OLD)
    assert (back.changed_items, held(done, "v")) == (0, [True])
    removed, rows = settle(folder, back)
    assert removed == {"superseded_units": 1}
    assert rows == {"v": [(frame, OLD) for frame in range(6)]}


def test_the_units_of_the_listed_row_win_over_those_of_a_newer_attempt(folder):
    commit(folder, *of_row(image("a"), OLD))
    commit(ledger.next_attempt(folder), *of_row(image("a"), NEW))
    changes, _ = compare(folder, a=OLD)
    removed, rows = settle(folder, changes)

    assert (removed, rows) == ({"superseded_units": 1}, {"a": [(0, OLD)]})


def test_units_of_older_versions_count_as_the_listed_row(folder):
    commit(folder, *of_row(image("a"), UNKNOWN), *of_row(video("v", 2, 2, 2), UNKNOWN)[:2])
    commit(folder, of_row(video("v", 2, 2, 2), NEW)[2])
    changes, done = compare(folder, a=NEW, v=NEW)

    assert (changes.changed_items, len(changes.superseded)) == (0, 0)
    assert held(done, "a", "v") == [True, True]
    changes, done = compare(folder, a=NEW, v=OTHER)
    assert (changes.changed_items, held(done, "a", "v"), done.segments) == (1, [True, False], {})


def test_receipts_of_older_versions_have_no_digests(folder, monkeypatch):
    units = ledger.rows_of([image("a")]).drop_columns("row_digest")
    old = runs.Receipt(part="part-0", files={}, frames=1, failed_units=0, pixels=(1,), units=units)
    from fsf_core.runs.records import receipt_from_arrow, receipt_to_arrow

    assert receipt_from_arrow(receipt_to_arrow(old)).units.column("row_digest").to_pylist() == [None]


def test_a_failed_item_with_another_row_is_pending_even_where_failures_are_kept(folder):
    commit(folder, *of_row(image("bad", failed=True), OLD))

    assert held(compare(folder, bad=OLD)[1], "bad") == [True]
    changes, done = compare(folder, bad=NEW)
    assert (changes.changed_items, held(done, "bad")) == (1, [False])


def test_an_item_of_several_rows_is_not_reused(folder):
    commit(folder, *of_row(image("a"), OLD), *of_row(image("b"), OLD))
    commit(folder, *of_row(image("a"), NEW))
    done = runs.find_completed(runs.load_ledger(folder))

    assert done.items_of_several_rows().tolist() == item_keys(["a"]).tolist()


def test_many_rows_are_compared_as_one_by_one(folder):
    """Every mixture of digests in the ledger against every row of the list."""
    digests = [None, OLD, NEW]
    names = [(first, second, row) for first in digests for second in digests for row in (OLD, NEW, OTHER)]
    for second in (0, 1):
        units = [of_row(video(str(name), 1, 1), name[second])[second] for name in names]
        commit(folder, *units)
    wanted = {str(name): name[2] for name in names}
    changes, done = compare(folder, **wanted)
    alone = [compare(folder, **{str(name): name[2]}) for name in names]

    assert changes.changed_items == sum(one.changed_items for one, _ in alone)
    assert held(done, *wanted) == [held(one, str(name))[0] for (_, one), name in zip(alone, names, strict=True)]
    for name, is_held in zip(names, held(done, *wanted), strict=True):
        known = {digest for digest in name[:2] if digest}
        assert is_held == (known <= {name[2]}), name


def test_publishing_without_changes_rewrites_nothing(folder):
    commit(folder, *of_row(image("a"), OLD))
    before = [receipt.part for receipt in runs.receipts(folder)]

    assert publish(folder, {"items": {}}, derived=[]) == {}
    assert [receipt.part for receipt in runs.receipts(folder)] == before
