"""Rows of an earlier run in the columns of this one."""

import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.runs import load_ledger
from fsf_core.stages.reuse import ReuseSettings, reuse_items
from fsf_core.stages.write import WriteSettings
from tests.support import ledger


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.string(), "ripe"), (pa.int64(), 7), (None, None)], ids=["text", "number", "none"]
)
def test_a_column_of_the_earlier_manifest_is_not_taken_for_notes(kind, value, tmp_path):
    """Versions without the column `notes` passed one of that name through."""
    (tmp_path / "a.jpg").write_bytes(b"a.jpg")
    earlier = ledger.begin(str(tmp_path / "earlier"))
    passed = [(pa.field("notes", kind), value)] if kind else []
    part = ledger.commit_older(earlier, ledger.image("a.jpg"), passed=passed).part
    now = ledger.begin(str(tmp_path / "now"))
    rows = pa.table({"item_id": ["a.jpg"], "uri": [str(tmp_path / "a.jpg")], "row_digest": [b"12345678"]})
    write = WriteSettings(
        staging=now.staging, run_id="now", bundle_sha256="ab", class_names=ledger.CLASSES, extra=pa.schema([])
    )
    settings = ReuseSettings(
        earlier_uri=earlier.uri, same_by="sha256", access=storage.Access(schemes=("file",)), write=write
    )

    assert reuse_items(rows, [part], load_ledger(earlier.uri), settings) == 1
    (found,) = runs.read_table(now.uri, "masks").to_pylist()
    assert (found["run_id"], found["item_id"], found["notes"]) == ("now", "a.jpg", None)
