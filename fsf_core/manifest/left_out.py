"""Which files of a folder, a glob or an archive are no items: by which rule, how many, and the first names."""

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fsf_core import storage
from fsf_core.manifest.results import ResultFolders
from fsf_core.manifest.rows import NAMES_SHOWN

SYSTEM_FOLDERS = frozenset(
    (
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "__macosx",
        "system volume information", ".appledouble",
    )
)  # fmt: skip
"""Folders that operating systems and storage devices fill with thumbnails, resource forks and deleted files."""

Reason: TypeAlias = Literal[
    "not_media", "compressed", "tables", "archives", "other_members", "excluded", "system_folders", "loops"
]

WORDS: dict[Reason, str] = {
    "not_media": "without an ending of images or videos",
    "compressed": "compressed archives",
    "tables": "Parquet tables",
    "archives": "tar archives",
    "other_members": "members of archives that are no images or videos",
    "excluded": "matched by --exclude",
    "system_folders": "folders of the system",
    "loops": "links that lead nowhere or back to a folder above them",
}
"""Reason to what was left out, after a number."""

FILES = frozenset(WORDS) - {"system_folders", "loops"}
"""Reasons for which files are counted, and not folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Files, or folders, that are no items for one reason."""

    reason: Reason
    count: int
    first: tuple[str, ...]
    """The first names."""

    def __str__(self) -> str:
        shown = ", ".join(self.first) + (", …" if self.count > len(self.first) else "")
        return f"{self.count} {WORDS[self.reason]} ({shown})"


class Omissions:
    """Counts what is left out, and keeps the first names."""

    def __init__(self) -> None:
        self._counts: dict[Reason, int] = {}
        self._first: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, *names: str) -> None:
        """Count files or folders by the paths below the list."""
        self._counts[reason] = self._counts.get(reason, 0) + len(names)
        first = self._first.setdefault(reason, [])
        first += names[: NAMES_SHOWN - len(first)]

    def found(self) -> tuple[LeftOut, ...]:
        """Return what was counted, in the order of the reasons."""
        return tuple(
            LeftOut(reason=reason, count=self._counts[reason], first=tuple(map(storage.redact, self._first[reason])))
            for reason in WORDS
            if self._counts.get(reason)
        )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What leaves files of a folder, a glob or an archive out, and the account of it."""

    results: ResultFolders
    exclude: tuple[str, ...] = ()
    """Patterns; see `exclusion`."""
    omissions: Omissions = field(default_factory=Omissions)

    def skip(self, relative: str, names: Sequence[str]) -> bool:
        """Return whether a folder is left out, as storage.list_files asks."""
        if relative and relative.rpartition("/")[2].lower() in SYSTEM_FOLDERS:
            self.omissions.add("system_folders", f"{relative}/")
            return True
        return self.results.skip(relative, names)

    def cut(self, relative: str) -> None:
        """Count a link that is not followed."""
        self.omissions.add("loops", relative)

    def keep(self, names: Collection[str], *, prefix: str = "") -> list[str]:
        """Return those of some names that --exclude does not match.

        Args:
            names: paths of files.
            prefix: what precedes them in the account.
        """
        if not self.exclude:
            return [*names]
        pattern = exclusion(self.exclude)
        kept: list[str] = []
        left_out: list[str] = []
        for name in names:
            (left_out if pattern.match(name) else kept).append(name)
        if left_out:
            self.omissions.add("excluded", *(prefix + name for name in left_out))
        return kept

    def outside_system_folders(self, names: Sequence[str], *, pattern: str = "") -> list[str]:
        """Return those of some names that are in no folder of the system that the pattern does not name.

        Args:
            names: paths of files.
            pattern: of the glob that found them.
        """
        junk = SYSTEM_FOLDERS - {part.lower() for part in pattern.split("/")}
        kept: list[str] = []
        left_out: dict[str, None] = {}
        for name in names:
            folder = _folder_among(name, junk) if "/" in name else None
            if folder is None:
                kept.append(name)
            else:
                left_out[folder] = None
        self.omissions.add("system_folders", *left_out)
        return kept


def _folder_among(name: str, folders: Collection[str]) -> str | None:
    """Return the first folder in a path that has one of some names, in lower case; None if there is none."""
    for end in _slashes(name):
        if name[:end].rpartition("/")[2].lower() in folders:
            return name[: end + 1]
    return None


def _slashes(name: str) -> Iterator[int]:
    return (at for at, sign in enumerate(name) if sign == "/")


@functools.cache
def exclusion(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches the paths that some patterns exclude.

    As in .gitignore: a pattern without a slash matches names at every level, one with a slash the path below the list;
    what matches a folder matches everything in it.

    Raises:
        ValueError: a pattern is empty, or has ** beside other characters of a name.
    """
    parts = []
    for pattern in patterns:
        path = pattern.strip("/")
        if not path:
            raise ValueError(f"{pattern!r} names nothing")
        anchored = "/" in pattern.rstrip("/")
        regex = storage.glob_regex(path if anchored else f"**/{path}").removesuffix(r"\Z")
        parts.append(rf"{regex}/.*" if pattern.endswith("/") else rf"{regex}(?:/.*)?")
    return re.compile(rf"(?s:{'|'.join(parts)})\Z")
