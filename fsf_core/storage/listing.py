"""Listing: files below a folder, names, patterns, and whether a store grants access at all."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from fsf_core.errors import StorageError
from fsf_core.storage import retry
from fsf_core.storage.access import WEB
from fsf_core.storage.error_translation import as_storage_error, describe
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.uris import OBJECT_STORES, is_local, join, local_path, parent, scheme


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file of a listing."""

    uri: str
    relative: str
    """Path below the listed folder, with forward slashes."""
    size_bytes: int


Skip: TypeAlias = Callable[[str, Sequence[str]], bool]
"""Called with the path of a folder below the listed one ("" for that one) and the names of the files directly in it;
returns whether the listing leaves the folder out, with everything below."""


def require_bucket(uri: str) -> None:
    """Check the credentials and the bucket of a URI in an object store; the object itself may be missing.

    Raises:
        StorageError: the store rejects the credentials, or there is no such bucket.
    """
    if scheme(uri) not in OBJECT_STORES:
        return
    try:
        with_retries_for(uri, lambda: filesystem_of(uri).cat_file(uri, start=0, end=1))
    except StorageError:
        raise
    except Exception as error:
        if retry.reason(error) in {"credentials", "bucket"}:
            with as_storage_error(uri, "read"):
                raise


def exists(uri: str) -> bool:
    """Return whether a file or folder exists.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(uri, "looked up"):
        return local_path(uri).exists() if is_local(uri) else with_retries_for(uri, lambda: _exists(uri))


def is_folder(uri: str) -> bool:
    """Return whether the URI names a folder, or a prefix that holds objects.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(uri, "looked up"):
        return local_path(uri).is_dir() if is_local(uri) else with_retries_for(uri, lambda: _is_prefix(uri))


def list_files(folder: str, *, hidden: bool = False, skip: Skip | None = None) -> Iterator[Entry]:
    """Yield the files below a folder, recursively, in name order folder by folder.

    A folder that does not exist is empty, as in an object store.

    Args:
        folder: local path or prefix.
        hidden: whether to include names that start with a dot, and the content of folders with such names.
        skip: which folders to leave out; folders are tried before those below them.

    Raises:
        StorageError: a folder below cannot be listed, or vanishes meanwhile; nothing is skipped silently.
    """
    if is_local(folder):
        yield from _walk_local(local_path(folder), hidden=hidden, skip=skip)
        return
    with as_storage_error(folder, "listed"):
        filesystem = filesystem_of(folder)
        root = filesystem._strip_protocol(folder).rstrip("/")  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(with_retries_for(folder, lambda: filesystem.find(folder, detail=True)).items())

    def entries() -> Iterator[Entry]:
        for path, info in found:
            relative = path[len(root) :].lstrip("/")
            if not relative or info["type"] != "file":
                continue  # a placeholder object of a folder
            if hidden or not any(name.startswith(".") for name in relative.split("/")):
                # Joined to the folder as given: fsspec's own path lacks the account of an abfs URI.
                yield Entry(uri=join(folder, relative), relative=relative, size_bytes=int(info.get("size") or 0))

    left_out = _skipped((entry.relative for entry in entries()), skip) if skip else ()
    yield from (entry for entry in entries() if entry.relative.rpartition("/")[0] not in left_out)


def list_names(folder: str, prefix: str) -> list[str]:
    """Return the names directly in a folder that start with a prefix, hidden ones too; none if it does not exist.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(folder, "listed"), contextlib.suppress(FileNotFoundError):
        found = with_retries_for(folder, lambda: filesystem_of(folder).ls(folder, detail=False))
        names = (path.rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if name.startswith(prefix))
    return []


def glob(pattern: str) -> list[str]:
    """Return the files that match a pattern with *, ** and ?, in name order; hidden ones if the pattern has the dot.

    Raises:
        StorageError: the store refuses.
    """
    root = fixed_folder(pattern)
    with as_storage_error(pattern, "listed"):
        filesystem = filesystem_of(pattern)
        below = filesystem._strip_protocol(root)  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(with_retries_for(pattern, lambda: filesystem.glob(pattern, detail=True)).items())
        # For fsspec a local link is `other`, even if it points to a file.
        files = [path for path, info in found if info["type"] == "file" or info.get("islink")]
        kept = [path for path in files if not (is_local(pattern) and local_path(path).is_dir())]
    uris = [join(root, path.removeprefix(below)) for path in kept]
    return [uri for uri in uris if uri.count("/.") <= pattern.count("/.")]


def fixed_folder(pattern: str) -> str:
    """Return the folder before the first wildcard of an absolute pattern."""
    wildcard = re.search(r"[*?\[]", pattern)
    return parent(pattern[: wildcard.start()] + "x") if wildcard else parent(pattern)


def _exists(uri: str) -> bool:
    """Do what fsspec's `exists` does, which hides every error of a store, also that no server responds."""
    try:
        filesystem_of(uri).info(uri)
    except FileNotFoundError as error:
        if retry.reason(error) not in {"other", "denied"} or retry.is_unreachable(error):
            raise
        return False
    return True


def _is_prefix(uri: str) -> bool:
    """Do what fsspec's `isdir` does, which hides every error of a store, also that no server responds."""
    try:
        if scheme(uri) in WEB:
            return bool(filesystem_of(uri).ls(uri, detail=False))
        return bool(filesystem_of(uri).info(uri)["type"] == "directory")
    except FileNotFoundError as error:
        if retry.reason(error) != "other":
            raise
        return False
    except Exception as error:
        if scheme(uri) not in WEB or retry.is_unreachable(error):
            raise
        return False  # no page that lists files


def _skipped(files: Iterable[str], skip: Skip) -> frozenset[str]:
    """Return the folders that are left out, of those that hold these files."""
    names: dict[str, list[str]] = defaultdict(list, {"": []})
    for file in files:
        folder, _, name = file.rpartition("/")
        names[folder].append(name)
    for folder in [*names]:
        above = folder
        while above := above.rpartition("/")[0]:
            names.setdefault(above, [])  # a folder of folders
    left_out: set[str] = set()
    for folder in sorted(names):
        if (folder and folder.rpartition("/")[0] in left_out) or skip(folder, names[folder]):
            left_out.add(folder)
    return frozenset(left_out)


def _walk_local(root: Path, *, hidden: bool, skip: Skip | None) -> Iterator[Entry]:
    """Yield files depth first; links to folders are not followed, so a cycle cannot trap the listing."""

    def refuse(error: OSError) -> None:
        raise StorageError(
            f"{error.filename} cannot be listed: {describe(error, str(error.filename))}; grant access, or move it "
            "out of the folder"
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse) if root.exists() else ():
        below = "" if folder == str(root) else Path(folder).relative_to(root).as_posix()
        if skip and skip(below, names):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        for name in sorted(names):
            if hidden or not name.startswith("."):
                path = Path(folder) / name
                try:
                    size = path.stat().st_size
                except OSError:  # a dangling link is listed, and fails when it is read
                    size = 0
                yield Entry(uri=str(path.absolute()), relative=path.relative_to(root).as_posix(), size_bytes=size)
