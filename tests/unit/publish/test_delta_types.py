"""Every column type of Arrow is written to Delta in a form that holds its values, or is refused by name."""

import datetime as dt
import decimal

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from fsf_core.publish.delta_types import as_delta, delta_schema

NOON = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)

COLUMNS = {
    "uint8": pa.array([255, None], pa.uint8()),
    "uint16": pa.array([2**16 - 1, None], pa.uint16()),
    "uint32": pa.array([2**32 - 1, None], pa.uint32()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "float16": pa.array([1.5, None], pa.float16()),
    "date64": pa.array([NOON.date(), None], pa.date64()),
    "seconds": pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("s")),
    "zone": pa.array([NOON, None], pa.timestamp("ms", "Europe/Berlin")),
    "decimal256": pa.array([decimal.Decimal("1.50"), None], pa.decimal256(20, 2)),
    "negative scale": pa.array([decimal.Decimal(100), None], pa.decimal128(5, -2)),
    "dictionary": pa.array(["a", None]).dictionary_encode(),
    "null": pa.nulls(2),
    "text view": pa.array(["a", None], pa.string_view()),
    "large list": pa.array([["a"], None], pa.large_list(pa.large_string())),
    "unsigned in a list": pa.array([[2**64 - 1], None], pa.list_(pa.uint64())),
    "unsigned in a fixed list": pa.array([[255, 1], None], pa.list_(pa.uint8(), 2)),
    "unsigned in a struct": pa.array([{"a": 255}, None], pa.struct([("a", pa.uint8())])),
    "unsigned in a map": pa.array([[("k", 255)], None], pa.map_(pa.string(), pa.uint8())),
}


def test_every_value_of_every_type_comes_back_from_delta(tmp_path):
    """Kind: types that Delta lacks ended the job with a traceback after everything had been scored."""
    rows = pa.table(COLUMNS)
    written = as_delta(rows, delta_schema(rows.schema))
    write_deltalake(str(tmp_path), written)

    found = DeltaTable(str(tmp_path)).to_pyarrow_table()
    assert [found.column(name).to_pylist() for name in rows.column_names] == [
        rows.column(name).to_pylist() for name in rows.column_names
    ]


def test_nanoseconds_are_cut_to_microseconds():
    rows = pa.table({"x": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns"))})

    assert as_delta(rows, delta_schema(rows.schema)).column("x").cast(pa.int64()).to_pylist() == [
        1_700_000_000_123_456, None,
    ]  # fmt: skip


def test_a_value_that_does_not_fit_is_named_by_its_column():
    rows = pa.table({"far": pa.array([1 << 50], pa.timestamp("s"))})

    with pytest.raises(ValueError, match="its column 'far' has a value that does not fit timestamp"):
        as_delta(rows, delta_schema(rows.schema))


def test_an_integer_column_of_an_earlier_version_keeps_its_width_while_the_values_fit():
    """It wrote unsigned integers as signed ones of the same width, as long as they fitted."""
    existing, rows = pa.schema([("x", pa.int8())]), pa.table({"x": pa.array([127, 255], pa.uint8())})
    schema = delta_schema(rows.schema, existing)

    assert as_delta(rows[:1], schema).column("x").type == pa.int8()
    with pytest.raises(ValueError, match="its column 'x' has a value that does not fit int8"):
        as_delta(rows, schema)
