"""Receipts in a store are read once by a command, and again where the copy may be of another receipt or is none."""

import errno
import os
import pickle
import tempfile
from collections import Counter
from typing import NamedTuple

import pytest

from fsf_core import runs, storage
from fsf_core.keys import item_keys
from fsf_core.runs import video_stats
from fsf_core.runs.spool import read_receipt, spooled_receipts
from fsf_core.storage import prefetching
from tests.support import ledger
from tests.support.ledger import claim_run, commit, image, newest_staging

NAMES = ["a", "b", "c"]


@pytest.fixture
def reads(monkeypatch):
    """Count how often each receipt is read from the store."""
    counts, really = Counter(), storage.read_bytes

    def counting(uri, **options):
        if uri.endswith(".arrow"):
            counts[uri] += 1
        return really(uri, **options)

    monkeypatch.setattr(storage, "read_bytes", counting)
    monkeypatch.setattr(prefetching, "read_bytes", counting)
    return counts


def end(attempt):
    """Do what the end of a job does with the ledger; returns the totals."""
    parts = runs.load_ledger(attempt.uri)
    runs.reconcile(attempt.staging, parts)
    totals = runs.count_totals(parts, [item_keys(NAMES)])
    runs.failure_reasons(parts)
    derived = video_stats.write_video_stats(attempt.staging, parts)
    summary = {"items": {"total": 3}, "frames": totals.frames}
    runs.publish(attempt, parts, summary, derived=derived)
    return totals


def committed(uri):
    """Begin a run of three parts, and leave it as a job that was killed does."""
    attempt = ledger.begin(uri)
    for name in NAMES:
        commit(attempt, image(name))
    return attempt


def test_a_job_and_its_verification_read_every_receipt_once(in_store, reads):
    committed(in_store.uri)
    with claim_run(in_store.uri, fingerprint={}, details={}) as attempt:
        runs.find_completed(runs.load_ledger(attempt.uri))
        assert (end(attempt).frames, len(reads), {*reads.values()}) == (3, 3, {1})

    reads.clear()
    assert runs.verify(in_store.uri) == []
    assert (len(reads), {*reads.values()}) == (3, {1})


def test_a_repair_reads_every_receipt_once(in_store, reads):
    with claim_run(in_store.uri, fingerprint={}, details={}) as attempt:
        for name in NAMES:
            commit(attempt, image(name))
        end(attempt)
    reads.clear()

    assert runs.repair(in_store.uri, lambda _: []).finished
    assert (len(reads), {*reads.values()}) == (3, {1})


def tokens(uri):
    return {receipt.part: receipt.token for receipt in runs.load_ledger(uri).receipts()}


def test_a_receipt_that_a_task_replaces_because_its_files_were_lost_is_read_anew(in_store):
    receipt = commit(in_store, image("a"))
    with spooled_receipts(in_store.uri):
        found = runs.load_ledger(in_store.uri)
        assert [each.token for each in found.receipts()] == [receipt.token]
        storage.remove(storage.join(in_store.uri, receipt.files["masks"]["path"]))
        again = commit(in_store, image("a"))

        assert tokens(in_store.uri) == {receipt.part: again.token}
    assert again.part == receipt.part
    assert again.token != receipt.token


def test_a_receipt_that_is_removed_and_created_anew_is_read_anew_although_its_first_files_are_there(in_store):
    """As a job does with a part of its own whose bytes are damaged."""
    receipt = commit(in_store, image("a"))
    with spooled_receipts(in_store.uri):
        assert tokens(in_store.uri) == {receipt.part: receipt.token}
        storage.remove(newest_staging(in_store.uri).uri(runs.receipt_path(receipt.part)))
        assert tokens(in_store.uri) == {}
        again = commit(in_store, image("a"))

        assert tokens(in_store.uri) == {receipt.part: again.token}


def test_a_receipt_that_is_torn_after_it_was_read_counts_no_more(in_store):
    receipt = commit(in_store, image("a"))
    uri = newest_staging(in_store.uri).uri(runs.receipt_path(receipt.part))
    with spooled_receipts(in_store.uri):
        assert [*tokens(in_store.uri)] == [receipt.part]
        storage.write_bytes(uri, storage.read_bytes(uri)[:-1])

        parts = runs.load_ledger(in_store.uri)
        assert [*parts.receipts()] == []
        assert parts.lost[receipt.part].startswith("torn: ")


class Disk(NamedTuple):
    f_bavail: int
    f_frsize: int


def fail(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


FULL = {
    "little space": (os, "fstatvfs", lambda _: Disk(1, 4096)),
    "a short write": (os, "pwrite", lambda _, data, __: len(data) - 1),
    "a failed write": (os, "pwrite", fail),
    "no folder": (tempfile, "TemporaryFile", fail),
}


@pytest.mark.parametrize("how", FULL)
def test_where_no_copies_can_be_kept_receipts_are_read_again_and_that_is_logged_once(how, in_store, reads, caplog):
    committed(in_store.uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*FULL[how])
        with claim_run(in_store.uri, fingerprint={}, details={}) as attempt:
            assert end(attempt).frames == 3

    assert min(reads.values()) > 1
    assert sum("event=receipts_not_kept" in record.message for record in caplog.records) == 1


def test_a_run_on_a_disk_needs_no_copies(attempt, monkeypatch):
    commit(attempt, image("a"))
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with spooled_receipts(attempt.uri):
        assert len(tokens(attempt.uri)) == 1


def test_copies_end_with_the_block_and_are_no_part_of_a_ledger_that_is_sent_elsewhere(in_store, reads):
    receipt = commit(in_store, image("a"))
    path = newest_staging(in_store.uri).path(runs.receipt_path(receipt.part))
    with spooled_receipts(in_store.uri):
        with spooled_receipts(in_store.uri):
            data = read_receipt(in_store.uri, path)
        parts = runs.load_ledger(in_store.uri)
        assert read_receipt(in_store.uri, path) == data
        assert {*reads.values()} == {1}
        sent = pickle.dumps(parts)

    assert [each.part for each in pickle.loads(sent).receipts()] == [receipt.part]  # noqa: S301 - our own
    assert {*reads.values()} == {2}


def test_a_pass_that_outlives_the_block_reads_on(in_store):
    parts = [commit(in_store, image(name)).part for name in NAMES]
    with spooled_receipts(in_store.uri):
        found = runs.load_ledger(in_store.uri)
        receipts = found.receipts()
        read = [next(receipts)]

    assert sorted(each.part for each in [*read, *receipts]) == sorted(parts)
    assert found.lost == {}
