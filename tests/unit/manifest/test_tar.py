"""Members of tar archives: what links lead to, what packers add, samples of several pictures, and errors of one."""

import io
import tarfile

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.errors import ConfigError, ManifestError
from fsf_core.manifest import Selection, members, open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings

FILES = storage.Access(schemes=("file",))
LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def packed(path, *entries):
    """Write an archive of (name, bytes) and (name, type of link, target)."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, *content in entries:
            facts = tarfile.TarInfo(name)
            if len(content) == 2:
                facts.type, facts.linkname = content
                archive.addfile(facts)
            else:
                facts.size = len(content[0])
                archive.addfile(facts, io.BytesIO(content[0]))
    return str(path)


def contents(manifest):
    rows = [row for batch in manifest.batches() for row in batch.to_pylist()]
    found = {}
    for row, opener in zip(rows, members.open_prefetched([row["uri"] for row in rows], FILES), strict=True):
        with opener() as file:
            found[row["item_id"]] = file.read()
    return found


def omitted(manifest):
    return {one.reason: one.first for one in manifest.omissions}


def test_links_in_an_archive_lead_to_members_and_those_that_do_not_are_named(tmp_path):
    """Kind: symbolic and hard links to files and folders, chains, loops, and ways out of the archive."""
    path = packed(
        tmp_path / "a.tar",
        ("./far/1.jpg", b"one"),
        ("far/sub/2.jpg", b"two"),
        ("far/.hidden.jpg", b"no"),
        ("here/soft.jpg", LINK, "../far/1.jpg"),
        ("here/hard.jpg", HARD, "far/sub/2.jpg"),
        ("here/chain.jpg", LINK, "soft.jpg"),
        ("here/folder", LINK, "../far"),
        ("here/through.jpg", LINK, "folder/sub/2.jpg"),
        ("far/sub/up", LINK, ".."),
        ("self.jpg", LINK, "self.jpg"),
        ("out.jpg", LINK, "../../etc/passwd"),
        ("root.jpg", LINK, "/etc/passwd"),
        ("gone.jpg", LINK, "none.jpg"),
    )

    manifest = open_manifest(path)

    assert contents(manifest) == {
        "far/1": b"one", "far/sub/2": b"two", "here/soft": b"one", "here/hard": b"two", "here/chain": b"one",
        "here/folder/1": b"one", "here/folder/sub/2": b"two", "here/through": b"two",
    }  # fmt: skip
    (loops,) = (one for one in manifest.omissions if one.reason == "loops")
    assert loops.count == 6
    assert {*loops.first} < {"here/folder/sub/up", "far/sub/up", "self.jpg", "out.jpg", "root.jpg", "gone.jpg"}


def test_hidden_members_and_those_in_folders_of_the_system_are_left_out(tmp_path):
    """Kind: archives packed on a Mac have a file ._a.jpg for every a.jpg."""
    path = packed(
        tmp_path / "mac.tar",
        ("./._a.jpg", b"\0\5\x16\7"), ("./a.jpg", b"A"), ("__MACOSX/b.jpg", b"\0\5\x16\7"), ("b.jpg", b"B"),
        (".DS_Store", b"x"), (".hidden/c.jpg", b"C"), ("x/@eaDir/d.jpg", b"D"), ("n.txt", b"text"),
    )  # fmt: skip

    manifest = open_manifest(path)

    assert contents(manifest) == {"a": b"A", "b": b"B"}
    assert omitted(manifest) == {"system_folders": ("__MACOSX/", "x/@eaDir/"), "other_members": ("n.txt",)}


PAIRS = (("0001.jpg", b"A"), ("0001.seg.png", b"a"), ("x/0002.jpg", b"B"), ("x/0002.seg.png", b"b"))


def test_samples_of_several_pictures_are_refused_and_the_advice_works(tmp_path):
    """Kind: several pictures with one key: image and mask, left and right, names with dots."""
    packed(tmp_path / "pairs.tar", *PAIRS)

    for uri, prefix in ((f"{tmp_path}/pairs.tar", ""), (str(tmp_path), "pairs/"), (f"{tmp_path}/*.tar", "pairs/")):
        with pytest.raises(ManifestError, match=r"2 ids more than once") as caught:
            open_manifest(uri)
        assert "0001.jpg and 0001.seg.png share a key; leave one kind out, as with --exclude '*.seg.png'" in str(
            caught.value
        )
        without = open_manifest(uri, Selection(exclude=("*.seg.png",)))
        assert contents(without) == {f"{prefix}0001": b"A", f"{prefix}x/0002": b"B"}
        by_name = open_manifest(uri, Selection(tar_ids="name"))
        assert contents(by_name) == {prefix + name: data for name, data in PAIRS}


def test_a_member_that_was_packed_twice_is_named_as_such(tmp_path):
    packed(tmp_path / "a.tar", ("a.jpg", b"old"), ("a.jpg", b"new"))

    with pytest.raises(ManifestError, match=r"it holds a\.jpg more than once; pack it again"):
        open_manifest(f"{tmp_path}/a.tar")


def test_members_may_be_excluded_by_their_folder_and_archives_by_their_name(tmp_path):
    packed(tmp_path / "a.tar", ("train/1.jpg", b"1"), ("test/2.jpg", b"2"))
    packed(tmp_path / "b.tar", ("train/3.jpg", b"3"))

    assert contents(open_manifest(str(tmp_path), Selection(exclude=("test",)))) == {
        "a/train/1": b"1",
        "b/train/3": b"3",
    }
    assert contents(open_manifest(str(tmp_path), Selection(exclude=("b.tar",)))) == {
        "a/train/1": b"1",
        "a/test/2": b"2",
    }


def test_ids_by_name_are_for_archives_alone(tmp_path):
    storage.write_bytes(f"{tmp_path}/a.jpg", b"x")

    with pytest.raises(ConfigError, match="--tar-ids is for tar archives"):
        open_manifest(str(tmp_path), Selection(tar_ids="name"))


@pytest.mark.parametrize("name", ["x/0001.left.jpg", "zoë 1.jpg", "a@b:c.jpg", "100%?.jpg", "a#b.jpg", "a!b+c=d.jpg"])
def test_the_uri_of_a_member_shows_its_name_and_is_opened(name, tmp_path):
    path = packed(tmp_path / "me@home.tar", (name, b"A"))

    (uri,) = next(open_manifest(path).batches()).column("uri").to_pylist()

    shown = uri.split("/")[2].partition("!")[2]
    assert storage.name_of_range(uri) == name
    assert name.replace("/", "%2F") == shown or "%" in shown
    assert storage.redact(uri) == uri
    assert storage.container_of(uri) == path
    assert storage.read_bytes(uri) == b"A"
    assert storage.read_bytes(uri.replace(f"!{shown}", "")) == b"A"


def test_the_digest_of_a_member_does_not_depend_on_how_its_uri_shows_it(tmp_path):
    """Runs of earlier versions have URIs without names; their items are not scored again."""
    manifest = open_manifest(packed(tmp_path / "a.tar", ("a.jpg", b"A")))
    rows = next(manifest.batches())
    earlier = rows.set_column(1, "uri", pa.array([rows.column("uri")[0].as_py().replace("!a.jpg", "")]))

    assert manifest.digests(rows) == manifest.digests(earlier)


@pytest.mark.parametrize(
    ("magic", "program"),
    [(b"\x1f\x8b", "gzip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")],
)
def test_a_compressed_archive_named_tar_is_named_as_what_it_is(magic, program, tmp_path):
    (tmp_path / "a.tar").write_bytes(magic + bytes(2000))

    with pytest.raises(ManifestError, match=rf"compressed with {program}, .*; unpack it with {program} -d"):
        open_manifest(f"{tmp_path}/a.tar")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst", "a.TAR.XZ", "a.zip", "a.7z"])
def test_a_compressed_archive_is_named_as_what_it_is(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x1f\x8b")

    with pytest.raises(ManifestError, match=r"is a compressed archive or file, expected an uncompressed \.tar"):
        open_manifest(f"{tmp_path}/{name}")


def test_anything_wrong_with_a_picture_in_an_archive_is_the_error_of_the_same_file_in_a_folder(tmp_path):
    """Kind: damaged, foreign, empty and too large members are no errors of the store."""
    picture = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    large = cv2.imencode(".png", np.zeros((9, 200, 3), np.uint8))[1].tobytes()
    bad = {
        "cut.jpg": picture[:300], "short.jpg": picture[:-200], "page.jpg": b"<html>404</html>", "empty.jpg": b"",
        "large.png": large, "clip.mp4": bytes.fromhex("000000186674797069736f6d0000020069736f6d"),
    }  # fmt: skip
    packed(tmp_path / "a.tar", *bad.items())
    for name, data in bad.items():
        storage.write_bytes(f"{tmp_path}/folder/{name}", data)

    in_archive = failures(open_manifest(f"{tmp_path}/a.tar", Selection(tar_ids="name")))
    assert in_archive == failures(open_manifest(f"{tmp_path}/folder"))
    assert {kind for kind, _ in in_archive.values()} == {"DecodeError", "LimitError"}


def failures(manifest):
    settings = DecodeSettings(
        profile=preprocess.PROFILES["fastsegformer"], limits=images.ImageLimits(max_side_px=100), extra=manifest.extra,
        segment_frames=8, overlays=False, access=FILES,
    )  # fmt: skip
    found = {}
    for rows in manifest.batches():
        count = rows.num_rows
        planned = rows.append_column("attempt", pa.array([0] * count, pa.int32()))
        planned = planned.append_column("row_digest", pa.array([bytes(8)] * count))
        planned = planned.append_column("done_segments", pa.nulls(count, pa.list_(pa.int32())))
        for table in decode(planned, settings):
            for row in table.select(["item_id", "error_type", "error_message"]).to_pylist():
                found[row["item_id"]] = (row["error_type"], row["error_message"])
    return found
