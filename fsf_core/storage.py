"""The only module that knows URIs: local paths and whatever fsspec opens.

Knows no formats. Errors leave as FetchError (one item cannot be read) or StorageError (a store refuses altogether).
"""

import contextlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from fsf_core.errors import FetchError, FSFError, LimitError, StorageError

SCHEMES = ("file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "hf", "memory")
"""Schemes that may be opened unless a run narrows them."""

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
    return _SIGNED.sub(r"\1***", _TOKEN.sub("***@", _PASSWORD.sub("***@", uri)))


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


def without_query(uri: str) -> str:
    """The URI up to its path: on the web a question mark begins the query, elsewhere it is part of a name."""
    return uri.split("?", 1)[0] if scheme(uri) in {"http", "https"} else uri


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """All bytes of a file.

    Raises:
        FetchError: it does not exist, is a folder, or may not be read.
        LimitError: it holds more than max_bytes.
    """
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
        if is_local(uri):
            path = local_path(uri)
            if path.exists() and not path.is_file():
                what = "a folder" if path.is_dir() else "not a regular file"
                raise FetchError(f"{uri} is {what}, expected a file; leave it out of the manifest")
            file: BinaryIO = path.open("rb")
        else:
            file = io.BufferedReader(_Remote(_filesystem(uri).open(uri, "rb"), uri))
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
    if isinstance(raw, _Remote):
        facts = raw.facts()
        tag = next((facts[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if facts.get(name)), None)
        moment = next(
            (facts[name] for name in ("LastModified", "last_modified", "updated", "mtime") if name in facts), ""
        )
        return str(tag).strip('"') if tag else f"{facts.get('size')} {moment}" if moment else None
    facts_of_disk = os.fstat(file.fileno())
    return f"{facts_of_disk.st_size} {facts_of_disk.st_mtime_ns}"


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
            _filesystem(uri).pipe_file(uri, data)
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


def exists(uri: str) -> bool:
    """Whether a file or folder is there.

    Raises:
        StorageError: the store will not say.
    """
    with _refusals(uri, "looked up"):
        return local_path(uri).exists() if is_local(uri) else bool(_filesystem(uri).exists(uri))


def is_folder(uri: str) -> bool:
    """Whether the URI names a folder, or a prefix that holds objects.

    Raises:
        StorageError: the store will not say.
    """
    with _refusals(uri, "looked up"):
        return local_path(uri).is_dir() if is_local(uri) else bool(_filesystem(uri).isdir(uri))


def remove(uri: str) -> None:
    """Delete one file; a file that is gone already is no error.

    Raises:
        StorageError: the store refuses.
    """
    with _refusals(uri, "deleted"), contextlib.suppress(FileNotFoundError):
        if is_local(uri):
            local_path(uri).unlink()
        else:
            _filesystem(uri).rm_file(uri)


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
        for path in filesystem.find(uri):
            filesystem.rm_file(path)


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
        found = sorted(filesystem.find(folder, detail=True).items())
    for path, facts in found:
        relative = path[len(root) :].lstrip("/")
        if hidden or not any(name.startswith(".") for name in relative.split("/")):
            # Joined to the folder as it was given: fsspec's own name of the file lacks the account of an abfs URI.
            yield Entry(uri=join(folder, relative), relative=relative, size_bytes=int(facts.get("size") or 0))


def glob(pattern: str) -> list[str]:
    """Files that match a pattern with *, ** and ?, in name order; hidden ones only where the pattern names the dot.

    Raises:
        StorageError: the store refuses.
    """
    root = fixed_folder(pattern)
    with _refusals(pattern, "listed"):
        filesystem = _filesystem(pattern)
        below = filesystem._strip_protocol(root)  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(filesystem.glob(pattern, detail=True).items())
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
    found = scheme(uri)
    if found not in map(str.lower, allowed):
        raise FetchError(
            f"{redact(uri)} has the scheme {found!r}, allowed are {', '.join(allowed)}; pass --schemes to allow it"
        )


class _Remote(io.RawIOBase):
    """A file in a store, whose errors say which file it is; wrapped in a buffer it never reads short."""

    def __init__(self, file: Any, uri: str) -> None:
        self._file = file
        self._uri = uri

    def facts(self) -> dict[str, Any]:
        """What the store said of the file when it was opened."""
        return dict(getattr(self._file, "details", None) or {})

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with _reasons(self._uri):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _reasons(self._uri):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _reasons(uri: str) -> Iterator[None]:
    """Turn what the operating system or a store says into a FetchError that says what to do."""
    try:
        yield
    except FetchError:
        raise
    except FileNotFoundError as error:
        # fsspec says so of web servers that answer anything but the file; the cause tells.
        found = f"cannot be fetched ({redact(str(error.__cause__))})" if error.__cause__ else "does not exist"
        raise FetchError(f"{redact(uri)} {found}; correct the address or restore the file") from error
    except PermissionError as error:
        raise FetchError(f"{redact(uri)} may not be read: {redact(str(error))}; grant read access") from error
    except Exception as error:
        # Every store has exceptions of its own, few of them OSErrors.
        raise FetchError(
            f"{redact(uri)} cannot be read: {_said(error)}; check the address and the store, then start again"
        ) from error


@contextlib.contextmanager
def _refusals(uri: str, asked: str) -> Iterator[None]:
    """Turn what the operating system or a store says into a StorageError."""
    try:
        yield
    except FSFError:
        raise
    except Exception as error:
        raise StorageError(
            f"{redact(uri)} cannot be {asked}: {_said(error)}; check the address, the rights and the free space"
        ) from error


def _said(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}")


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
            f"{error.filename} cannot be listed: {_said(error)}; grant access, or take it out of the folder"
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
        return fsspec.url_to_fs(uri, use_listings_cache=False)[0]
    except (ImportError, ValueError) as error:
        raise StorageError(f"{redact(uri)} cannot be opened: {error}; install the extra for this store") from error
