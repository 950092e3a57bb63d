"""Tables that exist by option follow their units: written, read, merged, cut and published with them, or absent."""

from dataclasses import replace

import fsspec
import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.runs.folder import document_bytes
from fsf_core.schema import OPTIONAL, TABLES
from tests.support import ledger
from tests.support.ledger import commit, image, video

CLIP = [replace(unit, optional=True) for unit in video("belt.mp4", 2, 3, 1)]
LABELLED = replace(image("orchard/å.jpg"), optional=True)
FINGERPRINT = {"classes": ledger.CLASSES, "palette": [[0, 0, 0], [128, 0, 0]]}


@pytest.fixture(params=["folder", "bucket"])
def uri(request, tmp_path):
    """The folder of a run, on a disk and in a store."""
    if request.param == "folder":
        yield str(tmp_path / "run")
    else:
        filesystem = fsspec.filesystem("memory")
        filesystem.store.clear()
        yield "memory://bucket/run"
        filesystem.store.clear()


def begin(uri):
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as attempt:
        return replace(attempt, lease=ledger.HeldLease())


def finish(attempt, **options):
    return ledger.publish(attempt, {"items": {"total": 3}}, **options)


def expected(*units):
    rows = ledger.tables_of(units)
    return {name: sorted(rows[name].to_pylist(), key=str) for name in OPTIONAL}


def found(uri):
    return {name: sorted(runs.read_table(uri, name).to_pylist(), key=str) for name in OPTIONAL}


def test_rows_of_labelled_and_other_items_are_published_and_read_back(uri):
    attempt = begin(uri)
    commit(attempt, LABELLED, image("b"))
    commit(attempt, *CLIP)
    before = found(uri)

    finish(attempt)

    run = runs.open_run(uri)
    assert found(uri) == before == expected(LABELLED, *CLIP)
    assert run.confusion(columns=["pixels"], item_id="orchard/å.jpg").column_names == ["pixels"]
    assert sum(run.confusion(item_id="belt.mp4").column("pixels").to_pylist()) == 6 * 12
    assert run.regions(item_id="belt.mp4").column("frame_index").to_pylist() == [0, 1, 2, 3, 4, 5]
    for name in OPTIONAL:
        batches = [*run.iter_batches(name, batch_rows=2)]
        assert pa.Table.from_batches(batches).equals(runs.read_table(uri, name))
    assert runs.verify(uri) == []
    ledger.assert_folders_are_the_manifest(uri)
    listed = {file["table"] for file in runs.read_document(uri, "manifest.json")["files"]}
    assert listed == {"masks", "class_stats", "confusion", "regions", "video_stats"}


def test_a_run_without_them_has_no_folder_and_readers_get_empty_tables(uri):
    attempt = begin(uri)
    commit(attempt, image("a"), *video("v.mp4", 2))
    finish(attempt, compact_bytes=1 << 20)

    run = runs.open_run(uri)
    assert (run.confusion().num_rows, run.regions().num_rows) == (0, 0)
    assert run.confusion().schema.names == OPTIONAL["confusion"].names
    assert run.regions(columns=["pixels"], item_id="a").column_names == ["pixels"]
    assert [*run.iter_batches("confusion")] == []
    assert not any(storage.exists(storage.join(uri, name)) for name in OPTIONAL)
    assert all(set(receipt.files) <= {*TABLES} for receipt in runs.receipts(uri))


def test_merged_parts_hold_the_rows_of_the_small_ones(uri):
    attempt = begin(uri)
    for unit in (LABELLED, image("b"), *CLIP):
        commit(attempt, unit)

    finish(attempt, compact_bytes=1 << 20)

    assert len(list(runs.receipts(uri))) == 1
    assert found(uri) == expected(LABELLED, *CLIP)


def test_a_segment_that_is_in_two_parts_is_counted_once(uri):
    attempt = begin(uri)
    commit(attempt, LABELLED, *CLIP[:2])
    commit(attempt, *CLIP[1:])

    removed = finish(attempt)

    assert removed["doubled_units"] == 1
    assert found(uri) == expected(LABELLED, *CLIP)


def test_an_item_of_another_row_leaves_with_all_of_its_rows(uri):
    attempt = begin(uri)
    commit(attempt, replace(LABELLED, row_digest=b"old digs"), *CLIP)
    parts = runs.load_ledger(uri)
    parts.superseded = runs.find_completed(parts).rows[:0]
    completed = runs.find_completed(parts)
    parts.superseded = completed.rows[[bytes(key).endswith(b"old digs") for key in completed.rows]]

    runs.reconcile(attempt.staging, parts)
    runs.publish(attempt, parts, {"items": {"total": 1}})

    assert found(uri) == expected(*CLIP)


@pytest.mark.parametrize("table", [*OPTIONAL])
def test_a_damaged_file_is_found_and_repaired_like_any_other(table, tmp_path):
    uri = str(tmp_path / "run")
    attempt = begin(uri)
    commit(attempt, LABELLED)
    commit(attempt, *CLIP)
    finish(attempt)
    (file,) = [
        file["path"]
        for file in runs.read_document(uri, "manifest.json")["files"]
        if file["table"] == table and file["rows"] == len(expected(LABELLED)[table])
    ]
    damaged = tmp_path / "run" / file
    damaged.write_bytes(damaged.read_bytes()[::-1])

    assert [line for line in runs.verify(uri) if line.startswith(f"torn: {table}/")]
    outcome = runs.repair(uri, lambda _: [])

    assert len(outcome.damaged) == 1
    assert not outcome.finished
    assert found(uri) == expected(*CLIP)


@pytest.mark.parametrize(("tables", "layout"), [([], 2), (["confusion", "regions"], 3)])
@pytest.mark.parametrize("begun_as", [None, 2])
def test_a_run_with_them_has_a_layout_that_versions_without_them_refuse(begun_as, tables, layout, tmp_path):
    """They would merge its parts, or repair it, and lose these tables in silence."""
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint={**FINGERPRINT, "tables": tables}, details={}) as attempt:
        if begun_as:
            known = runs.read_document(uri, "run.json") | {"layout": begun_as}
            attempt.replace("run.json", document_bytes(known))
        else:
            assert runs.read_document(uri, "run.json")["layout"] == layout
        commit(attempt, replace(LABELLED, optional=bool(tables)))
        finish(attempt)

    assert [runs.read_document(uri, name)["layout"] for name in ("run.json", "manifest.json")] == [layout, layout]
    assert runs.open_run(uri).regions().num_rows == len(tables[:1])
    attempt = ledger.next_attempt(uri)
    commit(attempt, *CLIP)
    finish(attempt, compact_bytes=1 << 20)
    assert runs.read_document(uri, "run.json")["layout"] == layout
    assert found(uri) == expected(*([LABELLED] if tables else []), *CLIP)


def test_the_tables_of_a_run_follow_from_its_fingerprint():
    assert runs.tables_of({}) == TABLES
    assert [*runs.tables_of({"tables": ["confusion"]})] == [*TABLES, "confusion"]
