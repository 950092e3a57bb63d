"""Which items of a list are meant: conditions, folders of tables, shards, samples, limits."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core.errors import ConfigError, ManifestError
from fsf_core.manifest import Manifest, Selection, open_manifest

DAYS = ("2026-11-01", "2026-11-02")


def names(manifest: Manifest) -> list[str]:
    return [name for batch in manifest.batches() for name in batch.column("item_id").to_pylist()]


@pytest.fixture
def table(tmp_path):
    """A list of 2,000 items in two splits."""
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
    """A folder of tables by split and day, as Spark and DuckDB leave it."""
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


def test_a_folder_of_tables_is_one_list_and_its_folders_are_columns(lake):
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


def test_a_condition_that_rules_every_folder_out_leaves_no_items(lake):
    with pytest.raises(ManifestError, match=r"lists no items under \{'where': .+ the selection"):
        open_manifest(str(lake), Selection(where="split == 'nothing'"))


def test_tables_of_a_folder_share_the_columns_of_the_first(lake):
    rows = pa.table({"id": ["late"], "uri": ["x"], "size": pa.array([9], pa.int16())})
    pyarrow.parquet.write_table(rows, lake / "split=train" / "late.parquet")
    assert "late" in names(open_manifest(str(lake)))

    pyarrow.parquet.write_table(rows.append_column("more", pa.array([1])), lake / "split=train" / "late.parquet")
    with pytest.raises(ManifestError, match=r"has the columns \['more'\]"):
        open_manifest(str(lake))


def test_a_condition_on_a_folder_of_pictures_asks_for_id_uri_and_kind(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")

    assert names(open_manifest(str(tmp_path), Selection(where="id == 'b.jpg'"))) == ["b.jpg"]
    with pytest.raises(ConfigError, match=r"the column 'size', the manifest has \['id', 'uri', 'kind'\]"):
        open_manifest(str(tmp_path), Selection(where="size > 3"))


def test_shards_hold_every_item_once(table):
    shards = [names(open_manifest(table, Selection(shard=(number, 3)))) for number in (1, 2, 3)]

    assert sorted(name for shard in shards for name in shard) == sorted(names(open_manifest(table)))
    assert all(500 < len(shard) < 830 for shard in shards)


def test_a_sample_goes_by_the_ids_alone(table, tmp_path):
    chosen = names(open_manifest(table, Selection(sample=0.1)))
    fewer = pyarrow.parquet.read_table(table).slice(0, 1000)
    pyarrow.parquet.write_table(fewer, tmp_path / "fewer.parquet")

    assert 140 < len(chosen) < 260
    of_fewer = names(open_manifest(str(tmp_path / "fewer.parquet"), Selection(sample=0.1)))
    assert of_fewer == [name for name in chosen if int(name[1:]) < 1000]
    assert set(chosen) <= set(names(open_manifest(table, Selection(sample=0.2))))
    assert chosen != names(open_manifest(table, Selection(sample=0.1, sample_seed=1)))
    assert len(names(open_manifest(table, Selection(sample=1.0)))) == 2000


def test_a_sample_of_a_shard_is_a_sample(table):
    chosen = names(open_manifest(table, Selection(sample=0.3, shard=(1, 2))))

    assert 200 < len(chosen) < 400


def test_the_limit_counts_what_was_chosen(table):
    assert names(open_manifest(table, Selection(where="test == false", limit=3))) == ["i1", "i3", "i5"]


def test_only_what_is_chosen_is_checked(tmp_path):
    (tmp_path / "list.csv").write_text("id,uri,n\na,a.jpg,1\na,b.jpg,2\n")

    assert names(open_manifest(f"{tmp_path}/list.csv", Selection(where="n == 2"))) == ["a"]
    with pytest.raises(ManifestError, match="more than once"):
        open_manifest(f"{tmp_path}/list.csv")
