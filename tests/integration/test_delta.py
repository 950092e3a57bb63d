"""Runs as rows of Delta tables: all rows of a run or none, and never twice."""

from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from fsf_core import runs
from fsf_core.errors import OutputError
from fsf_core.runs import delta
from tests.support import ledger


def _run(folder: Path, *units: ledger.ScoredUnit) -> str:
    """A run folder with these units in two parts."""
    with ledger.claim_run(str(folder), fingerprint={}, details={}):
        ledger.commit(str(folder), units[0])
        ledger.commit(str(folder), *units[1:])
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


def test_a_table_that_cannot_be_written_is_reported_with_the_reason(published_run: str, tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=r"cannot be written to .* the run itself is complete"):
        delta.publish_delta(published_run, str(tmp_path / "tables"))
