"""Every way to write an address leads to the same file, and to one text where addresses are compared."""

from pathlib import Path

import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.manifest import open_manifest
from fsf_core.manifest.row_digests import row_digests

FORMS = ["{}", "file:{}", "file://{}", "file://localhost{}", "FILE://{}", "File://LocalHost{}"]
"""RFC 8089: file:/path, file:///path, file://host/path."""


@pytest.mark.parametrize("name", ["a b.jpg", "100%.jpg", "a%20b.jpg", "ü#?.jpg"])
@pytest.mark.parametrize(("form", "encoded"), [(form, False) for form in FORMS] + [(form, True) for form in FORMS[1:]])
def test_every_form_of_a_local_address_is_read(form, name, encoded, tmp_path):
    """Kind: what Path.as_uri() gives "does not exist"; the forms with one slash and with localhost neither."""
    storage.write_bytes(str(tmp_path / name), b"right")
    written = (tmp_path / name).as_uri().removeprefix("file://") if encoded else str(tmp_path / name)
    uri = form.format(written)

    assert storage.read_bytes(storage.absolute(uri, "/base")) == b"right"
    assert storage.absolute(uri) == storage.canonical(uri) == str(tmp_path / name)
    assert storage.is_local(uri)


def test_a_percent_sign_is_taken_as_it_is_written_first(tmp_path):
    for name in ("a b.jpg", "a%20b.jpg"):
        (tmp_path / name).write_bytes(name.encode())

    assert storage.read_bytes(f"file://{tmp_path}/a%20b.jpg") == b"a%20b.jpg"


def test_items_of_a_list_are_read_by_every_form_and_keep_it_as_their_id(tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"right")
    uris = [form.format((tmp_path / "a b.jpg").as_uri().removeprefix("file://")) for form in FORMS[1:]]
    for name, text in (("l.csv", "\n".join(["uri", *uris])), ("l.txt", "\n".join(uris))):
        (tmp_path / name).write_text(text)
        rows = next(open_manifest(str(tmp_path / name)).batches()).to_pylist()

        assert [row["item_id"] for row in rows] == uris
        assert {row["uri"] for row in rows} == {f"file://{tmp_path}/a%20b.jpg"}
        assert {storage.read_bytes(row["uri"]) for row in rows} == {b"right"}


def test_the_digest_of_a_row_does_not_depend_on_the_form_nor_on_the_disk(tmp_path):
    def digest(uri):
        uris = pa.array([storage.absolute(uri, "/base")])
        return row_digests(pa.table({"item_id": ["a"], "uri": uris}), "/lists").to_pylist()

    before = digest(f"file://{tmp_path}/a%20b.jpg")
    (tmp_path / "a b.jpg").write_bytes(b"x")

    assert digest(f"file://{tmp_path}/a%20b.jpg") == before
    assert len({str(digest(form.format("/x/a.jpg"))) for form in FORMS}) == 1


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("HTTPS://Host/A", "https://Host/A"),
        ("SPAN://0+9/x", "SPAN://0+9/x"),
        ("Cell://0.1/x/y", "Cell://0.1/x/y"),
    ],
)
def test_a_scheme_may_have_capitals_but_never_names_a_part_of_a_file(uri, expected):
    """Kind: S3:// was to be installed, although it was; only span:// and cell:// in lower case are this program's."""
    assert storage.absolute(uri) == storage.absolute(uri, "/base") == expected


def test_a_list_and_its_items_are_read_from_a_store_with_a_scheme_in_capitals(tmp_path):
    storage.write_bytes("memory://capitals/list.csv", b"uri\nMEMORY://capitals/a.jpg\nb.jpg\n")
    storage.write_bytes("memory://capitals/a.jpg", b"x")
    manifest = open_manifest("Memory://capitals/list.csv")
    rows = next(manifest.batches()).to_pylist()

    assert [row["item_id"] for row in rows] == ["MEMORY://capitals/a.jpg", "b.jpg"]
    assert [row["uri"] for row in rows] == ["memory://capitals/a.jpg", "memory://capitals/b.jpg"]
    assert storage.read_bytes(rows[0]["uri"]) == b"x"
    assert manifest.address == open_manifest("memory://capitals/list.csv").address


def test_a_folder_given_as_file_address_is_one_path(tmp_path):
    (tmp_path / "new").mkdir()

    assert storage.absolute(f"file://{tmp_path}/new/a%20b") == str(tmp_path / "new" / "a%20b")
    assert storage.absolute("file://photos") == str(Path("photos").absolute())
