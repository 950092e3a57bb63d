"""Units survive Arrow whole, however their table is sliced and concatenated."""

import datetime as dt
import decimal
import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core.errors import DecodeError
from fsf_core.model.input_figures import InputFigures
from fsf_core.stages.units import (
    MESSAGE_CHARACTERS,
    Frame,
    Unit,
    as_array,
    chunks,
    failure,
    frame_counts,
    from_bytes,
    stack,
    to_table,
    value,
)

NO_EXTRA = pa.schema([])
SHAPE = (2, 3, 3)


def frame(index, pts_s=None):
    return Frame(frame_index=index, pts_s=pts_s, height_px=20, width_px=30, figures=InputFigures(127.0, 3.5, 9.0))


def unit(name, frames, **changes):
    first = sum(map(ord, name))
    return Unit(
        item_id=name,
        uri=f"/photos/{name}",
        frames=[frame(at, at / 25) for at in range(frames)],
        inputs_HWC=[np.full(SHAPE, (first + at) % 256, np.uint8) for at in range(frames)],
        **changes,
    )


def inputs_of(table):
    return as_array(table.column("inputs"), np.uint8, SHAPE)


def expected_inputs(*units):
    return np.stack([array for one in units for array in one.inputs_HWC])


def test_a_unit_is_one_row_with_all_its_fields():
    bad = unit(
        "clip", 2, segment=3, segments=9, attempt=2, item_sha256="ab" * 32, source_images=[b"p", b"q"], notes="n"
    )
    bad = bad.failed(failure("decode", DecodeError("found noise"), frame_index=194))

    row = to_table([bad], extra=NO_EXTRA).to_pylist()[0]

    assert (row["item_id"], row["uri"], row["segment"], row["segments"], row["attempt"]) == (
        "clip",
        "/photos/clip",
        3,
        9,
        2,
    )
    assert [f["frame_index"] for f in row["frames"]] == [0, 1]
    figures = {"brightness": 127.0, "contrast": 3.5, "sharpness": 9.0, "confidence": None, "uncertain_share": None}
    assert row["frames"][1] == {"frame_index": 1, "pts_s": 0.04, "height_px": 20, "width_px": 30} | figures
    assert row["source_images"] == [b"p", b"q"]
    assert (row["failed_stage"], row["error_type"], row["failed_frame"]) == ("decode", "DecodeError", 194)
    assert (row["item_sha256"], row["notes"]) == ("ab" * 32, "n")


def test_a_table_without_units_has_the_same_columns():
    assert to_table([], extra=NO_EXTRA).schema == to_table([unit("a", 2)], extra=NO_EXTRA).schema
    assert frame_counts(to_table([], extra=NO_EXTRA)) == []
    assert inputs_of(to_table([], extra=NO_EXTRA)).shape == (0, *SHAPE)


def test_inputs_are_read_in_order_without_a_copy():
    units = [unit("a", 2), unit("b", 0), unit("c", 3)]
    table = to_table(units, extra=NO_EXTRA)

    found = inputs_of(table)

    np.testing.assert_array_equal(found, expected_inputs(*units))
    assert frame_counts(table) == [2, 0, 3]
    assert found.ctypes.data == table.column("inputs").chunk(0).buffers()[2].address
    assert not found.flags.writeable


def test_a_slice_holds_only_the_frames_of_its_units():
    units = [unit("a", 2), unit("b", 1), unit("c", 0), unit("d", 3)]
    part = to_table(units, extra=NO_EXTRA).slice(1, 2)

    np.testing.assert_array_equal(inputs_of(part), expected_inputs(units[1]))
    assert frame_counts(part) == [1, 0]
    assert inputs_of(part.slice(1)).shape == (0, *SHAPE)


def test_concatenated_tables_hold_all_frames_in_order():
    units = [unit(name, count) for name, count in (("a", 1), ("b", 0), ("c", 2), ("d", 3))]
    table = pa.concat_tables([to_table(units[:2], extra=NO_EXTRA), to_table(units[2:], extra=NO_EXTRA)])

    assert table.column("inputs").num_chunks == 2
    np.testing.assert_array_equal(inputs_of(table), expected_inputs(*units))
    np.testing.assert_array_equal(inputs_of(table.slice(1, 2)), expected_inputs(units[2]))
    assert inputs_of(table.slice(0, 0)).shape == (0, *SHAPE)


def test_units_that_failed_before_decoding_have_no_inputs():
    table = to_table([unit("a", 0), unit("b", 0)], extra=NO_EXTRA)

    assert inputs_of(table).shape == (0, *SHAPE)
    assert table.column("inputs").to_pylist() == [b"", b""]


@given(st.lists(st.integers(0, 4), max_size=8), st.data())
def test_any_slice_of_stacked_arrays_holds_its_values(counts, data):
    arrays = [np.float32([[at, -at]]) for at in range(sum(counts))]
    column = pa.chunked_array([stack(arrays, counts)])
    start = data.draw(st.integers(0, len(counts)))
    stop = data.draw(st.integers(start, len(counts)))

    found = as_array(column.slice(start, stop - start), np.float32, (1, 2))

    assert found[:, 0, 0].tolist() == list(range(sum(counts[:start]), sum(counts[:stop])))


def test_arrays_that_are_not_contiguous_are_stacked_by_value():
    array = np.arange(12, dtype=np.int16).reshape(3, 4)

    found = as_array(pa.chunked_array([stack([array.T], [1])]), np.int16, (4, 3))

    np.testing.assert_array_equal(found[0], array.T)


def test_values_of_different_lengths_share_one_buffer():
    values = from_bytes(np.frombuffer(b"aabccc", np.uint8), [2, 1, 0, 3])

    assert values.to_pylist() == [b"aa", b"b", b"", b"ccc"]


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 20))
def test_chunks_are_consecutive_and_complete_and_only_a_single_unit_exceeds_the_maximum(counts, maximum):
    cuts = chunks(counts, maximum)

    assert [count for cut in cuts for count in counts[cut]] == counts
    assert all(cut.stop > cut.start for cut in cuts)
    for cut in cuts:
        with_frames = [count for count in counts[cut] if count]
        assert sum(with_frames) <= maximum or len(with_frames) == 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 20))
def test_chunks_are_as_full_as_possible(counts, maximum):
    cuts = chunks(counts, maximum)

    for cut, following in itertools.pairwise(cuts):
        assert sum(counts[cut]) + counts[following.start] > maximum


EXTRA = {
    "count": (pa.int64(), 7),
    "small": (pa.uint8(), 255),
    "share": (pa.float32(), 0.5),
    "good": (pa.bool_(), True),
    "name": (pa.string(), "Süd"),
    "raw": (pa.binary(), b"\x00\xff"),
    "tags": (pa.list_(pa.string()), ["a", None]),
    "where": (pa.struct([("lat", pa.float64()), ("lon", pa.float64())]), {"lat": 1.5, "lon": -2.0}),
    "seen": (pa.timestamp("us", tz="UTC"), dt.datetime(2026, 11, 22, 1, 2, 3, 4, tzinfo=dt.UTC)),
    "day": (pa.date32(), dt.date(2026, 11, 22)),
    "clock": (pa.time64("us"), dt.time(23, 59, 58)),
    "price": (pa.decimal128(9, 2), decimal.Decimal("12.34")),
    "took": (pa.duration("ms"), dt.timedelta(milliseconds=1500)),
}


def test_pass_through_columns_keep_their_types_and_values():
    extra = pa.schema([pa.field(name, kind) for name, (kind, _) in EXTRA.items()])
    values = {name: value for name, (_, value) in EXTRA.items()}
    full, empty = unit("a", 1, extra=values), unit("b", 1)

    column = to_table([full, empty], extra=extra).column("extra")

    assert column.type == pa.struct(list(extra))
    assert column.to_pylist() == [values, dict.fromkeys(values)]


def test_nanoseconds_are_kept():
    kind = pa.timestamp("ns")
    value = pa.scalar(1_700_000_000_123_456_789, kind)

    table = to_table([unit("a", 1, extra={"seen": value.as_py()})], extra=pa.schema([("seen", kind)]))

    assert table.column("extra").combine_chunks().field("seen").cast(pa.int64()).to_pylist() == [
        1_700_000_000_123_456_789
    ]


def test_a_failure_shows_an_item_errors_message_and_any_others_type():
    assert failure("decode", DecodeError("found noise")).error_message == "found noise"
    assert failure("mask", KeyError("x")).error_message == "KeyError", "its message may quote the item"
    assert failure("mask", KeyError("x")).error_type == "KeyError"


def test_a_failure_is_redacted_and_truncated():
    found = failure("decode", DecodeError("s3://KEY:SECRET@bucket/a.jpg " + "x" * 10_000))

    assert "SECRET" not in found.error_message
    assert len(found.error_message) == MESSAGE_CHARACTERS


def test_a_failure_with_a_name_that_is_not_utf8_can_be_written():
    bad = unit("a", 0).failed(failure("decode", DecodeError("cannot read \udcff.jpg")))

    assert to_table([bad], extra=NO_EXTRA).column("error_message").to_pylist() == ["cannot read \\udcff.jpg"]


def test_the_module_imports_what_it_uses():
    """frame_counts once relied on another module to import pyarrow.compute."""
    code = (
        "import pyarrow as pa; from fsf_core.stages.units import frame_counts, to_table, Unit;"
        "print(frame_counts(to_table([Unit(item_id='a', uri='a')], extra=pa.schema([]))))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[0]"


@pytest.mark.parametrize("name", ["a", "clip"])
def test_a_failed_unit_keeps_its_frames(name):
    whole = unit(name, 2)

    assert whole.failed(failure("mask", DecodeError("no"))).frames == whole.frames


def test_a_value_of_a_binary_column_is_that_of_arrow_in_any_chunk_and_slice():
    rows = [b"ab", None, b"", b"cde" * 9, b"f"]
    column = pa.chunked_array([pa.array(rows, pa.large_binary()).slice(1), pa.array(rows, pa.large_binary())])
    table = pa.table({"data": column}).slice(1)
    found = [value(table, "data", at).tobytes() for at in range(table.num_rows)]
    assert found == [row or b"" for row in table.column("data").to_pylist()]
    with pytest.raises(IndexError):
        value(table, "data", table.num_rows)
