"""Items inside other files are found without being read, and opened like files."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import DecodeError, FetchError, ManifestError
from fsf_core.manifest import Selection, members, open_manifest


def tar_of(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            archive.addfile(facts, io.BytesIO(data))
    return str(path)


def contents(manifest, *, schemes=("file",)):
    """Return the id and the bytes of every item, in order."""
    rows = [row for batch in manifest.batches() for row in batch.to_pylist()]
    found = []
    for row, opening in zip(
        rows, members.open_prefetched([row["uri"] for row in rows], storage.Access(schemes=schemes)), strict=True
    ):
        with opening() as file:
            found.append((row["item_id"], file.read()))
    return found


@pytest.fixture
def archive(tmp_path):
    return tar_of(tmp_path / "a-000.tar", {"x/1.jpg": b"one", "x/1.json": b"{}", "x/2.seg.png": b"two", "3.mp4": b""})


def test_the_media_of_an_archive_are_items_and_their_keys_the_ids(archive):
    assert contents(open_manifest(archive)) == [("x/1", b"one"), ("x/2", b"two"), ("3", b"")]


@pytest.mark.parametrize("pattern", ["", "/*.tar"])
def test_ids_of_several_archives_start_with_the_name_of_the_archive(pattern, archive, tmp_path):
    tar_of(tmp_path / "a-001.tar", {"x/1.jpg": b"other"})

    found = dict(contents(open_manifest(str(tmp_path) + pattern)))

    assert found == {"a-000/x/1": b"one", "a-000/x/2": b"two", "a-000/3": b"", "a-001/x/1": b"other"}


def test_a_key_that_two_images_share_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="1 ids more than once"):
        open_manifest(tar_of(tmp_path / "a.tar", {"1.left.jpg": b"l", "1.right.jpg": b"r"}))


@pytest.mark.parametrize("data", [b"no tar at all" * 100, b"\x1f\x8b" + bytes(2000)])
def test_a_file_that_is_not_an_archive_is_refused(data, tmp_path):
    (tmp_path / "a.tar").write_bytes(data)

    with pytest.raises(ManifestError, match=r"is not a readable \.tar list: not an uncompressed tar archive"):
        open_manifest(str(tmp_path / "a.tar"))


def test_a_span_is_a_file_of_its_own_length(tmp_path):
    (tmp_path / "whole").write_bytes(bytes(range(100)))
    uri = storage.byte_range(str(tmp_path / "whole"), 10, 20)

    assert storage.read_bytes(uri) == bytes(range(10, 30))
    with storage.open_binary(uri) as file:
        assert file.seek(-5, io.SEEK_END) == 15
        assert file.read() == bytes(range(25, 30))
        assert file.seek(3) == 3
        assert file.read(2) == bytes([13, 14])
    assert storage.container_of(uri) == str(tmp_path / "whole")


def test_a_span_of_a_scheme_that_is_not_allowed_is_refused():
    with pytest.raises(FetchError, match="scheme 's3'"):
        storage.Access(schemes=("file",)).require("span://1+2/s3://bucket/a.tar")


def test_a_span_in_a_store_is_read_by_itself(tmp_path):
    storage.write_bytes("memory://spans/whole", bytes(range(100)))
    uris = [storage.byte_range("memory://spans/whole", at, 3) for at in (5, 50)]

    found = []
    for opening in storage.open_prefetched(uris, storage.Access(schemes=("memory",))):
        with opening() as file:
            found.append(file.read())

    assert found == [bytes([5, 6, 7]), bytes([50, 51, 52])]


@pytest.fixture
def image_table(tmp_path):
    """Write images as Hugging Face's datasets does, in row groups of 20."""
    cells = [{"bytes": b"image %d" % number, "path": f"{number}.jpg"} for number in range(50)]
    path = tmp_path / "train-00000.parquet"
    table = pa.table({"image": cells, "label": range(50)})
    pyarrow.parquet.write_table(table, path, row_group_size=20)
    return path


def test_images_in_the_cells_of_a_table_are_items_named_by_row_number(image_table):
    manifest = open_manifest(str(image_table))

    assert contents(manifest) == [(str(number), b"image %d" % number) for number in range(50)]
    assert manifest.extra.names == ["label"]


def test_a_condition_keeps_the_row_numbers_of_images_in_later_row_groups(image_table):
    manifest = open_manifest(str(image_table), Selection(where="label >= 45"))

    assert contents(manifest) == [(str(number), b"image %d" % number) for number in range(45, 50)]


def test_cells_are_opened_in_any_order(image_table):
    rows = [row for batch in open_manifest(str(image_table)).batches() for row in batch.to_pylist()]
    chosen = [rows[number]["uri"] for number in (45, 3, 2, 21)]

    found = []
    for opening in members.open_prefetched(chosen, storage.Access(schemes=("file",))):
        with opening() as file:
            found.append(file.read())

    assert found == [b"image 45", b"image 3", b"image 2", b"image 21"]


def test_open_item_opens_cells_spans_and_files(image_table, archive):
    uris = [next(open_manifest(str(path)).batches()).column("uri")[1].as_py() for path in (image_table, archive)]

    for uri, expected in zip([*uris, archive], [b"image 1", b"two", None], strict=True):
        with members.open_item(uri) as file:
            assert expected is None or file.read() == expected
        assert storage.container_of(uri) in {str(image_table), archive}


def test_a_folder_of_image_tables_is_one_list(image_table):
    (image_table.parent / "split=b").mkdir()
    table = pyarrow.parquet.read_table(image_table).slice(0, 2)
    pyarrow.parquet.write_table(table, image_table.parent / "split=b" / "x.parquet")

    found = dict(contents(open_manifest(str(image_table.parent), Selection(where="label < 2"))))

    assert found == {
        "split=b/x/0": b"image 0",
        "split=b/x/1": b"image 1",
        "train-00000/0": b"image 0",
        "train-00000/1": b"image 1",
    }


def test_an_image_table_keeps_its_ids_and_may_hold_plain_bytes(tmp_path):
    path = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pa.table({"id": ["a", "b"], "jpg": [b"A", b"B"]}), path)

    assert contents(open_manifest(str(path))) == [("a", b"A"), ("b", b"B")]


def test_an_empty_cell_and_a_changed_table_are_errors_of_the_item(tmp_path):
    path = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pa.table({"jpg": [b"A", None]}), path)
    uris = [row["uri"] for batch in open_manifest(str(path)).batches() for row in batch.to_pylist()]
    first, second = members.open_prefetched(uris, storage.Access(schemes=("file",)))
    with first() as file:
        assert file.read() == b"A"
    with pytest.raises(DecodeError, match="is empty, expected"):
        second()

    path.write_bytes(b"other")
    (changed,) = members.open_prefetched(uris[:1], storage.Access(schemes=("file",)))
    with pytest.raises(FetchError, match="cannot be read"):
        changed()


def test_a_table_with_two_image_columns_and_no_uri_is_refused(tmp_path):
    path = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [b"A"], "b": [b"B"]}), path)

    with pytest.raises(ManifestError, match="expected one named `uri`"):
        open_manifest(str(path))
