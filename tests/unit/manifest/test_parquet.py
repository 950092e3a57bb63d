"""Parquet lists of every writer: view types, parts whose types differ, images in cells and behind paths."""

import base64
import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import ConfigError, DecodeError, FetchError, ManifestError
from fsf_core.manifest import Selection, members, open_manifest
from fsf_core.manifest.parquet_types import plain_schema
from fsf_core.stages import units

FILES = storage.Access(schemes=("file",))


def rows_of(manifest):
    return [row for batch in manifest.batches() for row in batch.to_pylist()]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), path)


# --- view types ---

VIEW = pa.string_view()
VIEWS = {
    "text": pa.array(["test", None, "train"], VIEW),
    "data": pa.array([b"\x00", None, b"x"], pa.binary_view()),
    "tags": pa.array([["a", None], None, []], pa.list_(VIEW)),
    "listed": pa.array([["a"], ["b", None], []], pa.list_view(VIEW)),
    "large": pa.array([["a", "b"], [], None], pa.large_list_view(pa.string())),
    "pair": pa.array([["a"], ["b"], [None]], pa.list_(VIEW, 1)),
    "deep": pa.array(
        [{"x": [{"y": "z"}]}, None, {"x": []}], pa.struct([("x", pa.list_view(pa.struct([("y", VIEW)])))])
    ),
    "map": pa.array([[("k", "v")], None, []], pa.map_(VIEW, VIEW)),
}


def write_as_views(path, **columns):
    """Write plain values under a schema of views: Arrow reads them all, and writes not all of them."""
    table = pa.table(columns)
    kinds = plain_schema(table.schema)
    plain = pa.table([pa.array(table.column(field.name).to_pylist(), field.type) for field in kinds], schema=kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.parquet.ParquetWriter(path, plain.schema, store_schema=False) as writer:
        writer.write_table(plain)
        stored = base64.b64encode(table.schema.serialize().to_pybytes()).decode()
        writer.add_key_value_metadata({"ARROW:schema": stored})


@pytest.mark.parametrize("folder", [False, True])
def test_columns_of_view_types_pass_through_as_plain_ones(folder, tmp_path):
    """Kind: a view type, alone or inside another type, in a column that is carried along."""
    path = tmp_path / "list" / "part.parquet"
    write_as_views(path, uri=pa.array(["a", "b", "c"], VIEW), **VIEWS)
    assert str(pyarrow.parquet.read_schema(path)).count("view") > len(VIEWS)

    manifest = open_manifest(str(path.parent if folder else path))

    assert "view" not in str(manifest.extra)
    assert [row["extra"] for row in rows_of(manifest)] == pa.table(VIEWS).to_pylist()
    assert len({*manifest.digests(next(manifest.batches())).to_pylist()}) == 3
    some = [units.Unit(item_id=row["item_id"], uri=row["uri"], extra=row["extra"]) for row in rows_of(manifest)]
    assert units.to_table(some, extra=manifest.extra).column("extra").to_pylist() == pa.table(VIEWS).to_pylist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("text == 'test'", ["1"]),
        ("text in ('test', 'train')", ["1", "3"]),
        ("text is null", ["2"]),
        ("text > 'test' or id == '1'", ["1", "3"]),
        ("kind == 'video'", ["3"]),
    ],
)
def test_a_condition_compares_views_as_text(where, expected, tmp_path):
    """Kind: a view type as id, address, kind, and in --where; also where statistics rule out row groups."""
    table = pa.table(
        {
            "id": pa.array(["1", "2", "3"], VIEW),
            "uri": pa.array(["/a", "/b", "/c"], VIEW),
            "kind": pa.array([None, "image", "video"], VIEW),
            "text": VIEWS["text"],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "l.parquet", row_group_size=1)

    found = rows_of(open_manifest(f"{tmp_path}/l.parquet", Selection(where=where)))

    assert [row["item_id"] for row in found] == expected
    assert [row["uri"] for row in found] == [
        dict(zip("123", ("/a", "/b", "/c"), strict=True))[name] for name in expected
    ]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (pa.array(["test", "x"], pa.large_string()), "c == 'test'"),
        (pa.array(["test", "x"], pa.large_string()), "c < 'x' and c in ('test', 'y')"),
        (pa.array(["test", "x"], pa.large_string()).dictionary_encode(), "c == 'test'"),
        (pa.array([b"test", b"x"]), "c == 'test'"),
        (pa.array([b"test", b"x"], pa.large_binary()), "c in ('test')"),
        (pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.25")]), "c == 1.5"),
        (pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.25")]), "c < 2 and c in (1.5, 3)"),
    ],
)
def test_a_condition_compares_large_text_bytes_and_decimals(values, where, tmp_path):
    """Kind: what polars, Impala and databases write for text and numbers."""
    write(tmp_path / "l.parquet", uri=["/a", "/b"], c=values)

    assert [row["uri"] for row in rows_of(open_manifest(f"{tmp_path}/l.parquet", Selection(where=where)))] == ["/a"]
    with pytest.raises(ConfigError, match="text and numbers do not compare"):
        open_manifest(f"{tmp_path}/l.parquet", Selection(where="c == 1" if "'" in where else "c == 'test'"))


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.struct([("bytes", pa.binary_view()), ("path", VIEW)])])
def test_images_in_cells_of_view_types_are_items(kind, tmp_path):
    cells = [b"A", b"B"] if kind == pa.binary_view() else [{"bytes": b"A", "path": "a"}, {"bytes": b"B", "path": None}]
    write(tmp_path / "l.parquet", image=pa.array(cells, kind), label=pa.array(["x", "y"], VIEW))

    manifest = open_manifest(f"{tmp_path}/l.parquet")

    assert contents(manifest) == [b"A", b"B"]
    assert [row["extra"]["label"] for row in rows_of(manifest)] == ["x", "y"]


def contents(manifest, access=FILES):
    found = []
    for opener in members.open_prefetched([row["uri"] for row in rows_of(manifest)], access):
        with opener() as file:
            found.append(file.read())
    return found


# --- parts whose types differ ---

UTC = dt.UTC
NOON = dt.datetime(2026, 1, 2, 12)  # noqa: DTZ001 - a naive time


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("one", "other", "kind", "values"),
    [
        (pa.nulls(1), pa.array(["ripe"]), pa.string(), [None, "ripe"]),
        (pa.nulls(1), pa.array(["ripe"]).dictionary_encode(), pa.string(), [None, "ripe"]),
        (pa.nulls(1), pa.array(["ripe"], VIEW), pa.string(), [None, "ripe"]),
        (pa.array([1]), pa.array([0.5]), pa.float64(), [1.0, 0.5]),
        (pa.array([1], pa.int8()), pa.array([70_000], pa.int32()), pa.int32(), [1, 70_000]),
        (pa.array([1], pa.int32()), pa.array([0.5], pa.float32()), pa.float64(), [1.0, 0.5]),
        (pa.array([7]), pa.array(["A7"]), pa.string(), ["7", "A7"]),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), pa.large_string(), ["a", "b"]),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), pa.string(), ["a", "b"]),
        (pa.array([NOON], pa.timestamp("ms")), pa.array([NOON], pa.timestamp("us")), pa.timestamp("us"), [NOON, NOON]),
        (pa.array([[1]]), pa.array([[0.5]]), pa.list_(pa.float64()), [[1.0], [0.5]]),
        (pa.array([[None]]), pa.array([["x"]]), pa.list_(pa.string()), [[None], ["x"]]),
        (pa.array([{"a": 1}]), pa.array([{"a": 0.5}]), pa.struct([("a", pa.float64())]), [{"a": 1.0}, {"a": 0.5}]),
    ],
)
def test_a_column_of_several_types_has_the_one_that_holds_all_values(one, other, kind, values, order, tmp_path):
    """Kind: parts of a folder whose column types differ, whichever comes first."""
    for number, part in enumerate([one, other][::order]):
        write(tmp_path / f"part-{number}.parquet", uri=[f"/{number}.jpg"], note=part)

    manifest = open_manifest(str(tmp_path))

    assert manifest.extra.field("note").type == kind
    assert [row["extra"]["note"] for row in rows_of(manifest)] == values[::order]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([True]), pa.array([1])),
        (pa.array([NOON]), pa.array([NOON.replace(tzinfo=UTC)])),
        (pa.array([["a"]]), pa.array(["a"])),
        (pa.array([0.5]), pa.array(["half"])),
        (pa.array([dt.date(2026, 1, 2)]), pa.array([7])),
    ],
)
def test_types_without_a_common_one_are_refused_with_both_files(one, other, tmp_path):
    for number, part in enumerate([one, one, other]):
        write(tmp_path / f"part-{number}.parquet", uri=[f"/{number}.jpg"], note=part)

    with pytest.raises(ManifestError, match=r"part-2\.parquet has the column 'note' as .*part-0\.parquet has it as"):
        open_manifest(str(tmp_path))


def test_a_value_that_the_common_type_cannot_hold_is_refused_with_its_file(tmp_path):
    write(tmp_path / "a.parquet", uri=["/a"], n=pa.array([0.5]))
    write(tmp_path / "b.parquet", uri=["/b"], n=pa.array([2**60 + 1]))

    with pytest.raises(ManifestError, match=r"b\.parquet is not a readable \.parquet list"):
        open_manifest(str(tmp_path))


def test_ids_of_several_types_are_text(tmp_path):
    write(tmp_path / "a.parquet", uri=["/a"], id=[1])
    write(tmp_path / "b.parquet", uri=["/b"], id=["x"])
    write(tmp_path / "c.parquet", uri=["/c"], id=[2.0])

    assert [row["item_id"] for row in rows_of(open_manifest(str(tmp_path)))] == ["1", "x", "2"]


def test_columns_that_the_first_part_lacks_are_refused_and_those_that_a_part_lacks_are_null(tmp_path):
    write(tmp_path / "a.parquet", uri=["/a"], note=["x"])
    write(tmp_path / "b.parquet", uri=["/b"])
    assert [row["extra"]["note"] for row in rows_of(open_manifest(str(tmp_path)))] == ["x", None]

    write(tmp_path / "c.parquet", uri=["/c"], note=["x"], more=[1])
    with pytest.raises(ManifestError, match=r"c\.parquet has the columns \['more'\], which the files before it lack"):
        open_manifest(str(tmp_path))


def test_a_condition_on_a_widened_column_compares_in_its_common_type(tmp_path):
    write(tmp_path / "a.parquet", uri=["/a"], n=[1])
    write(tmp_path / "b.parquet", uri=["/b"], n=[1.5])

    assert [row["uri"] for row in rows_of(open_manifest(str(tmp_path), Selection(where="n > 1")))] == ["/b"]


# --- images in cells ---

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_a_cell_without_bytes_is_the_file_at_its_path(tmp_path):
    """Kind: Hugging Face's struct whose bytes are null: the path is absolute, or counts from the table's folder."""
    storage.write_bytes(f"{tmp_path}/photos/a.jpg", b"A")
    cells = [
        {"bytes": None, "path": f"{tmp_path}/photos/a.jpg"},
        {"bytes": None, "path": "photos/a.jpg"},
        {"bytes": b"C", "path": "photos/a.jpg"},
    ]
    write(tmp_path / "l.parquet", image=pa.array(cells, CELL))

    assert contents(open_manifest(f"{tmp_path}/l.parquet")) == [b"A", b"A", b"C"]


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ({"bytes": None, "path": None}, DecodeError, "the cell of 'image' is empty"),
        ({"bytes": b"", "path": "a.jpg"}, DecodeError, "the cell of 'image' is empty"),
        (None, DecodeError, "the cell of 'image' is empty"),
        ({"bytes": None, "path": "gone.jpg"}, FetchError, r"gone\.jpg does not exist"),
        ({"bytes": None, "path": "s3://bucket/a.jpg"}, FetchError, "has the scheme 's3'"),
        ({"bytes": None, "path": "span://0+9//etc/passwd"}, FetchError, "names a part of a file"),
    ],
)
def test_a_cell_without_an_image_is_an_error_of_its_item(cell, error, message, tmp_path):
    write(tmp_path / "l.parquet", image=pa.array([cell], CELL))
    (row,) = rows_of(open_manifest(f"{tmp_path}/l.parquet"))

    with pytest.raises(error, match=message), members.open_item(row["uri"], FILES):
        pass


def test_one_of_two_columns_of_images_is_chosen_by_name(tmp_path):
    """Kind: pairs of pictures in a table; the message names the option and the columns, and following it works."""
    cells = {name: pa.array([{"bytes": name.encode(), "path": None}], CELL) for name in ("image", "annotation")}
    write(tmp_path / "l.parquet", **cells, label=[1])

    for uri in (f"{tmp_path}/l.parquet", str(tmp_path)):
        with pytest.raises(ManifestError, match=r"\['image', 'annotation'\].*; pass --image-column image or another"):
            open_manifest(uri)
        for name in cells:
            chosen = open_manifest(uri, Selection(image_column=name))
            assert contents(chosen) == [name.encode()]
            assert {*chosen.extra.names} == {*cells, "label"} - {name}
        with pytest.raises(ManifestError, match=r"columns of images \['image', 'annotation'\], .* is 'label'"):
            open_manifest(uri, Selection(image_column="label"))


def test_a_chosen_column_of_images_takes_the_place_of_addresses(tmp_path):
    write(tmp_path / "l.parquet", uri=["/a.jpg"], jpg=[b"A"], id=["x"])

    assert contents(open_manifest(f"{tmp_path}/l.parquet", Selection(image_column="jpg"))) == [b"A"]
    assert rows_of(open_manifest(f"{tmp_path}/l.parquet"))[0]["uri"] == "/a.jpg"


def test_a_column_of_images_cannot_be_chosen_in_a_list_without_any(tmp_path):
    (tmp_path / "l.csv").write_text("uri\na.jpg\n")

    with pytest.raises(ConfigError, match="--image-column is for Parquet"):
        open_manifest(f"{tmp_path}/l.csv", Selection(image_column="uri"))


@pytest.mark.parametrize("kind", [pa.list_(CELL), pa.large_list(pa.binary()), pa.list_view(CELL)])
def test_lists_of_images_are_refused_with_the_columns_that_there_are(kind, tmp_path):
    write(tmp_path / "l.parquet", images=pa.nulls(1, kind), label=[1])

    with pytest.raises(ManifestError, match=r"lists of images in \['images'\], of its columns \['images', 'label'\]"):
        open_manifest(f"{tmp_path}/l.parquet")
