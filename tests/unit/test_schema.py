"""Every column has a description, and a table that does not fit its schema is refused."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core.schema import (
    CLASS_STATS,
    CONFUSION,
    DERIVED,
    FAILURES,
    LATER_COLUMNS,
    MASKS,
    OPTIONAL,
    PART_TABLES,
    REGIONS,
    SCHEMA_VERSION,
    TABLES,
    UNITS,
    complete,
    conform,
    with_columns,
)

PIXEL_COLUMNS = [
    ("masks", "height_px"),
    ("masks", "width_px"),
    ("class_stats", "pixels"),
    ("confusion", "pixels"),
    ("regions", "pixels"),
]


@pytest.mark.parametrize(
    "schema", [*PART_TABLES.values(), *DERIVED.values(), UNITS], ids=[*PART_TABLES, *DERIVED, "units"]
)
def test_every_column_has_a_description_and_every_table_its_name_and_version(schema):
    assert all(len(field.metadata[b"description"]) > 10 for field in schema)
    assert schema.metadata[b"fsf_table"].decode() in {*PART_TABLES, *DERIVED, "units"}
    assert schema.metadata[b"fsf_schema_version"].decode() == SCHEMA_VERSION


@pytest.mark.parametrize(("table", "column"), PIXEL_COLUMNS)
def test_columns_that_count_pixels_have_the_unit_pixel(table, column):
    assert PART_TABLES[table].field(column).metadata[b"unit"] == b"pixel"


def test_names_that_end_in_a_unit_agree_with_the_unit():
    fields = [field for schema in PART_TABLES.values() for field in schema]

    assert all(field.metadata[b"unit"] == b"pixel" for field in fields if field.name.endswith("_px"))
    assert all(field.metadata[b"unit"] == b"s" for field in fields if field.name.endswith("_s"))


def test_descriptions_and_version_survive_parquet(tmp_path):
    pyarrow.parquet.write_table(MASKS.empty_table(), tmp_path / "part.parquet")

    read = pyarrow.parquet.read_schema(tmp_path / "part.parquet")

    assert read.equals(MASKS, check_metadata=False)
    assert read.field("mask").metadata[b"description"] == MASKS.field("mask").metadata[b"description"]
    assert json.loads(read.metadata[b"huggingface"])["info"]["features"] == {"mask": {"_type": "Image"}}


def failures(**changes):
    columns = {
        "item_id": ["a"],
        "uri": ["a.jpg"],
        "stage": ["decode"],
        "frame_index": [None],
        "error_type": ["DecodeError"],
        "error_message": ["found nothing"],
        "attempts": [1],
    }
    return pa.table(columns | changes)


def test_conform_orders_casts_and_drops_columns():
    shuffled = failures(noise=["x"]).select(["attempts", "noise", *[n for n in FAILURES.names if n != "attempts"]])

    assert conform(shuffled, FAILURES).schema.equals(FAILURES, check_metadata=True)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"expected \['stage', 'attempts'\]"):
        conform(failures().drop_columns(["stage", "attempts"]), FAILURES)


def test_a_column_that_cannot_be_cast_is_refused():
    with pytest.raises(ValueError, match="many"):
        conform(failures(attempts=["many"]), FAILURES)


def test_a_number_that_does_not_fit_is_refused_rather_than_wrapped():
    with pytest.raises(ValueError, match="not in range"):
        conform(failures(attempts=[2**40]), FAILURES)


def test_nulls_in_a_column_that_is_not_nullable_are_refused():
    with pytest.raises(ValueError, match="error_type"):
        conform(failures(error_type=pa.array([None], pa.string())), FAILURES)


def test_pass_through_columns_come_last_and_are_nullable():
    extra = [pa.field("camera", pa.string(), nullable=False), pa.field("tags", pa.list_(pa.string()))]

    schema = with_columns(MASKS, extra)

    assert schema.names == [*MASKS.names, "camera", "tags"]
    assert schema.field("camera").nullable
    assert schema.metadata == MASKS.metadata


def older(*passed: tuple[pa.Field, pa.Array]) -> pa.Table:
    """Rows of a version that had no column after `bundle_sha256` and no nullable `mask`, then pass-through columns."""
    schema = pa.schema([field for field in MASKS if field.name not in LATER_COLUMNS], MASKS.metadata)
    schema = schema.set(schema.get_field_index("mask"), schema.field("mask").with_nullable(False))
    table = schema.empty_table()
    for field, values in passed:
        table = table.append_column(field, values)
    return table


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch])
def test_rows_of_an_older_version_get_the_newer_columns_before_those_of_the_manifest(kind):
    table = older((pa.field("camera", pa.string()), pa.array([], pa.string())))
    rows = table if kind is pa.Table else pa.RecordBatch.from_pylist([], schema=table.schema)

    found = complete(rows, MASKS)

    assert isinstance(found, kind)
    assert found.schema.equals(with_columns(MASKS, [pa.field("camera", pa.string())]), check_metadata=True)
    assert complete(found, MASKS) is found


def test_of_an_older_version_only_the_columns_that_were_asked_for_are_added():
    assert complete(older().select(["item_id"]), MASKS, ["item_id"]).schema.names == ["item_id"]
    assert complete(older().select([]), MASKS, ["notes"]).schema.names == ["notes"]


@pytest.mark.parametrize("type_", [pa.string(), pa.int64()])
def test_a_column_of_the_manifest_stays_what_it_is_where_a_newer_column_has_its_name(type_):
    for name in LATER_COLUMNS:
        field = pa.field(name, type_)

        found = complete(older((field, pa.array([], type_))), MASKS)

        assert found.schema.field(name) == field
        assert b"description" not in (found.schema.field(name).metadata or {})


def test_tables_are_published_under_their_own_names():
    assert TABLES == {"masks": MASKS, "class_stats": CLASS_STATS, "failures": FAILURES}
    assert OPTIONAL == {"confusion": CONFUSION, "regions": REGIONS}
