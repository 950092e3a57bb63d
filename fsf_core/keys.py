"""Keys derived from ids, and file names that are safe for any id.

Ids come from a manifest that others wrote and may hold slashes, dots or any other character. No id is used as a path.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
"""128 bits: among ten billion ids a collision has a chance of one in 10^18."""

DIGEST_BYTES = 8
"""64 bits of what a list holds of an item; a change goes unnoticed with a chance of 5 in 10^20."""

Keys = NDArray[np.bytes_]
"""Array of dtype S16; NumPy sorts and searches it bytewise."""

RowKeys = NDArray[np.bytes_]
"""Array of dtype S24: item key and row digest. A row of an unknown digest has zeros there."""


def item_key(item_id: str) -> bytes:
    """Return the key of an item, 16 bytes."""
    return hashlib.blake2b(item_id.encode(), digest_size=KEY_BYTES).digest()


def item_keys(item_ids: Iterable[str]) -> Keys:
    """Return the keys of many items, 16 bytes each, in order."""
    return np.frombuffer(b"".join(map(item_key, item_ids)), dtype=f"S{KEY_BYTES}")


def row_keys(item_keys: Keys, digests: NDArray[np.bytes_]) -> RowKeys:
    """Return the keys of rows, 24 bytes each: an item and the state of its row.

    Args:
        item_keys: dtype S16.
        digests: of the rows, dtype S8.
    """
    found = np.empty(len(item_keys), [("item", f"S{KEY_BYTES}"), ("digest", f"S{DIGEST_BYTES}")])
    found["item"], found["digest"] = item_keys, digests
    return found.view(f"S{KEY_BYTES + DIGEST_BYTES}")


def unit_key(item_id: str, segment: int) -> bytes:
    """Return the key of one work unit, an image or one segment of a video, 16 bytes."""
    return hashlib.blake2b(item_key(item_id) + segment.to_bytes(8, "big"), digest_size=KEY_BYTES).digest()


def group_digest(unit_keys: Iterable[bytes]) -> str:
    """Return a digest of several keys in hexadecimal; it does not depend on their order."""
    return hashlib.blake2b(b"".join(sorted(unit_keys)), digest_size=KEY_BYTES).hexdigest()


def part_name(attempt: int, unit_keys: Iterable[bytes]) -> str:
    """Return the name of the part that an attempt writes of these units; it does not depend on their order.

    No two attempts write parts of one name, so a name that was removed from the run is never used again.
    """
    return f"part-{group_digest(unit_keys)}-{attempt:04d}"


def file_stem(item_id: str, frame_index: int | None = None) -> str:
    """Return a file name without suffix that shows the end of the id and is unique to the id and frame."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", item_id).strip("_")[-60:]
    stem = f"{readable}-{item_key(item_id).hex()[:12]}" if readable else item_key(item_id).hex()[:12]
    return stem if frame_index is None else f"{stem}-{frame_index:08d}"
