"""Listing: files below a folder, names, patterns, and whether a store grants access at all."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from fsf_core.errors import StorageError
from fsf_core.storage import retry, s3
from fsf_core.storage.access import WEB
from fsf_core.storage.error_translation import as_storage_error
from fsf_core.storage.filesystems import filesystem_of, glob_regex, with_retries_for
from fsf_core.storage.local_walk import Cut, Entry, Skip, walk
from fsf_core.storage.uris import OBJECT_STORES, is_local, join, local_path, parent, scheme


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


def list_files(
    folder: str, *, hidden: bool = False, skip: Skip | None = None, cut: Cut | None = None
) -> Iterator[Entry]:
    """Yield the files below a folder, recursively, in name order folder by folder.

    A folder that does not exist is empty, as in an object store. Objects that only mark a folder are no files.

    Args:
        folder: local path or prefix.
        hidden: whether to include names that start with a dot, and the content of folders with such names.
        skip: which folders to leave out; folders are tried before those below them.
        cut: follow links to local folders, but for those that it is called with; without it, none is followed. Links
            to files are files.

    Raises:
        StorageError: a folder below cannot be listed, or vanishes meanwhile; nothing is skipped silently.
    """
    if is_local(folder):
        yield from walk(local_path(folder), hidden=hidden, skip=skip, cut=cut)
        return
    base = folder.rstrip("/") if folder.rstrip("/").partition("://")[2] else folder
    inner = max(0, len(folder) - len(base) - 1) * "/"  # of a prefix whose last name is empty: s3://bucket/photos//
    with as_storage_error(folder, "listed"):
        filesystem = filesystem_of(folder)
        root = filesystem._strip_protocol(folder).rstrip("/")  # noqa: SLF001 - fsspec's documented hook for listings
        found = sorted(with_retries_for(folder, lambda: _find(filesystem, folder, root)).items())

    marks = _marked_folders(folder, dict(found))

    def entries() -> Iterator[Entry]:
        for path, info in found:
            name = _below(root, path)
            relative = name[len(inner) :]
            if not name.startswith(inner) or not _is_object(relative, info) or path in marks:
                continue
            if hidden or not _hidden_names(relative):
                # Appended to the folder as given: fsspec's own path lacks the account of an abfs URI.
                uri = base + ("" if base.endswith("/") else "/") + name
                yield Entry(uri=uri, relative=relative, size_bytes=int(info.get("size") or 0))

    left_out = _skipped((entry.relative for entry in entries()), skip) if skip else ()
    yield from (entry for entry in entries() if entry.relative.rpartition("/")[0] not in left_out)


def list_in_any_order(folder: str) -> Iterator[Entry]:
    """Yield the files below a folder, hidden ones too; of S3 a page of a thousand is in memory at a time.

    Raises:
        StorageError: as for `list_files`.
    """
    if not s3.is_s3(folder):
        yield from list_files(folder, hidden=True)
        return
    pages = s3.list_pages(folder.rstrip("/"))
    while True:
        with as_storage_error(folder, "listed"):
            page = next(pages, None)
        if page is None:
            return
        for relative, size_bytes in page:
            if _is_object(relative, {"type": "file"}):
                yield Entry(uri=join(folder, relative), relative=relative, size_bytes=size_bytes)


def _find(filesystem: Any, folder: str, root: str) -> dict[str, dict[str, Any]]:
    """Return the objects below a folder; s3fs asks twice more about one without any, unless it is given as a prefix."""
    above, _, name = root.rpartition("/")
    if not s3.is_s3(folder) or not filesystem.split_path(root)[1] or "//" in root:  # a bucket itself, or an odd key
        return dict(filesystem.find(folder, detail=True))
    return dict(filesystem.find(above, prefix=f"{name}/", detail=True))


def _below(root: str, path: str) -> str:
    """Return the key of an object below a prefix, with all its slashes but the one that ends the prefix."""
    return path[len(root) :].removeprefix("/")


def _hidden_names(path: str) -> int:
    """Return how many names of a path are hidden; . and .. are names like others in a store."""
    if path[:1] != "." and "/." not in path:
        return 0
    return sum(name.startswith(".") and name not in {".", ".."} for name in path.split("/"))


def _is_object(relative: str, info: dict[str, Any]) -> bool:
    """Return whether a listed object is a file: some programs write objects that mark folders."""
    return info["type"] == "file" and bool(relative) and not relative.endswith(("/", "_$folder$"))


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


def _marked_folders(uri: str, found: dict[str, dict[str, Any]]) -> set[str]:
    """Return the empty objects in Azure that mark a folder of others: its library removes the slash at their end."""
    if scheme(uri) not in {"az", "abfs", "abfss"}:
        return set()
    empty = {path for path, info in found.items() if not info.get("size")}
    return empty & {path[:at] for path in found for at, sign in enumerate(path) if sign == "/"} if empty else set()


def glob(pattern: str, *, cut: Cut | None = None) -> list[str]:
    """Return the files that match a pattern with *, ** and ?, in name order; hidden ones if the pattern has the dot.

    Args:
        pattern: absolute.
        cut: as for list_files.

    Raises:
        StorageError: the store refuses.
    """
    root = fixed_folder(pattern)
    if pattern.endswith("/"):
        return []  # it names folders
    with as_storage_error(pattern, "listed"):
        if is_local(pattern):
            names = _match_local(pattern, root, cut or (lambda _: None))
        else:
            names = with_retries_for(pattern, lambda: _match_remote(pattern, root))
    base = join(root, "")
    named = _hidden_names(pattern[len(base) :])
    return [base + name for name in names if _hidden_names(name) <= named]


def _match_local(pattern: str, root: str, cut: Cut) -> list[str]:
    """Return the paths below the fixed folder of a pattern that match it; only folders that may hold one are opened."""
    parts = [part for part in pattern[len(join(root, "")) :].split("/") if part]
    whole = glob_regex("/".join(parts))
    first = [re.compile(glob_regex("/".join(parts[: length + 1]))) for length in range(len(parts))]
    fixed = parts.index("**") if "**" in parts else len(parts) - 1  # levels that are matched one by one

    def enter(folder: str) -> bool:
        names = folder.split("/")
        if len(names) <= fixed:
            return bool(first[len(names) - 1].match(folder))
        return "**" in parts and (not fixed or bool(first[fixed - 1].match("/".join(names[:fixed]))))

    hidden = any(part.startswith(".") for part in parts)
    files = walk(local_path(root), hidden=hidden, cut=cut, enter=enter)
    return sorted(file.relative for file in files if re.match(whole, file.relative))


def _match_remote(pattern: str, root: str) -> list[str]:
    """Return the keys below the fixed prefix of a pattern that match it."""
    filesystem = filesystem_of(pattern)
    path, below = filesystem._strip_protocol(pattern), filesystem._strip_protocol(root).rstrip("/")  # noqa: SLF001 - as above
    if scheme(pattern) in {*WEB, "hf"}:  # whose libraries have patterns of their own
        found, matches = filesystem.glob(pattern, detail=True), re.compile("")
    else:
        stem = re.split(r"[*?\[]", _below(below, path))[0].lstrip("/")
        flat = "**" in path or "//" in path[1:]  # an empty name is no folder to fsspec
        depth = None if flat else _below(below, path).count("/") + 1
        options = {"prefix": stem} if stem and not flat else {}
        found = filesystem.find(below, maxdepth=depth, detail=True, **options)
        matches = re.compile(glob_regex(path))
    marks = _marked_folders(pattern, found)
    files = (path for path, info in found.items() if _is_object(path, info) and path not in marks)
    return sorted(filter(None, (_below(below, path) for path in files if matches.match(path))))


def fixed_folder(pattern: str) -> str:
    """Return the folder before the first wildcard of an absolute pattern."""
    wildcard = re.search(r"[*?\[]", pattern)
    return parent(pattern[: wildcard.start()] + "x") if wildcard else parent(pattern)


def _exists(uri: str) -> bool:
    """Do what fsspec's `exists` does, which hides every error of a store, also that no server responds."""
    try:
        filesystem_of(uri).info(uri)
    except FileNotFoundError as error:
        require_missing(error)
        return False
    return True


def require_missing(error: FileNotFoundError) -> None:
    """Check that an error of a store says that an object is missing, and not its bucket or the server.

    Raises:
        FileNotFoundError: it says something else.
    """
    if retry.reason(error) not in {"other", "denied"} or retry.is_unreachable(error):
        raise error


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
