"""Runs as rows of Delta tables: all rows of a run or none, never twice; what does not fit is refused early."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from fsf_core import runs
from fsf_core.errors import ConfigError, DamagedPartError, OutputError, ResumableError
from fsf_core.publish import delta
from fsf_core.schema import MASKS
from tests.support import ledger


def _run(folder: Path, *units: ledger.ScoredUnit) -> str:
    """A run folder with these units in two parts."""
    with ledger.claim_run(str(folder), fingerprint={}, details={}):
        ledger.commit(str(folder), units[0])
        ledger.commit(str(folder), *units[1:])
        ledger.publish(str(folder), {"items": {"total": len(units)}})
    return str(folder)


def _rows(tables: Path, name: str) -> list[dict]:
    return DeltaTable(str(tables / name)).to_pyarrow_table().to_pylist()


@pytest.fixture
def published_run(tmp_path: Path) -> str:
    return _run(tmp_path / "run", ledger.image("a"), ledger.image("b"), *ledger.video("clip", 3, 2))


def test_every_row_of_the_run_is_in_the_tables_with_its_mask(published_run: str, tmp_path: Path) -> None:
    delta.publish_delta(published_run, str(tmp_path / "tables"))
    for name in ("masks", "class_stats"):
        expected = runs.read_table(published_run, name).to_pylist()
        found = [{column: row[column] for column in expected[0]} for row in _rows(tmp_path / "tables", name)]
        order = [column for column in ("item_id", "frame_index", "class_id") if column in expected[0]]
        for row in found + expected:
            row.pop("run_id", None)
        assert sorted(found, key=lambda row: [row[c] for c in order]) == sorted(
            expected, key=lambda row: [row[c] for c in order]
        )
    assert _rows(tmp_path / "tables", "failures") == []


def test_publishing_a_run_again_replaces_its_rows_and_keeps_other_runs(published_run: str, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    delta.publish_delta(published_run, str(tables))
    first = delta.publish_delta(published_run, str(tables))
    other = _run(tmp_path / "other", ledger.image("a"), ledger.broken(ledger.image("c", failed=True)))
    second = delta.publish_delta(other, str(tables))

    masks = DeltaTable(str(tables / "masks")).to_pyarrow_table()
    by_run = {row["values"]: row["counts"] for row in pc.value_counts(masks.column("run_id")).to_pylist()}
    ids = [str(runs.read_document(folder, "run.json")["run_id"]) for folder in (published_run, other)]
    assert by_run == {ids[0]: 7, ids[1]: 1}
    assert [row["item_id"] for row in _rows(tables, "failures")] == ["c"]
    assert second["masks"] == first["masks"] + 1, "one commit a table"


def test_labels_and_regions_are_published_for_runs_that_have_them_by_option(tmp_path: Path) -> None:
    """A run with the option and without rows replaces its earlier ones; a run without the option touches no table."""
    tables, unit = tmp_path / "tables", replace(ledger.image("a"), optional=True)
    plain = _run(tmp_path / "plain", ledger.image("a"), ledger.image("b"))
    assert "confusion" not in delta.publish_delta(plain, str(tables))
    with ledger.claim_run(str(tmp_path / "run"), fingerprint={"tables": ["confusion"]}, details={}) as attempt:
        expected = runs.tables_of(runs.read_fingerprint(attempt.uri))
        delta.require_tables(str(tables), run_uri=attempt.uri, extra=pa.schema([]), tables=expected)
        ledger.commit(attempt, unit)
        ledger.publish(attempt, {"items": {"total": 1}})

    versions = delta.publish_delta(attempt.uri, str(tables))

    assert {*versions} == {"masks", "class_stats", "failures", "confusion"}
    found = [{name: row[name] for name in row if name != "run_id"} for row in _rows(tables, "confusion")]
    assert found == runs.read_table(attempt.uri, "confusion").to_pylist() != []


def test_rows_of_an_older_version_are_published_beside_new_ones(tmp_path: Path) -> None:
    """Also into a table that an older version created: its column `mask` holds no nulls, and notes are added to it."""
    attempt = ledger.begin(str(tmp_path / "run"))
    for name, write in (("old", ledger.commit_older), ("new", ledger.commit), ("older", ledger.commit_older)):
        write(attempt, replace(ledger.image(name), notes=f"of {name}"))
    ledger.publish(attempt, {"items": {"total": 3}})
    older = runs.read_part(attempt.uri, next(runs.receipts(attempt.uri)), "masks").select(["item_id", "mask", "run_id"])
    field = pa.field("mask", older.schema.field("mask").type, nullable=False)
    created = older.set_column(1, field, older.column("mask")).slice(0, 0).replace_schema_metadata()
    write_deltalake(str(tmp_path / "kept" / "masks"), created)
    for tables in (tmp_path / "tables", tmp_path / "kept"):
        delta.require_tables(str(tables), run_uri=attempt.uri, extra=pa.schema([]))
        delta.publish_delta(attempt.uri, str(tables))
        notes = {row["item_id"]: row["notes"] for row in _rows(tables, "masks")}
        assert notes == {"old": None, "new": "of new", "older": None}


def test_rotten_bytes_are_not_published(published_run: str, tmp_path: Path) -> None:
    path = next(Path(published_run, "masks").glob("*.parquet"))
    data = path.read_bytes()
    path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])

    with pytest.raises(DamagedPartError, match="differs from its receipt"):
        delta.publish_delta(published_run, str(tmp_path / "tables"))


def test_a_table_that_cannot_be_written_at_the_end_is_reported_with_the_reason(
    published_run: str, tmp_path: Path
) -> None:
    (tmp_path / "tables").write_text("a file where a folder should be")
    with pytest.raises(ResumableError, match=r"cannot be written to .* the run itself is complete"):
        delta.publish_delta(published_run, str(tmp_path / "tables"))


def _files(folder: Path) -> dict[Path, bytes | None]:
    """Return the content of every file below a folder, None for folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _require(tables: Path, **columns: pa.DataType) -> None:
    delta.require_tables(str(tables), run_uri=str(tables.parent / "run"), extra=pa.schema(columns.items()))


def test_tables_that_fit_are_accepted_and_nothing_is_left_behind(published_run: str, tmp_path: Path) -> None:
    delta.publish_delta(published_run, str(tmp_path / "tables"))
    before = _files(tmp_path)
    _require(tmp_path / "tables", label=pa.string())
    _require(tmp_path / "new" / "tables", label=pa.string())

    assert _files(tmp_path) == before
    assert DeltaTable(str(tmp_path / "tables" / "masks")).version() == 1


def _table_with(tables: Path, column: pa.Field, configuration: dict[str, str] | None = None) -> None:
    """Create the table masks with one more column."""
    schema = MASKS.remove_metadata().append(column)
    write_deltalake(str(tables / "masks"), schema.empty_table(), configuration=configuration)


ACCEPTED = [
    (pa.int64(), pa.int64()),
    (pa.int64(), pa.int16()),
    (pa.float64(), pa.int64()),
    (pa.float64(), pa.float32()),
    (pa.string(), pa.int64()),
    (pa.timestamp("us"), pa.date32()),
    (pa.list_(pa.int64()), pa.list_(pa.int64())),
]


@pytest.mark.parametrize(("old", "new"), ACCEPTED, ids=str)
def test_a_column_may_be_wider_than_that_of_the_run(old: pa.DataType, new: pa.DataType, tmp_path: Path) -> None:
    _table_with(tmp_path / "tables", pa.field("x", old))
    before = _files(tmp_path)
    _require(tmp_path / "tables", x=new)

    assert _files(tmp_path) == before


MISFITS = [
    (pa.field("x", pa.int64()), {"x": pa.string()}, "its column 'x' is int64 and that of the run string"),
    (pa.field("x", pa.int64()), {"x": pa.float64()}, "its column 'x' is int64 and that of the run double"),
    (pa.field("x", pa.int16()), {"x": pa.int64()}, "its column 'x' is int16 and that of the run int64"),
    (pa.field("x", pa.date32()), {"x": pa.timestamp("us")}, "its column 'x' is date32"),
    (pa.field("x", pa.string()), {"x": pa.struct([("a", pa.int64())])}, "Unsupported CAST from Struct"),
    (pa.field("x", pa.string()), {"x": pa.binary()}, "its column 'x' is string and that of the run binary"),
    (pa.field("X", pa.string()), {"x": pa.string()}, "Duplicate field name"),
    (pa.field("x", pa.string()), {"note": pa.string(), "Note": pa.string()}, "columns ['note', 'Note'] are one name"),
    (pa.field("day", pa.string(), nullable=False), {}, "its column 'day' has no nulls and the run has no such column"),
    (pa.field("x", pa.list_(pa.int64())), {"x": pa.list_(pa.string())}, "its column 'x' is list"),
    (pa.field("x", pa.struct([("a", pa.int64())])), {"x": pa.struct([("a", pa.string())])}, "its column 'x' is struct"),
    *(
        (pa.field("x", pa.string()), {"y": kind}, f"its column 'y' is {kind}, and Delta has no")
        for kind in (
            pa.time32("s"),
            pa.time64("ns"),
            pa.duration("us"),
            pa.month_day_nano_interval(),
            pa.struct([("a", pa.time64("us"))]),
            pa.list_(pa.duration("s")),
            pa.map_(pa.string(), pa.time32("s")),
            pa.struct([("a", pa.int64()), ("A", pa.int64())]),
            pa.struct([]),
        )
    ),
    (pa.field("x", pa.string()), {"y": pa.decimal256(50, 2)}, "and Delta has decimals of up to 38 digits"),
]


@pytest.mark.parametrize(("column", "extra", "reason"), MISFITS, ids=lambda value: str(value)[:40])
def test_columns_that_do_not_fit_are_refused_before_any_work(
    column: pa.Field, extra: dict[str, pa.DataType], reason: str, tmp_path: Path
) -> None:
    """Some were cast in silence, 1.5 to 1; others ended a job that had scored everything, with a traceback."""
    _table_with(tmp_path / "tables", column)
    before = _files(tmp_path)
    with pytest.raises(OutputError, match="cannot take the rows of this run") as caught:
        _require(tmp_path / "tables", **extra)

    assert reason in str(caught.value)
    assert "<unknown>" not in str(caught.value)
    assert _files(tmp_path) == before


def test_a_table_that_only_grows_is_refused_before_any_work(tmp_path: Path) -> None:
    _table_with(tmp_path / "tables", pa.field("x", pa.string()), {"delta.appendOnly": "true"})
    with pytest.raises(OutputError, match="append-only"):
        _require(tmp_path / "tables")


def test_a_table_with_features_that_deltalake_lacks_is_refused_before_any_work(tmp_path: Path) -> None:
    _table_with(tmp_path / "tables", pa.field("x", pa.string()))
    log = tmp_path / "tables" / "masks" / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}
    log.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(OutputError, match="Unsupported table features"):
        _require(tmp_path / "tables")


@pytest.mark.parametrize("place", ["file/tables", "/proc/nowhere/tables"])
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot take the rows of this run"):
        _require(tmp_path / place)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("place", ["run", "run/tables", "other"])
def test_tables_in_the_folder_of_a_run_are_refused(place: str, published_run: str, tmp_path: Path) -> None:
    """They had the names of the run's own tables: the run was full of rows that were not its own."""
    _run(tmp_path / "other", ledger.image("a"))
    before = _files(tmp_path)
    with pytest.raises(ConfigError, match="inside a run"):
        delta.require_tables(str(tmp_path / place), run_uri=published_run, extra=pa.schema([]))

    assert _files(tmp_path) == before


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match=r"pip install 'fsf\[delta\]'"):
        _require(tmp_path / "tables")


def test_an_error_that_deltalake_raises_as_a_bare_exception_is_a_sentence(published_run: str, tmp_path: Path) -> None:
    """It was a traceback, after everything had been scored."""
    write_deltalake(str(tmp_path / "tables" / "failures"), pa.table({"ITEM_ID": ["a"], "run_id": ["b"]}))
    with pytest.raises(ResumableError, match=r"cannot be written to .*failures: .*Duplicate field name"):
        delta.publish_delta(published_run, str(tmp_path / "tables"))
