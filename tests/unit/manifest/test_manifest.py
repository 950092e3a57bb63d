"""A list in any format gives every item once, with its URI and columns, or an error with the reason."""

import datetime as dt
import decimal
import json
import os
import re

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import kind_by_name, open_manifest
from fsf_core.manifest.rows import BATCH_ROWS
from fsf_core.schema import MASKS
from fsf_core.stages import units

JPEG = bytes.fromhex("ffd8ffe000104a46494600010101006000600000") + os.urandom(500)


def rows_of(manifest):
    return [row for batch in manifest.batches() for row in batch.to_pylist()]


def column(manifest, name):
    return [row[name] for row in rows_of(manifest)]


def extra(manifest, name):
    return [row["extra"][name] for row in rows_of(manifest)]


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a list under a name and opens it."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pyarrow.parquet.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_manifest(str(path))

    return write


@pytest.fixture
def refused(listed):
    """Return a function that writes a list that is refused, and returns the message."""

    def write(name, content):
        with pytest.raises(ManifestError) as caught:
            listed(name, content)
        return actionable(caught.value)

    return write


def actionable(error):
    """Check that a message has what was found, a semicolon, and what to do; return it."""
    assert re.search(r".+; .+", str(error)), str(error)
    return str(error)


def json_lines(*rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


# --- formats ---

THREE = [("a", "/x/a.jpg"), ("b", "s3://bucket/b.png"), ("c", "sub/c.mp4")]


@pytest.mark.parametrize(
    "name", ["list.parquet", "list.pq", "list.csv", "list.CSV", "list.tsv", "list.jsonl", "list.ndjson"]
)
def test_every_table_format_gives_the_same_items(name, listed, tmp_path):
    ids, uris = zip(*THREE, strict=True)
    tab = "\t" if name.endswith("tsv") else ","
    content = {
        "et": pa.table({"id": ids, "uri": uris}),
        "pq": pa.table({"id": ids, "uri": uris}),
        "nl": json_lines(*({"id": item, "uri": uri} for item, uri in THREE)),
        "on": json_lines(*({"id": item, "uri": uri} for item, uri in THREE)),
    }.get(name[-2:], "\n".join(tab.join(row) for row in [("id", "uri"), *THREE]))

    manifest = listed(name, content)

    assert manifest.items == 3
    assert rows_of(manifest) == [
        {"item_id": "a", "uri": "/x/a.jpg", "kind": None},
        {"item_id": "b", "uri": "s3://bucket/b.png", "kind": None},
        {"item_id": "c", "uri": f"{tmp_path}/sub/c.mp4", "kind": None},
    ]
    assert not len(manifest.extra)


def test_the_media_of_a_folder_are_items_named_by_their_paths_below_it(tmp_path):
    for name in ("b.JPG", "a.png", "sub/ü.mp4", "notes.txt", "sub/list.csv", ".hidden.jpg", ".trash/x.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")

    manifest = open_manifest(f"{tmp_path}/")

    assert column(manifest, "item_id") == ["a.png", "b.JPG", "sub/ü.mp4"]
    assert column(manifest, "uri") == [f"{tmp_path}/a.png", f"{tmp_path}/b.JPG", f"{tmp_path}/sub/ü.mp4"]
    assert manifest.left_out == 2


@pytest.mark.parametrize("name", ["photos [1]", "what? *", "{a,b}", "~tilde", "a::b", "100%", "zoë"])
def test_a_folder_with_wildcards_in_its_name_is_a_folder(name, tmp_path):
    folder = tmp_path / name
    storage.write_bytes(str(folder / "what?.jpg"), b"x")
    storage.write_bytes(str(folder / "list.csv"), b"uri\nwhat?.jpg\n")

    assert rows_of(open_manifest(str(folder))) == [
        {"item_id": "what?.jpg", "uri": f"{folder}/what?.jpg", "kind": None},
    ]
    assert column(open_manifest(str(folder / "list.csv")), "uri") == [f"{folder}/what?.jpg"]


def test_ids_of_a_glob_are_paths_below_the_folder_before_the_first_wildcard(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/1.png", "b/.1.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")

    for pattern in (f"{tmp_path}/*/?.jpg", f"file://{tmp_path}/*/?.jpg"):
        manifest = open_manifest(pattern)
        assert column(manifest, "item_id") == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
        assert storage.read_bytes(column(manifest, "uri")[2]) == b"x"
    assert column(open_manifest(f"{tmp_path}/b/1*"), "item_id") == ["1.jpg", "1.png"]


def test_a_relative_path_counts_from_the_working_directory(tmp_path, monkeypatch):
    storage.write_bytes(str(tmp_path / "photos" / "a.jpg"), b"x")
    monkeypatch.chdir(tmp_path)

    assert column(open_manifest("photos"), "uri") == [f"{tmp_path}/photos/a.jpg"]
    assert column(open_manifest("photos/*"), "item_id") == ["a.jpg"]


def test_one_media_file_is_a_list_of_one(tmp_path):
    path = tmp_path / "a b.jpg"
    path.write_bytes(JPEG)

    assert rows_of(open_manifest(str(path))) == [{"item_id": "a b.jpg", "uri": str(path), "kind": None}]


def test_a_missing_media_file_is_a_manifest_error(tmp_path):
    with pytest.raises(ManifestError, match="does not exist") as caught:
        open_manifest(str(tmp_path / "typo.jpg"))
    actionable(caught.value)


@pytest.fixture
def bucket():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield "memory://bucket"
    filesystem.store.clear()


def test_lists_folders_and_globs_in_a_store_are_read_like_local_ones(bucket):
    for name in ("photos/a.jpg", "photos/sub/b.jpg", "photos/n.txt"):
        storage.write_bytes(storage.join(bucket, name), b"x")
    storage.write_bytes(storage.join(bucket, "list.csv"), b"uri\nphotos/a.jpg\n")
    storage.write_bytes(storage.join(bucket, "list.txt"), b"photos/a.jpg\n")
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table({"uri": ["photos/a.jpg"]}), sink)
    storage.write_bytes(storage.join(bucket, "list.parquet"), sink.getvalue().to_pybytes())

    for name in ("list.csv", "list.txt", "list.parquet", "photos/*.jpg"):
        manifest = open_manifest(storage.join(bucket, name))
        assert manifest.items == 1
        assert storage.read_bytes(column(manifest, "uri")[0]) == b"x"
    folder = open_manifest(storage.join(bucket, "photos"))
    assert column(folder, "item_id") == ["a.jpg", "sub/b.jpg"]
    assert [storage.read_bytes(uri) for uri in column(folder, "uri")] == [b"x", b"x"]


def test_a_manifest_can_be_read_repeatedly_with_the_same_result(listed):
    for manifest in (listed("list.csv", "uri,n\na,1\nb,2\n"), listed("list.txt", "a\nb\n")):
        assert rows_of(manifest) == rows_of(manifest)


def test_long_lists_come_in_batches(listed):
    names = [f"{number}.jpg" for number in range(BATCH_ROWS + 10)]

    for manifest in (listed("l.parquet", pa.table({"uri": names})), listed("l.txt", "\n".join(names))):
        sizes = [batch.num_rows for batch in manifest.batches()]
        assert sum(sizes) == manifest.items == len(names)
        assert max(sizes) <= BATCH_ROWS
        assert column(manifest, "item_id") == names


# --- ids ---


def test_the_uri_as_written_is_the_default_id(listed):
    assert column(listed("list.csv", "uri\nsub/a.jpg\n../b.jpg\n"), "item_id") == ["sub/a.jpg", "../b.jpg"]


def test_a_default_id_has_no_credentials(listed):
    uris = ["https://h/a.jpg?v=1&X-Amz-Signature=SECRET", "s3://KEY:SECRET@bucket/b.jpg"]

    for manifest in (listed("l.txt", "\n".join(uris)), listed("l.csv", "\n".join(["uri", *uris]))):
        assert column(manifest, "item_id") == ["https://h/a.jpg?v=1&X-Amz-Signature=***", "s3://***@bucket/b.jpg"]
        assert column(manifest, "uri") == uris


def test_ids_that_look_like_numbers_dates_or_null_are_text(listed):
    ids = ["007", "7", "7.0", "1e3", "NA", "null", "NaN", "true", "2024-01-01", "0x1F", "-", "N/A", "None", "#N/A"]

    as_csv = listed("l.csv", "id,uri\n" + "".join(f"{item},{n}.jpg\n" for n, item in enumerate(ids)))
    as_json = listed("l.jsonl", json_lines(*({"id": item, "uri": "a.jpg"} for item in ids)))

    assert column(as_csv, "item_id") == ids
    assert column(as_json, "item_id") == ids


def test_uris_that_look_like_null_or_numbers_are_text(listed, tmp_path):
    assert column(listed("l.csv", "uri\nNA\n007\n"), "uri") == [f"{tmp_path}/NA", f"{tmp_path}/007"]


def test_dates_as_ids_in_json_lines_stay_as_written(listed):
    """Regression: Arrow parsed them as times, and wrote 2024-01-01 00:00:00."""
    manifest = listed("l.jsonl", json_lines({"id": "2024-01-01", "uri": "2024-01-01T10:00:00Z"}))

    assert column(manifest, "item_id") == ["2024-01-01"]
    assert column(manifest, "uri")[0].endswith("/2024-01-01T10:00:00Z")


def test_numbers_as_ids_become_text(listed):
    assert column(listed("l.parquet", pa.table({"id": [7, 8], "uri": ["a", "b"]})), "item_id") == ["7", "8"]
    assert column(listed("l.jsonl", json_lines({"id": 7, "uri": "a"})), "item_id") == ["7"]


def test_repeated_ids_are_named(refused):
    rows = "".join(f"{name},x.jpg\n" for name in ["a", "b", "a", "c", "b", "b"])

    message = refused("l.csv", "id,uri\n" + rows)

    assert "2 ids more than once, e.g. ['a', 'b']" in message
    assert "`id` column" in message


def test_only_some_of_many_repeated_ids_are_named(refused):
    message = refused("l.txt", "\n".join(f"{number}.jpg" for number in list(range(5000)) * 2))

    assert "5000 ids more than once" in message
    assert message.count(".jpg'") == 5


def test_repeated_ids_are_named_without_credentials(refused):
    assert "SECRET" not in refused("l.txt", "s3://KEY:SECRET@b/a.jpg\n" * 2)


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_an_id_is_refused_with_its_row_number(missing, refused):
    message = refused("l.parquet", pa.table({"id": ["a", missing], "uri": ["a", "b"]}))

    assert "no id in row 1" in message


def test_row_numbers_in_messages_count_over_batches(refused):
    ids = [str(number) for number in range(BATCH_ROWS + 5)]
    ids[-1] = ""

    assert f"no id in row {BATCH_ROWS + 4} " in refused("l.parquet", pa.table({"id": ids, "uri": ids}))


def test_a_row_without_a_uri_and_without_an_id_is_refused(refused):
    assert "no id in row 1" in refused("l.jsonl", json_lines({"uri": "a"}, {"other": 1}))


def test_a_row_with_an_id_but_no_uri_is_an_item(listed):
    manifest = listed("l.parquet", pa.table({"id": ["a", "b"], "uri": ["a", None]}))

    assert column(manifest, "item_id") == ["a", "b"]
    assert column(manifest, "uri")[1] == ""


# --- kinds ---


def test_kinds_are_image_video_or_null(listed):
    manifest = listed("l.csv", "uri,kind\na,image\nb,video\nc,\n")

    assert column(manifest, "kind") == ["image", "video", None]


def test_an_unknown_kind_is_named(refused):
    message = refused("l.csv", "uri,kind\n" + "".join(f"{n},kind{n:02d}\n" for n in range(50)))

    assert "kinds ['kind00', 'kind01', 'kind02', 'kind03', 'kind04'], expected image, video or an empty cell" in message


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("a.JPG", "image"),
        ("https://h/a.png?sig=1.mp4", "image"),
        ("/x/what?.mp4", "video"),
        ("a.txt", None),
        ("a", None),
        (".jpg", None),
        ("a.jpg/b", None),
    ],
)
def test_the_suffix_suggests_a_kind(uri, kind):
    assert kind_by_name(uri) == kind


# --- pass-through columns ---


def test_pass_through_columns_keep_types_values_and_nulls(listed):
    table = pa.table(
        {
            "uri": ["a", "b"],
            "n": pa.array([7, None], pa.int16()),
            "share": [0.5, None],
            "good": [True, None],
            "tags": [["x", None], None],
            "where": [{"lat": 1.5}, None],
            "seen": pa.array([dt.datetime(2026, 11, 22, 1, 2, 3, tzinfo=dt.UTC), None]),
            "nano": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", tz="UTC")),
            "day": [dt.date(2026, 11, 22), None],
            "price": [decimal.Decimal("12.34"), None],
            "nothing": pa.nulls(2),
            "camera": pa.array(["left", None]).dictionary_encode(),
            "raw": [b"\x00", None],
        }
    )

    manifest = listed("l.parquet", table)

    kinds = {field.name: field.type for field in manifest.extra}
    plain = {"nothing": pa.string(), "camera": pa.string()}
    assert kinds == {field.name: plain.get(field.name, field.type) for field in table.schema if field.name != "uri"}
    assert [row["extra"] for row in rows_of(manifest)] == table.drop_columns(["uri"]).to_pylist()


def test_pass_through_columns_survive_the_table_of_units(listed):
    table = pa.table(
        {"uri": ["a"], "camera": pa.array(["l"]).dictionary_encode(), "seen": pa.array([1], pa.timestamp("ns"))}
    )
    manifest = listed("l.parquet", table)
    some = [units.Unit(item_id=row["item_id"], uri=row["uri"], extra=row["extra"]) for row in rows_of(manifest)]

    passed = units.to_table(some, extra=manifest.extra).column("extra").combine_chunks()

    assert passed.field("camera").to_pylist() == ["l"]
    assert passed.field("seen").cast(pa.int64()).to_pylist() == [1]


def test_an_extension_type_passes_through_as_its_storage(listed):
    manifest = listed("l.parquet", pa.table({"uri": ["a"], "key": pa.array([b"x" * 16], pa.uuid())}))

    assert manifest.extra.field("key").type == pa.binary(16)
    assert extra(manifest, "key") == [b"x" * 16]


@pytest.mark.parametrize("name", sorted({*MASKS.names} - {"uri"}))
def test_a_column_of_the_masks_table_is_refused(name, refused):
    message = refused("l.parquet", pa.table({"uri": ["a"], name: ["x"]}))

    assert f"['{name}'], which the masks table has too; rename" in message


def test_a_column_notes_is_refused_with_the_way_to_finish_a_run_that_has_it(refused):
    assert "rename them, since" in refused("l.csv", "uri,notes\na.jpg,ripe\n")
    assert "column `notes` keeps it, and is finished by that version" in refused("m.csv", "uri,notes\na.jpg,ripe\n")
    message = refused("n.csv", "uri,Brightness,sharpness,camera\na.jpg,1,2,left\n")
    assert "has the columns ['Brightness', 'sharpness'], which the masks table has too" in message
    assert "column `Brightness`, `sharpness` keeps it, and is finished by that version" in message
    assert "version" not in refused("n.csv", "uri,mask\na.jpg,ripe\n")


def test_a_repeated_column_is_refused(refused):
    """Regression: it ended in a KeyError of Arrow's."""
    assert "columns ['n'] more than once; rename" in refused("l.csv", "uri,n,n\na,1,2\n")
    assert "columns ['uri'] more than once; rename" in refused("l.csv", "uri,uri\na,1\n")


# --- text and encodings ---


def test_names_in_any_script_are_unchanged(tmp_path):
    names = ["柿.jpg", "zoë.png", "🍊.jpg", "e\u0301.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")

    assert sorted(column(open_manifest(str(tmp_path)), "item_id")) == sorted(names)


def test_a_file_name_that_is_not_utf8_is_named_in_the_message(tmp_path):
    """Regression: it ended in a UnicodeEncodeError, because Arrow text is UTF-8."""
    (tmp_path / os.fsdecode(b"sub\xff.jpg")).write_bytes(b"x")

    with pytest.raises(ManifestError, match=r"sub\\udcff.jpg', expected names in UTF-8; rename") as caught:
        open_manifest(str(tmp_path))
    actionable(caught.value)


# --- refusals ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "uri,id\n"),
        ("l.parquet", pa.table({"uri": pa.array([], pa.string())})),
        ("l.jsonl", ""),
        ("l.jsonl", "\n\n"),
        ("l.txt", ""),
        ("l.txt", "\n\r\n"),
        ("l.json", "[]"),
    ],
)
def test_a_list_without_items_is_refused(name, content, refused):
    assert "lists no items, expected at least one; check" in refused(name, content)


def test_a_folder_without_media_is_refused_with_the_number_of_its_files(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ManifestError, match="empty lists no items, expected"):
        open_manifest(str(folder))

    for name in ("a.txt", "b.csv"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"lists no items \(left out: 2 without an ending .* \(a\.txt, b\.csv\)\)"):
        open_manifest(str(folder))


def test_a_glob_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="lists no items"):
        open_manifest(str(tmp_path / "*.jpg"))


@pytest.mark.parametrize("name", ["l.parquet", "l.csv", "l.jsonl"])
def test_a_table_without_uris_is_refused_with_its_columns(name, refused):
    content = {"l.csv": "id,path\na,b\n", "l.jsonl": json_lines({"id": "a", "path": "b"})}
    message = refused(name, content.get(name, pa.table({"id": ["a"], "path": ["b"]})))

    assert "columns ['id', 'path'], expected one named `uri`; rename" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", b""),
        ("l.csv", JPEG),
        ("l.csv", "uri\n\xfc.jpg\n".encode("latin-1")),
        ("l.csv", "uri,n\na,1\nb,2,3\n"),
        ("l.parquet", b""),
        ("l.parquet", JPEG),
        ("l.jsonl", JPEG),
        ("l.jsonl", '{"uri": "a"}\n{"uri": \n'),
        ("l.txt", JPEG),
        ("l.txt", "\xfc.jpg\n".encode("latin-1")),
    ],
)
def test_a_file_that_is_not_a_list_is_refused_with_the_reason(name, content, refused):
    assert "is not a readable" in refused(name, content)


def test_a_damaged_parquet_file_is_refused_wherever_it_is_damaged(tmp_path):
    path = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pa.table({"uri": [f"{n}.jpg" for n in range(5000)], "n": range(5000)}), path)
    whole = path.read_bytes()

    for length in (3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ManifestError, match=r"is not a readable \.parquet list") as caught:
            open_manifest(str(path))
        actionable(caught.value)
    path.write_bytes(whole[:200] + b"\xff" * 2000 + whole[2200:])
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(path))
    actionable(caught.value)


@pytest.mark.parametrize("name", ["list.xlsx", "list.foo", "list"])
def test_a_file_with_an_unknown_suffix_is_refused(name, refused):
    assert "its bytes are no image and no video, expected .parquet, .csv" in refused(name, b"x")


@pytest.mark.parametrize("name", ["a.vob", "a", "a.jpg_large", "a.f4v", "sha256-0a1b"])
@pytest.mark.parametrize("content", [JPEG, b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"], ids=["image", "video"])
def test_one_media_file_is_known_by_its_bytes_whatever_its_name(name, content, listed):
    """Kind: `a.vob` was to be converted or renamed, though its bytes are read."""
    assert column(listed(name, content), "item_id") == [name]


def test_unreachable_lists_are_refused(tmp_path):
    for uri in (str(tmp_path / "none.csv"), str(tmp_path / "none"), "gopher://host/list.csv", "memory://none/list.csv"):
        with pytest.raises(ManifestError) as caught:
            open_manifest(uri)
        actionable(caught.value)


def test_errors_never_show_credentials():
    with pytest.raises(ManifestError) as caught:
        open_manifest("https://me:SECRET@127.0.0.1:9/list.csv?sig=SECRET")
    assert "SECRET" not in actionable(caught.value)
