"""`open_run`: a run's tables as Arrow and its masks as NumPy arrays, from what is committed at that moment."""

from dataclasses import replace
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pytest

from fsf_core import masks, runs, storage
from fsf_core.errors import ItemNotFoundError, OutputError
from fsf_core.runs import reading
from fsf_core.schema import MASKS
from tests.support import ledger
from tests.support.ledger import ScoredUnit, broken, image, rows_of, tables_of, video

CLASSES = ("background", "peel", "<rot>")
PALETTE = ((0, 0, 0), (128, 0, 0), (0, 255, 0))
FINGERPRINT = {"classes": CLASSES, "palette": PALETTE}
SUMMARY = {
    "items": {"total": 3, "scored": 2, "failed": 1, "not_in_manifest": 0},
    "frames": 6,
    "classes": [
        {"id": number, "name": name, "pixels": 24, "ratio": ratio}
        for number, (name, ratio) in enumerate(zip(CLASSES, (0.5, 0.25, 0.25), strict=True))
    ],
}


def class_map_of(item_id: str, frame: int) -> np.ndarray:
    """A class map that no other frame has."""
    seed = sum(item_id.encode()) * 1000 + frame
    return np.random.default_rng(seed).integers(0, len(CLASSES), (3, 4), dtype=np.uint8)


def commit(uri: str, *units: ScoredUnit) -> None:
    """Commit units whose masks are real PNGs."""
    tables = tables_of(units)
    pngs = [
        {
            "bytes": masks.encode_png(class_map_of(row["item_id"], row["frame_index"]), np.uint8(PALETTE)),
            "path": None,
        }
        for row in tables["masks"].select(["item_id", "frame_index"]).to_pylist()
    ]
    at = tables["masks"].column_names.index("mask")
    field = tables["masks"].schema.field("mask")
    tables["masks"] = tables["masks"].set_column(at, field, pa.array(pngs, field.type))
    runs.commit(ledger.newest_staging(uri), tables, rows_of(units))


def begin(uri: str) -> str:
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        commit(uri, image("orchard/a.jpg"))
        commit(uri, *video("belt.mp4", 3, 2))
        commit(uri, image("bad.jpg", failed=True))
    return uri


def publish(uri: str) -> None:
    frames = runs.read_table(uri, "masks", columns=["item_id"]).num_rows
    ledger.publish(uri, SUMMARY | {"frames": frames})


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A run that has not finished."""
    return begin(str(tmp_path / "run"))


@pytest.fixture
def bucket():
    """The same run in a store."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield begin("memory://bucket/run")
    filesystem.store.clear()


@pytest.fixture(params=["folder", "bucket"])
def uri(request) -> str:
    return request.getfixturevalue(request.param)


def test_an_unfinished_run_is_read_by_its_receipts(uri):
    run = runs.open_run(uri)

    assert run.run_id == runs.read_document(uri, "run.json")["run_id"]
    assert (run.classes, run.palette) == (CLASSES, PALETTE)
    assert (run.finished, run.summary) == (False, None)
    assert run.masks().equals(runs.read_table(uri, "masks"))
    assert run.class_stats(columns=["ratio", "item_id"]).column_names == ["ratio", "item_id"]
    assert run.masks(columns=["frame_index"], item_id="belt.mp4").column("frame_index").to_pylist() == [0, 1, 2, 3, 4]
    assert run.failures().column("item_id").to_pylist() == ["bad.jpg"]


def test_an_open_run_shows_what_is_committed_later(uri):
    run = runs.open_run(uri)
    assert run.mask("orchard/a.jpg").shape == (3, 4)

    commit(uri, image("late.jpg"))
    publish(uri)

    assert run.mask("late.jpg").tolist() == class_map_of("late.jpg", 0).tolist()
    assert "late.jpg" in run.masks(columns=["item_id"]).column("item_id").to_pylist()
    assert (run.finished, run.summary) == (True, SUMMARY | {"frames": 7})


def test_a_mask_is_the_class_map_that_was_committed(uri):
    run = runs.open_run(uri)

    for item_id, frame in [("orchard/a.jpg", 0), *(("belt.mp4", number) for number in range(5))]:
        found = run.mask(item_id, frame)
        assert (found.dtype, found.tolist()) == (np.uint8, class_map_of(item_id, frame).tolist())


def test_masks_are_found_after_a_compaction(folder):
    run = runs.open_run(folder)
    run.mask("orchard/a.jpg")

    ledger.publish(folder, SUMMARY, compact_bytes=1 << 20)
    assert len(runs.open_ledger(folder).parts) == 2

    assert run.mask("belt.mp4", 4).tolist() == class_map_of("belt.mp4", 4).tolist()
    assert run.mask("orchard/a.jpg").tolist() == class_map_of("orchard/a.jpg", 0).tolist()


def test_the_second_mask_reads_one_receipt(folder, monkeypatch):
    run = runs.open_run(folder)
    run.mask("orchard/a.jpg")
    read = []
    really = storage.read_prefetched
    monkeypatch.setattr(storage, "read_prefetched", lambda uris: (read.extend(uris), really(uris))[1])

    run.mask("belt.mp4", 2)

    assert len(read) == 1


@pytest.mark.parametrize(
    ("item_id", "frame", "message"),
    [
        ("orchad/a.jpg", 0, r"no item 'orchad/a\.jpg' in .*, expected .*; similar ids: 'orchard/a\.jpg'$"),
        ("a.jpg", 0, r"similar ids: 'orchard/a\.jpg'"),
        ("belt", 0, r"similar ids: 'belt\.mp4'"),
        ("zzz", 0, r"no item 'zzz' in .*, expected .*; see the column item_id of masks\(\)"),
        ("(+", 0, r"no item '\(\+' in "),
        ("belt.mp4", 5, r"item 'belt\.mp4' has no frame 5 in .*, expected one of 5 scored frames from 0 to 4; see"),
        ("orchard/a.jpg", 1, r"has no frame 1 in .*, expected frame 0; see"),
        (
            "bad.jpg",
            0,
            r"item 'bad\.jpg' has no mask in .*, expected .*; it failed in decode \(DecodeError: found noise",
        ),
    ],
)
def test_a_missing_mask_is_reported_with_what_exists(item_id, frame, message, folder):
    publish(folder)

    with pytest.raises(ItemNotFoundError, match=message) as caught:
        runs.open_run(folder).mask(item_id, frame)

    assert "not finished" not in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_a_missing_mask_of_an_unfinished_run_may_come_later(folder):
    with pytest.raises(ItemNotFoundError, match="the run has not finished, so it may be scored later"):
        runs.open_run(folder).mask("late.jpg")


def test_a_frame_after_the_failure_of_its_segment_is_missing(tmp_path):
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}):
        commit(uri, broken(video("v.mp4", 4)[0], frames=2))
    run = runs.open_run(uri)

    assert run.mask("v.mp4", 1).tolist() == class_map_of("v.mp4", 1).tolist()
    with pytest.raises(ItemNotFoundError, match=r"no frame 2 .* 2 scored frames from 0 to 1"):
        run.mask("v.mp4", 2)


def test_a_damaged_file_is_reported_as_damaged_and_not_as_missing(folder):
    for path in Path(folder).glob(".attempt-*/masks/*.parquet"):
        path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(OutputError, match="fsf verify"):
        runs.open_run(folder).mask("orchard/a.jpg")


def test_batches_hold_all_rows_in_the_order_of_the_columns_that_were_asked_for(uri):
    run = runs.open_run(uri)

    batches = [*run.iter_batches("class_stats", columns=["pixels", "item_id"], batch_rows=3)]

    assert max(batch.num_rows for batch in batches) == 3
    assert pa.Table.from_batches(batches).equals(run.class_stats(columns=["pixels", "item_id"]))
    assert pa.Table.from_batches(run.iter_batches("masks")).to_pylist() == run.masks().to_pylist()


def test_batches_are_read_while_the_loop_goes_on(folder):
    batches = runs.open_run(folder).iter_batches("masks", columns=["item_id"])
    next(batches)

    for path in Path(folder).glob(".attempt-*/masks/*.parquet"):
        path.unlink()

    with pytest.raises(OutputError, match="does not exist"):
        list(batches)


def test_a_loop_over_batches_goes_on_while_the_run_is_published(uri):
    """Publishing moves every file; the parts stay."""
    batches = runs.open_run(uri).iter_batches("masks", columns=["item_id", "frame_index"])
    first = next(batches)

    publish(uri)

    found = pa.Table.from_batches([first, *batches]).to_pylist()
    assert found == runs.read_table(uri, "masks", columns=["item_id", "frame_index"]).to_pylist()


def test_a_table_is_read_again_when_the_run_is_published_while_it_is_read(folder, monkeypatch):
    expected = ledger.sorted_rows(folder, "masks")
    really, calls = reading.table_of, []

    def publishing_first(parts, *given, **options):
        calls.append(parts.receipt_path(parts.parts[0]).partition("/")[0])
        if len(calls) == 1:
            ledger.publish(folder, SUMMARY)
        return really(parts, *given, **options)

    monkeypatch.setattr(reading, "table_of", publishing_first)

    assert ledger.sorted_rows(folder, "masks") == expected
    assert calls == [".attempt-0001", "receipts"]


@pytest.mark.parametrize("read", [lambda run: run.iter_batches("mask"), lambda run: runs.read_table(run.uri, "mask")])
def test_an_unknown_table_is_refused_at_once(read, folder):
    with pytest.raises(
        ValueError, match="table is 'mask', expected one of masks, class_stats, failures, confusion, regions"
    ):
        read(runs.open_run(folder))


def test_video_stats_are_read_once_the_run_has_finished(uri, tmp_path):
    run = runs.open_run(uri)
    with pytest.raises(OutputError, match="has not finished"):
        run.video_stats()

    publish(uri)
    assert run.video_stats().column("frames").to_pylist() == [5, 5]  # two classes of second 0

    images = str(tmp_path / "images")
    with ledger.claim_run(images, fingerprint=FINGERPRINT, details={}):
        commit(images, image("a"))
        publish(images)
    assert runs.open_run(images).video_stats().num_rows == 0


def test_a_run_is_shown_in_a_line_and_in_a_notebook(folder):
    run = runs.open_run(folder)
    assert repr(run) == f"<RunReader {run.run_id} at {folder}, 3 classes>"
    assert "not finished" in run._repr_html_()

    publish(folder)

    shown = run._repr_html_()
    assert "2 items scored, 1 failed, 6 frames" in shown
    assert "&lt;rot&gt;" in shown
    assert "<rot>" not in shown
    assert "rgb(0, 255, 0)" in shown
    assert "25.00%" in shown


def test_a_relative_path_is_opened(folder, monkeypatch):
    monkeypatch.chdir(Path(folder).parent)

    assert runs.open_run("run").mask("orchard/a.jpg").shape == (3, 4)
    assert runs.read_table("run", "failures").num_rows == 1


def test_a_folder_that_is_not_a_run_is_not_opened(tmp_path):
    with pytest.raises(OutputError, match="holds no run"):
        runs.open_run(str(tmp_path))


@pytest.mark.parametrize("columns", [None, ["notes"], ["notes", "item_id"]], ids=str)
def test_rows_of_an_older_version_have_no_notes(columns, tmp_path):
    attempt = ledger.begin(str(tmp_path / "run"), fingerprint=FINGERPRINT)
    ledger.commit_older(attempt, image("old"), *video("clip", 2))
    ledger.commit(attempt, replace(image("new"), notes="first of 2 pages"))
    run = runs.open_run(attempt.uri)
    batches = list(run.iter_batches("masks", columns=columns))

    assert pa.Table.from_batches(batches).equals(run.masks(columns=columns))
    assert run.masks(columns=columns).column_names == (columns or MASKS.names)
    assert sorted(run.masks(columns=columns).column("notes").to_pylist(), key=str) == [None] * 3 + ["first of 2 pages"]
    assert run.masks(columns=["notes"], item_id="old").to_pylist() == [{"notes": None}]
    query = f"select item_id, notes from read_parquet('{attempt.staging.uri('masks')}/*', union_by_name = true)"
    assert sorted(duckdb.sql(query).fetchall()) == [("clip", None)] * 2 + [("new", "first of 2 pages"), ("old", None)]
