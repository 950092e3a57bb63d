"""The digest of a row changes with what the list says of the item, and with nothing else."""

import datetime as dt
import decimal
import io

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core import storage
from fsf_core.manifest import open_manifest
from fsf_core.manifest.row_digests import row_digests

DAY = dt.datetime(2026, 11, 27, 8, tzinfo=dt.UTC)

TEXT_LISTS = pa.list_(pa.list_(pa.string()))

TWO_NUMBERS = pa.struct([("a", pa.int64()), ("b", pa.int64())])


def digests(uris, columns=None, folder="/lists"):
    rows = {"item_id": [f"i{number}" for number in range(len(uris))], "uri": pa.array(uris, pa.string())}
    if columns:
        rows["extra"] = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    return row_digests(pa.table(rows), folder).to_pylist()


def digest_of(value, kind):
    return digests(["/x.jpg"], {"column": pa.array([value], kind)})[0]


# --- addresses ---

SAME_ADDRESSES = [
    ("/lists/sub/a.jpg", "file:///lists/sub/a.jpg"),
    ("/x/a.jpg", "FILE:///x/a.jpg"),
    ("s3://bucket/a.jpg", "s3://KEY:SECRET@bucket/a.jpg"),
    ("https://h/a.jpg", "https://me:pass@h/a.jpg"),
    ("https://h/a.jpg", "https://token@h/a.jpg"),
    ("https://h/a.jpg", "https://h/a.jpg?X-Amz-Algorithm=A&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-Signature=ab"),
    ("https://h/a.jpg", "https://h/a.jpg?X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Signature=ab"),
    ("https://h/a.jpg", "https://h/a.jpg?GoogleAccessId=me&Expires=1&Signature=ab"),
    ("https://h/a.jpg", "https://h/a.jpg?AWSAccessKeyId=me&Expires=2&Signature=cd"),
    ("https://h/a.jpg", "https://h/a.jpg?sv=2024&st=1&se=2&sr=b&sp=r&sig=ab%3D"),
    ("https://h/a.jpg", "https://h/a.jpg?Expires=1&Signature=ab&Key-Pair-Id=K"),
    ("https://h/a.jpg", "https://h/a.jpg?Policy=p&Signature=ab&Key-Pair-Id=K"),
    ("https://h/a.jpg?v=2", "https://h/a.jpg?v=2&token=ab"),
    ("https://h/a.jpg?v=2", "https://h/a.jpg?api_key=1&v=2"),
    ("span://0+9//x/a.tar", "span://512+9//x/a.tar"),
    ("span://0+9/https://h/a.tar", "span://3+8/https://h/a.tar?sig=ab&se=1"),
    ("cell://0.1/image//x/t.parquet", "cell://2.7/image//x/t.parquet"),
]


@pytest.mark.parametrize(("one", "other"), SAME_ADDRESSES)
def test_credentials_signatures_and_positions_in_a_container_do_not_count(one, other):
    assert digests([one]) == digests([other])
    assert digests([storage.redact(other)]) == digests([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/x/a.jpg", "/y/a.jpg"),
        ("/lists/a.jpg", "/lists/sub/a.jpg"),
        ("/x/a.jpg", "s3://x/a.jpg"),
        ("s3://bucket/a.jpg", "s3://other/a.jpg"),
        ("https://h/a.jpg?v=1", "https://h/a.jpg?v=2"),
        ("https://h/a.jpg?expires=1", "https://h/a.jpg?expires=2"),
        ("https://h/a.jpg?id=1&sig=ab", "https://h/a.jpg?id=2&sig=ab"),
        ("abfss://one@account/a.jpg", "abfss://two@account/a.jpg"),
        ("span://0+9//x/a.tar", "span://0+9//x/b.tar"),
        ("cell://0.1/image//x/t.parquet", "cell://0.1/mask//x/t.parquet"),
        ("/x/a?sig=1", "/x/a?sig=2"),
    ],
)
def test_another_address_is_another_row(one, other):
    assert digests([one]) != digests([other])


@pytest.mark.parametrize("folder", ["{}/real", "{}/link", "file://{}/real", "{}/link/../real"])
def test_items_below_the_folder_of_a_list_do_not_depend_on_how_the_folder_is_written(folder, tmp_path):
    storage.write_bytes(str(tmp_path / "real/sub/a.jpg"), b"x")
    (tmp_path / "link").symlink_to("real")
    manifest = open_manifest(folder.format(tmp_path))
    expected = open_manifest(str(tmp_path / "real"))

    assert manifest.address == expected.address == str(tmp_path / "real")
    for one, other in zip(manifest.batches(), expected.batches(), strict=True):
        assert manifest.digests(one).equals(expected.digests(other))


# --- columns ---

VALUES = {
    "text": (["a", "", None, "n", "1:a", "ü\0"], pa.string()),
    "large text": (["a", None], pa.large_string()),
    "bytes": ([b"a", b"", None, b"\xff"], pa.binary()),
    "fixed bytes": ([b"ab", b"\0\0", None], pa.binary(2)),
    "integers": ([0, 1, -1, 2**62, None], pa.int64()),
    "floats": ([0.0, -0.0, 0.1, 1e300, float("inf"), float("nan"), None], pa.float64()),
    "half floats": ([0.0, 1.0, None], pa.float16()),
    "booleans": ([True, False, None], pa.bool_()),
    "decimals": ([decimal.Decimal("1.20"), decimal.Decimal("-0.01"), None], pa.decimal128(9, 2)),
    "times": ([DAY, DAY + dt.timedelta(microseconds=1), None], pa.timestamp("us", "Europe/Berlin")),
    "dates": ([DAY.date(), None], pa.date32()),
    "times of day": ([DAY.time(), None], pa.time64("ns")),
    "durations": ([dt.timedelta(1), None], pa.duration("ms")),
    "lists": ([[], [None], [1], [1, 2], [12], None], pa.list_(pa.int64())),
    "fixed lists": ([[1, 2], [2, 1], [None, 1], None], pa.list_(pa.int64(), 2)),
    "nested lists": ([[], [[]], [["a"], []], [[], ["a"]], [["a", "b"]], [["a"], ["b"]], [["ab"]]], TEXT_LISTS),
    "structs": ([{"a": 1, "b": None}, {"a": None, "b": 1}, {"a": None, "b": None}, None], TWO_NUMBERS),
    "maps": ([[], [("a", 1)], [("a", None)], [("b", 1)], None], pa.map_(pa.string(), pa.int64())),
    "lists of structs": ([[{"a": "x"}], [{"a": None}], [None], []], pa.list_(pa.struct([("a", pa.string())]))),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_of_a_type_has_its_own_digest(name):
    values, kind = VALUES[name]
    found = digests(["/x.jpg"] * len(values), {"column": pa.array(values, kind)})

    assert len({*found}) == len(values)
    assert all(len(digest) == 8 for digest in found)


@pytest.mark.parametrize("name", VALUES)
def test_a_digest_depends_on_its_row_alone(name):
    """Neither on neighbours, nor on buffers: slices, chunks, dictionaries, and what came through Parquet and IPC."""
    values, kind = VALUES[name]
    column = pa.array(values, kind)
    whole = digests(["/x.jpg"] * len(values), {"column": column})

    assert [digest_of(value, kind) for value in values] == whole
    padded = pa.concat_arrays([column[-1:], column, column[:1]])[1:-1]
    assert digests(["/x.jpg"] * len(values), {"column": padded}) == whole
    rows = pa.table({"uri": ["/x.jpg"] * len(values), "extra": pa.StructArray.from_arrays([column], ["column"])})
    pieces = pa.concat_tables([rows[:1], rows[1:2], rows[2:]])
    assert row_digests(pieces, "/lists").to_pylist() == whole
    assert row_digests(_through_ipc(rows), "/lists").to_pylist() == whole
    if name != "fixed lists":  # Arrow 25 cannot read a null one from Parquet
        assert row_digests(_through_parquet(rows), "/lists").to_pylist() == whole


def test_a_dictionary_counts_as_its_values():
    plain = pa.array(["a", "b", None, "a"])

    assert digests(["/x"] * 4, {"c": plain.dictionary_encode()}) == digests(["/x"] * 4, {"c": plain})


def test_values_do_not_flow_from_one_column_into_the_next():
    def row(*values):
        return digests(["/x"], {str(number): pa.array([value], pa.string()) for number, value in enumerate(values)})

    rows = [row("ab", ""), row("a", "b"), row("", "ab"), row("ab", None), row(None, "ab"), row("2:ab", "")]
    assert len({digest for found in rows for digest in found}) == len(rows)


def test_nan_is_one_value_whatever_its_bits():
    payload = pa.array([0x7FF8000000000001], pa.int64()).view(pa.float64())

    assert digests(["/x"], {"c": payload}) == digests(["/x"], {"c": pa.array([float("nan")])})


WORDS = st.lists(st.none() | st.text("1:n", max_size=3), max_size=3)


@given(st.lists(st.lists(WORDS | st.none(), max_size=3), max_size=4))
def test_digests_are_equal_where_the_values_are(values):
    found = digests(["/x"] * len(values), {"c": pa.array(values, TEXT_LISTS)})

    assert len({*found}) == len({repr(value) for value in values})


def test_the_digests_of_this_version_are_those_of_the_first():
    """Recorded runs are compared with them: another value would score every item of every run again."""
    columns = {name: pa.array(values[:1], kind) for name, (values, kind) in VALUES.items()}

    assert digests(["https://h/a.jpg?v=2&token=ab"], columns)[0].hex() == "e4a55513fb27b8db"


def _through_parquet(rows):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(rows, sink)
    return pyarrow.parquet.read_table(io.BytesIO(sink.getvalue()))


def _through_ipc(rows):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
