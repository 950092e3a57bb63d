"""Reading one file: whole, or as a seekable file object whose errors say which file it is."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, BinaryIO

from fsf_core.errors import FetchError, LimitError
from fsf_core.storage import retry
from fsf_core.storage.error_translation import as_fetch_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.uris import OBJECT_STORES, SPAN, is_local, local_path, redact, scheme

BLOCK_BYTES = 4 << 20
"""What is fetched at once of a large remote file: a seek into a video costs no more."""


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """All bytes of a file.

    Raises:
        FetchError: it does not exist, is a folder, or may not be read.
        LimitError: it holds more than max_bytes.
    """
    if scheme(uri) in OBJECT_STORES and max_bytes is None:
        with as_fetch_error(uri):  # one request, which no other writer comes between
            return bytes(with_retries_for(uri, lambda: filesystem_of(uri).cat_file(uri)))
    with open_binary(uri) as file, as_fetch_error(uri):
        data = bytes(file.read() if max_bytes is None else file.read(max_bytes + 1))
    if max_bytes is not None and len(data) > max_bytes:
        raise LimitError(f"{redact(uri)} holds more than {max_bytes} bytes; raise the limit or leave the item out")
    return data


@contextlib.contextmanager
def open_binary(uri: str) -> Iterator[BinaryIO]:
    """A seekable file to read from; remote stores are read in ranges.

    Raises:
        FetchError: it cannot be opened, or not read on. Errors of the caller's own block pass through as they are.
    """
    with as_fetch_error(uri):
        if not uri:
            raise FetchError("the uri is empty, expected a path or an address; correct the manifest")
        if match := SPAN.fullmatch(uri):
            with open_binary(match[3]) as whole:
                yield io.BufferedReader(_Window(whole, int(match[1]), int(match[2])))
            return
        if is_local(uri):
            path = local_path(uri)
            if path.exists() and not path.is_file():
                what = "a folder" if path.is_dir() else "not a regular file"
                raise FetchError(f"{uri} is {what}, expected a file; leave it out of the manifest")
            file: BinaryIO = path.open("rb")
        else:
            file = io.BufferedReader(
                _Remote(with_retries_for(uri, lambda: _open_remote(uri)), uri), buffer_size=1 << 18
            )
    with file:
        yield file


def path_or_file(uri: str, file: BinaryIO) -> str | BinaryIO:
    """Return the path of a local file, otherwise the open file, for a library that reads a path faster by itself.

    Args:
        uri: the address that was opened.
        file: from open_binary.
    """
    return str(local_path(uri)) if is_local(uri) else file


def etag_or_mtime(file: BinaryIO) -> str | None:
    """What tells these bytes from others under the same address, without reading them: an etag, or size and time.

    Args:
        file: from open_binary.

    Returns:
        Some words; None where the store says nothing.
    """
    raw = getattr(file, "raw", file)
    if isinstance(raw, _Remote | Fetched):
        facts = raw.facts()
        tag = next((facts[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if facts.get(name)), None)
        times = (facts[name] for name in ("LastModified", "last_modified", "updated", "mtime") if facts.get(name))
        moment = next(times, None)
        return str(tag).strip('"') if tag else f"{facts.get('size')} {moment}" if moment else None
    if isinstance(raw, _Window):
        return etag_or_mtime(raw.holder)
    if isinstance(raw, io.BytesIO):
        return None
    facts_of_disk = os.fstat(file.fileno())
    return f"{facts_of_disk.st_size} {facts_of_disk.st_mtime_ns}"


Opening = Callable[[], AbstractContextManager[BinaryIO]]


class Fetched(io.BytesIO):
    """A file of a store that is here already."""

    def __init__(self, data: bytes, facts: dict[str, Any]) -> None:
        super().__init__(data)
        self._facts = facts

    def facts(self) -> dict[str, Any]:
        """What the store said of the file."""
        return self._facts


class _Remote(io.RawIOBase):
    """A file in a store, whose errors say which file it is; wrapped in a buffer it never reads short."""

    def __init__(self, file: Any, uri: str) -> None:
        self._file = file
        self._uri = uri
        self._streamed = not file.seekable()

    def _read(self, count: int, at: int | None = None) -> bytes:
        """Up to so many bytes; none only at the end."""
        if at is not None and self._file.tell() != at:  # after an attempt that failed half-way
            self._file.seek(at)
        data = bytes(self._file.read(count))
        size = getattr(self._file, "size", None)
        if not data and count and at is not None and size is not None and at < size:
            raise retry.ShortReadError(f"found nothing at byte {at} of {size}")
        return data

    def facts(self) -> dict[str, Any]:
        """What the store said of the file when it was opened."""
        return dict(getattr(self._file, "details", None) or {})

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
            return int(self._file.seek(offset, whence))  # asks nobody; the size is known

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


class _Window(io.RawIOBase):
    """Some bytes of an open file, as a file."""

    def __init__(self, holder: BinaryIO, start: int, length: int) -> None:
        self.holder = holder
        self._start, self._length, self._at = start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.holder.seek(self._start + self._at)
        data = self.holder.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def _open_remote(uri: str) -> Any:
    if scheme(uri) in OBJECT_STORES:
        return filesystem_of(uri).open(uri, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    return filesystem_of(uri).open(uri, "rb")
