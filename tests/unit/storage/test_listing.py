"""A listing has what its links lead to, cuts loops, and keeps the keys of a store as they are."""

import pytest

from fsf_core import storage
from tests.support.bucket import bucket_of


@pytest.fixture
def linked(tmp_path):
    """A folder with links to files, to folders beside it, inside links, and back to itself."""
    for name in ("here/a.jpg", "here/sub/b.jpg", "else/far1.jpg", "else/deep/far2.jpg", "other/o.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")
    (tmp_path / "here/file.jpg").symlink_to("../else/far1.jpg")
    (tmp_path / "here/linked").symlink_to("../else", target_is_directory=True)
    (tmp_path / "else/inner").symlink_to(tmp_path / "other")
    (tmp_path / "here/sub/round").symlink_to("..")
    (tmp_path / "here/self").symlink_to("self")
    (tmp_path / "other/back").symlink_to("../here/sub")
    return tmp_path / "here"


FILES = [
    "a.jpg", "file.jpg", "linked/deep/far2.jpg", "linked/far1.jpg", "linked/inner/back/b.jpg", "linked/inner/o.jpg",
    "self", "sub/b.jpg",
]  # fmt: skip
LOOPS = ["linked/inner/back/round", "sub/round"]


@pytest.mark.parametrize("pattern", [None, "**", "**/*"])
def test_links_to_folders_are_followed_and_loops_are_cut_and_named(pattern, linked):
    """Kind: a link to a folder, in a folder or behind another link, in every kind of listing."""
    cut = []
    if pattern is None:
        found = sorted(entry.relative for entry in storage.list_files(str(linked), cut=cut.append))
    else:
        found = [uri.removeprefix(f"{linked}/") for uri in storage.glob(f"{linked}/{pattern}", cut=cut.append)]

    assert found == FILES
    assert sorted(cut) == LOOPS


def test_two_folders_that_link_to_each_other_are_listed_once_each_way(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        storage.write_bytes(str(tmp_path / one / f"{one}.jpg"), b"x")
        (tmp_path / one / "link").symlink_to(f"../{other}")
    cut = []

    found = [entry.relative for entry in storage.list_files(str(tmp_path), cut=cut.append)]

    assert found == ["a/a.jpg", "a/link/b.jpg", "b/b.jpg", "b/link/a.jpg"]
    assert cut == ["a/link/link", "b/link/link"]


def test_a_link_to_the_folder_above_the_listed_one_gives_its_other_files_alone(tmp_path):
    for name in ("top/a.jpg", "beside.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")
    (tmp_path / "top/up").symlink_to("..")
    cut = []

    found = [entry.relative for entry in storage.list_files(str(tmp_path / "top"), cut=cut.append)]

    assert found == ["a.jpg", "up/beside.jpg"]
    assert cut == ["up/top"]


def test_a_folder_of_links_alone_has_their_files_and_its_own_links_are_not_followed_unasked(linked):
    (linked.parent / "only").mkdir()
    (linked.parent / "only/train").symlink_to("../else/deep")

    def names(**options):
        return [entry.relative for entry in storage.list_files(str(linked.parent / "only"), **options)]

    assert names(cut=[].append) == ["train/far2.jpg"]
    assert names() == []


def test_a_glob_opens_only_folders_that_may_hold_a_match(tmp_path, monkeypatch):
    """A pattern of one level does not cost a walk through all levels."""
    from fsf_core.storage import local_walk

    for name in ("x/1.jpg", "x/deep/2.jpg", "y/3.jpg", "y/deep/4.jpg", "z.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")
    opened, scan = [], local_walk._scan

    def counted(path, **options):
        opened.append(path.removeprefix(str(tmp_path)))
        return scan(path, **options)

    monkeypatch.setattr(local_walk, "_scan", counted)

    def found(pattern):
        opened.clear()
        return [uri.removeprefix(f"{tmp_path}/") for uri in storage.glob(f"{tmp_path}/{pattern}")], opened

    assert found("*.jpg") == (["z.jpg"], [""])
    assert found("x*/*.jpg") == (["x/1.jpg"], ["", "/x"])
    assert found("*/deep/*") == (["x/deep/2.jpg", "y/deep/4.jpg"], ["", "/x", "/x/deep", "/y", "/y/deep"])
    assert found("[!x]/**/*.jpg") == (["y/3.jpg", "y/deep/4.jpg"], ["", "/y", "/y/deep"])
    assert found("**/4.jpg")[0] == ["y/deep/4.jpg"]
    assert found("*/")[0] == []


# --- keys of a store ---

KEYS = {
    "photos/plain.jpg", "photos//double.jpg", "photos///triple.jpg", "photos/sub//inner.jpg", "photos/a+b.jpg",
    "photos/zoë 1.jpg", "photos/100%25.jpg", "photos/x#1.jpg", "photos/q?1.jpg", "photos/s=1&t=2.jpg", "photos/:c.jpg",
    "photos/folder.jpg/inner.jpg", "photos/a/./dot.jpg", "photos/a/../up.jpg", "photos/end.jpg.", "photos/~t.jpg",
}  # fmt: skip
MARKERS = {"photos/", "photos/folder.jpg/", "photos/empty/", "photos/hadoop_$folder$", "photos/sub//"}


@pytest.fixture(scope="module")
def bucket():
    objects = {key: key.encode() for key in KEYS} | dict.fromkeys(MARKERS, b"")
    with bucket_of(objects) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://bucket"


@pytest.mark.parametrize("folder", ["s3://bucket/photos", "s3://bucket/photos/", "s3://bucket", "s3://bucket/"])
def test_a_listing_of_a_store_has_every_key_as_it_is_and_no_marker_of_a_folder(folder, bucket):
    """Kind: empty names at any place of a key, signs that addresses encode, . and .. as names, markers of folders."""
    found = {entry.uri: entry.relative for entry in storage.list_files(folder)}

    assert {*found} == {f"{bucket}/{key}" for key in KEYS}
    prefix = folder.removesuffix("/").removeprefix(bucket).removeprefix("/")
    assert all(uri == f"{bucket}/{prefix}{prefix and '/'}{relative}" for uri, relative in found.items())


def test_every_listed_key_is_read_alone_and_prefetched(bucket):
    entries = list(storage.list_files(f"{bucket}/photos"))
    uris = [entry.uri for entry in entries]

    assert {uri.removeprefix(f"{bucket}/") for uri in uris} == KEYS
    for uri, opener in zip(uris, storage.open_prefetched(uris, storage.Access(schemes=("s3",))), strict=True):
        expected = uri.removeprefix(f"{bucket}/").encode()
        assert storage.read_bytes(uri) == expected
        with opener() as file:
            assert file.read() == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", {key for key in KEYS if key.count("/") == 1 and key.endswith(".jpg")}),
        ("photos//*.jpg", {"photos//double.jpg"}),
        ("photos///*", {"photos///triple.jpg"}),
        ("photos/**/[ti]*.jpg", {"photos///triple.jpg", "photos/sub//inner.jpg"}
         | {"photos/folder.jpg/inner.jpg"}),
        ("photos/**/inner.jpg", {"photos/sub//inner.jpg", "photos/folder.jpg/inner.jpg"}),
        ("photos/*//*.jpg", {"photos/sub//inner.jpg"}),
        ("*/plain*", {"photos/plain.jpg"}),
        ("photos/p*", {"photos/plain.jpg"}),
        ("photos/f*/*", {"photos/folder.jpg/inner.jpg"}),
        ("photos/empty/*", set()),
    ],
)  # fmt: skip
def test_a_glob_in_a_store_matches_keys_as_they_are(pattern, expected, bucket):
    assert {uri.removeprefix(f"{bucket}/") for uri in storage.glob(f"{bucket}/{pattern}")} == expected


def test_a_prefix_that_ends_with_an_empty_name_lists_what_is_below_that(bucket):
    assert [entry.relative for entry in storage.list_files(f"{bucket}/photos//")] == ["/triple.jpg", "double.jpg"]
