"""Publication: what readers see changes in one place, as a whole, and one that died is completed by the next start."""

import contextlib
import json
from collections import Counter
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.errors import FSFError, OutputError
from tests.support import ledger
from tests.support.ledger import (
    HeldLease,
    assert_folders_are_the_manifest,
    begin,
    broken,
    commit,
    image,
    publish,
    snapshot,
    tables_of,
    video,
)

SUMMARY = {"items": {"total": 3}}
CHANGES = (
    "write_bytes", "create", "write_file", "move", "copy", "remove", "remove_files", "create_folder", "rename_folder",
    "remove_folder",
)  # fmt: skip


def item_ids(uri, name="masks"):
    return sorted(runs.read_table(uri, name, columns=["item_id"]).column("item_id").to_pylist())


def plain_item_ids(uri):
    """Return what a reader of masks/*.parquet finds."""
    tables = [
        pa.parquet.read_table(pa.BufferReader(storage.read_bytes(path)), columns=["item_id"])
        for path in storage.glob(storage.join(uri, "masks", "*.parquet"))
    ]
    return sorted(pa.concat_tables(tables).column("item_id").to_pylist()) if tables else []


def watched(monkeypatch, watch):
    """Call a function after every change of a file."""

    def changing(name, really, uri, *given, **options):
        result = really(uri, *given, **options)
        if name == "remove_files":
            for path in given[0]:
                watch("remove", storage.join(uri, path))
        else:
            watch(name, given[0] if name in {"move", "copy"} else uri)
        return result

    for name in CHANGES:
        monkeypatch.setattr(storage, name, partial(changing, name, getattr(storage, name)))


class DiedError(BaseException):
    """The process ended here."""


def dying(monkeypatch, steps):
    """Die before the change after this many; returns the list of changes made."""
    made = []

    def changing(name, really, *given, **options):
        if len(made) >= steps:
            raise DiedError
        made.append(name)
        return really(*given, **options)

    for name in CHANGES:
        monkeypatch.setattr(storage, name, partial(changing, name, getattr(storage, name)))
    return made


# --- the order of the steps ---


def test_the_mark_leaves_first_the_pointer_follows_and_the_mark_comes_last(anywhere, monkeypatch):
    commit(anywhere, image("a"))
    publish(anywhere, SUMMARY)
    second = begin(anywhere.uri)
    commit(second, image("b"))
    parts = runs.load_ledger(anywhere.uri)
    steps = []
    top = anywhere.uri.rstrip("/") + "/"
    watched(monkeypatch, lambda name, uri: steps.append((name, uri.removeprefix(top))))
    runs.publish(second, parts, SUMMARY)

    visible = [(name, path.removeprefix(".attempt-0002/trash/")) for name, path in steps
               if not path.startswith(".attempt-") or (name == "move" and "trash" in path)]  # fmt: skip
    order = [path for name, path in visible if name != "remove" or path == "_SUCCESS"]
    assert order[:2] == ["_SUCCESS", "manifest.json"]
    assert order[-2:] == ["summary.json", "_SUCCESS"]
    assert {path.partition("/")[0] for path in order[2:-2]} == {"masks", "class_stats", "receipts"}


@pytest.mark.parametrize("where", ["attempt", "in_store"])
def test_no_reader_of_a_finished_run_ever_sees_a_row_twice_torn_or_missing(where, request, monkeypatch):
    """Looked at after every change: a first publication, one that replaces parts, and one that only joins them."""
    first = request.getfixturevalue(where)
    uri, seen, expected = first.uri, Counter(), ["a", "b", "v", "v"]

    def look(*_):
        is_finished = storage.exists(storage.join(uri, "_SUCCESS"))
        seen[is_finished] += 1
        if is_finished:
            assert plain_item_ids(uri) == item_ids(uri) == expected
            assert_folders_are_the_manifest(uri)
        else:  # a unit may be in two parts until the job removes duplicates
            assert set(item_ids(uri)) == set(expected)

    commit(first, image("a"), image("b"))
    commit(first, image("b"), *video("v", 2))
    with monkeypatch.context() as patch:
        watched(patch, look)
        publish(first, SUMMARY)
    second = begin(uri)
    with monkeypatch.context() as patch:
        watched(patch, look)
        publish(second, SUMMARY, compact_bytes=1 << 20)

    assert seen[False] > 10
    assert seen[True] > 5
    assert plain_item_ids(uri) == item_ids(uri) == expected
    assert len(runs.open_ledger(uri).parts) == 1


def second_publication(uri):
    """Publish a run that has two parts, of which one is retried, with one new part and the seconds of its videos."""
    first = begin(uri) if not storage.exists(storage.join(uri, "run.json")) else None
    if first:
        commit(first, image("a"), *video("v", 2, 1))
        commit(first, image("bad", failed=True))
        publish(first, SUMMARY)
    second = begin(uri)
    commit(second, image("bad"), image("c"))
    return second


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_publication_that_dies_anywhere_is_completed_by_the_next_start(where, tmp_path, monkeypatch):
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    top = str(tmp_path) if where == "disk" else "memory://bucket"
    whole, four_items = f"{top}/whole", {"items": {"total": 4}}
    with monkeypatch.context() as patch:
        second = second_publication(whole)
        made = dying(patch, 1 << 30)
        publish(second, four_items, keep_failures=False)
    names = {"masks", "class_stats", "failures"}
    expected = {name: ledger.sorted_rows(whole, name, but=[]) for name in names}
    before_ids, after_ids = ["a", "v", "v", "v"], ["a", "bad", "c", "v", "v", "v"]

    for steps in range(len(made)):
        uri = f"{top}/{steps}"
        second = second_publication(uri)
        with monkeypatch.context() as patch, contextlib.suppress(DiedError):
            dying(patch, steps)
            publish(second, four_items, keep_failures=False)
        if storage.exists(storage.join(uri, "_SUCCESS")):
            assert_folders_are_the_manifest(uri)
            assert plain_item_ids(uri) in (before_ids, after_ids)
        assert item_ids(uri) in (before_ids, after_ids)

        third = begin(uri)
        publish(third, four_items, keep_failures=False)

        assert {name: ledger.sorted_rows(uri, name) for name in names} == expected, steps
        assert_folders_are_the_manifest(uri)
        assert plain_item_ids(uri) == after_ids
        assert runs.verify(uri) == []
        assert not [path for path in snapshot(uri) if path.startswith(".attempt-")]
    filesystem.store.clear()


def test_a_publication_that_died_before_its_pointer_has_changed_nothing_but_the_mark(attempt, monkeypatch):
    second = second_publication(f"{attempt.uri}-2")
    before = {path: data for path, data in snapshot(second.uri).items() if not path.startswith(".attempt-")}

    def refuse(_, path, __):
        raise DiedError(path)

    monkeypatch.setattr(runs.Attempt, "replace", refuse)
    with pytest.raises(DiedError, match=r"manifest\.json"):
        publish(second, SUMMARY, keep_failures=False)

    after = {path: data for path, data in snapshot(second.uri).items() if not path.startswith(".attempt-")}
    assert after == {path: data for path, data in before.items() if path != "_SUCCESS"}


# --- what counts afterwards ---


def test_what_a_publication_left_out_never_counts_again(anywhere, monkeypatch):
    """Its files may still be staged when the process dies before the last step."""
    commit(anywhere, image("a"))
    commit(anywhere, image("bad", failed=True))
    second = begin(anywhere.uri)
    late = commit(second, image("left out"))
    parts = runs.load_ledger(anywhere.uri)
    parts.retry_before = second.number
    parts.drop(late.part)
    with monkeypatch.context() as patch:
        patch.setattr(runs.Attempt, "end", lambda _, **options: options)
        runs.publish(second, parts, SUMMARY)

    assert any(late.part in path for path in snapshot(anywhere.uri))
    assert item_ids(anywhere.uri) == ["a"]
    third = begin(anywhere.uri)
    assert item_ids(anywhere.uri) == ["a"]
    assert item_ids(anywhere.uri, "failures") == []
    new = commit(third, image("left out"))
    assert new.part != late.part
    publish(third, SUMMARY)
    assert item_ids(anywhere.uri) == plain_item_ids(anywhere.uri) == ["a", "left out"]


def test_a_part_without_rows_is_published_and_kept_by_a_reader(attempt):
    """In a segment of a video that is sampled there may be no frame at all."""
    empty, filled = video("v", 0, 2)
    receipt = commit(attempt, empty)
    commit(attempt, filled)
    publish(attempt, SUMMARY)

    assert receipt.files == {}
    assert receipt.part in [each.part for each in runs.receipts(attempt.uri)]
    change = runs.begin_change(attempt.uri, HeldLease())
    runs.publish(change, runs.open_ledger(attempt.uri), SUMMARY)
    assert len(runs.find_completed(runs.load_ledger(attempt.uri)).items) == 1
    assert_folders_are_the_manifest(attempt.uri)


LOSSES = [
    (is_published, what, how)
    for is_published in (False, True)
    for what in ("masks", "class_stats", "failures", "receipts")
    for how in ("missing", "short", "long")
    # Without its receipt a staged part was never committed, and nothing else says how long one is.
    if is_published or what != "receipts" or how == "short"
]


@pytest.mark.parametrize(("is_published", "what", "how"), LOSSES)
def test_a_part_with_a_lost_or_torn_file_does_not_count_and_is_scored_again(is_published, what, how, attempt):
    kept = commit(attempt, image("kept"))
    receipt = commit(attempt, broken(video("v", 3)[0], frames=2))
    if is_published:
        publish(attempt, SUMMARY)
    found = runs.load_ledger(attempt.uri)
    path = Path(attempt.uri, found.receipt_path(receipt.part) if what == "receipts" else
                next(found.receipts([receipt.part])).files[what]["path"])  # fmt: skip
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if how == "short" else data + b"\0")
    done = runs.find_completed(runs.load_ledger(attempt.uri))
    assert len(done.items) == 1
    assert [*done.lost] == [receipt.part]
    assert path.name.split(".")[0] in done.lost[receipt.part]
    second = begin(attempt.uri)
    commit(second, video("v", 3)[0])
    publish(second, SUMMARY)

    assert item_ids(attempt.uri) == plain_item_ids(attempt.uri) == ["kept", "v", "v", "v"]
    assert item_ids(attempt.uri, "failures") == []
    assert kept.part in runs.open_ledger(attempt.uri).parts
    assert runs.verify(attempt.uri)[:1] in ([], ["missing: receipts account for 2 items, the summary for 3"])
    assert_folders_are_the_manifest(attempt.uri)


def test_a_part_that_is_lost_after_counting_is_not_left_out_in_silence(attempt):
    commit(attempt, image("a"))
    receipt = commit(attempt, image("b"))
    parts = runs.load_ledger(attempt.uri)
    totals = runs.count_totals(parts, [])
    Path(attempt.uri, ".attempt-0001", runs.receipt_path(receipt.part)).unlink()

    with pytest.raises(FSFError):
        runs.publish(attempt, parts, SUMMARY | {"frames": totals.frames})

    assert not Path(attempt.uri, "_SUCCESS").exists()


def test_a_ghost_of_a_receipt_in_a_finished_run_counts_for_nothing(attempt):
    """A receipt beside those of the pointer, left by a process that died or slept, is not the run's."""
    commit(attempt, image("a"))
    ghost = commit(attempt, image("ghost"))
    staged = Path(attempt.uri, ".attempt-0001", runs.receipt_path(ghost.part)).read_bytes()
    parts = runs.load_ledger(attempt.uri)
    parts.drop(ghost.part)
    runs.publish(attempt, parts, SUMMARY)
    Path(attempt.uri, runs.receipt_path(ghost.part)).write_bytes(staged)

    assert item_ids(attempt.uri) == ["a"]
    assert len(runs.find_completed(runs.load_ledger(attempt.uri)).items) == 1
    assert [line for line in runs.verify(attempt.uri) if line.startswith("orphan: ") and ghost.part in line]
    second = begin(attempt.uri)
    assert publish(second, SUMMARY) == Counter(orphan_files=1)
    assert not Path(attempt.uri, runs.receipt_path(ghost.part)).exists()


def test_failures_of_earlier_attempts_do_not_count_when_they_are_tried_again(attempt):
    commit(attempt, image("a"))
    commit(attempt, image("bad", failed=True))
    publish(attempt, SUMMARY)
    second = begin(attempt.uri)
    commit(second, image("worse", failed=True))
    parts = runs.load_ledger(attempt.uri)

    for before, expected in ((0, 3), (second.number, 2), (runs.ALL_FAILURES, 1)):
        parts.retry_before = before
        assert len(runs.find_completed(parts).items) == expected
    publish(second, SUMMARY, keep_failures=False)
    assert item_ids(attempt.uri, "failures") == ["worse"]


def test_a_finished_run_is_read_by_its_pointer_alone(attempt, monkeypatch):
    """A reader must not need to list folders with many files."""
    commit(attempt, image("a"))
    publish(attempt, SUMMARY)
    commit(begin(attempt.uri), image("staged by the next job"))
    monkeypatch.setattr(storage, "list_files", lambda *_, **__: pytest.fail("listed"))

    assert item_ids(attempt.uri) == ["a"]


def test_the_pointer_lists_files_and_receipts_with_what_they_are(attempt):
    commit(attempt, image("a"), *video("v", 2))
    commit(attempt, image("bad", failed=True))
    publish(attempt, SUMMARY)

    manifest = runs.read_document(attempt.uri, "manifest.json")
    assert (manifest["layout"], manifest["attempt"]) == (2, 1)
    assert {file["table"] for file in manifest["files"]} == {"masks", "class_stats", "failures", "video_stats"}
    assert {file["path"] for file in manifest["receipts"]} == {
        runs.receipt_path(part) for part in runs.open_ledger(attempt.uri).parts
    }
    for file in [*manifest["files"], *manifest["receipts"]]:
        assert {*file} == {"part", "table", "path", "rows", "bytes", "sha256"}
    assert sum(file["rows"] for file in manifest["files"] if file["table"] == "masks") == 3
    assert_folders_are_the_manifest(attempt.uri)


def test_a_damaged_pointer_is_an_error_of_the_run_and_not_an_empty_run(attempt):
    commit(attempt, image("a"))
    publish(attempt, SUMMARY)
    Path(attempt.uri, "manifest.json").write_bytes(b'{"layout": 2, "files": [')

    for read in (lambda: item_ids(attempt.uri), lambda: runs.load_ledger(attempt.uri)):
        with pytest.raises(OutputError, match=r"manifest\.json cannot be read.*; "):
            read()


# --- runs of the older layout ---


def older_run(uri, *parts):
    """Write a run as the older version did: every part in the folders of its tables at once."""
    staged = begin(f"{uri}-staged")
    for units in parts:
        commit(staged, *units)
    for receipt in runs.receipts(staged.uri):
        for table, file in receipt.files.items():
            data = storage.read_bytes(storage.join(staged.uri, file["path"]))
            storage.write_bytes(storage.join(uri, receipt.published_path(table)), data)
        data = storage.read_bytes(storage.join(staged.uri, runs.load_ledger(staged.uri).receipt_path(receipt.part)))
        storage.write_bytes(storage.join(uri, runs.receipt_path(receipt.part)), data)
    known = runs.read_document(staged.uri, "run.json")
    attempts = [{"started_at": "2026-11-22T00:00:00+00:00"}]
    storage.write_bytes(storage.join(uri, "run.json"), json.dumps(known | {"layout": 1, "attempts": attempts}).encode())
    return uri


def test_an_unfinished_run_of_the_older_layout_keeps_its_parts_and_ends_in_the_newer_one(tmp_path):
    uri = older_run(str(tmp_path / "run"), [image("a")], [image("b"), image("bad", failed=True)])
    assert item_ids(uri) == ["a", "b"]

    attempt = begin(uri)
    assert attempt.number == 2
    commit(attempt, image("c"))
    assert item_ids(uri) == ["a", "b", "c"]
    assert runs.read_document(uri, "run.json")["layout"] == 1
    publish(attempt, SUMMARY)

    assert runs.read_document(uri, "run.json")["layout"] == 2
    assert item_ids(uri) == plain_item_ids(uri) == ["a", "b", "c"]
    assert_folders_are_the_manifest(uri)
    assert runs.verify(uri) == ["missing: receipts account for 4 items, the summary for 3"]


@pytest.mark.parametrize("dies_at", range(12))
def test_the_first_publication_of_a_run_of_the_older_layout_can_die_anywhere(dies_at, tmp_path, monkeypatch):
    uri = older_run(str(tmp_path / "run"), [image("a")], [image("b"), image("a")])
    attempt = begin(uri)
    commit(attempt, image("c"))
    with monkeypatch.context() as patch:
        dying(patch, dies_at * 2)
        with contextlib.suppress(DiedError):
            publish(attempt, SUMMARY)
    third = begin(uri)
    publish(third, SUMMARY)

    assert item_ids(uri) == plain_item_ids(uri) == ["a", "b", "c"]
    assert_folders_are_the_manifest(uri)
    assert runs.verify(uri) == []


def test_rows_and_receipts_of_one_part_agree(attempt):
    """The tables of a part are those that were given to it, whatever was committed before it."""
    commit(attempt, image("a"))
    receipt = commit(attempt, image("b"), image("c"))
    publish(attempt, SUMMARY)
    (found,) = [each for each in runs.receipts(attempt.uri) if each.part == receipt.part]

    assert (
        runs.read_part(attempt.uri, found, "masks", checked=True).to_pylist()
        == tables_of([image("b"), image("c")])["masks"].to_pylist()
    )
