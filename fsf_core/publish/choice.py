"""Which items and frames of a run are published: all, or those of a list. Knows lists of ids; knows no run."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.manifest import read_chosen

SHOWN = 5
"""Unknown ids, or frames, that a message names."""


@dataclass(frozen=True)
class Choice:
    """Items and frames; everything by default."""

    frames: Mapping[str, frozenset[int] | None] | None = None
    """Item to the indices of its frames, None for all of them; None for all items."""
    _ids: pa.Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the ids in a form that Arrow searches."""
        object.__setattr__(self, "_ids", pa.array([*(self.frames or ())], pa.string()))

    @property
    def digest(self) -> str:
        """What is equal for equal choices."""
        if self.frames is None:
            return ""
        named = sorted((item, None if of is None else sorted(of)) for item, of in self.frames.items())
        return hashlib.sha256(json.dumps(named, ensure_ascii=False).encode()).hexdigest()

    @property
    def names_frames(self) -> bool:
        """Whether frames of an item are chosen, and not only whole items."""
        return any(of is not None for of in (self.frames or {}).values())

    def holds_items(self, item_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return which of the items are chosen."""
        if self.frames is None:
            return pa.chunked_array([np.ones(len(item_ids), np.bool_)])
        return pc.is_in(item_ids, self._ids)

    def holds_frames(self, masks: pa.Table) -> pa.ChunkedArray:
        """Return which rows of masks are chosen."""
        items = self.holds_items(masks.column("item_id"))
        if self.frames is None or not self.names_frames:
            return items
        pairs = zip(masks.column("item_id").to_pylist(), masks.column("frame_index").to_pylist(), strict=True)
        found = [(of := self.frames.get(item, frozenset())) is None or index in of for item, index in pairs]
        return pa.chunked_array([pa.array(found, pa.bool_())])

    def require_known(self, item_ids: Iterable[str]) -> None:
        """Refuse a list with items that the run does not know: they would be missing in silence.

        Raises:
            ConfigError: there are some.
        """
        if self.frames is None:
            return
        known = {*item_ids}
        unknown = [item for item in self.frames if item not in known]
        if unknown:
            raise ConfigError(
                f"--items lists {len(unknown)} of {len(self.frames)} items that are not in the run, such as "
                f"{', '.join(map(repr, unknown[:SHOWN]))}{did_you_mean(unknown[0], known)}; give ids of this run"
            )

    def require_frames(self, held: Collection[tuple[str, int]], *, failed: Collection[str]) -> None:
        """Refuse a list with frames that the run does not have: they would be missing in silence.

        Args:
            held: id and index of all frames of the run that are chosen.
            failed: items with a failure; their frames may be what failed.

        Raises:
            ConfigError: an item without a failure lacks some.
        """
        named = [(item, index) for item, of in (self.frames or {}).items() for index in sorted(of or ())]
        absent = [key for key in named if key not in held and key[0] not in failed]
        if absent:
            shown = ", ".join(f"frame {index} of {item!r}" for item, index in absent[:SHOWN])
            raise ConfigError(
                f"--items lists {len(absent)} of {len(named)} frames that are not in the run, such as {shown}; give "
                "frames that its table masks has, or leave frame_index empty for the whole item"
            )


def read_choice(uri: str) -> Choice:
    """Read a list of items, and of frames where it has a column frame_index: what `fsf select` writes, or any list.

    Raises:
        ConfigError: it lists nothing.
        ManifestError: it cannot be read, or a row has no id or no index of a frame.
    """
    frames: dict[str, frozenset[int] | None] = {}
    for item, index in read_chosen(uri):
        before = frames.get(item, frozenset())
        frames[item] = None if index is None or before is None else before | {index}
    if not frames:
        raise ConfigError(f"--items {storage.redact(uri)} lists nothing, expected an id; leave it out for all items")
    return Choice(frames)
