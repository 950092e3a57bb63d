"""The only module that knows URIs: local paths and whatever fsspec opens.

Knows no formats. Errors leave as FetchError (one item cannot be read) or StorageError (a store refuses altogether);
what passes by itself, throttling above all, was tried again before.
"""

import contextlib
import io
import itertools
import logging
import os
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from fsf_core import patience
from fsf_core.errors import FetchError, FSFError, LimitError, StorageError

SCHEMES = ("file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "hf", "memory")
"""Schemes that may be opened unless a run narrows them."""

BLOCK_BYTES = 4 << 20
"""What is fetched at once of a large remote file: a seek into a video costs no more."""

AHEAD_FILES, AHEAD_BYTES = 16, 16 << 20
"""Remote files in flight or waiting for their turn, and the size up to which one is fetched ahead."""

CONNECT_S, SILENCE_S = 5, 15
"""Longest time for a connection, and between two bytes of an answer."""

S3_TRIES = 2
"""Attempts of s3fs itself, which is all that one page of a listing gets; the rest is ours."""

_SELF_PATIENT = frozenset(("gs", "gcs", "az", "abfs", "abfss", "hf"))
"""Stores whose libraries try again themselves, and cannot be kept from it."""

_OBJECT_STORES = frozenset(("s3", "s3a", *_SELF_PATIENT)) - {"hf"}

Given = TypeVar("Given")

_SPAN = re.compile(r"span://(\d+)\+(\d+)/(.+)", re.DOTALL)
_HELD = re.compile(r"(?:span://\d+\+\d+|cell://\d+\.\d+/[^/]+)/(.+)", re.DOTALL)
_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]+)://")
# user:password@, the slashes and at signs that people leave unescaped in a password included; a numeric port is none.
_PASSWORD = re.compile(r"(?<=://)[^/@:\s]+:(?!\d*/)[^@\s\"']*@(?:[^/@\s\"']*@)*")
# http:// and https://; elsewhere a name before @ is no secret (abfss://container@account).
_TOKEN = re.compile(r"(?i)(?<=http://|ttps://)[^/@\s]+@")
_TRAILING = re.compile(r"(?<=[^:/])/+$")
_SIGNED = re.compile(
    r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|token|secret"
    r"|access_token|api_?key|password)=)[^&#\s\"']+"
)


HIDDEN = "***"
"""What stands in the place of a credential."""

SHORTEST_PASSWORD = 4
"""A shorter one is hidden in its place before the @ only, lest it be found inside every other word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file of a listing."""

    uri: str
    relative: str
    """Path below the folder that was listed, with forward slashes."""
    size_bytes: int


def scheme(uri: str) -> str:
    """The scheme of a URI in lower case; `file` for a plain path."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Whether the URI names a path on this machine."""
    return scheme(uri) == "file"


def local_path(uri: str) -> Path:
    """The path behind a local URI; percent signs are literal, as in fsspec."""
    return Path(uri[7:] if uri[:7].lower() == "file://" else uri)


def redact(uri: str) -> str:
    """The URI, or a text with URIs in it, without credentials: fit for logs, tables and errors."""
    if "://" not in uri or not ("@" in uri or "?" in uri):
        return uri
    return _SIGNED.sub(rf"\1{HIDDEN}", _TOKEN.sub(f"{HIDDEN}@", _PASSWORD.sub(f"{HIDDEN}@", uri)))


def is_redacted(uri: str) -> bool:
    """Whether `redact` took a credential out of it."""
    return f"://{HIDDEN}@" in uri or f"={HIDDEN}" in uri


def absolute(uri: str, base: str = "") -> str:
    """The URI as every process understands it; relative paths count from `base`, or from the working directory."""
    if _SCHEME.match(uri):
        return uri
    if uri == "~" or uri.startswith("~/"):
        uri = str(Path(uri).expanduser())
    if uri.startswith("/") or not base:
        return str(Path(uri).absolute()) if is_local(uri) else uri
    return join(base, uri)


def join(base: str, *names: str) -> str:
    """Names below a folder, whatever the store."""
    stem = _TRAILING.sub("", base)
    return stem + ("" if stem.endswith("/") else "/") + "/".join(name.strip("/") for name in names)


def parent(uri: str) -> str:
    """The folder that holds the file; ends with :// where that is the root of a store."""
    path = without_query(uri).rstrip("/")
    if path[: path.rfind("/") + 1].endswith("://"):
        return path[: path.rfind("/") + 1]
    head, _, _ = path.rpartition("/")
    return f"{head}/" if head in {"", "file://"} and "/" in path else head or "."


def span(uri: str, offset: int, length: int) -> str:
    """The URI of some bytes of a file, which is opened as if it were a file of its own."""
    return f"span://{offset}+{length}/{uri}"


def holder(uri: str) -> str:
    """The file that holds what a URI names: of a span or a cell, the file it is part of; else the file itself."""
    match = _HELD.fullmatch(uri)
    return match[1] if match else uri


def without_query(uri: str) -> str:
    """The URI up to its path: on the web a question mark begins the query, elsewhere it is part of a name."""
    return uri.split("?", 1)[0] if scheme(uri) in {"http", "https"} else uri


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """All bytes of a file.

    Raises:
        FetchError: it does not exist, is a folder, or may not be read.
        LimitError: it holds more than max_bytes.
    """
    if scheme(uri) in _OBJECT_STORES and max_bytes is None:
        with _reasons(uri):  # one request, which no other writer comes between
            return bytes(_patiently(uri, lambda: _filesystem(uri).cat_file(uri)))
    with open_binary(uri) as file, _reasons(uri):
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
    with _reasons(uri):
        if not uri:
            raise FetchError("the uri is empty, expected a path or an address; correct the manifest")
        if match := _SPAN.fullmatch(uri):
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
            file = io.BufferedReader(_Remote(_patiently(uri, lambda: _open_remote(uri)), uri), buffer_size=1 << 18)
    with file:
        yield file


def version(file: BinaryIO) -> str | None:
    """What tells these bytes from others under the same address, without reading them: an etag, or size and time.

    Args:
        file: from open_binary.

    Returns:
        Some words; None where the store says nothing.
    """
    raw = getattr(file, "raw", file)
    if isinstance(raw, _Remote | _Fetched):
        facts = raw.facts()
        tag = next((facts[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if facts.get(name)), None)
        times = (facts[name] for name in ("LastModified", "last_modified", "updated", "mtime") if facts.get(name))
        moment = next(times, None)
        return str(tag).strip('"') if tag else f"{facts.get('size')} {moment}" if moment else None
    if isinstance(raw, _Window):
        return version(raw.holder)
    if isinstance(raw, io.BytesIO):
        return None
    facts_of_disk = os.fstat(file.fileno())
    return f"{facts_of_disk.st_size} {facts_of_disk.st_mtime_ns}"


Opening = Callable[[], AbstractContextManager[BinaryIO]]


def open_ahead(uris: Sequence[str], *, schemes: tuple[str, ...]) -> Iterator[Opening]:
    """For every URI in order, how to open it; the next remote files are fetched meanwhile.

    Args:
        uris: a file each.
        schemes: what may be opened; another scheme is a FetchError when its turn comes.
    """
    if len(uris) < 2 or all(is_local(holder(uri)) for uri in uris):  # noqa: PLR2004 - nothing is ahead of a single file
        yield from (partial(_open_allowed, uri, schemes) for uri in uris)
        return
    for uri, fetched in _ahead(uris, partial(_whole_if_small, schemes=schemes)):
        yield partial(_opened, uri, fetched, schemes)


def read_ahead(uris: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every URI in order, and how to have all its bytes, as of read_bytes; the next remote ones come meanwhile."""
    if all(map(is_local, uris)):
        yield from ((uri, partial(read_bytes, uri)) for uri in uris)
        return
    for uri, fetched in _ahead(uris, read_bytes):
        yield uri, fetched.result


def _ahead(uris: Sequence[str], fetch: Callable[[str], Given]) -> Iterator[tuple[str, Future[Given]]]:
    pool = ThreadPoolExecutor(AHEAD_FILES)
    rest = iter(uris)
    coming: deque[tuple[str, Future[Given]]] = deque()
    try:
        while True:
            for uri in itertools.islice(rest, AHEAD_FILES - len(coming)):
                coming.append((uri, pool.submit(fetch, uri)))
            if not coming:
                return
            yield coming.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def write_bytes(uri: str, data: bytes, *, durable: bool = False) -> None:
    """Replace a file whole: readers see the old bytes or the new ones, never a part.

    Args:
        uri: the file; its folder is made.
        data: all of it.
        durable: whether the bytes must survive a power cut when this returns (local disks only; stores promise it).

    Raises:
        StorageError: the store refuses, or the disk is full.
    """
    with _refusals(uri, "written"):
        if not is_local(uri):
            _patiently(uri, lambda: _filesystem(uri).pipe_file(uri, data))
            return
        path = local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with draft.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


def write_file(uri: str, path: Path) -> None:
    """Replace a file whole by a local one, which may be larger than the memory.

    Raises:
        StorageError: the store refuses, or the disk is full.
    """
    with _refusals(uri, "written"):
        if not is_local(uri):
            _patiently(uri, lambda: _filesystem(uri).put_file(str(path), uri))
            return
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            shutil.copyfile(path, draft)
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def create(uri: str, data: bytes) -> bool:
    """Write a small file in a store unless it is there; of several who try at once, one succeeds.

    Returns:
        Whether this call made it.

    Raises:
        StorageError: the store refuses, or knows no conditional writes.
    """
    with _refusals(uri, "created"):
        try:
            _patiently(uri, lambda: _filesystem(uri).pipe_file(uri, data, mode="create"))
        except Exception as error:
            if patience.reason(error) == "taken":
                return False
            raise
    return True


def require_writable(folder: str) -> None:
    """Prove that a store takes files, before work is done whose result could not be kept.

    Raises:
        StorageError: it does not.
    """
    probe = join(folder, f".write-check-{secrets.token_hex(4)}")
    write_bytes(probe, b"")
    remove(probe)


def require_known(uri: str) -> None:
    """Refuse an object store that knows neither these credentials nor the bucket; a missing object is no matter here.

    Raises:
        StorageError: found / expected / do.
    """
    if scheme(uri) not in _OBJECT_STORES:
        return
    try:
        _patiently(uri, lambda: _filesystem(uri).cat_file(uri, start=0, end=1))
    except StorageError:
        raise
    except Exception as error:
        if patience.reason(error) in {"credentials", "bucket"}:
            with _refusals(uri, "read"):
                raise


def exists(uri: str) -> bool:
    """Whether a file or folder is there.

    Raises:
        StorageError: the store will not say.
    """
    with _refusals(uri, "looked up"):
        return local_path(uri).exists() if is_local(uri) else _patiently(uri, lambda: _there(uri))


def is_folder(uri: str) -> bool:
    """Whether the URI names a folder, or a prefix that holds objects.

    Raises:
        StorageError: the store will not say.
    """
    with _refusals(uri, "looked up"):
        return local_path(uri).is_dir() if is_local(uri) else _patiently(uri, lambda: _is_prefix(uri))


def remove(uri: str) -> None:
    """Delete one file; a file that is gone already is no error.

    Raises:
        StorageError: the store refuses.
    """
    with _refusals(uri, "deleted"), contextlib.suppress(FileNotFoundError):
        if is_local(uri):
            local_path(uri).unlink()
        else:
            _patiently(uri, lambda: _filesystem(uri).rm_file(uri))


def remove_folder(uri: str) -> None:
    """Delete a folder and what is in it; a folder that is gone already is no error.

    Raises:
        StorageError: the store refuses.
    """
    with _refusals(uri, "deleted"):
        if is_local(uri):
            if local_path(uri).exists():
                shutil.rmtree(local_path(uri))
            return
        # File by file: fsspec's own rm takes [ and * in the name of a folder for a pattern.
        filesystem = _filesystem(uri)
        for path in _patiently(uri, lambda: filesystem.find(uri)):
            with contextlib.suppress(FileNotFoundError):
                _patiently(uri, partial(filesystem.rm_file, path))


def list_files(folder: str, *, hidden: bool = False) -> Iterator[Entry]:
    """Files below a folder, recursively, in name order folder by folder.

    Args:
        folder: local path or prefix.
        hidden: whether names that start with a dot (and folders of such names) are included.

    Raises:
        StorageError: a folder below may not be listed, or vanishes meanwhile; nothing is left out silently. A folder
            that is not there at all lists nothing, as in an object store.
    """
    if is_local(folder):
        yield from _walk_local(local_path(folder), hidden=hidden)
        return
    with _refusals(folder, "listed"):
        filesystem = _filesystem(folder)
        root = filesystem._strip_protocol(folder).rstrip("/")  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(_patiently(folder, lambda: filesystem.find(folder, detail=True)).items())
    for path, facts in found:
        relative = path[len(root) :].lstrip("/")
        if not relative or facts["type"] != "file":
            continue  # an object that stands for a folder
        if hidden or not any(name.startswith(".") for name in relative.split("/")):
            # Joined to the folder as it was given: fsspec's own name of the file lacks the account of an abfs URI.
            yield Entry(uri=join(folder, relative), relative=relative, size_bytes=int(facts.get("size") or 0))


def list_names(folder: str, prefix: str) -> list[str]:
    """Names directly in a folder that begin with the prefix, hidden ones too; none where it is not there.

    Raises:
        StorageError: the store refuses.
    """
    with _refusals(folder, "listed"), contextlib.suppress(FileNotFoundError):
        found = _patiently(folder, lambda: _filesystem(folder).ls(folder, detail=False))
        names = (path.rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if name.startswith(prefix))
    return []


def glob(pattern: str) -> list[str]:
    """Files that match a pattern with *, ** and ?, in name order; hidden ones only where the pattern names the dot.

    Raises:
        StorageError: the store refuses.
    """
    root = fixed_folder(pattern)
    with _refusals(pattern, "listed"):
        filesystem = _filesystem(pattern)
        below = filesystem._strip_protocol(root)  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(_patiently(pattern, lambda: filesystem.glob(pattern, detail=True)).items())
        # fsspec says `other` of a local link, whatever it points to.
        files = [path for path, facts in found if facts["type"] == "file" or facts.get("islink")]
        kept = [path for path in files if not (is_local(pattern) and local_path(path).is_dir())]
    uris = [join(root, path.removeprefix(below)) for path in kept]
    return [uri for uri in uris if uri.count("/.") <= pattern.count("/.")]


def fixed_folder(pattern: str) -> str:
    """The folder before the first wildcard of an absolute pattern."""
    wildcard = re.search(r"[*?\[]", pattern)
    return parent(pattern[: wildcard.start()] + "x") if wildcard else parent(pattern)


def require_scheme(uri: str, allowed: tuple[str, ...]) -> None:
    """Refuse a URI whose scheme is not on the list.

    Raises:
        FetchError: found / expected / do.
    """
    found = scheme(holder(uri))
    if found not in map(str.lower, allowed):
        raise FetchError(
            f"{redact(uri)} has the scheme {found!r}, allowed are {', '.join(allowed)}; pass --schemes to allow it"
        )


class _Fetched(io.BytesIO):
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
            raise patience.ShortReadError(f"found nothing at byte {at} of {size}")
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
        with _reasons(self._uri):
            data = (
                self._read(len(buffer)) if at is None else _patiently(self._uri, partial(self._read, len(buffer), at))
            )
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _reasons(self._uri):
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


@contextlib.contextmanager
def _reasons(uri: str) -> Iterator[None]:
    """Turn what the operating system or a store says into a FetchError that says what to do."""
    try:
        yield
    except FetchError:
        raise
    except StorageError as error:
        raise FetchError(str(error)) from error
    except patience.OutOfPatienceError as error:
        raise FetchError(f"{redact(uri)} cannot be read: {_said_of(error, uri)}; {_do(error, uri)}") from error
    except FileNotFoundError as error:
        # fsspec says so of web servers that answer anything but the file; the cause tells.
        on_web = error.__cause__ and scheme(uri) in {"http", "https"}
        found = f"cannot be fetched ({_said_of(error.__cause__, uri)})" if on_web else "does not exist"
        do = _do(error, uri) if not is_local(uri) and patience.reason(error) == "bucket" else ""
        raise FetchError(f"{redact(uri)} {found}; {do or 'correct the address or restore the file'}") from error
    except PermissionError as error:
        do = "grant read access" if is_local(uri) else _do(error, uri)
        raise FetchError(f"{redact(uri)} may not be read: {_said_of(error, uri)}; {do}") from error
    except Exception as error:
        # Every store has exceptions of its own, few of them OSErrors.
        do = _do(error, uri) or "check the address and the store, then start again"
        raise FetchError(f"{redact(uri)} cannot be read: {_said(error, uri)}; {do}") from error


@contextlib.contextmanager
def _refusals(uri: str, asked: str) -> Iterator[None]:
    """Turn what the operating system or a store says into a StorageError."""
    try:
        yield
    except FSFError:
        raise
    except Exception as error:
        do = ("" if is_local(uri) else _do(error, uri)) or "check the address, the rights and the free space"
        if isinstance(error, FileNotFoundError) and scheme(uri) in _OBJECT_STORES:
            do = "create the bucket, or correct its name"  # nothing else can be missing there
        raise StorageError(f"{redact(uri)} cannot be {asked}: {_said(error, uri)}; {do}") from error


def _do(error: Exception, uri: str) -> str:
    return patience.remedy(error, scheme(uri))


def _said(error: Exception, uri: str) -> str:
    """What kind of error it is, and its words, without secrets."""
    if isinstance(error, patience.OutOfPatienceError):
        return _said_of(error, uri)
    return f"{type(error).__name__}: {_said_of(error, uri)}"


def _said_of(error: BaseException | None, uri: str) -> str:
    """The words of an error, without the secrets of the URI: libraries show pieces of it that look like none."""
    words = str(error).partition("\nRequestId:")[0]  # Azure goes on with a page of XML
    for secret in _secrets(uri):
        words = words.replace(secret, "***")
    return redact(words)


def _secrets(uri: str) -> list[str]:
    """What `redact` hides in a URI, the longest first; a password alone where it cannot be part of a word."""
    logins = [match[0].removesuffix("@") for match in (*_PASSWORD.finditer(uri), *_TOKEN.finditer(uri))]
    found = {*logins, *(match[0].removeprefix(match[1]) for match in _SIGNED.finditer(uri))}
    found |= {login.partition(":")[2] for login in logins if len(login.partition(":")[2]) >= SHORTEST_PASSWORD}
    return sorted(filter(None, found), key=len, reverse=True)


def _patiently(uri: str, call: Callable[[], Given]) -> Given:
    return patience.persist(call, tries=1 if scheme(uri) in _SELF_PATIENT else patience.TRIES)


def _open_allowed(uri: str, schemes: tuple[str, ...]) -> AbstractContextManager[BinaryIO]:
    require_scheme(uri, schemes)
    return open_binary(uri)


def _whole_if_small(uri: str, schemes: tuple[str, ...]) -> _Fetched | None:
    """The bytes of a remote file; None where it is local, or larger than what is fetched ahead."""
    require_scheme(uri, schemes)
    match = _SPAN.fullmatch(uri)
    start, length, whole = (int(match[1]), int(match[2]), match[3]) if match else (0, AHEAD_BYTES, uri)
    if not uri or is_local(whole) or not 0 < length <= AHEAD_BYTES:
        return None
    with _reasons(uri):
        try:
            # First what the store says of it: replaced in between, the bytes are newer than their version, not older.
            facts = _patiently(whole, lambda: _filesystem(whole).info(whole)) if scheme(whole) in _OBJECT_STORES else {}
            data = bytes(_patiently(whole, lambda: _filesystem(whole).cat_file(whole, start=start, end=start + length)))
        except Exception as error:
            if patience.reason(error) == "range":  # of an empty file no range can be had
                return None
            raise
    return _Fetched(data, facts) if match or len(data) < AHEAD_BYTES else None


@contextlib.contextmanager
def _opened(uri: str, fetched: Future[_Fetched | None], schemes: tuple[str, ...]) -> Iterator[BinaryIO]:
    whole = fetched.result()
    with _open_allowed(uri, schemes) if whole is None else whole as file:
        yield file


def _open_remote(uri: str) -> Any:
    if scheme(uri) in _OBJECT_STORES:
        return _filesystem(uri).open(uri, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    return _filesystem(uri).open(uri, "rb")


def _there(uri: str) -> bool:
    """As fsspec's exists, which takes every error of an object store for an absence."""
    if scheme(uri) not in _OBJECT_STORES:
        return bool(_filesystem(uri).exists(uri))
    try:
        _filesystem(uri).info(uri)
    except FileNotFoundError as error:
        if patience.reason(error) != "other":
            raise
        return False
    return True


def _is_prefix(uri: str) -> bool:
    """As fsspec's isdir, which takes every error of an object store for an absence."""
    if scheme(uri) not in _OBJECT_STORES:
        return bool(_filesystem(uri).isdir(uri))
    try:
        return bool(_filesystem(uri).info(uri)["type"] == "directory")
    except FileNotFoundError as error:
        if patience.reason(error) != "other":
            raise
        return False


def _sync_folder(folder: Path) -> None:
    """A file that was renamed survives a power cut once its folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk_local(root: Path, *, hidden: bool) -> Iterator[Entry]:
    """Depth first; a link to a folder is not followed, so that a loop cannot trap the listing."""

    def refuse(error: OSError) -> None:
        raise StorageError(
            f"{error.filename} cannot be listed: {_said(error, str(error.filename))}; grant access, or take it out of "
            "the folder"
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse) if root.exists() else ():
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        for name in sorted(names):
            if hidden or not name.startswith("."):
                path = Path(folder) / name
                try:
                    size = path.stat().st_size
                except OSError:  # a dangling link is listed, and fails when it is read: nothing is lost
                    size = 0
                yield Entry(uri=str(path.absolute()), relative=path.relative_to(root).as_posix(), size_bytes=size)


def _filesystem(uri: str) -> Any:
    """The fsspec filesystem of a URI; fsspec itself keeps one instance per store and settings."""
    if is_local(uri):
        return fsspec.filesystem("file")  # url_to_fs would take :: in a file name for a chain of protocols
    try:
        # Without the cache of listings, which hides what other processes wrote since.
        filesystem = fsspec.url_to_fs(uri, use_listings_cache=False, **_settings(scheme(uri)))[0]
    except (ImportError, ValueError) as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(scheme(uri), "azure")
        do = f"install fsf[{extra}]" if scheme(uri) in _OBJECT_STORES else "install the library of this store"
        raise StorageError(f"{redact(uri)} cannot be opened: {_said_of(error, uri)}; {do}") from error
    if scheme(uri) in {"s3", "s3a"}:
        filesystem.retries = S3_TRIES
    return filesystem


def _settings(store: str) -> dict[str, Any]:
    """Timeouts in the words of each store's library; FSSPEC_S3 and its like in the environment go first."""
    chosen: dict[str, Any] = fsspec.config.conf.get("s3" if store == "s3a" else store, {})
    if store in {"s3", "s3a"}:
        retries = {"mode": "standard", "total_max_attempts": 1}
        timeouts = {"connect_timeout": CONNECT_S, "read_timeout": SILENCE_S, "max_pool_connections": 64}
        return {"config_kwargs": {**timeouts, "retries": retries, **chosen.get("config_kwargs", {})}}
    if store in {"gs", "gcs"}:
        # Its probe for a kind of bucket that is used in no way here takes up to a minute where it is not answered.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it raises is told by us, once
    if store in {"az", "abfs", "abfss"}:
        return {"connection_timeout": CONNECT_S, "read_timeout": SILENCE_S} | chosen
    if store in {"http", "https"}:
        return {"client_kwargs": {"timeout": _web_timeout(), **chosen.get("client_kwargs", {})}}
    return {}


def _web_timeout() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
