"""Which items and frames of a run are published: all, or those of a list. Knows lists of ids; knows no run."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.manifest import read_chosen

SHOWN = 5
"""Unknown ids that an error names."""


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

    def holds_items(self, item_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return which of the items are chosen."""
        if self.frames is None:
            return pa.chunked_array([np.ones(len(item_ids), np.bool_)])
        return pc.is_in(item_ids, self._ids)

    def holds_frames(self, masks: pa.Table) -> pa.ChunkedArray:
        """Return which rows of masks are chosen."""
        items = self.holds_items(masks.column("item_id"))
        if self.frames is None or all(of is None for of in self.frames.values()):
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
