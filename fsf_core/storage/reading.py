"""Reading one file: whole, or as a seekable file object whose errors name the file."""

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fsf_core.errors import FetchError, LimitError
from fsf_core.safe_text import redact
from fsf_core.storage import retry, s3, usage
from fsf_core.storage.access import Access
from fsf_core.storage.error_translation import as_fetch_error, as_storage_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.listing import exists, require_missing
from fsf_core.storage.uris import OBJECT_STORES, SPAN_PATTERN, is_local, local_path, scheme

BLOCK_BYTES = 4 << 20
"""Bytes of a large remote file that are fetched at once, for example after a seek in a video."""


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """Return all bytes of a file.

    Raises:
        FetchError: it does not exist, is a folder, or is not readable.
        LimitError: it has more than max_bytes.
    """
    if scheme(uri) in OBJECT_STORES and max_bytes is None:
        with as_fetch_error(uri):
            return _read_object(uri)
    with open_binary(uri) as file, as_fetch_error(uri):
        data = bytes(file.read() if max_bytes is None else file.read(max_bytes + 1))
    if max_bytes is not None and len(data) > max_bytes:
        raise LimitError(f"{redact(uri)} holds more than {max_bytes} bytes; raise the limit or leave the item out")
    return data


def find_bytes(uri: str) -> bytes | None:
    """Return all bytes of a file, or None if it does not exist; an object store is asked once.

    Raises:
        StorageError: the store refuses, or there is no such bucket.
        FetchError: the file cannot be read.
    """
    if scheme(uri) not in OBJECT_STORES:
        try:
            return read_bytes(uri) if exists(uri) else None
        except FetchError:
            if exists(uri):
                raise
            return None  # it was removed in between
    with as_storage_error(uri, "read"):
        try:
            return _read_object(uri)
        except FileNotFoundError as error:
            require_missing(error)
            return None


def _read_object(uri: str) -> bytes:
    """Return all bytes of an object, read by one request, so that they are of one version."""
    data = s3.read(uri) if s3.is_s3(uri) else with_retries_for(uri, lambda: filesystem_of(uri).cat_file(uri))
    usage.count(usage.READ_BYTES, len(data))
    return bytes(data)


@contextlib.contextmanager
def open_binary(uri: str, access: Access | None = None) -> Iterator[BinaryIO]:
    """Open a seekable file for reading; remote files are read in ranges.

    Args:
        uri: the file, or a range of bytes of one.
        access: which addresses may be opened; without it, any: the address is the user's own.

    Raises:
        FetchError: it cannot be opened or read. Errors of the caller's block pass through unchanged.
    """
    if access is not None:
        access.require(uri)
    if match := SPAN_PATTERN.fullmatch(uri):
        with open_binary(match[3], access) as whole:
            yield io.BufferedReader(_ByteRange(whole, int(match[1]), int(match[2]), match[3]))
        return
    with as_fetch_error(uri):
        if not uri:
            raise FetchError("the uri is empty, expected a path or an address; correct the manifest")
        file = _open_local(local_path(uri)) if is_local(uri) else _open_remote(uri, access)
    with file:
        yield file


def is_stream(uri: str) -> bool:
    """Return whether a URI is a pipe, a socket, a device or the open file of a process: what may be read only once."""
    if not is_local(uri):
        return False
    path = local_path(uri)
    return _is_open_file(path) or (path.exists() and not path.is_file() and not path.is_dir())


def path_or_file(uri: str, file: BinaryIO) -> str | BinaryIO:
    """Return the path of a local file, otherwise the open file, for a library that reads a path faster by itself.

    Args:
        uri: the address that was opened.
        file: from open_binary.
    """
    return str(local_path(uri)) if is_local(uri) else file


def etag_or_mtime(file: BinaryIO) -> str | None:
    """Return what identifies the version of an open file without reading it: its etag, or size and modification time.

    Args:
        file: from open_binary.

    Returns:
        Any text, to be compared as a whole; None where the store gives neither.
    """
    raw = getattr(file, "raw", file)
    if isinstance(raw, _RemoteFile | FetchedFile):
        return _version_of(raw.info())
    if isinstance(raw, _ByteRange):
        return etag_or_mtime(raw.container)
    if isinstance(raw, io.BytesIO):
        return None
    status = os.fstat(file.fileno())
    return f"{status.st_size} {status.st_mtime_ns}"


def version_now(file: BinaryIO) -> str | None:
    """Return what `etag_or_mtime` returns, as the store has it now: of a remote file by a request.

    A file that is in memory has the version that was read.

    Args:
        file: from open_binary.

    Raises:
        FetchError: the file is gone, or the store refuses.
    """
    raw = getattr(file, "raw", file)
    if isinstance(raw, _ByteRange):
        return version_now(raw.container)
    return _version_of(raw.info_now()) if isinstance(raw, _RemoteFile) else etag_or_mtime(file)


def _version_of(info: Mapping[str, Any]) -> str | None:
    """Return what identifies a version in a store's metadata."""
    tag = next((info[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if info.get(name)), None)
    times = (info[name] for name in ("LastModified", "last_modified", "updated", "mtime") if info.get(name))
    modified = next(times, None)
    return str(tag).strip('"') if tag else f"{info.get('size')} {modified}" if modified else None


Opener = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens one file for reading; raises FetchError."""


class FetchedFile(io.BytesIO):
    """A remote file in memory."""

    def __init__(self, data: bytes, info: dict[str, Any]) -> None:
        super().__init__(data)
        self._info = info

    def info(self) -> dict[str, Any]:
        """Return the store's metadata of the file."""
        return self._info


class _RemoteFile(io.RawIOBase):
    """An open remote file whose errors name it; wrapped in a buffer it never reads short."""

    def __init__(self, file: Any, uri: str, filesystem: Any) -> None:
        self._file = file
        self._uri = uri
        self._filesystem = filesystem
        self._streamed = not file.seekable()

    def _read(self, count: int, at: int | None = None) -> bytes:
        """Read up to `count` bytes; none only at the end."""
        if at is not None and self._file.tell() != at:  # after an attempt that failed halfway
            self._file.seek(at)
        data = bytes(self._file.read(count))
        usage.count(usage.READ_BYTES, len(data))
        size = getattr(self._file, "size", None)
        if not data and count and at is not None and size is not None and at < size:
            raise retry.ShortReadError(f"found nothing at byte {at} of {size}")
        return data

    def info(self) -> dict[str, Any]:
        """Return the store's metadata of the file from when it was opened."""
        return dict(getattr(self._file, "details", None) or {})

    def info_now(self) -> dict[str, Any]:
        """Return it as it is now.

        Raises:
            FetchError: the file is gone, or the store refuses.
        """
        with as_fetch_error(self._uri):
            return dict(with_retries_for(self._uri, lambda: self._filesystem.info(self._uri)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not self._streamed

    def readinto(self, buffer: Any) -> int:
        at = None if self._streamed else self._file.tell()
        with as_fetch_error(self._uri):
            data = (
                self._read(len(buffer))
                if at is None
                else with_retries_for(self._uri, partial(self._read, len(buffer), at))
            )
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with as_fetch_error(self._uri):
            return int(self._file.seek(offset, whence))  # no request: the size is known

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


class _ByteRange(io.RawIOBase):
    """A range of bytes of an open file, as a file."""

    def __init__(self, container: BinaryIO, start: int, length: int, uri: str) -> None:
        self.container = container
        self._start, self._length, self._at = start, length, 0
        self._uri = uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._length - self._at))
        with as_fetch_error(self._uri):
            self.container.seek(self._start + self._at)
            data = self.container.read(count)
        if count and not data:
            raise FetchError(
                f"{redact(self._uri)} ends before byte {self._start + self._length}, where a member of it ends; the "
                "archive has changed since it was listed: start a new run"
            )
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def _open_remote(uri: str, access: Access | None) -> BinaryIO:
    is_store = scheme(uri) in OBJECT_STORES
    filesystem = filesystem_of(uri, None if is_store else access)
    how = {"block_size": BLOCK_BYTES, "cache_type": "readahead"} if is_store else {}
    file = with_retries_for(uri, lambda: filesystem.open(uri, "rb", **how))
    return io.BufferedReader(_RemoteFile(file, uri, filesystem), buffer_size=1 << 18)


def _open_local(path: Path) -> BinaryIO:
    """Open a regular file whose size is known.

    Raises:
        FetchError: it is a folder, a device, a pipe or a socket, another process's file, or made by the system as it is
            read, so that its size says nothing.
    """
    if not _is_regular_file(path):
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise FetchError(f"{path} is {what}, expected a file; leave it out of the manifest")
        if _is_open_file(path):
            raise FetchError(f"{path} is a file that a process has open, expected one with a path; give its path")
    # Without waiting: the file may have been replaced by a pipe since, which would wait for a writer.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - Path.open takes no opener
    try:
        _require_size(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _is_regular_file(path: Path) -> bool:
    """Return whether a path is a file's own and no link: the common case, for which one call of the system suffices."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):  # the second of a name that no file can have
        return False


def _require_size(path: Path, file: io.BufferedReader) -> None:
    """Check that an open file is a regular one, and empty if its size is 0.

    Raises:
        FetchError: it is not.
    """
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise FetchError(f"{path} is not a regular file, expected a file; leave it out of the manifest")
    if not status.st_size and (os.read(file.fileno(), 1) or path.is_relative_to("/proc")):
        raise FetchError(
            f"{path} is made by the system while it is read, and its size is 0; copy its content to a file"
        )


def _is_open_file(path: Path) -> bool:
    """Return whether a path leads through /proc/PID/fd, as /dev/fd and /dev/stdin do."""
    for _ in range(40):  # as many links as Linux follows
        if not path.is_symlink():
            return False
        folder = os.path.realpath(path.parent)
        if folder.startswith("/proc/"):
            return True
        path = Path(folder, path.readlink())
    return False
