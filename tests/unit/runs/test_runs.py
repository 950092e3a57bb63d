"""The ledger: a part with a receipt exists, complete and once; one without does not; one job at a time per folder."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import runs, storage
from fsf_core.errors import LeaseLostError, OutputError
from fsf_core.keys import item_key, item_keys, part_name
from fsf_core.runs import lease
from fsf_core.schema import FAILURES, FRAME_FIGURES, MASKS, TABLES, UNITS
from tests.support import ledger
from tests.support.ledger import (
    ScoredUnit,
    assert_folders_are_the_manifest,
    broken,
    commit,
    image,
    newest_attempt,
    newest_staging,
    next_attempt,
    publish,
    rows_of,
    snapshot,
    sorted_rows,
    tables_of,
    video,
)

FINGERPRINT = {"bundle": "ab" * 32, "mask_size": "original", "classes": ["a", "b"], "columns": {"n": "int64"}}
SUMMARY = {"items": {"total": 2, "scored": 2, "failed": 0, "not_in_manifest": 0}}


@pytest.fixture
def folder(tmp_path):
    """A run that was started."""
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        pass
    return uri


@pytest.fixture
def bucket():
    """A run that was started in a store."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    uri = "memory://bucket/run"
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        pass
    yield uri
    filesystem.store.clear()


def message_of(error: BaseException):
    """Return the message: what was found and expected, and after a semicolon what to do."""
    assert re.search(r".+; .+", str(error)), str(error)
    return str(error)


def files_of(uri, name):
    return sorted(entry.relative for entry in storage.list_files(storage.join(uri, name), hidden=True))


def done_of(uri):
    return runs.find_completed(runs.load_ledger(uri))


def totals_of(uri, manifest_keys):
    return runs.count_totals(runs.load_ledger(uri), manifest_keys)


def settle(uri):
    """Reconcile and publish; returns what was removed."""
    removed = publish(uri, SUMMARY, derived=[])
    assert_folders_are_the_manifest(uri)
    return removed


def parts_of(uri):
    return [receipt.part for receipt in runs.receipts(uri)]


def unit_keys(uri):
    return [key for receipt in runs.receipts(uri) for key in receipt.units.column("unit_key").to_pylist()]


def item_ids(uri, name="masks"):
    return sorted(runs.read_table(uri, name, columns=["item_id"]).column("item_id").to_pylist())


def keys(*names):
    return item_keys(names)


# --- parts and receipts ---


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_committed_rows_are_read_back_unchanged(where, request):
    uri = request.getfixturevalue(where)
    one, other = [image("a.jpg"), *video("v.mp4", 2, 3)], [image("b.jpg", failed=True)]

    commit(uri, *one)
    commit(uri, *other, attempt=3)

    expected = tables_of([*one, *other], attempt=3)
    for name in TABLES:
        found = runs.read_table(uri, name)
        order = [("item_id", "ascending"), *([("frame_index", "ascending")] if name != "failures" else [])]
        assert found.sort_by(order).to_pylist() == expected[name].sort_by(order).to_pylist()
        assert found.schema.equals(TABLES[name], check_metadata=False)
        assert found.schema.metadata == TABLES[name].metadata


def test_a_receipt_describes_its_part(folder):
    units = [image("a.jpg"), *video("v.mp4", 2)]

    receipt = commit(folder, *units)

    (found,) = runs.receipts(folder)
    assert found == receipt
    assert found.stored["bytes"] == Path(folder, ".attempt-0001", runs.receipt_path(receipt.part)).stat().st_size
    assert receipt.part == part_name(1, [unit.key for unit in units])
    assert receipt.attempt == 1
    assert (receipt.frames, receipt.failed_units) == (3, 0)
    assert sum(receipt.pixels) == 3 * 12
    assert set(receipt.files) == {"masks", "class_stats"}
    for facts in receipt.files.values():
        data = Path(folder, facts["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (facts["bytes"], facts["sha256"])
    assert receipt.units.schema.equals(UNITS, check_metadata=True)


def video_parts_of(uri):
    return list(runs.video_parts(runs.load_ledger(uri)))


def test_video_parts_are_those_with_frames_of_videos(folder):
    """A run of images only need not read all its parts to find that there are no videos."""
    for unit in (image("a.jpg"), broken(image("b.jpg")), *video("v.mp4", 1)):
        commit(folder, unit)
    assert [set(each.units.column("item_id").to_pylist()) for each in video_parts_of(folder)] == [{"v.mp4"}]


def test_a_receipt_without_timed_frames_counts_as_a_video_part(folder):
    receipt = commit(folder, image("a.jpg"))
    uri = newest_staging(folder).uri(runs.receipt_path(receipt.part))
    with pa.ipc.open_file(pa.BufferReader(storage.read_bytes(uri))) as reader:
        table = reader.read_all()
    facts = json.loads(table.schema.metadata[b"fsf_receipt"])
    del facts["timed_frames"]
    older = table.replace_schema_metadata({"fsf_receipt": json.dumps(facts)})
    with pa.OSFile(uri, "wb") as file, pa.ipc.new_file(file, older.schema) as writer:
        writer.write_table(older)
    assert [each.part for each in video_parts_of(folder)] == [receipt.part]


def test_tables_are_read_by_column_and_by_item(folder):
    commit(folder, image("a.jpg"), *video("v.mp4", 2))
    commit(folder, image("b.jpg"))

    only = runs.read_table(folder, "masks", item_id="v.mp4", columns=["frame_index", "uri"])
    assert only.to_pylist() == [{"frame_index": at, "uri": "/photos/v.mp4"} for at in (0, 1)]
    assert only.column_names == ["frame_index", "uri"]
    assert runs.read_table(folder, "masks", columns=["uri", "item_id"]).column_names == ["uri", "item_id"]
    assert runs.read_table(folder, "masks", item_id="v.mp4", columns=["item_id"]).num_rows == 2
    assert runs.read_table(folder, "masks", item_id="none").num_rows == 0
    assert runs.read_table(folder, "failures", columns=["stage"]).schema.names == ["stage"]


def test_pass_through_columns_of_some_parts_are_null_in_the_others(folder):
    commit(folder, image("a.jpg"))
    tables = tables_of([image("b.jpg")])
    tables["masks"] = tables["masks"].append_column("camera", pa.array(["left"]))
    runs.commit(newest_staging(folder), tables, rows_of([image("b.jpg")]))

    found = runs.read_table(folder, "masks")

    assert sorted(found.column("camera").to_pylist(), key=str) == [None, "left"]


def test_a_part_without_a_receipt_does_not_exist_and_is_removed(folder):
    commit(folder, image("a.jpg"))
    orphan = commit(folder, image("b.jpg"))
    staging = newest_staging(folder)
    storage.remove(staging.uri(runs.receipt_path(orphan.part)))
    storage.write_bytes(staging.uri("masks/.part-x.parquet.12ab.tmp"), b"half")

    assert item_ids(folder) == ["a.jpg"]
    assert not done_of(folder).holds(keys("b.jpg")).any()
    assert settle(folder) == Counter()
    assert item_ids(folder) == ["a.jpg"]
    assert not Path(folder, ".attempt-0001").exists()


def test_files_without_a_part_in_the_published_folders_are_removed_and_counted(folder):
    commit(folder, image("a.jpg"))
    settle(folder)
    for name in ("masks/part-x.parquet", "masks/.part-x.parquet.12ab.tmp", "receipts/.part-x.arrow.12ab.tmp"):
        storage.write_bytes(storage.join(folder, name), b"half")
    next_attempt(folder)

    assert settle(folder) == Counter(orphan_files=3)
    assert len(files_of(folder, "masks")) == len(files_of(folder, "receipts")) == 1
    next_attempt(folder)
    assert settle(folder) == Counter()


def test_a_receipt_without_its_files_leaves_the_run_and_its_items_are_pending(folder):
    receipt = commit(folder, image("a.jpg"))
    commit(folder, image("b.jpg"))
    settle(folder)
    for table in receipt.files:
        Path(folder, receipt.published_path(table)).unlink()
    storage.write_bytes(storage.join(folder, "receipts", "part-0001-ghost.arrow"), b"of nobody")

    done = done_of(folder)
    assert done.holds(keys("a.jpg", "b.jpg")).tolist() == [False, True]
    assert [*done.lost] == [receipt.part]
    next_attempt(folder)
    settle(folder)

    assert item_ids(folder) == ["b.jpg"]
    assert len(files_of(folder, "receipts")) == 1


def test_committing_the_same_units_again_changes_nothing(folder):
    receipt = commit(folder, image("a.jpg"), image("b.jpg"))
    before = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}

    again = commit(folder, image("b.jpg"), image("a.jpg"))

    assert again == receipt
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")} == before


def test_of_two_tries_in_one_attempt_the_first_counts_whatever_they_found(folder):
    """A receipt is never replaced, so it never describes other bytes."""
    first = commit(folder, broken(image("a.jpg")))

    assert commit(folder, image("a.jpg")) == first
    assert (item_ids(folder), item_ids(folder, "failures")) == ([], ["a.jpg"])


def test_a_failed_part_of_an_earlier_attempt_gives_way_to_a_good_one(folder):
    commit(folder, broken(image("a.jpg")))
    second = next_attempt(folder)
    good = commit(folder, image("a.jpg"))

    assert publish(second, SUMMARY, keep_failures=False) == Counter()

    assert parts_of(folder) == [good.part]
    assert (item_ids(folder), item_ids(folder, "failures")) == (["a.jpg"], [])
    assert files_of(folder, "masks") == [f"{good.part}.parquet"]


@pytest.mark.parametrize("name", ["masks", "class_stats", "failures", "receipts"])
def test_a_crash_while_a_part_is_written_leaves_no_receipt_of_other_bytes(name, folder, monkeypatch):
    units = broken(video("v.mp4", 4)[0], frames=2)

    def dying(really):
        def change(uri, data, **options):
            if f"/{name}/" in uri:
                raise KeyboardInterrupt
            return really(uri, data, **options)

        return change

    with monkeypatch.context() as patch:
        for change in ("write_bytes", "create"):
            patch.setattr(storage, change, dying(getattr(storage, change)))
        with pytest.raises(KeyboardInterrupt):
            commit(folder, units)
    assert unit_keys(folder) == []
    commit(folder, units)
    settle(folder)

    assert [line for line in runs.verify(folder) if not line.startswith("missing: receipts account")] == []


def test_units_and_failures_must_agree(folder):
    tables = tables_of([image("a.jpg", failed=True)])

    with pytest.raises(AssertionError):
        runs.commit(
            newest_staging(folder),
            tables | {"failures": FAILURES.empty_table()},
            rows_of([image("a.jpg", failed=True)]),
        )


@pytest.mark.parametrize("is_published", [False, True])
def test_a_missing_or_damaged_file_of_a_receipt_is_reported(is_published, folder):
    receipt = commit(folder, image("a.jpg"))
    if is_published:
        settle(folder)
    path = Path(folder, next(runs.receipts(folder)).files["masks"]["path"])
    data = path.read_bytes()

    path.write_bytes(data[:100] + bytes(len(data) - 100))  # of the right size
    with pytest.raises(OutputError, match="fsf verify"):
        runs.read_table(folder, "masks")
    for change in (lambda: path.write_bytes(data[:100]), path.unlink):
        change()
        with pytest.raises(OutputError, match="fsf verify") as caught:
            runs.read_table(folder, "masks")
        message_of(caught.value)
        assert receipt.part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"noise", "valid arrow"])
def test_a_damaged_receipt_is_named_by_readers_and_its_units_are_scored_again(content, folder):
    commit(folder, image("a.jpg"))
    if isinstance(content, str):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, pa.schema([("x", pa.int8())], metadata={"fsf_receipt": "{}"})):
            pass
        content = sink.getvalue().to_pybytes()
    storage.write_bytes(newest_staging(folder).uri("receipts/part-ab-0001.arrow"), content)

    with pytest.raises(OutputError, match=r"part-ab-0001\.arrow is not a receipt.*; .*scores its items anew"):
        runs.read_table(folder, "masks")
    done = done_of(folder)
    assert [*done.lost] == ["part-ab-0001"]
    assert done.holds(keys("a.jpg")).all()


def test_a_folder_that_is_not_a_run_cannot_be_read(tmp_path):
    for read in (runs.verify, lambda uri: runs.read_table(uri, "masks")):
        with pytest.raises(OutputError, match="holds no run") as caught:
            read(str(tmp_path))
        message_of(caught.value)


# --- completed work ---


def test_an_item_is_completed_when_every_segment_is_committed(folder):
    whole, part = video("whole.mp4", 2, 2, 1), video("part.mp4", 2, 2, 1)
    commit(folder, image("a.jpg"), whole[0], whole[2], part[0])
    commit(folder, whole[1], part[2])
    commit(folder, image("bad.jpg", failed=True))

    done = done_of(folder)

    assert done.holds(keys("a.jpg", "b.jpg", "whole.mp4", "part.mp4", "bad.jpg")).tolist() == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert done.segments == {item_key("part.mp4"): frozenset({0, 2})}
    assert len(done.items) == 3
    assert (done.items[1:] > done.items[:-1]).all()


def test_nothing_is_completed_in_a_new_run(folder):
    assert not done_of(folder).holds(keys("a", "b")).any()
    assert done_of(folder).holds(keys()).tolist() == []
    assert done_of(folder).segments == {}


def test_duplicate_units_count_once(folder):
    part = video("v.mp4", 1, 1, 1)
    commit(folder, part[0], image("a.jpg"))
    commit(folder, part[0], part[1], image("a.jpg"))

    done = done_of(folder)

    assert done.segments == {item_key("v.mp4"): frozenset({0, 1})}
    assert len(done.items) == 1


def test_a_video_that_failed_as_a_whole_after_some_segments_is_completed(folder):
    """The source vanished between two starts, so the number of its segments is no longer known."""
    commit(folder, *video("v.mp4", 2, 2, 2)[:1])
    commit(folder, ScoredUnit(item_id="v.mp4", segment=1, frames=0, failed=True))

    done = done_of(folder)

    assert done.holds(keys("v.mp4")).all()
    assert done.segments == {}
    assert totals_of(folder, [keys("v.mp4")]).foreign_items == 0


# --- totals ---


def test_totals_count_the_run_against_its_manifest(folder):
    commit(folder, image("a"), *video("v", 2, 2), *video("begun", 1, 1)[:1])
    commit(folder, image("bad", failed=True), broken(video("half", 3, 3)[1], frames=1))
    commit(folder, video("half", 3, 3)[0], image("foreign"))

    totals = totals_of(folder, iter([keys("a", "v", "new"), keys("bad", "half", "begun")]))

    assert totals.missing_items == 2  # new, begun
    assert totals.foreign_items == 1
    assert totals.failed_items == 2
    assert totals.frames == 1 + 4 + 1 + 1 + 3 + 1
    assert sum(totals.pixels) == totals.frames * 12
    by_class = runs.read_table(folder, "class_stats").group_by("class_id").aggregate([("pixels", "sum")]).to_pylist()
    assert [row["pixels_sum"] for row in sorted(by_class, key=lambda row: row["class_id"])] == list(totals.pixels)


def test_totals_of_an_empty_run_are_zero(folder):
    assert totals_of(folder, [keys("a")]) == runs.Totals(
        missing_items=1,
        foreign_items=0,
        failed_items=0,
        frames=0,
        pixels=(),
        statistics=dict.fromkeys(FRAME_FIGURES),
        items_sha256=hashlib.sha256(b"").hexdigest(),
    )


def test_the_digest_of_the_items_is_that_of_the_list_in_any_order_and_of_no_other_item(folder):
    units = [replace(image(name), row_digest=name.encode() * 8) for name in "abc"]
    commit(folder, *units[:2])
    two = totals_of(folder, [keys("a", "b")]).items_sha256
    commit(folder, units[2])

    assert totals_of(folder, [keys("b"), keys("a")]).items_sha256 == two
    assert len({two, *(totals_of(folder, [keys(*names)]).items_sha256 for names in ("ac", "abc", "a"))}) == 4
    assert (
        totals_of(folder, [keys("c", "a", "b")]).items_sha256 == totals_of(folder, [keys("a", "b", "c")]).items_sha256
    )


def test_an_item_with_two_failed_segments_is_one_failed_item(folder):
    commit(folder, *map(broken, video("v", 1, 1)))

    assert totals_of(folder, [keys("v")]).failed_items == 1
    assert runs.failure_kinds(runs.load_ledger(folder)) == Counter(DecodeError=2)


# --- duplicate units ---


def parts_in_name_order(*parts):
    return sorted(parts, key=lambda units: part_name(1, [unit.key for unit in units]))


def test_duplicate_units_stay_in_the_earlier_part_in_name_order(folder):
    first, second = parts_in_name_order([image("a"), image("b")], [image("b"), image("c")])
    for units in (second, first):
        commit(folder, *units)
    assert len(unit_keys(folder)) == 4

    assert settle(folder) == Counter(doubled_units=1)

    assert part_name(1, [unit.key for unit in first]) in parts_of(folder)
    assert Counter(unit_keys(folder)) == Counter(unit.key for unit in map(image, "abc"))
    assert item_ids(folder) == ["a", "b", "c"]
    assert len(item_ids(folder, "class_stats")) == 6
    next_attempt(folder)
    assert settle(folder) == Counter()


def test_duplicate_units_stay_in_the_part_of_the_newest_attempt(folder):
    """What an earlier attempt committed last may be older than what a later one has read from its source since."""
    for number in range(1000):
        a, b, c = (image(f"{letter}{number}") for letter in "abc")
        if parts_in_name_order([a, b], [b, c])[0] == [a, b]:
            break
    commit(folder, a, b)
    next_attempt(folder)
    newer = commit(folder, b, c)

    assert settle(folder) == Counter(doubled_units=1)

    assert newer.part in parts_of(folder)
    assert [receipt.attempt for receipt in runs.receipts(folder)] == [2, 2]
    assert item_ids(folder) == sorted(unit.item_id for unit in (a, b, c))


def test_a_part_whose_units_are_all_in_earlier_parts_is_removed(folder):
    commit(folder, image("a"))
    commit(folder, image("b"))
    commit(folder, image("a"), image("b"))

    settle(folder)

    assert sorted(unit_keys(folder)) == sorted(unit.key for unit in map(image, "ab"))
    assert item_ids(folder) == ["a", "b"]
    assert len(files_of(folder, "masks")) == len(parts_of(folder))


def test_the_rest_of_a_part_may_have_the_name_of_a_later_part(folder):
    """{a,b} < {b,c} < {c}: in name order {b,c} becomes {c}, {c} is then removed as its duplicate, and c is lost."""
    for number in range(1000):
        a, b, c = (image(f"{letter}{number}") for letter in "abc")
        if parts_in_name_order([c], [b, c], [a, b]) == [[a, b], [b, c], [c]]:
            break
    for units in ([a, b], [b, c], [c]):
        commit(folder, *units)

    settle(folder)

    assert sorted(unit_keys(folder)) == sorted(unit.key for unit in (a, b, c))
    assert item_ids(folder) == sorted(unit.item_id for unit in (a, b, c))


def test_segments_of_one_video_are_kept_once_each_with_their_own_frames(folder):
    one, two, three = video("v", 2, 3, 2)
    for units in ([one, two], [two, three], [one, three, image("a")]):
        commit(folder, *units)

    settle(folder)

    assert Counter(unit_keys(folder)) == Counter(unit.key for unit in (one, two, three, image("a")))
    frames = [(row["item_id"], row["frame_index"]) for row in sorted_rows(folder, "masks")]
    assert frames == [("a", 0), *(("v", at) for at in range(7))]
    assert len(sorted_rows(folder, "class_stats")) == 16
    assert done_of(folder).holds(keys("v", "a")).all()


def test_failed_segments_keep_their_frames_and_failures_once_each(folder):
    """A failure names the first missing frame, which is not a frame of its segment, and yet must be kept."""
    one, two, three, four = video("v", 3, 3, 3, 3)
    failed = [broken(one, frames=2), broken(two), broken(three, frames=1), broken(four)]
    for part in (failed[:3], failed[1:], [failed[0], failed[3]]):
        commit(folder, *part)

    settle(folder)

    assert sorted(unit_keys(folder)) == sorted(unit.key for unit in failed)
    reasons = sorted(row["error_message"] for row in runs.read_table(folder, "failures").to_pylist())
    assert reasons == [f"found noise in segment {number}; replace the file" for number in range(4)]
    assert [row["frame_index"] for row in sorted_rows(folder, "masks")] == [0, 1, 6]


def test_a_segment_without_frames_claims_no_frame_of_another(folder):
    """Its first and last frame are 0, which is a frame of the first segment."""
    one, two = video("v", 2, 2)
    wide, narrow = [broken(one, frames=1), broken(two)], [broken(one, frames=1)]
    commit(folder, *wide)
    commit(folder, *narrow)

    settle(folder)

    assert [row["frame_index"] for row in sorted_rows(folder, "masks")] == [0]
    assert len(runs.read_table(folder, "failures")) == 2


CHANGES = ("write_bytes", "create", "move", "remove", "remove_folder")


@pytest.mark.parametrize("dies_at", range(25))
def test_reconcile_and_publish_can_die_at_any_moment_and_start_again(dies_at, folder, monkeypatch):
    for units in (
        [image("a"), image("b")],
        [image("b"), image("c")],
        [image("c"), image("d"), image("a")],
        [image("d")],
    ):
        commit(folder, *units)
    steps = iter(range(dies_at))

    def dying(really):
        def step(*args, **options):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return really(*args, **options)

        return step

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(storage, name, dying(getattr(storage, name)))
        with pytest.raises(KeyboardInterrupt):
            settle(folder)
    next_attempt(folder)
    settle(folder)

    assert Counter(unit_keys(folder)) == Counter(unit.key for unit in map(image, "abcd"))
    assert item_ids(folder) == ["a", "b", "c", "d"]


def zero_ended(*names):
    """Units whose keys end in zero bytes, or hold nothing else; NumPy's S16 drops such bytes from a single value."""
    units = rows_of([image(name) for name in names]).to_pydict()
    tails = [bytes(15) + bytes([at]) if at < 2 else b"k" * (16 - at) + bytes(at) for at in range(len(names))]
    units["unit_key"] = units["item_key"] = tails
    return pa.table(units, schema=UNITS)


def test_keys_that_end_in_zero_bytes_are_found(folder):
    names = [f"{number}.jpg" for number in range(5)]
    units = zero_ended(*names)
    every = np.frombuffer(b"".join(units.column("item_key").to_pylist()), "S16")

    for begin, end in ((0, 5), (1, 3)):
        tables = tables_of([image(name) for name in names[begin:end]])
        runs.commit(newest_staging(folder), tables, units.slice(begin, end - begin))

    assert done_of(folder).holds(every).all()
    assert not done_of(folder).holds(keys("x")).any()
    assert settle(folder)["doubled_units"] == 2
    assert sorted(unit_keys(folder)) == sorted(units.column("unit_key").to_pylist())
    assert item_ids(folder) == names
    assert totals_of(folder, [every]).missing_items == totals_of(folder, [every]).foreign_items == 0


def test_videos_whose_keys_end_in_zero_bytes_are_resumed_and_retried(folder):
    units = zero_ended("a", "b", "c").to_pydict() | {"segments": [2, 2, 2], "failed": [True] * 3, "frames": [0] * 3}
    failed = [image(name, failed=True) for name in "abc"]
    runs.commit(newest_staging(folder), tables_of(failed, attempt=4), pa.table(units, schema=UNITS))

    assert done_of(folder).segments == dict.fromkeys(units["item_key"], frozenset({0}))
    assert runs.count_attempts(runs.load_ledger(folder)) == dict.fromkeys(units["item_key"], 4)


# --- failures ---


def test_only_parts_of_failed_units_are_left_out_when_failures_are_tried_again(folder):
    half = video("half", 2, 2)
    good = commit(folder, image("a"), half[0])
    commit(folder, image("bad", failed=True), broken(half[1], frames=1), attempt=2)
    second = next_attempt(folder)

    assert runs.count_attempts(runs.load_ledger(folder)) == {item_key("bad"): 2, item_key("half"): 2}
    ledger = runs.load_ledger(folder)
    ledger.retry_before = second.number
    done = runs.find_completed(ledger)
    assert done.holds(keys("a", "bad", "half")).tolist() == [True, False, False]
    assert done.segments == {item_key("half"): frozenset({0})}
    assert runs.count_attempts(ledger) == {}
    publish(second, SUMMARY, keep_failures=False)

    assert parts_of(folder) == [good.part]
    assert files_of(folder, "masks") == [f"{good.part}.parquet"]
    assert not Path(folder, "failures").exists()


def test_failures_of_the_attempt_itself_count(folder):
    second = next_attempt(folder)
    commit(second, image("bad", failed=True))
    publish(second, SUMMARY, keep_failures=False)

    assert item_ids(folder, "failures") == ["bad"]


def test_the_attempts_of_an_item_are_the_most_of_its_segments(folder):
    one, two = map(broken, video("v", 1, 1))
    commit(folder, one, attempt=3)
    commit(folder, two, attempt=1)

    assert runs.count_attempts(runs.load_ledger(folder)) == {item_key("v"): 3}


def test_an_item_whose_failure_was_lost_is_tried_again(folder):
    receipt = commit(folder, image("bad", failed=True))
    path = Path(folder, receipt.files["failures"]["path"])
    path.write_bytes(bytes(path.stat().st_size))

    assert runs.count_attempts(runs.load_ledger(folder)) == {}


# --- verification ---


@pytest.fixture
def published(folder):
    commit(folder, image("a"))
    commit(folder, *video("v", 2, 1))
    publish(folder, SUMMARY | {"frames": 4}, derived=[])
    assert runs.verify(folder) == []
    return folder


def damage(uri, part, how):
    path = Path(uri, part.files["masks"]["path"])
    assert path.parent.name == "masks"
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"torn": data[:-7], "flipped": data[:9] + bytes([data[9] ^ 1]) + data[10:], "empty": b""}[how])
    return path.name


@pytest.mark.parametrize("how", ["torn", "flipped", "empty", "missing"])
def test_verify_names_a_damaged_file(how, published):
    name = damage(published, next(runs.receipts(published)), how)

    found = [line for line in runs.verify(published) if not line.startswith("missing: receipts account for 1 items")]

    assert len(found) == 1
    assert found[0].startswith("missing: " if how == "missing" else "torn: ")
    assert name in found[0]


def test_verify_names_duplicate_units_and_counts_them_once(folder):
    """A publication never lists a unit twice; an older version may have."""
    commit(folder, image("a"))
    commit(folder, image("a"), image("b"))
    runs.publish(newest_attempt(folder), runs.load_ledger(folder), {"items": {"total": 2}})

    found = runs.verify(folder)

    assert len(found) == 1
    assert re.match(r"duplicate: segment 0 of 'a' is in part-\S+ and in a preferred part", found[0])


def test_verify_names_a_video_that_lacks_a_segment(folder):
    commit(folder, image("a"), *video("v", 1, 1, 1)[:2])
    publish(folder, SUMMARY)

    assert runs.verify(folder) == ["missing: 'v' has 2 of 3 segments"]


def test_verify_names_a_file_without_a_receipt(published):
    """Readers of masks/*.parquet would read it too."""
    storage.write_bytes(storage.join(published, "masks", "part-x.parquet"), b"x")

    found = runs.verify(published)

    assert len(found) == 1
    assert found[0].startswith("orphan: masks/part-x.parquet")


def test_verify_says_that_a_run_has_not_finished(folder):
    commit(folder, image("a"))

    assert runs.verify(folder) == ["missing: _SUCCESS; the run has not finished: start the same command again"]


@pytest.mark.parametrize("how", ["missing", "short", "flipped"])
def test_verify_notices_a_lost_or_changed_receipt(how, published):
    part = parts_of(published)[0]
    path = Path(published, "receipts", f"{part}.arrow")
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        at = data.index(b'"frames"') + 1
        path.write_bytes(data[:-3] if how == "short" else data[:at] + b"F" + data[at + 1 :])

    found = runs.verify(published)

    assert any(part in line and line.startswith("missing: " if how == "missing" else "torn: ") for line in found)
    assert ("missing: receipts account for 1 items, the summary for 2" in found) is (how != "flipped")
    # Its tables are listed all the same, so they are no strangers of the run.
    assert [line for line in found if line.startswith("orphan: ")] == []


def test_verify_compares_the_summary_with_the_manifest(published):
    summary = runs.read_document(published, "summary.json")
    Path(published, "summary.json").write_text(json.dumps(summary | {"frames": 5}))

    assert runs.verify(published) == ["torn: summary.json differs from the summary in manifest.json"]

    manifest = runs.read_document(published, "manifest.json")
    manifest["summary"]["frames"] = 5
    Path(published, "manifest.json").write_text(json.dumps(manifest))

    assert runs.verify(published) == ["missing: manifest.json lists 4 rows of masks, its summary 5 frames"]


def test_items_that_the_manifest_no_longer_lists_are_not_a_problem(folder):
    """A manifest may shrink between two starts."""
    commit(folder, image("a"), image("b"), image("old"))
    publish(folder, {"items": {"total": 2, "not_in_manifest": 1}})

    assert runs.verify(folder) == []


# --- the folder ---


def test_a_new_folder_becomes_a_run_and_the_same_command_resumes_it(tmp_path):
    uri = str(tmp_path / "new" / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={"host": "one"}) as first:
        assert (first.number, first.start) == (1, 1)
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={"host": "two"}) as second:
        pass

    assert (second.run_id, second.number, second.start) == (first.run_id, 2, 2)
    assert [attempt["host"] for attempt in runs.read_document(uri, "run.json")["attempts"]] == ["one", "two"]


def test_a_fingerprint_compares_equal_after_a_json_round_trip(folder):
    as_tuple = FINGERPRINT | {"classes": ("a", "b")}

    with ledger.claim_run(folder, fingerprint=as_tuple, details={}) as opened:
        assert opened.start == 2


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_another_fingerprint_is_refused_with_the_difference(where, request):
    uri = request.getfixturevalue(where)
    other = {**FINGERPRINT, "mask_size": "model", "new": 1}
    del other["columns"]

    with pytest.raises(OutputError) as caught, ledger.claim_run(uri, fingerprint=other, details={}):
        pass

    message = message_of(caught.value)
    assert "mask_size: 'original' -> 'model'" in message
    assert "columns: {'n': 'int64'} -> None" in message
    assert "new: None -> 1" in message
    assert "bundle" not in message
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
        assert opened.start == 2


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_folder_with_other_files_is_refused_and_left_unchanged(where, tmp_path, bucket):
    uri = storage.join(str(tmp_path) if where == "disk" else storage.parent(bucket), "theirs")
    storage.write_bytes(storage.join(uri, "thesis.tex"), b"x")

    with (
        pytest.raises(OutputError, match=r"holds thesis\.tex and no run\.json") as caught,
        ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}),
    ):
        pass

    message_of(caught.value)
    assert files_of(uri, "") == ["thesis.tex"]


def test_a_folder_with_only_a_bundle_or_hidden_files_can_be_claimed(tmp_path):
    for name in (".DS_Store", "bundle/model.onnx"):
        storage.write_bytes(str(tmp_path / name), b"x")

    with ledger.claim_run(str(tmp_path), fingerprint=FINGERPRINT, details={}) as opened:
        assert opened.start == 1


def test_a_file_is_refused_as_a_run_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"x")

    for uri in (str(tmp_path / "file"), str(tmp_path / "file" / "run")):
        with pytest.raises(OutputError) as caught, ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
            pass
        message_of(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b'{"layout": 99}'])
def test_a_damaged_or_foreign_run_json_is_refused(content, folder):
    Path(folder, "run.json").write_bytes(content)

    with pytest.raises(OutputError) as caught, ledger.claim_run(folder, fingerprint=FINGERPRINT, details={}):
        pass

    message_of(caught.value)


HOLDER = """
import sys, time
from fsf_core import runs
with runs.lock_run(sys.argv[1], fingerprint={"holder": 1}) as lease:
    runs.begin_attempt(sys.argv[1], lease, fingerprint={"holder": 1}, details={})
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has claimed a run."""
    uri = str(tmp_path / "held")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield uri, process
    process.kill()
    process.communicate()


def test_a_second_process_in_the_same_folder_is_refused_and_changes_nothing(holder):
    uri, process = holder
    before = Path(uri, "run.json").read_bytes()

    with (
        pytest.raises(OutputError, match=f"is in use by process {process.pid}") as caught,
        ledger.claim_run(uri, fingerprint={"holder": 1}, details={}),
    ):
        pass

    message_of(caught.value)
    assert Path(uri, "run.json").read_bytes() == before


def test_a_killed_process_releases_the_lock(holder):
    uri, process = holder
    process.send_signal(signal.SIGKILL)
    process.wait()

    with ledger.claim_run(uri, fingerprint={"holder": 1}, details={}) as opened:
        assert opened.start == 2
        assert Path(uri, ".lock").read_text().split()[0] == str(os.getpid())


def test_a_locked_folder_in_which_nothing_was_written_leaves_nothing(tmp_path):
    for error in (None, ZeroDivisionError):
        with contextlib.suppress(ZeroDivisionError), runs.lock_run(str(tmp_path / "run"), fingerprint=FINGERPRINT):
            assert (tmp_path / "run" / ".lock").exists()
            if error:
                raise error

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_deleted_while_it_is_locked_is_a_lost_lease(tmp_path):
    lost = pytest.raises(LeaseLostError, match=r"\.lock cannot be read \(No such file or directory\): it was deleted")
    with lost, runs.lock_run(str(tmp_path / "run"), fingerprint=FINGERPRINT):
        shutil.rmtree(tmp_path / "run")

    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_removes_at_the_end_still_keeps_a_second_job_out(tmp_path, monkeypatch):
    """A second job opens the lock file, the first one removes it, and the second one locks a file without a name."""
    uri = str(tmp_path / "run")
    first = contextlib.ExitStack()
    first.enter_context(runs.lock_run(uri, fingerprint=FINGERPRINT))
    real = lease._lock
    monkeypatch.setattr(lease, "_lock", lambda *given: (first.close(), real(*given))[1])

    with runs.lock_run(uri, fingerprint=FINGERPRINT):
        monkeypatch.setattr(lease, "_lock", real)
        with pytest.raises(OutputError, match="is in use by process"), runs.lock_run(uri, fingerprint=FINGERPRINT):
            pass


def test_a_locked_run_is_not_changed_before_its_attempt_begins(folder):
    before = snapshot(folder)
    with runs.lock_run(folder, fingerprint=FINGERPRINT) as lease:
        assert snapshot(folder) == before
        assert runs.begin_attempt(folder, lease, fingerprint=FINGERPRINT, details={}).start == 2
    assert len(runs.read_document(folder, "run.json")["attempts"]) == 2


def test_what_is_completed_without_failures_is_what_remains_once_they_are_left_out(folder):
    half = video("half", 2, 2)
    commit(folder, image("a"), half[0])
    commit(folder, image("bad", failed=True), broken(half[1], frames=1))
    assert len(done_of(folder).items) == 3

    ledger = runs.load_ledger(folder)
    ledger.retry_before = runs.ALL_FAILURES
    expected = runs.find_completed(ledger)
    publish(next_attempt(folder), SUMMARY, keep_failures=False)

    found = done_of(folder)
    assert found.items.tolist() == expected.items.tolist()
    assert found.segments == expected.segments


def test_the_lock_is_released_at_the_end_of_the_block_even_after_an_error(tmp_path):
    uri = str(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        raise ZeroDivisionError

    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as opened:
        assert opened.start == 2


def test_dataset_viewers_show_masks_as_images(folder):
    receipt = commit(folder, image("a"))

    schema = pyarrow.parquet.read_schema(Path(folder, receipt.files["masks"]["path"]))

    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {"mask": {"_type": "Image"}}
    assert schema.field("item_id").metadata[b"description"] == MASKS.field("item_id").metadata[b"description"]
