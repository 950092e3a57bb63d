"""Which items and frames of a run are published: all, or those of a list. Knows lists of ids; knows no run."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import ConfigError, FetchError, did_you_mean

IDS = ("item_id", "id")
"""Names of the column of ids; the first one counts where there are both."""

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
    """Read a list of items: CSV, JSON Lines or Parquet with a column item_id or id, and maybe frame_index.

    Raises:
        ConfigError: it cannot be read, has no such column, or lists nothing.
    """
    try:
        rows = _rows(PurePosixPath(storage.without_query(uri)).suffix.lower(), storage.read_bytes(uri))
    except (FetchError, ValueError, pa.ArrowException) as error:
        raise ConfigError(
            f"--items is {storage.redact(uri)}, which cannot be read ({error}); give a CSV, JSON Lines or Parquet file"
        ) from error
    frames: dict[str, frozenset[int] | None] = {}
    for number, row in enumerate(rows, 1):
        item = next((row[name] for name in IDS if row.get(name) not in (None, "")), None)
        if item is None:
            raise ConfigError(
                f"row {number} of --items {storage.redact(uri)} has no item_id or id (its columns are {[*row]}); name "
                "the column of ids so, and fill it"
            )
        index = row.get("frame_index")
        before = frames.get(str(item), frozenset())
        frames[str(item)] = None if index in (None, "") or before is None else before | {_index(index, number)}
    if not frames:
        raise ConfigError(f"--items {storage.redact(uri)} lists nothing, expected an id; leave it out for all items")
    return Choice(frames)


def _index(value: Any, number: int) -> int:
    """Return the index of a frame.

    Raises:
        ConfigError: it is no whole number from 0 on.
    """
    try:
        index = float(value)
    except (TypeError, ValueError):
        index = -1.0
    if index < 0 or index != int(index):
        raise ConfigError(
            f"row {number} of --items has the frame_index {value!r}, expected a whole number from 0 on; correct it, or "
            "leave it empty for all frames"
        )
    return int(index)


def _rows(suffix: str, data: bytes) -> list[dict[str, Any]]:
    """Return the rows of a table in any of the forms."""
    if data[:4] == b"PAR1":
        table = pyarrow.parquet.read_table(pa.BufferReader(data))
        wanted = [name for name in (*IDS, "frame_index") if name in table.column_names]
        return [*table.select(wanted).to_pylist()]
    text = data.decode("utf-8-sig")
    if suffix in {".jsonl", ".ndjson", ".json"}:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no JSON object")
        return rows
    return [*csv.DictReader(io.StringIO(text, newline=""))]
