"""Walking local folders: files in name order, links to folders followed where asked for, loops cut."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from fsf_core.errors import StorageError
from fsf_core.storage.error_translation import describe


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

Cut: TypeAlias = Callable[[str], None]
"""Called with the path of a link below the listed folder that is not followed: it leads to a folder that holds it."""

_Identity: TypeAlias = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """A folder that is still to be listed."""

    path: str
    relative: str
    above: tuple[_Identity, ...]
    """The folders that hold it."""
    by_link: bool
    """Whether a link led here."""


def walk(
    root: Path,
    *,
    hidden: bool,
    skip: Skip | None = None,
    cut: Cut | None = None,
    enter: Callable[[str], bool] | None = None,
) -> Iterator[Entry]:
    """Yield the files below a folder; one that does not exist is empty.

    Args:
        root: the folder.
        hidden: whether to include names that start with a dot.
        skip: which folders to leave out, once their files are known.
        cut: follow links to folders, but for those that it is called with; without it, none is followed.
        enter: which folders to open, by their path below the root.

    Raises:
        StorageError: a folder cannot be listed.
    """
    if not root.exists():
        return
    waiting = [_Folder(path=str(root.absolute()), relative="", above=(), by_link=False)]
    while waiting:
        folder = waiting.pop()
        files, folders = _scan(folder.path, hidden=hidden)
        if skip and skip(folder.relative, [file.name for file in files]):
            continue
        prefix = f"{folder.relative}/" if folder.relative else ""
        for file in files:
            yield Entry(uri=file.path, relative=prefix + file.name, size_bytes=_size_of(file))
        chain = (*folder.above, _identity(folder.path)) if cut else ()
        inside = [
            _Folder(
                path=entry.path,
                relative=prefix + entry.name,
                above=chain,
                by_link=folder.by_link or entry.is_symlink(),
            )
            for entry in folders
            if cut or not entry.is_symlink()
        ]
        opened = [inner for inner in inside if (enter is None or enter(inner.relative)) and not _is_loop(inner, cut)]
        waiting.extend(reversed(opened))


def _scan(path: str, *, hidden: bool) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the files and the folders directly in a folder, in name order; a dangling link is a file."""
    try:
        with os.scandir(path) as entries:
            found = sorted((entry for entry in entries if hidden or entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise _refusal(path, error) from error
    files: list[os.DirEntry[str]] = []
    folders: list[os.DirEntry[str]] = []
    for entry in found:
        (folders if _is_folder(entry) else files).append(entry)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle fails when it is read
        return False


def _size_of(entry: os.DirEntry[str]) -> int:
    """Return the size of a file; 0 for a dangling link, which is listed and fails when it is read."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116 - as os.scandir
    except OSError as error:
        raise _refusal(path, error) from error
    return status.st_dev, status.st_ino


def _is_loop(folder: _Folder, cut: Cut | None) -> bool:
    """Return whether a link has led back to a folder that holds it, after calling `cut`."""
    if cut is None or not folder.by_link or _identity(folder.path) not in folder.above:
        return False
    cut(folder.relative)
    return True


def _refusal(path: str, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be listed: {describe(error, path)}; grant access, or move it out of the folder")
