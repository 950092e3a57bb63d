"""Selecting items of a list: conditions, folders of tables, shards, samples, limits."""

import datetime as dt
import io
import math
import re
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsf_core import storage
from fsf_core.errors import ConfigError, ManifestError
from fsf_core.manifest import Manifest, Selection, open_manifest
from fsf_core.manifest.row_filter import expression, parse

DAYS = ("2026-11-01", "2026-11-02")


def names(manifest: Manifest) -> list[str]:
    return [name for batch in manifest.batches() for name in batch.column("item_id").to_pylist()]


def tar_of(path: Path, *members: str) -> bytes:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path.read_bytes()


@pytest.fixture
def table(tmp_path):
    """Write a list of 2,000 items in two splits."""
    path = tmp_path / "list.parquet"
    rows = range(2000)
    pyarrow.parquet.write_table(
        pa.table(
            {"id": [f"i{n}" for n in rows], "uri": [f"{n}.jpg" for n in rows], "test": [n % 2 == 0 for n in rows]}
        ),
        path,
    )
    return str(path)


@pytest.fixture
def lake(tmp_path):
    """Write a folder of tables by split and day, as Spark and DuckDB do."""
    for split in ("test", "train"):
        for day in DAYS:
            folder = tmp_path / "lake" / f"split={split}" / f"day={day}" / "hour=7"
            folder.mkdir(parents=True)
            rows = pa.table({"id": [f"{split}-{day}-{n}" for n in range(3)], "uri": [f"a/{n}.jpg" for n in range(3)]})
            pyarrow.parquet.write_table(rows.append_column("size", pa.array(range(3))), folder / "part-0.parquet")
    (tmp_path / "lake" / "_SUCCESS").write_bytes(b"")
    return tmp_path / "lake"


def test_rows_are_chosen_by_a_condition(table):
    assert names(open_manifest(table, Selection(where="test == true and id in ('i2', 'i3', 'i4')"))) == ["i2", "i4"]


def test_a_folder_of_tables_is_one_list_with_its_folders_as_columns(lake):
    manifest = open_manifest(str(lake))

    assert manifest.items == 12
    assert {field.name: str(field.type) for field in manifest.extra} == {
        "size": "int64",
        "split": "string",
        "day": "string",
        "hour": "int64",
    }
    first = next(manifest.batches()).to_pylist()[0]
    assert first["extra"] == {"size": 0, "split": "test", "day": DAYS[0], "hour": 7}
    assert first["uri"] == str(lake / "a" / "0.jpg")


def test_folders_that_a_condition_rules_out_are_not_opened(lake):
    for path in (lake / "split=train").rglob("*.parquet"):
        path.write_bytes(b"not to be read")

    manifest = open_manifest(str(lake), Selection(where=f"split == 'test' and day >= '{DAYS[1]}' and size > 0"))

    assert names(manifest) == [f"test-{DAYS[1]}-1", f"test-{DAYS[1]}-2"]


def test_a_condition_that_rules_out_every_folder_is_refused(lake):
    with pytest.raises(ManifestError, match=r"lists no items under \{'where': .+ the selection"):
        open_manifest(str(lake), Selection(where="split == 'nothing'"))


def test_tables_of_a_folder_have_the_columns_of_the_first(lake):
    rows = pa.table({"id": ["late"], "uri": ["x"], "size": pa.array([9], pa.int16())})
    pyarrow.parquet.write_table(rows, lake / "split=train" / "late.parquet")
    assert "late" in names(open_manifest(str(lake)))

    pyarrow.parquet.write_table(rows.append_column("more", pa.array([1])), lake / "split=train" / "late.parquet")
    with pytest.raises(ManifestError, match=r"has the columns \['more'\]"):
        open_manifest(str(lake))


def test_a_damaged_table_of_a_folder_is_named(lake):
    """Regression: the message named the folder and not the file."""
    damaged = lake / "split=train" / f"day={DAYS[1]}" / "hour=7" / "part-0.parquet"
    for data in (b"not a table", damaged.read_bytes().replace(b"PAR1", b"PAR1" + bytes(100), 1)):
        damaged.write_bytes(data)

        with pytest.raises(ManifestError) as caught:
            open_manifest(str(lake))

        assert re.fullmatch(rf"{damaged} is not a readable \.parquet list: .+; repair or replace it", str(caught.value))


def test_a_damaged_archive_of_a_folder_is_named(tmp_path):
    tar_of(tmp_path / "a.tar", "1.jpg")
    (tmp_path / "b.tar").write_bytes(b"not an archive" * 100)

    with pytest.raises(ManifestError, match=r"/b\.tar is not a readable \.tar list: not an uncompressed tar archive"):
        open_manifest(str(tmp_path))


# --- row groups ---


@pytest.fixture
def sorted_table(tmp_path):
    """Write a list of 400 items in row groups of 100, sorted by day, whose first row group is damaged."""

    def write(path):
        days = [f"2026-11-{n // 100 + 1:02d}" for n in range(400)]
        table = pa.table({"id": [f"i{n}" for n in range(400)], "uri": ["a.jpg"] * 400, "day": days})
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, path, row_group_size=100)
        damaged = bytearray(path.read_bytes())
        damaged[4:200] = bytes(196)
        path.write_bytes(damaged)

    return write


@pytest.mark.parametrize("name", ["list.parquet", "folder/camera=left/part-0.parquet"])
def test_row_groups_that_the_statistics_rule_out_are_not_read(name, sorted_table, tmp_path):
    sorted_table(tmp_path / name)
    uri = str(tmp_path / name.partition("/")[0])

    assert names(open_manifest(uri, Selection(where="day >= '2026-11-04' and id != 'i301'"))) == [
        "i300",
        *(f"i{n}" for n in range(302, 400)),
    ]
    with pytest.raises(ManifestError):
        open_manifest(uri, Selection(where="day != '2026-11-04'"))


def test_a_row_group_of_nan_is_not_ruled_out_by_its_minimum_and_maximum(tmp_path):
    """Arrow's own pruning loses the second row: NaN is unequal to 1, and its statistics say 1 to 1."""
    path = tmp_path / "list.parquet"
    table = pa.table({"id": ["a", "b"], "uri": ["a", "b"], "x": [1.0, math.nan]})
    pyarrow.parquet.write_table(table, path)

    assert names(open_manifest(str(path), Selection(where="x != 1"))) == ["b"]


VALUES = {
    "whole": st.none() | st.integers(-3, 3),
    "share": st.none() | st.sampled_from([-1.5, 0.0, 1.0, math.nan, math.inf]),
    "text": st.none() | st.sampled_from(["", "a", "b", "ä"]),
    "good": st.none() | st.booleans(),
    "day": st.none() | st.dates(dt.date(2026, 11, 1), dt.date(2026, 11, 4)),
}
TYPES = {"whole": pa.int32(), "share": pa.float64(), "text": pa.string(), "good": pa.bool_(), "day": pa.date32()}
ATOMS = [
    "whole == 1", "whole != 0.5", "whole >= 0", "whole in (1, 2)", "share != 1", "share < 0.5", "share in (1, 0)",
    "text == 'a'", "text != 'a'", "text > 'a'", "text is null", "good == true", "day <= '2026-11-02'",
    "day not in ('2026-11-01', '2026-11-03')", "camera == 'l'", "camera != 'r'", "kept is not null",
]  # fmt: skip
CONDITIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner) | inner.map("not {}".format)
    ),
    max_leaves=4,
)


@given(rows=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=12), where=CONDITIONS, size=st.integers(1, 4))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_skipping_row_groups_never_changes_which_rows_are_chosen(rows, where, size, tmp_path):
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()})
    table = table.append_column("camera", pa.array(["lr"[n % 2] for n in range(len(rows))]).dictionary_encode())
    table = table.append_column("kept", pa.nulls(len(rows), pa.int64()))
    table = table.append_column("id", pa.array([str(n) for n in range(len(rows))])).append_column("uri", table["text"])
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet", row_group_size=size)
    expected = table.filter(expression(parse(where), table.schema)).column("id").to_pylist()

    chosen = []
    if expected:
        chosen = names(open_manifest(f"{tmp_path}/list.parquet", Selection(where=where)))
    else:
        with pytest.raises(ManifestError, match="lists no items"):
            open_manifest(f"{tmp_path}/list.parquet", Selection(where=where))

    assert chosen == expected


def test_row_groups_of_a_file_with_another_type_are_read_whole(tmp_path):
    """A condition compares in the type of the list, which is that of its first file."""
    for name, kind in (("a", pa.string()), ("b", pa.int64())):
        table = pa.table({"id": [f"{name}{n}" for n in range(3)], "uri": ["x"] * 3, "n": pa.array(range(3)).cast(kind)})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=1)

    assert names(open_manifest(str(tmp_path), Selection(where="n == '1'"))) == ["a1", "b1"]


# --- folders of files ---


@pytest.mark.parametrize("kind", ["media", "tables", "archives"])
def test_a_folder_of_any_kind_in_a_store_is_listed_once(kind, table, tmp_path, monkeypatch):
    filesystem = fsspec.filesystem("memory")
    files = {
        "media": {"a.jpg": b"x", "b/c.mp4": b"x", "d.parquet": b"x", "e.tar": b"x", "f.txt": b"x"},
        "tables": {"day=1/a.parquet": Path(table).read_bytes(), "b.tar": b"x", "_SUCCESS": b""},
        "archives": {
            "a.tar": tar_of(tmp_path / "a.tar", "1.jpg"),
            "b.tar": tar_of(tmp_path / "b.tar", "1.jpg"),
            "c.txt": b"x",
        },
    }[kind]
    for name, data in files.items():
        storage.write_bytes(f"memory://once/{kind}/{name}", data)
    listings, find = [], type(filesystem).find

    def counted(self, path, *args, **options):
        listings.append(path)
        return find(self, path, *args, **options)

    monkeypatch.setattr(type(filesystem), "find", counted)
    manifest = open_manifest(f"memory://once/{kind}")

    assert (manifest.items, manifest.left_out) == {"media": (2, 3), "tables": (2000, 1), "archives": (2, 1)}[kind]
    assert len(listings) == 1


def test_a_condition_on_a_folder_of_media_may_name_id_uri_and_kind(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")

    assert names(open_manifest(str(tmp_path), Selection(where="id == 'b.jpg'"))) == ["b.jpg"]
    with pytest.raises(ConfigError, match=r"the column 'size', the manifest has \['id', 'uri', 'kind'\]"):
        open_manifest(str(tmp_path), Selection(where="size > 3"))


def test_every_item_is_in_exactly_one_shard(table):
    shards = [names(open_manifest(table, Selection(shard=(number, 3)))) for number in (1, 2, 3)]

    assert sorted(name for shard in shards for name in shard) == sorted(names(open_manifest(table)))
    assert all(500 < len(shard) < 830 for shard in shards)


def test_a_sample_depends_on_the_ids_alone(table, tmp_path):
    chosen = names(open_manifest(table, Selection(sample=0.1)))
    fewer = pyarrow.parquet.read_table(table).slice(0, 1000)
    pyarrow.parquet.write_table(fewer, tmp_path / "fewer.parquet")

    assert 140 < len(chosen) < 260
    of_fewer = names(open_manifest(str(tmp_path / "fewer.parquet"), Selection(sample=0.1)))
    assert of_fewer == [name for name in chosen if int(name[1:]) < 1000]
    assert set(chosen) <= set(names(open_manifest(table, Selection(sample=0.2))))
    assert chosen != names(open_manifest(table, Selection(sample=0.1, sample_seed=1)))
    assert len(names(open_manifest(table, Selection(sample=1.0)))) == 2000


@pytest.mark.parametrize("seed", [-3, 10**30])
def test_every_integer_is_a_seed(seed, table):
    """NumPy refused those that are no unsigned 64-bit integers."""
    assert 0 < len(names(open_manifest(table, Selection(sample=0.1, sample_seed=seed)))) < 2000


def test_sampling_is_independent_of_sharding(table):
    chosen = names(open_manifest(table, Selection(sample=0.3, shard=(1, 2))))

    assert 200 < len(chosen) < 400


def test_the_limit_counts_the_chosen_items(table):
    assert names(open_manifest(table, Selection(where="test == false", limit=3))) == ["i1", "i3", "i5"]


def test_only_chosen_items_are_checked(tmp_path):
    (tmp_path / "list.csv").write_text("id,uri,n\na,a.jpg,1\na,b.jpg,2\n")

    assert names(open_manifest(f"{tmp_path}/list.csv", Selection(where="n == 2"))) == ["a"]
    with pytest.raises(ManifestError, match="more than once"):
        open_manifest(f"{tmp_path}/list.csv")
