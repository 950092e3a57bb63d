"""Rows that units carry for the tables that exist by option are committed beside their masks."""

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.stages import units
from fsf_core.stages import write as stage
from fsf_core.stages.write import WriteSettings, write
from tests.support import ledger

NAMES = ("background", "peel", "scar")


def cell(label, predicted, pixels):
    names = [field.name for field in units.CELL]
    return dict(zip(names, (label, predicted, pixels, pixels, 0, 0), strict=True))


def region(frame, number, class_id, pixels):
    box = {"top_px": 1, "left_px": 2, "height_px": 3, "width_px": 4, "centroid_row": 1.5, "centroid_column": 2.5}
    probability = {"mean_probability": None, "touches_border": False}
    return {"frame_index": frame, "region": number, "class_id": class_id, "pixels": pixels, **box, **probability}


def masked(item_id, *, frames=1, segment=0, segments=1, failed=None):
    """Return a unit as the mask stage returns it, without the optional columns."""
    shown = [units.Frame(frame_index=at, pts_s=None, height_px=2, width_px=3) for at in range(frames)]
    unit = units.Unit(item_id=item_id, uri=item_id, segment=segment, segments=segments, frames=shown, failure=failed)
    table = units.to_table([unit], extra=pa.schema([])).drop_columns(["inputs", "source_images"])
    numbers = {"pixels": [2] * 3, "components": [1] * 3, "largest_component_px": [2] * 3}
    for name, values in numbers.items():
        table = table.append_column(name, pa.array([values * frames], pa.list_(pa.int64())))
    table = table.append_column("mean_probability", pa.array([[0.5] * 3 * frames], pa.list_(pa.float64())))
    for name, values in (("masks", [b"PNG"] * frames), ("overlays", [])):
        table = table.append_column(name, pa.array([values], pa.list_(pa.large_binary())))
    return table


@pytest.fixture
def attempt(tmp_path):
    return ledger.begin(str(tmp_path / "run"))


def commit(attempt, table):
    settings = WriteSettings(
        staging=attempt.staging, run_id="r", bundle_sha256="ab", class_names=NAMES, extra=pa.schema([])
    )
    return write(table, settings)


@pytest.mark.parametrize("text_bytes", [stage.TEXT_BYTES, 1], ids=["whole", "row by row"])
def test_confusion_and_regions_of_units_become_rows_with_their_item_and_class_names(text_bytes, attempt, monkeypatch):
    monkeypatch.setattr(stage, "TEXT_BYTES", text_bytes)  # as if their ids were gigabytes
    table = pa.concat_tables([masked("b", frames=2, segment=1, segments=2), masked("å/ä.jpg")])
    cells = [[cell(0, 2, 7), cell(1, 1, 5)], []]
    regions = [[region(0, 0, 2, 4), region(1, 0, 1, 3)], [region(0, 0, 1, 2)]]
    table = table.append_column("confusion", pa.array(cells, pa.list_(units.CELL)))
    table = table.append_column("regions", pa.array(regions, pa.list_(units.REGION)))
    table = table.append_column("label_sha256", pa.array([["f", None], [None]], units.DIGESTS))
    table = table.append_column("label_ignored_px", pa.array([[0, None], [None]], pa.list_(pa.int64())))

    (receipt,) = commit(attempt, table)

    assert {"confusion", "regions"} < {*receipt.files}
    assert runs.read_table(attempt.uri, "confusion").to_pylist() == [
        {"item_id": "b", "segment": 1, **each} for each in cells[0]
    ]
    found = runs.read_table(attempt.uri, "regions").to_pylist()
    expected = [("b", regions[0][0]), ("b", regions[0][1]), ("å/ä.jpg", regions[1][0])]
    assert found == [{"item_id": item, "class_name": NAMES[row["class_id"]], **row} for item, row in expected]
    facts = runs.read_table(attempt.uri, "masks", columns=["item_id", "label_sha256", "label_ignored_px"]).to_pylist()
    assert [(*row.values(),) for row in facts] == [("b", "f", 0), ("b", None, None), ("å/ä.jpg", None, None)]


def test_units_without_them_write_no_file_for_them_and_null_labels(attempt):
    (receipt,) = commit(attempt, masked("a"))

    assert {*receipt.files} == {"masks", "class_stats"}
    (row,) = runs.read_table(attempt.uri, "masks").to_pylist()
    assert (row["label_sha256"], row["label_ignored_px"]) == (None, None)


def test_frames_of_a_failed_unit_keep_their_rows_in_its_part(attempt):
    why = units.Failure(stage="label", error_type="LabelError", error_message="m", frame_index=1)
    table = pa.concat_tables([masked("a"), masked("v", segments=3, failed=why)])
    table = table.append_column("confusion", pa.array([[cell(0, 0, 6)], [cell(1, 0, 6)]], pa.list_(units.CELL)))

    receipts = commit(attempt, table)

    assert [receipt.failed_units for receipt in receipts] == [0, 1]
    assert [receipt.files["confusion"]["rows"] for receipt in receipts] == [1, 1]
    assert runs.read_table(attempt.uri, "failures").column("stage").to_pylist() == ["label"]


def test_labels_travel_with_their_frames():
    frames = [units.Frame(frame_index=at, pts_s=at / 25, height_px=2, width_px=3) for at in range(2)]
    label = units.Label(data=b"PNG", sha256="ab" * 32)
    pair = [
        units.Unit(item_id="a", uri="a", frames=frames, inputs_HWC=[np.zeros((2, 2, 3), np.uint8)] * 2),
        units.Unit(item_id="b", uri="b", frames=frames, labels=[None, label]),
    ]

    table = units.to_table(pair, extra=pa.schema([]), labelled=True)

    assert table.column("labels").to_pylist() == [[None, None], [None, b"PNG"]]
    assert table.column("label_sha256").to_pylist() == [[None, None], [None, "ab" * 32]]
    assert "labels" not in units.to_table(pair, extra=pa.schema([])).column_names
