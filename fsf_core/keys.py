"""Keys that are derived from ids, and names that are safe as files.

An id comes from a stranger's manifest: it may hold slashes, dots, anything. It never becomes a path as it is.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
"""128 bits: among ten billion ids a collision has a chance of one in 10^18."""

Keys = NDArray[np.bytes_]
"""Array of dtype S16; NumPy sorts and searches it bytewise."""


def item_key(item_id: str) -> bytes:
    """16 bytes that stand for an item."""
    return hashlib.blake2b(item_id.encode(), digest_size=KEY_BYTES).digest()


def item_keys(item_ids: Iterable[str]) -> Keys:
    """The keys of many items, 16 bytes each, in order."""
    return np.frombuffer(b"".join(map(item_key, item_ids)), dtype=f"S{KEY_BYTES}")


def unit_key(item_id: str, segment: int) -> bytes:
    """16 bytes that stand for one work unit: an image, or one segment of a video."""
    return hashlib.blake2b(item_key(item_id) + segment.to_bytes(8, "big"), digest_size=KEY_BYTES).digest()


def part_name(unit_keys: Iterable[bytes]) -> str:
    """The name of the part that holds these units: the same units give the same name, in any order."""
    return "part-" + hashlib.blake2b(b"".join(sorted(unit_keys)), digest_size=KEY_BYTES).hexdigest()


def file_stem(item_id: str, frame_index: int | None = None) -> str:
    """A file name without suffix that shows the id and is unique to it, whatever the id holds."""
    shown = re.sub(r"[^A-Za-z0-9_-]+", "_", item_id).strip("_")[-60:]
    stem = f"{shown}-{item_key(item_id).hex()[:12]}" if shown else item_key(item_id).hex()[:12]
    return stem if frame_index is None else f"{stem}-{frame_index:08d}"
