"""What a list from a stranger gets out of the decode stage: failures that tell nothing about files of the machine."""

import json
import os
import re
import tarfile
import time

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from tests.support import assets, clips

SECRET = b"".join(b"user%d:password-number-%d\n" % (k, k) for k in range(8))


def decoded(manifest, **changes):
    """Return the units of a manifest, as the decode stage makes them, in order of their ids."""
    found = open_manifest(str(manifest))
    settings = {
        "profile": preprocess.PROFILES["fastsegformer"],
        "limits": images.ImageLimits(),
        "segment_frames": 8,
        "overlays": False,
        "access": storage.Access(schemes=SCHEMES),
    }
    rows = pa.concat_tables(found.batches())
    rows = rows.append_column("row_digest", found.digests(rows))
    rows = rows.append_column("attempt", pa.array([1] * len(rows), pa.int32()))
    rows = rows.append_column("done_segments", pa.nulls(len(rows), pa.list_(pa.int32())))
    tables = decode(rows, DecodeSettings(**{**settings, "extra": found.extra, **changes}))
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["item_id"])


def addresses(path):
    """Return addresses of parts of a file, as the product makes them for its own, and in other spellings."""
    return [
        f"span://0+24/{path}",
        f"SPAN://0+24/{path}",
        f"Span://0+24/file://{path}",
        f"span://0+9/span://0+24/{path}",
        f"span://0+9/cell://0.0/jpg/{path}",
        f"cell://0.0/jpg/{path}",
        f"CELL://0.0/jpg/{path}",
        f"cell://0.0/jpg/span://0+9/{path}",
        f"file://span://0+24/{path}",
        f"memory::span://0+24/{path}",
    ]


def as_csv(folder, uris):
    (folder / "list.csv").write_text("id,uri\n" + "".join(f"{k},{uri}\n" for k, uri in enumerate(uris)))
    return folder / "list.csv"


def as_txt(folder, uris):
    (folder / "list.txt").write_text("\n".join(uris))
    return folder / "list.txt"


def as_json(folder, uris):
    (folder / "list.jsonl").write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))
    return folder / "list.jsonl"


def as_parquet(folder, uris):
    columns = {"id": [str(k) for k in range(len(uris))], "uri": pa.array(uris).dictionary_encode()}
    pyarrow.parquet.write_table(pa.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def as_folders(folder, uris):
    """Hive's folders make a column of uris, beside a file whose cells have real addresses of this kind."""
    for number, uri in enumerate(uris):
        path = folder / f"list/uri={uri.replace('/', '%2F')}"
        path.mkdir(parents=True)
        pyarrow.parquet.write_table(pa.table({"id": [str(number)]}), path / "a.parquet")
    return folder / "list"


def as_mixed_folder(folder, uris):
    """A table of cells first, then one whose column `uri` claims to be cells."""
    (folder / "list").mkdir()
    pyarrow.parquet.write_table(pa.table({"id": ["~"], "jpg": [b"\xff"]}), folder / "list/a.parquet")
    columns = {"id": [str(k) for k in range(len(uris))], "uri": uris}
    pyarrow.parquet.write_table(pa.table(columns), folder / "list/b.parquet")
    return folder / "list"


@pytest.mark.parametrize("write", [as_csv, as_txt, as_json, as_parquet, as_folders, as_mixed_folder])
def test_a_list_cannot_name_parts_of_files(write, tmp_path):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    pyarrow.parquet.write_table(pa.table({"jpg": [SECRET]}), tmp_path / "secret.parquet")
    uris = [uri for name in ("secret.txt", "secret.parquet") for uri in addresses(tmp_path / name)]
    found = decoded(write(tmp_path, uris))

    assert len(found) == len(uris) + (write is as_mixed_folder)
    for row in found:
        assert row["error_type"] in {"FetchError", "DecodeError"}
        assert not re.search(r"user\d|number", row["error_message"])
    named = [row["error_message"] for row in found if "names a part of a file" in row["error_message"]]
    assert len(named) == 2 * 8, "every one but those that are paths"


def test_the_same_addresses_work_where_this_program_made_them(tmp_path):
    picture = assets.pillow(assets.picture(50, 70), "PNG")
    (tmp_path / "a.png").write_bytes(picture)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    pyarrow.parquet.write_table(pa.table({"png": [picture]}), tmp_path / "c.parquet")
    for name, prefix in (("b.tar", "span://"), ("c.parquet", "cell://0.0/png/")):
        (row,) = decoded(tmp_path / name)
        assert row["error_type"] is None
        assert row["uri"].startswith(prefix)


def test_no_message_quotes_what_a_file_holds(tmp_path):
    """Whole files, parts behind every magic number that is recognised, and a video's container."""
    magics = [
        b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\x00\x08\x00\x00\x00", b"RIFF1234WEBP",
        b"P6\n", b"P7\n", b"#?RADIANCE\n", b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\x00\x00\x00\x20ftypavif",
        b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"RIFF1234AVI ", b"\x00\x00\x00\x20ftypisom", b"\x00\x00\x01\xba",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x04", b"<svg", b"%PDF", b"{", b"<html>",
    ]  # fmt: skip
    for number, magic in enumerate(magics):
        (tmp_path / f"{number:02}.png").write_bytes(magic + SECRET)
    found = decoded(tmp_path)

    assert len(found) == len(magics)
    for row in found:
        assert row["error_type"] in {"DecodeError", "LimitError", "BrokenVideoError"}, row["error_message"]
        assert not re.search(r"user|0:|pass|75 73|7573", row["error_message"]), row["error_message"]


def test_a_broken_member_fails_as_the_same_file_in_a_folder(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    good = assets.pillow(assets.picture(50, 70), "PNG")
    contents = {"cut.png": good[:90], "empty.png": b"", "good.png": good, "large.png": good + bytes(70_000),
                "text.png": SECRET, "video.mkv": clips.clip("ffv1", container="matroska", frames=3)[:400]}  # fmt: skip
    for name, data in contents.items():
        (files / name).write_bytes(data)
    with tarfile.open(tmp_path / "files.tar", "w") as archive:
        for name in contents:
            archive.add(files / name, name)
    table = pa.table({"id": [*contents], "jpg": [*contents.values()]})
    pyarrow.parquet.write_table(table, tmp_path / "files.parquet")
    limits = images.ImageLimits(max_bytes=60_000)
    folder, tar, cells = (
        decoded(path, limits=limits) for path in (files, tmp_path / "files.tar", tmp_path / "files.parquet")
    )

    kinds = [row["error_type"] for row in folder]
    assert kinds == ["DecodeError", "DecodeError", None, "LimitError", "DecodeError", "DecodeError"]
    assert [row["error_type"] for row in tar] == kinds
    assert [row["error_message"] for row in tar] == [row["error_message"] for row in folder]
    assert [row["error_type"] for row in cells] == kinds


def test_an_archive_cut_after_it_was_listed_is_a_failure_with_a_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(50, 70), "PNG"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    found = open_manifest(str(tmp_path / "a.tar"))
    (uri,) = next(found.batches()).column("uri").to_pylist()
    os.truncate(tmp_path / "a.tar", 600)
    with storage.open_binary(uri) as file, pytest.raises(FetchError, match="ends before byte"):
        file.read()


def test_special_files_of_a_folder_are_failures_with_a_reason(tmp_path):
    good = assets.pillow(assets.picture(50, 70), "PNG")
    (tmp_path / "a good.png").write_bytes(good)
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "environ.png").symlink_to("/proc/self/environ")
    (tmp_path / "kmsg.png").symlink_to("/proc/kmsg")
    (tmp_path / "short.png").symlink_to("/sys/kernel/mm/transparent_hugepage/enabled")
    (tmp_path / "null.png").symlink_to("/dev/null")
    (tmp_path / "stdin.png").symlink_to("/dev/stdin")
    (tmp_path / "gone.png").symlink_to("nowhere")
    began = time.monotonic()
    first, *others = decoded(tmp_path)

    assert time.monotonic() - began < 10
    assert first["error_type"] is None
    assert [row["item_id"] for row in others] == sorted(row["item_id"] for row in others)
    assert {row["error_type"] for row in others} == {"FetchError"}
    assert all("; " in row["error_message"] for row in others)


@pytest.mark.parametrize("change", [+10, -10])
def test_a_file_that_changes_its_size_while_it_is_read_is_a_failure(change, tmp_path, monkeypatch):
    good = assets.pillow(assets.picture(50, 70), "PNG") + bytes(20_000)
    (tmp_path / "a.png").write_bytes(good)
    sniff = images.sniff

    def while_reading(head):
        os.truncate(tmp_path / "a.png", len(good) + change)
        return sniff(head)

    monkeypatch.setattr(images, "sniff", while_reading)
    (row,) = decoded(tmp_path)
    assert row["error_type"] == "FetchError"
    assert "is it still being written?" in row["error_message"]
