"""Overlays and masks as TIFF: after a publication the run has exactly those that its rows name."""

import os

import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.runs import beside
from tests.support import ledger
from tests.support.ledger import commit, image, publish

SUMMARY = {"items": {"total": 2, "scored": 2, "failed": 0, "not_in_manifest": 0}}


def commit_named(attempt, name, **paths):
    """Commit an image whose row names files beside the tables, and write them first, as the stages do."""
    tables = ledger.tables_of([image(name)])
    [row] = tables["masks"].to_pylist()
    row["overlay"] = paths.get("overlay")
    row["mask"] |= {"path": paths.get("mask")}
    for path in paths.values():
        attempt.staging.replace(path, name.encode())
    tables["masks"] = pa.Table.from_pylist([row], tables["masks"].schema)
    return runs.commit(attempt.staging, tables, ledger.rows_of([image(name)]))


def files_beside(uri):
    return [path for folder in beside.FOLDERS for path in ledger.visible_files(uri, folder)]


def test_what_no_row_names_leaves_the_run(anywhere):
    anywhere.staging.replace("overlays/gone.jpg", b"of a killed attempt")
    anywhere.staging.replace("masks_tiff/gone.tif", b"of a killed attempt")
    commit_named(anywhere, "a", overlay="overlays/a.jpg", mask="masks_tiff/a.tif")
    commit_named(anywhere, "b", mask="masks_tiff/b.tif")
    publish(anywhere, SUMMARY)

    assert files_beside(anywhere.uri) == ["overlays/a.jpg", "masks_tiff/a.tif", "masks_tiff/b.tif"]
    assert storage.exists(storage.join(anywhere.uri, "_SUCCESS"))


def test_an_item_that_is_scored_anew_without_a_tiff_takes_the_old_one_with_it(anywhere):
    commit_named(anywhere, "a", mask="masks_tiff/a.tif")
    commit_named(anywhere, "b", mask="masks_tiff/b.tif")
    publish(anywhere, SUMMARY)
    second = ledger.begin(anywhere.uri)
    commit_named(second, "a")
    publish(second, SUMMARY)

    assert files_beside(anywhere.uri) == ["masks_tiff/b.tif"]


@pytest.mark.parametrize("keep_staged", [True, False])
def test_what_a_killed_job_has_staged_keeps_its_files_as_long_as_it_counts(anywhere, keep_staged):
    commit_named(anywhere, "a", overlay="overlays/a.jpg")
    publish(anywhere, SUMMARY)
    commit_named(ledger.begin(anywhere.uri), "new", overlay="overlays/new.jpg")
    change = ledger.begin(anywhere.uri)
    parts = runs.load_ledger(anywhere.uri, staged=False)
    runs.publish(change, parts, SUMMARY, keep_staged=keep_staged)

    assert files_beside(anywhere.uri) == ["overlays/a.jpg", *(["overlays/new.jpg"] if keep_staged else [])]


def test_a_run_without_such_files_is_not_read_for_them(anywhere, monkeypatch):
    monkeypatch.setattr(beside, "open_parquet", None)
    commit(anywhere, image("a"))
    publish(anywhere, SUMMARY)

    monkeypatch.setattr(beside, "_files", None)
    plain = ledger.begin(f"{anywhere.uri}/plain", fingerprint={"overlays": False})
    commit(plain, image("a"))
    publish(plain, SUMMARY)


def test_files_are_compared_in_pieces(attempt, monkeypatch):
    monkeypatch.setattr(beside, "_AT_ONCE", 3)
    for number in range(8):
        commit_named(attempt, f"{number}", overlay=f"overlays/{number}.jpg")
    for name in ("x", "y"):
        attempt.staging.replace(f"overlays/{name}.jpg", b"")

    found = beside.unnamed_files(runs.load_ledger(attempt.uri), with_staged=True)
    assert sorted(found) == ["overlays/x.jpg", "overlays/y.jpg"]


def test_files_that_no_row_names_are_orphans_which_a_repair_removes(tmp_path):
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={}, details={}) as attempt:
        commit_named(attempt, "a", overlay="overlays/a.jpg")
        commit(attempt, image("b"))
        publish(attempt, SUMMARY)
    (tmp_path / "run/overlays/stray.jpg").write_bytes(b"")
    assert runs.verify(uri) == ["orphan: overlays/stray.jpg is named by no row of the run"]

    outcome = runs.repair(uri, lambda _: [])
    assert (outcome.removed_files, outcome.finished) == (1, True)
    assert files_beside(uri) == ["overlays/a.jpg"]
    assert runs.verify(uri) == []


def test_a_run_is_repaired_although_what_a_killed_job_has_staged_cannot_be_read(tmp_path, caplog):
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={}, details={}) as attempt:
        commit_named(attempt, "a", overlay="overlays/a.jpg")
        commit(attempt, image("b"))
        publish(attempt, SUMMARY)
    staged = commit_named(ledger.begin(uri), "new", overlay="overlays/new.jpg").files["masks"]
    (tmp_path / "run" / staged["path"]).write_bytes(bytes(staged["bytes"]))

    assert runs.repair(uri, lambda _: []).finished
    assert files_beside(uri) == ["overlays/a.jpg", "overlays/new.jpg"]
    assert "event=files_beside_tables_kept" in caplog.text


def test_what_a_job_has_not_committed_yet_is_no_orphan(tmp_path):
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={}, details={}) as attempt:
        commit_named(attempt, "a", overlay="overlays/a.jpg")
        commit(attempt, image("b"))
        publish(attempt, SUMMARY)
    with ledger.claim_run(uri, fingerprint={}, details={}) as attempt:
        attempt.staging.replace("overlays/new.jpg", b"of a part that follows")
        assert runs.verify(uri) == []
        publish(attempt, SUMMARY)
    assert files_beside(uri) == ["overlays/a.jpg"]


def test_a_name_that_is_no_text_leaves_too(attempt):
    commit_named(attempt, "a", overlay="overlays/a.jpg")
    folder = storage.local_path(attempt.uri) / "overlays"
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    publish(attempt, SUMMARY)

    assert files_beside(attempt.uri) == ["overlays/a.jpg"]


def test_nothing_leaves_where_what_a_part_names_cannot_be_read(attempt, caplog):
    receipt = commit_named(attempt, "a", overlay="overlays/a.jpg")
    path = storage.local_path(storage.join(attempt.uri, receipt.files["masks"]["path"]))
    path.write_bytes(bytes(receipt.files["masks"]["bytes"]))
    ledger_now = runs.load_ledger(attempt.uri)
    runs.publish(attempt, ledger_now, SUMMARY)

    assert files_beside(attempt.uri) == ["overlays/a.jpg"]
    assert "event=files_beside_tables_kept" in caplog.text
