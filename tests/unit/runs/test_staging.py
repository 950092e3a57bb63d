"""Attempts: a start of the job takes over what earlier ones staged, and nothing that they do later changes the run."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from fsf_core import runs, storage
from fsf_core.errors import LeaseLostError, StorageError
from fsf_core.runs import staging
from tests.support import ledger
from tests.support.ledger import HeldLease, begin, broken, commit, image, next_attempt, snapshot, video

SUMMARY = {"items": {"total": 2}}


def item_ids(uri):
    return sorted(runs.read_table(uri, "masks", columns=["item_id"]).column("item_id").to_pylist())


# --- what a plain reader finds ---


def test_plain_readers_find_nothing_before_a_publication(anywhere):
    commit(anywhere, image("a"), *video("v", 2))
    commit(anywhere, image("bad", failed=True))
    anywhere.staging.write("videos/clip.mp4", b"video")

    names = {path.partition("/")[0] for path in snapshot(anywhere.uri)}
    assert names == {"run.json", ".attempt-0001"}
    for pattern in ("masks/*.parquet", "*/*.parquet", "videos/*"):
        assert storage.glob(storage.join(anywhere.uri, pattern)) == []
    assert item_ids(anywhere.uri) == ["a", "v", "v"]


# --- one part, several tries ---


def test_of_two_concurrent_tries_the_first_receipt_counts_with_its_own_files(anywhere, monkeypatch):
    """The second one has written its files, and the first one its receipt, when the second writes its own."""
    really, firsts = storage.create, []

    def overtaken(uri, data, **options):
        if not firsts:
            firsts.append(None)
            firsts[0] = commit(anywhere, *video("v", 3))
        return really(uri, data, **options)

    monkeypatch.setattr(storage, "create", overtaken)
    second = commit(anywhere, broken(video("v", 3)[0], frames=1))

    assert second == firsts[0]
    assert [receipt.token for receipt in runs.receipts(anywhere.uri)] == [firsts[0].token]
    assert len(item_ids(anywhere.uri)) == 3
    ledger.publish(anywhere, SUMMARY)
    ledger.assert_folders_are_the_manifest(anywhere.uri)
    assert len(ledger.visible_files(anywhere.uri, "masks")) == 1


def test_two_tries_share_no_file(anywhere, monkeypatch):
    monkeypatch.setattr(storage, "exists", lambda _: False)  # neither sees the other's receipt
    names = []
    really = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda uri, *a, **o: (names.append(uri), really(uri, *a, **o))[1])

    for _ in range(2):
        commit(anywhere, image("a"))

    assert len(names) == len(set(names)) == 4


# --- taking over ---


def test_a_new_attempt_has_everything_that_earlier_ones_staged(anywhere):
    commit(anywhere, image("a"))
    second = begin(anywhere.uri)
    commit(second, image("b"))
    third = begin(anywhere.uri)

    assert (second.number, third.number) == (2, 3)
    assert item_ids(anywhere.uri) == ["a", "b"]
    ledger.publish(third, SUMMARY)
    assert item_ids(anywhere.uri) == ["a", "b"]
    ledger.assert_folders_are_the_manifest(anywhere.uri)
    assert staging.attempt_numbers(anywhere.uri) == []


def late_changes(earlier):
    """Every kind of change that a paused job may still make once it wakes."""
    place = earlier.staging
    return {
        "write": lambda: place.write("masks/part-0001-late.00.parquet", b"late"),
        "write at the top": lambda: place.write("adopted.json", b"late"),
        "create": lambda: place.create("receipts/part-0001-late.arrow", b"late"),
        "commit": lambda: commit(place, image("late")),
        "repeat a commit": lambda: commit(place, image("a")),
        "overlay": lambda: place.replace("overlays/a.jpg", b"late"),
        "rendered video": lambda: storage.write_file(place.uri("videos/a.mp4"), Path(__file__), root=place.folder),
        "run.json": lambda: earlier.replace("run.json", b"late"),
        "manifest.json": lambda: earlier.replace("manifest.json", b"late"),
        "_SUCCESS": lambda: earlier.replace("_SUCCESS", b""),
        "publish a file": lambda: earlier.publish_files({"masks/late.parquet": ".attempt-0001/masks/late"}, {}),
        "remove a file": lambda: earlier.remove_files(["summary.json"]),
        "take the mark away": earlier.unpublish,
        "publish": lambda: ledger.publish(earlier, SUMMARY),
    }


KINDS = (
    "write",
    "write at the top",
    "create",
    "commit",
    "repeat a commit",
    "overlay",
    "rendered video",
    "run.json",
    "manifest.json",
    "_SUCCESS",
    "publish a file",
    "remove a file",
    "take the mark away",
    "publish",
)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_late_change_of_an_earlier_attempt_works_on_a_disk(kind, is_finished, attempt):
    commit(attempt, image("a"))
    second = next_attempt(attempt.uri)
    commit(second, image("b"))
    if is_finished:
        ledger.publish(second, SUMMARY)
    before = snapshot(attempt.uri)

    with contextlib.suppress(StorageError):
        late_changes(attempt)[kind]()
        # What changes nothing may pass: an unfinished run has no mark and no summary to take away.
        assert kind in {"remove a file", "take the mark away"}
        assert not is_finished

    assert snapshot(attempt.uri) == before
    assert staging.attempt_numbers(attempt.uri) == ([] if is_finished else [2])


def test_an_earlier_attempt_that_ends_removes_nothing_of_the_next_one(attempt):
    commit(attempt, image("a"))
    next_attempt(attempt.uri)
    before = snapshot(attempt.uri)

    attempt.end(keep_staged=False)

    assert snapshot(attempt.uri) == before


def test_a_file_that_an_earlier_attempt_has_half_written_does_not_reach_the_run(attempt, monkeypatch):
    """It is paused between the file and its rename, and wakes when the next attempt has taken over."""
    commit(attempt, image("a"))
    really = storage.move

    def pausing(source, target, *, root):
        monkeypatch.undo()
        second = next_attempt(attempt.uri)
        ledger.publish(second, SUMMARY)
        really(source, target, root=root)

    monkeypatch.setattr(storage, "move", pausing)
    with pytest.raises(StorageError, match=r"late|moved into place"):
        attempt.replace("manifest.json", b"late")

    ledger.assert_folders_are_the_manifest(attempt.uri)
    assert item_ids(attempt.uri) == ["a"]


class TakenLease(HeldLease):
    """The lease of a job that another one has taken over."""

    def check(self):
        raise LeaseLostError("another job has taken the run over; stop")

    confirm = check


def test_late_parts_in_a_store_are_on_no_list(in_store):
    commit(in_store, image("a"))
    second = begin(in_store.uri)
    commit(in_store, image("late"))
    commit(second, image("b"))

    assert item_ids(in_store.uri) == ["a", "b"]
    third = begin(in_store.uri)
    commit(second, image("later"))
    assert item_ids(in_store.uri) == ["a", "b"]
    ledger.publish(third, SUMMARY)
    commit(in_store, image("after the end"))
    assert item_ids(in_store.uri) == ["a", "b"]
    begin(in_store.uri)
    assert item_ids(in_store.uri) == ["a", "b"]
    ledger.publish(in_store.uri, SUMMARY)
    assert item_ids(in_store.uri) == ["a", "b"]
    assert runs.verify(in_store.uri) == []
    assert staging.attempt_numbers(in_store.uri) == []


@pytest.mark.parametrize(
    "kind", ["run.json", "manifest.json", "_SUCCESS", "publish a file", "remove a file", "publish"]
)
def test_the_driver_of_an_earlier_attempt_in_a_store_stops_before_it_changes_what_is_published(kind, in_store):
    commit(in_store, image("a"))
    second = begin(in_store.uri)
    ledger.publish(second, SUMMARY)
    before = snapshot(in_store.uri)
    earlier = replace(in_store, lease=TakenLease())

    with pytest.raises(LeaseLostError):
        late_changes(earlier)[kind]()

    assert snapshot(in_store.uri) == before


def test_a_number_is_never_given_again(anywhere):
    numbers = [anywhere.number]
    for changes in (
        lambda _: None,
        lambda attempt: ledger.publish(attempt, SUMMARY),
        lambda attempt: ledger.publish(attempt, SUMMARY),
    ):
        attempt = begin(anywhere.uri)
        numbers.append(attempt.number)
        changes(attempt)
        change = runs.begin_change(anywhere.uri, HeldLease())
        numbers.append(change.number)
        ledger.publish(change, SUMMARY)

    assert numbers == sorted(set(numbers)) == [*range(1, len(numbers) + 1)]
    assert [each["number"] for each in runs.read_document(anywhere.uri, "run.json")["attempts"]] == [1, 2, 4, 6]


def test_a_number_is_greater_than_that_of_every_part_even_where_run_json_is_an_older_one(attempt):
    run_json = Path(attempt.uri, "run.json").read_bytes()
    for _ in range(3):
        last = begin(attempt.uri)
    ledger.publish(last, SUMMARY)
    Path(attempt.uri, "run.json").write_bytes(run_json)

    assert begin(attempt.uri).number == 5


def test_a_start_that_dies_between_the_folder_and_run_json_has_used_its_number(anywhere, monkeypatch):
    commit(anywhere, image("a"))
    monkeypatch.setattr(runs.Attempt, "replace", lambda *_: pytest.fail("died here"))
    with pytest.raises(pytest.fail.Exception):
        begin(anywhere.uri)
    monkeypatch.undo()

    third = begin(anywhere.uri)

    assert (third.number, third.start) == (3, 2)
    assert item_ids(anywhere.uri) == ["a"]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_staged_parts_of_a_run_without_run_json_are_not_adopted(where, tmp_path):
    """They may be of another model: without run.json nothing tells what was scored."""
    uri = str(tmp_path / "run") if where == "folder" else "memory://unknown/run"
    with ledger.claim_run(uri, fingerprint={"bundle": "old"}, details={}) as opened:
        commit(opened, image("a"))
    storage.remove(storage.join(uri, "run.json"))

    assert runs.load_ledger(uri).parts == []
    with ledger.claim_run(uri, fingerprint={"bundle": "new"}, details={}) as opened:
        assert opened.number == 2
        assert runs.load_ledger(uri).parts == []
