"""Text lists: every line is a path, exactly as it is written."""

import os

import pytest

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError
from fsf_core.manifest import open_manifest

NAMES = ["#12 tree.jpg", " a b .jpg ", "tab\t.jpg", "sub/ü.png", "-", "ends with \\", '"quoted".jpg', "a,b.jpg", "=1"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_every_line_is_a_path_as_it_is_written(end, encoding, open_list, rows_of, tmp_path):
    """Kind: lines that begin with # vanished, blanks were cut."""
    text = end.join([*NAMES[:3], "", *NAMES[3:]]) + end
    rows = rows_of(open_list("list.txt", text.encode(encoding)))

    assert [row["id"] for row in rows] == NAMES
    assert [row["uri"] for row in rows] == [f"{tmp_path}/{name}" for name in NAMES]


def test_a_carriage_return_inside_a_line_is_part_of_its_path(open_list, rows_of):
    assert [row["id"] for row in rows_of(open_list("l.txt", "Icon\r.jpg\nb.jpg"))] == ["Icon\r.jpg", "b.jpg"]


def test_absolute_paths_and_addresses_stay(open_list, rows_of):
    uris = ["/abs/c.jpg", "s3://bucket/d.jpg", "https://h/a.jpg?v=1"]

    assert [row["uri"] for row in rows_of(open_list("l.lst", "\n".join(uris)))] == uris


def test_paths_that_end_with_nul_are_refused_with_the_option_that_wrote_them(message_of):
    assert "write it with `find … -print`, not -print0" in message_of("l.txt", "a.jpg\0b.jpg\0")


def test_another_encoding_is_named_with_its_line(message_of):
    assert "line 2 has the byte 0xFC" in message_of("l.txt", "a.jpg\nsüß.jpg\n".encode("cp1252"))


def test_a_pipe_is_refused_with_advice_that_can_be_followed(tmp_path):
    """Kind: `<(find …)`, /dev/stdin and named pipes were to be "left out of the manifest"."""
    os.mkfifo(tmp_path / "pipe")
    for uri in (str(tmp_path / "pipe"), "/dev/null", "/dev/stdin", "/dev/fd/0"):
        with pytest.raises(ManifestError, match=r"is a pipe or a device, expected a file: .+ > list\.txt"):
            open_manifest(uri)
    read, write = os.pipe()
    with pytest.raises(ManifestError, match="is a pipe or a device"):
        open_manifest(f"/dev/fd/{read}")  # what <(find photos) is
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("listed", "on_disk", "hint"),
    [
        ("Mu\u0308ller.jpg", "M\u00fcller.jpg", "differs in its Unicode form (it is in NFC there)"),
        ("M\u00fcller.jpg", "Mu\u0308ller.jpg", "differs in its Unicode form (it is in NFD there)"),
        ("sub\\a.jpg", "sub/a.jpg", "differs in / for \\"),
        ("sub\\b.jpg", "sub/a.jpg", "it has backslashes, which are part of a name here"),
        ("C:\\photos\\b.jpg", "b.jpg", "it is a path of Windows"),
        ("file:///C:/photos/b.jpg", "b.jpg", "it is a path of Windows"),
        ("\\\\nas\\share\\c.jpg", "b.jpg", "it is a path of Windows"),
        (" a.jpg ", "a.jpg", "differs in blanks at its ends"),
        ("a%20b.jpg", "a b.jpg", "differs in %-signs"),
        ("# photos of May", "a.jpg", "lists have no comments"),
        ("gone.jpg", "a.jpg", "correct the address or restore the file"),
    ],
)
def test_a_missing_file_is_reported_with_the_cause_that_its_name_shows(
    listed, on_disk, hint, open_list, rows_of, tmp_path
):
    """Kind: backslashes, drive letters, Unicode forms and blanks were failures without a hint at the cause."""
    storage.write_bytes(str(tmp_path / on_disk), b"x")
    (row,) = rows_of(open_list("l.txt", listed))

    with pytest.raises(FetchError, match="does not exist; ") as caught, storage.open_binary(row["uri"]):
        pass
    assert hint in str(caught.value)
