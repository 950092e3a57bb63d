"""Files are written whole or not at all, read or refused with a reason, and no secret is ever shown."""

import builtins
import contextlib
import errno
import http.server
import os
import re
import shutil
import threading
import time
from pathlib import Path

import fsspec
import pytest

from fsf_core import storage
from fsf_core.errors import FetchError, FSFError, LimitError, StorageError
from fsf_core.options import SCHEMES
from fsf_core.storage import error_translation, filesystems, prefetching, reading

UNUSUAL_NAMES = [
    "a b.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "zoë–柿.jpg",
    "what?.jpg",
    "a#b.jpg",
    "[1].jpg",
    "a::b.jpg",
    "~x.jpg",
    "'\".jpg",
    "a\nb.jpg",
]


@pytest.fixture
def bucket():
    """A store behind fsspec that is not a disk."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def names_in(folder):
    return sorted(entry.relative for entry in storage.list_files(str(folder), hidden=True))


def assert_actionable(error: BaseException):
    """Check for what was found before a semicolon, and what to do after it."""
    assert re.search(r".+; .+", str(error)), str(error)


# --- names ---


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/b.jpg", "file"),
        ("b.jpg", "file"),
        ("file:///a", "file"),
        ("FILE:///a", "file"),
        ("S3://bucket/a", "s3"),
        ("memory://a", "memory"),
        ("c:/windows", "file"),
        ("a::s3://b", "file"),
        ("", "file"),
    ],
)
def test_the_scheme_of_a_uri(uri, expected):
    assert storage.scheme(uri) == expected
    assert storage.is_local(uri) == (expected == "file")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("/data", "/data/x/y"),
        ("/data/", "/data/x/y"),
        ("/", "/x/y"),
        ("s3://bucket", "s3://bucket/x/y"),
        ("s3://bucket/", "s3://bucket/x/y"),
        ("memory://", "memory://x/y"),
        ("file:///", "file:///x/y"),
    ],
)
def test_join_never_loses_the_scheme(base, expected):
    """Regression: `memory://` lost a slash and became a folder on the disk."""
    assert storage.join(base, "x", "/y/") == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/list.csv", "/data"),
        ("/list.csv", "/"),
        ("list.csv", "."),
        ("s3://bucket/list.csv", "s3://bucket"),
        ("memory://list.csv", "memory://"),
        ("file:///list.csv", "file:///"),
        ("https://host/lists/today.csv?token=a/b", "https://host/lists"),
    ],
)
def test_names_joined_to_the_parent_of_a_file_are_its_siblings(uri, expected):
    assert storage.parent(uri) == expected
    assert storage.join(storage.parent(uri), "x.jpg").endswith("/x.jpg")


def test_relative_paths_count_from_the_base_and_absolute_ones_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")

    assert storage.absolute("a.jpg", "/lists") == "/lists/a.jpg"
    assert storage.absolute("a.jpg", "s3://bucket/lists") == "s3://bucket/lists/a.jpg"
    assert storage.absolute("/a.jpg", "s3://bucket/lists") == "/a.jpg"
    assert storage.absolute("s3://other/a.jpg", "/lists") == "s3://other/a.jpg"
    assert storage.absolute("a.jpg") == str(tmp_path / "a.jpg")
    assert storage.absolute("~/a.jpg", "/lists") == "/home/me/a.jpg"


def test_a_name_that_starts_with_a_tilde_is_not_a_home_folder():
    """Regression: it ended the run, because no such user has a home."""
    assert storage.absolute("~backup.jpg", "/lists") == "/lists/~backup.jpg"


@pytest.mark.parametrize("uri", ["file://a.jpg", "FILE://a.jpg"])
def test_a_file_uri_without_a_leading_slash_is_relative(uri):
    """Regression: it counted from the folder where a worker happened to run."""
    assert storage.absolute(uri, "/lists") == "/lists/a.jpg"


WAYS = ["photos", "./photos", "photos/", "sub/../photos", "link", "file://{}/photos/", "file://photos", "{}/photos//"]


@pytest.mark.parametrize("written", [*WAYS, "~/photos"])
def test_a_folder_has_one_canonical_address(written, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "cwd").symlink_to(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path, tmp_path / "cwd"):
        monkeypatch.chdir(folder)

        assert storage.canonical(written.format(folder)) == str(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "sub")
    assert storage.canonical("photos") == str(tmp_path / "sub" / "photos")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/photos/", "s3://bucket/photos"),
        ("s3://KEY:SECRET@bucket/photos", "s3://bucket/photos"),
        ("https://me:pass@h/list.csv?v=1&X-Amz-Date=1&X-Amz-Signature=ab", "https://h/list.csv?v=1"),
        ("https://***@h/list.csv?sig=***", "https://h/list.csv"),
        ("abfss://container@account/photos", "abfss://container@account/photos"),
        ("memory://", "memory://"),
    ],
)
def test_a_canonical_address_in_a_store_has_no_credentials(uri, expected):
    assert storage.canonical(uri) == expected
    assert storage.canonical(storage.redact(uri)) == expected


def test_a_question_mark_begins_a_query_only_on_the_web():
    assert storage.without_query("https://host/a.jpg?sig=1") == "https://host/a.jpg"
    assert storage.without_query("/photos/what?.jpg") == "/photos/what?.jpg"


# --- secrets ---


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://KEY:SECRET@bucket/a.jpg", "s3://***@bucket/a.jpg"),
        ("s3://KEY:SEC/RET+=@bucket/a@b.jpg", "s3://***@bucket/a@b.jpg"),
        ("https://me:pa@ss@host/a.jpg", "https://***@host/a.jpg"),
        ("https://me:12345@host/a.jpg", "https://***@host/a.jpg"),
        ("https://TOKEN@host/a.jpg", "https://***@host/a.jpg"),
        ("https://h/a?X-Amz-Signature=ab&v=1", "https://h/a?X-Amz-Signature=***&v=1"),
        ("https://h/a?sv=1&sig=ab%3D", "https://h/a?sv=1&sig=***"),
        ("got 's3://A:B@c/d' and s3://E:F@g/h", "got 's3://***@c/d' and s3://***@g/h"),
    ],
)
def test_credentials_are_redacted(uri, expected):
    assert storage.redact(uri) == expected
    assert storage.is_redacted(expected)


@pytest.mark.parametrize(
    "uri",
    [
        "https://host:8080/a@b.jpg",
        "abfss://container@account.dfs.core.windows.net/a.jpg",
        "hf://datasets/me/photos@main/a.jpg",
        "s3://bucket/a:b@c.jpg",
        "https://host/get?key=236&id=7",
        "/photos/me:you@home.jpg",
        "/photos/a?sig=1.jpg",
        "s3://bucket/three***stars@home.jpg",
    ],
)
def test_text_without_credentials_is_not_redacted(uri):
    assert storage.redact(uri) == uri
    assert not storage.is_redacted(uri)


def test_errors_never_show_credentials(bucket):
    del bucket
    for uri in ("memory://KEY:SECRET@bucket/none.jpg", "gopher://KEY:SECRET@host/none.jpg"):
        with pytest.raises(FSFError) as caught:
            storage.read_bytes(uri)
        assert "SECRET" not in str(caught.value)


# --- schemes ---


def test_a_scheme_that_is_not_allowed_is_refused():
    storage.Access(schemes=("file",)).require("/a.jpg")
    storage.Access(schemes=("S3",)).require("s3://bucket/a.jpg")
    with pytest.raises(FetchError, match=r"scheme 'file', expected one of s3; pass --schemes") as caught:
        storage.Access(schemes=("s3",)).require("/a.jpg")
    assert_actionable(caught.value)
    with pytest.raises(FetchError, match="scheme 'gopher'"):
        storage.Access(schemes=SCHEMES).require("gopher://KEY:SECRET@host/a.jpg")


def test_a_store_whose_library_is_missing_fails_the_item_and_not_the_run():
    with pytest.raises(FetchError, match="install the library"):
        storage.read_bytes("gopher://host/a.jpg")


# --- reading ---


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_unusual_names_are_written_listed_globbed_and_read(name, tmp_path):
    uri = str(tmp_path / "odd [x]" / name)

    storage.write_bytes(uri, b"data")

    assert storage.read_bytes(uri) == b"data"
    assert storage.exists(uri)
    assert [entry.uri for entry in storage.list_files(str(tmp_path))] == [uri]
    assert storage.glob(str(tmp_path / "*" / "*")) == [uri]
    storage.remove(uri)
    assert not storage.exists(uri)


@pytest.mark.parametrize("name", [name for name in UNUSUAL_NAMES if "::" not in name])  # fsspec refuses it
def test_unusual_names_in_a_store_are_neither_patterns_nor_chains(name, bucket):
    uri = storage.join(bucket, "odd", name)

    storage.write_bytes(uri, b"data")

    assert storage.read_bytes(uri) == b"data"
    assert [entry.relative for entry in storage.list_files(storage.join(bucket, "odd"))] == [name]


def test_percent_signs_are_literal_in_file_uris(tmp_path):
    (tmp_path / "a%20b.jpg").write_bytes(b"percent")

    assert storage.read_bytes(f"file://{tmp_path}/a%20b.jpg") == b"percent"


@pytest.mark.parametrize("uri", ["/no/such/file.jpg", "memory://no/such/file.jpg", "file:///no/such.jpg"])
def test_a_missing_file_is_a_fetch_error(uri):
    with pytest.raises(FetchError, match="does not exist") as caught:
        storage.read_bytes(uri)
    assert_actionable(caught.value)


def test_an_empty_uri_is_a_fetch_error():
    with pytest.raises(FetchError, match="uri is empty") as caught:
        storage.read_bytes("")
    assert_actionable(caught.value)


def test_reading_a_folder_is_a_fetch_error(tmp_path):
    with pytest.raises(FetchError, match="is a folder, expected a file") as caught:
        storage.read_bytes(str(tmp_path))
    assert_actionable(caught.value)


def test_pipes_and_devices_are_refused_before_they_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    started = time.monotonic()

    for uri in (str(tmp_path / "pipe.jpg"), "/dev/zero", "/dev/null"):
        with pytest.raises(FetchError, match="not a regular file") as caught:
            storage.read_bytes(uri)
        assert_actionable(caught.value)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["\x00", "x" * 5000], ids=["zero byte", "too long"])
def test_a_name_that_no_disk_accepts_is_a_fetch_error(name, tmp_path):
    with pytest.raises(FetchError) as caught:
        storage.read_bytes(str(tmp_path / name))
    assert_actionable(caught.value)


def test_cyclic_and_dangling_links_are_fetch_errors(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")

    for name in ("loop", "dangling"):
        with pytest.raises(FetchError) as caught:
            storage.read_bytes(str(tmp_path / name))
        assert_actionable(caught.value)


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_file_over_the_limit_is_refused_and_one_at_the_limit_is_read(where, tmp_path, bucket):
    uri = storage.join(str(tmp_path) if where == "disk" else bucket, "a.jpg")
    storage.write_bytes(uri, b"x" * 100)

    assert storage.read_bytes(uri, max_bytes=100) == b"x" * 100
    with pytest.raises(LimitError, match="more than 99 bytes") as caught:
        storage.read_bytes(uri, max_bytes=99)
    assert_actionable(caught.value)


def test_errors_of_the_callers_block_pass_through(tmp_path, bucket):
    for folder in (str(tmp_path), bucket):
        uri = storage.join(folder, "a.jpg")
        storage.write_bytes(uri, b"data")
        with pytest.raises(ZeroDivisionError), storage.open_binary(uri) as file:
            raise ZeroDivisionError(file.read())


def test_a_file_in_a_store_is_seekable_and_read_in_pieces(bucket):
    uri = storage.join(bucket, "a.bin")
    storage.write_bytes(uri, bytes(range(256)) * 100)

    with storage.open_binary(uri) as file:
        assert file.seekable()
        assert file.seek(-6, os.SEEK_END) == 25_594
        assert file.read(10) == bytes(range(250, 256))
        assert file.seek(256) == 256
        assert file.read(3) == b"\x00\x01\x02"
        assert file.tell() == 259


def test_path_or_file_gives_the_path_of_a_local_file_and_otherwise_the_open_file(tmp_path, bucket):
    storage.write_bytes(str(tmp_path / "a#b.mp4"), b"0123")
    storage.write_bytes(storage.join(bucket, "a.mp4"), b"0123")

    for uri in (str(tmp_path / "a#b.mp4"), f"file://{tmp_path}/a#b.mp4"):
        with storage.open_binary(uri) as file:
            assert storage.path_or_file(uri, file) == str(tmp_path / "a#b.mp4")
    for uri in (storage.join(bucket, "a.mp4"), storage.byte_range(str(tmp_path / "a#b.mp4"), 1, 2)):
        with storage.open_binary(uri) as file:
            assert storage.path_or_file(uri, file) is file


class Site(http.server.BaseHTTPRequestHandler):
    """A web server that behaves as the name of the requested file demands."""

    protocol_version = "HTTP/1.1"
    body = os.urandom(200_000)

    def do_GET(self):
        kind = self.path.strip("/").split("?")[0]
        if kind in {"403", "404", "500"}:
            self.send_error(int(kind))
            return
        self.send_response(200)
        if kind == "streamed":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "streamed":
            for start in range(0, len(self.body), 1000):
                piece = self.body[start : start + 1000]
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif kind == "broken":
            self.wfile.write(self.body[:1000])
            self.close_connection = True
        else:
            self.wfile.write(self.body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """Ignore readers that hang up."""


@pytest.fixture(scope="module")
def site():
    server = QuietServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("kind", ["whole", "streamed"])
@pytest.mark.parametrize("max_bytes", [None, 1 << 20])
def test_a_file_on_the_web_is_read_to_its_end(kind, max_bytes, site):
    """Regression: with a limit, only the first thousand bytes of a streamed response came back."""
    assert storage.read_bytes(f"{site}/{kind}", max_bytes=max_bytes) == Site.body


def test_a_streamed_response_over_the_limit_is_refused(site):
    with pytest.raises(LimitError):
        storage.read_bytes(f"{site}/streamed", max_bytes=100_000)


@pytest.mark.parametrize(
    ("kind", "reason"), [("404", "404"), ("403", "403"), ("500", "500"), ("broken", "the response ends early")]
)
def test_the_status_of_a_failed_web_request_is_the_reason(kind, reason, site):
    """Regression: a broken connection ended the whole task, because aiohttp's errors are not OSErrors."""
    with pytest.raises(FetchError, match=reason) as caught:
        storage.read_bytes(f"{site}/{kind}?sig=SECRET")
    assert_actionable(caught.value)
    assert "SECRET" not in str(caught.value)


def test_an_unreachable_server_is_the_reason():
    with pytest.raises(FetchError, match=r"the server does not respond \(Connection refused\)") as caught:
        storage.read_bytes("http://127.0.0.1:9/a.jpg")
    assert_actionable(caught.value)


@pytest.mark.parametrize("where", ["disk", "store"])
def test_prefetched_files_come_in_order_and_a_missing_one_fails_at_its_turn(where, tmp_path, bucket):
    folder = str(tmp_path) if where == "disk" else bucket
    uris = [storage.join(folder, f"{number}.bin") for number in range(40)]
    for number, uri in enumerate(uris):
        if number != 30:
            storage.write_bytes(uri, bytes([number]))
    found = []
    for uri, read in storage.read_prefetched(uris):
        if uri == uris[30]:
            with pytest.raises(FetchError, match="does not exist"):
                read()
        else:
            found.append(read())
    assert found == [bytes([number]) for number in range(40) if number != 30]


def test_the_next_files_in_a_store_are_fetched_while_one_is_used(bucket, monkeypatch):
    uris = [storage.join(bucket, f"{number}.bin") for number in range(prefetching.PREFETCH_FILES)]
    for uri in uris:
        storage.write_bytes(uri, b"x")
    all_at_once = threading.Barrier(len(uris))

    def read(uri):
        all_at_once.wait(timeout=30)
        return uri

    monkeypatch.setattr(prefetching, "read_bytes", read)
    assert [read() for _, read in storage.read_prefetched(uris)] == uris


# --- writing ---


def test_a_file_is_replaced_whole_and_leaves_no_draft(tmp_path):
    uri = str(tmp_path / "new" / "folder" / "a.bin")

    storage.write_bytes(uri, b"old")
    storage.write_bytes(uri, b"new", durable=True)

    assert storage.read_bytes(uri) == b"new"
    assert names_in(tmp_path) == ["new/folder/a.bin"]


@pytest.mark.parametrize(
    ("step", "durable"), [("open", False), ("write", False), ("replace", False), ("replace", True), ("fsync", True)]
)
def test_a_failed_write_keeps_the_old_bytes_and_leaves_no_draft(step, durable, tmp_path, monkeypatch):
    uri = str(tmp_path / "a.bin")
    storage.write_bytes(uri, b"old")

    with full_disk(monkeypatch, step), pytest.raises(StorageError, match="No space left") as caught:
        storage.write_bytes(uri, b"new" * 1000, durable=durable)

    assert_actionable(caught.value)
    assert storage.read_bytes(uri) == b"old"
    assert names_in(tmp_path) == ["a.bin"]


@contextlib.contextmanager
def full_disk(monkeypatch, step):
    """Let a write fail at this step because the disk is full."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full:
        """An open file that accepts no bytes."""

        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        write = refuse

    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr(Path, "open", refuse)
        elif step == "write":
            really = builtins.open
            patch.setattr(Path, "open", lambda path, mode: Full(really(path, mode)))
        elif step == "replace":
            patch.setattr(Path, "replace", refuse)
        else:
            patch.setattr(os, "fsync", refuse)
        yield


def test_an_interrupt_while_writing_leaves_no_draft(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes(str(tmp_path / "a.bin"), b"new")

    assert names_in(tmp_path) == []


def test_a_write_check_that_was_killed_leaves_nothing_after_the_next_one(bucket, monkeypatch):
    def kill(uri):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fsf_core.storage.writing.remove", kill)
        with pytest.raises(KeyboardInterrupt):
            storage.require_writable(f"{bucket}/run")
    storage.require_writable(f"{bucket}/run")

    assert names_in(f"{bucket}/run") == []


def test_a_durable_write_syncs_the_file_and_then_its_folder(tmp_path, monkeypatch):
    """The name of a synced file can be lost in a power cut until its folder is synced."""
    synced, really = [], os.fsync

    def note(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        really(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    storage.write_bytes(str(tmp_path / "a.bin"), b"new", durable=True)

    assert [path.parent for path in synced] == [tmp_path.resolve(), tmp_path.resolve().parent]
    assert synced[1] == tmp_path.resolve()


def test_a_folder_cannot_be_overwritten_by_a_file(tmp_path):
    (tmp_path / "a").mkdir()

    with pytest.raises(StorageError) as caught:
        storage.write_bytes(str(tmp_path / "a"), b"new")
    assert_actionable(caught.value)


def test_a_file_cannot_be_the_folder_of_another(tmp_path):
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(StorageError):
        storage.write_bytes(str(tmp_path / "a" / "b"), b"new")


def test_removing_a_file_twice_is_not_an_error(tmp_path, bucket):
    for folder in (str(tmp_path), bucket):
        uri = storage.join(folder, "a.bin")
        storage.write_bytes(uri, b"x")
        storage.remove(uri)
        storage.remove(uri)
        assert not storage.exists(uri)


def test_a_file_that_cannot_be_removed_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot be deleted") as caught:
        storage.remove(str(tmp_path))
    assert_actionable(caught.value)


def test_a_folder_is_removed_with_its_content_and_its_siblings_stay(tmp_path, bucket):
    """fsspec reads `run[1]` as a pattern, and would remove `run1`."""
    for base in (str(tmp_path), bucket):
        for name in ("run[1]/sub/a", "run[1]/b", "run1/a"):
            storage.write_bytes(storage.join(base, name), b"x")

        storage.remove_folder(storage.join(base, "run[1]"))
        storage.remove_folder(storage.join(base, "none"))

        assert [entry.relative for entry in storage.list_files(base)] == ["run1/a"]


# --- listing ---


def test_a_listing_is_recursive_sorted_and_without_hidden_names(tmp_path, bucket):
    for base in (str(tmp_path), bucket):
        for name in ("b/2", "b/1", "a/x", "z", ".hidden/x", "b/.x"):
            storage.write_bytes(storage.join(base, name), b"123")

        found = list(storage.list_files(base))

        assert sorted(entry.relative for entry in found) == ["a/x", "b/1", "b/2", "z"]
        assert {entry.size_bytes for entry in found} == {3}
        assert all(storage.read_bytes(entry.uri) == b"123" for entry in found)
        assert {entry.relative for entry in storage.list_files(base, hidden=True)} > {".hidden/x", "b/.x"}
        assert found == list(storage.list_files(base))


def test_a_listing_leaves_folders_out_and_does_not_look_below_them(tmp_path, bucket):
    for base in (str(tmp_path), bucket):
        for name in ("a/mark", "a/b/x", "ab/x", "c/d/e/mark", "c/d/e/f/g/x", "c/x", ".hidden/mark"):
            storage.write_bytes(storage.join(base, name), b"x")
        asked = []

        def skip(folder, names):
            asked.append(folder)  # noqa: B023 - called in this round
            return "mark" in names

        assert [entry.relative for entry in storage.list_files(base, skip=skip)] == ["ab/x", "c/x"]
        assert sorted(asked) == ["", "a", "ab", "c", "c/d", "c/d/e"]
        assert list(storage.list_files(base, skip=lambda folder, _: not folder)) == []


def test_a_cycle_of_links_does_not_trap_a_listing_and_a_dangling_link_is_listed(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "cycle").symlink_to(tmp_path)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "none")

    found = {entry.relative: entry.size_bytes for entry in storage.list_files(str(tmp_path))}

    assert found == {"a.jpg": 1, "dangling.jpg": 0}


def test_a_folder_that_vanishes_is_an_error_and_not_an_empty_listing(tmp_path):
    """Regression: os.walk ignores unreadable folders, so one without permissions was left out silently."""
    for name in ("a", "b"):
        storage.write_bytes(str(tmp_path / name / "x.jpg"), b"x")
    listing = storage.list_files(str(tmp_path))
    next(listing)

    shutil.rmtree(tmp_path / "b")

    with pytest.raises(StorageError, match="b cannot be listed") as caught:
        list(listing)
    assert_actionable(caught.value)


def test_a_missing_folder_has_an_empty_listing(tmp_path, bucket):
    for base in (str(tmp_path), bucket):
        assert list(storage.list_files(storage.join(base, "none"))) == []


def test_folders_are_distinguished_from_files(tmp_path, bucket):
    for base in (str(tmp_path), bucket):
        storage.write_bytes(storage.join(base, "sub", "a"), b"x")

        assert storage.is_folder(storage.join(base, "sub"))
        assert not storage.is_folder(storage.join(base, "sub", "a"))
        assert not storage.is_folder(storage.join(base, "none"))
        assert storage.exists(storage.join(base, "sub"))


def test_a_glob_matches_links_but_no_folders_or_hidden_names(tmp_path, bucket):
    """Regression: links were left out silently, because fsspec calls them neither file nor folder."""
    for base in (str(tmp_path), bucket):
        for name in ("b.jpg", "a.jpg", "sub/c.jpg", ".d.jpg", ".hidden/e.jpg", "folder.jpg/f.txt"):
            storage.write_bytes(storage.join(base, name), b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "none")

    def found(base, pattern):
        return [uri.removeprefix(f"{base}/") for uri in storage.glob(storage.join(base, pattern))]

    assert found(str(tmp_path), "*.jpg") == ["a.jpg", "b.jpg", "dangling.jpg", "link.jpg"]
    assert found("memory://bucket", "*.jpg") == ["a.jpg", "b.jpg"]
    for base in (str(tmp_path), bucket):
        assert "sub/c.jpg" in found(base, "**/*.jpg")
        assert not any("hidden" in name for name in found(base, "**/*.jpg"))
        assert found(base, ".hidden/*.jpg") == [".hidden/e.jpg"]
        assert found(base, "[ab].jpg") == ["a.jpg", "b.jpg"]
        assert found(base, "?.jpg") == ["a.jpg", "b.jpg"]
        assert found(base, "*.tiff") == []


def test_listings_are_never_cached():
    """Other processes write to the run; a cached listing would hide their receipts."""
    assert not filesystems.filesystem_of("memory://bucket").storage_options["use_listings_cache"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://KEY:s3cr3tKey@bucket/a", 'Invalid bucket name "KEY:s3cr3tKey@bucket"'),
        ("s3://KEY:s3cr3tKey@bucket/a", "no such thing as s3cr3tKey"),
        ("https://x/a?X-Amz-Signature=s3cr3tKey&b=1", "the value s3cr3tKey is odd"),
        ("https://s3cr3tKey@x/a", "host s3cr3tKey@x"),
    ],
)
def test_errors_of_libraries_that_quote_parts_of_a_uri_show_no_secret(uri, message):
    """Botocore quotes the name of the bucket including the login, without the scheme of the URI."""
    with pytest.raises(FetchError) as caught, error_translation.as_fetch_error(uri):
        raise ValueError(message)
    assert "s3cr3tKey" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_short_password_does_not_garble_the_message():
    with pytest.raises(FetchError, match="a bad parameter"), error_translation.as_fetch_error("s3://user:a@bucket/key"):
        raise ValueError("a bad parameter")


def test_only_folders_that_the_block_created_and_left_empty_are_removed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for wanted in ("old/a/b", "old/full/b"):
        with storage.empty_folders_removed(str(tmp_path / wanted)):
            (tmp_path / wanted).mkdir(parents=True)
            (tmp_path / "old" / "full").mkdir(exist_ok=True)
            (tmp_path / "old" / "full" / "file").touch()

    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "old", "old/full", "old/full/file",
    ]  # fmt: skip


def test_a_file_that_is_removed_as_it_is_looked_for_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "_SUCCESS"
    looks = iter([True, False])
    monkeypatch.setattr(reading, "exists", lambda _: next(looks))
    assert storage.find_bytes(str(path)) is None

    monkeypatch.undo()
    path.mkdir()
    with pytest.raises(FetchError):
        storage.find_bytes(str(path))
