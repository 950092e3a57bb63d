"""Paths of files by the ids of items: readable, safe on every disk and in every store, and never the same for two.

An id with slashes becomes folders. An id that is no safe path, or would take the place of another one's file or folder,
becomes a name of `keys.file_stem`. Knows ids as text; opens nothing.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fsf_core.keys import file_stem
from fsf_core.manifest.suffixes import IMAGE_SUFFIXES

MAX_NAME_BYTES = 200
"""Longest name of a file or folder; a suffix and a draft's ending fit into the 255 bytes that disks take."""

MAX_PATH_BYTES = 600
"""Longest path below the folder that is written; a key in S3 has 1,024 bytes."""

FRAME_DIGITS = 6
"""Digits of the number of a frame; more where it has more."""

_UNSAFE = re.compile(r'[\\:*?"<>|]|^[. ]|[. ]$')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")

Hashes = NDArray[np.uint64]


class Names:
    """The paths of the items of one run. Holds 16 bytes an item."""

    def __init__(self, item_ids: Iterable[str]) -> None:
        """Read all ids once.

        Args:
            item_ids: every item of the run, each once; those that are not published too, so that a path does not depend
                on what else is published.
        """
        claims: list[int] = []
        folders: set[int] = set()
        last = ""
        for item_id in item_ids:
            if _is_safe(item_id):
                claims += _claims(item_id)
                above = item_id.rpartition("/")[0]
                if above != last:
                    folders |= _folders(above)
                    last = above
        every = np.sort(np.array(claims, np.uint64))
        self._claimed: Hashes = every
        repeated = every[1:][every[1:] == every[:-1]]
        inside = every[np.isin(every, np.fromiter(folders, np.uint64, len(folders)))]
        self._taken = {*repeated.tolist(), *inside.tolist()}

    def path(self, item_id: str) -> str:
        """Return the path of an item: of the files of an image without their suffix, or of the folder of a video."""
        if _is_safe(item_id) and self._taken.isdisjoint(_claims(item_id)):
            return item_id
        name = file_stem(item_id)
        while any(self._is_claimed(claim) for claim in _claims(name)):
            name += "_"
        return name

    def frame(self, item_id: str, frame_index: int | None) -> str:
        """Return the path of the files of an image, of a frame or of a page, without their suffix.

        Args:
            item_id: the item.
            frame_index: of the frame of a video, or of the page; None for an image.
        """
        path = self.path(item_id)
        return _stem(path) if frame_index is None else f"{path}/{frame_index:0{FRAME_DIGITS}d}"

    def _is_claimed(self, claim: int) -> bool:
        at = int(np.searchsorted(self._claimed, np.uint64(claim)))
        return at < len(self._claimed) and int(self._claimed[at]) == claim


def _is_safe(item_id: str) -> bool:
    """Return whether an id can be a path as it is."""
    if len(item_id.encode()) > MAX_PATH_BYTES or not item_id.isprintable():
        return False
    return all(
        name and len(name.encode()) <= MAX_NAME_BYTES and not _UNSAFE.search(name) and not _RESERVED.fullmatch(name)
        for name in item_id.split("/")
    )


def _stem(path: str) -> str:
    """Return a path without the suffix of an image."""
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else path


def _claims(item_id: str) -> tuple[int, int]:
    """Return what an item needs for itself: files of this stem, and as a video the folder of its name."""
    return _hash("file", _stem(item_id)), _hash("folder", item_id)


def _folders(path: str) -> set[int]:
    """Return what a folder and those above it need: their names, as folders and in place of files."""
    found = set()
    while path:
        found.add(_hash("folder", path))
        if _stem(path) != path:
            found.add(_hash("file", _stem(path)))
        path = path.rpartition("/")[0]
    return found


def _hash(kind: str, path: str) -> int:
    """Return 64 bits of a path; paths that some disks take for the same have the same."""
    same = unicodedata.normalize("NFC", path).casefold()
    return int.from_bytes(hashlib.blake2b(f"{kind} {same}".encode(), digest_size=8).digest())
