"""Which items of a list are meant: a condition, a shard, a sample, the first ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core.keys import Keys, item_keys
from fsf_core.manifest.rows import ReadBatches


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which items of a list are meant; in this order."""

    where: str | None = None
    """A condition on the columns."""
    shard: tuple[int, int] | None = None
    """Number i of n, from 1: the items fall to the shards by a hash of their ids."""
    sample: float | None = None
    """Share of the items, 0 to 1, chosen by a hash of their ids."""
    sample_seed: int = 0
    """Another seed, another sample."""
    limit: int | None = None
    """The first so many."""

    def facts(self) -> dict[str, Any]:
        """What is chosen, without what is left open."""
        chosen = {"where": self.where, "shard": self.shard and list(self.shard), "sample": self.sample}
        chosen |= {"sample_seed": self.sample_seed if self.sample is not None else None, "limit": self.limit}
        return {name: value for name, value in chosen.items() if value is not None}


EVERYTHING = Selection()


def select_items(read: ReadBatches, selection: Selection) -> ReadBatches:
    """Return a reader of the items of the shard and of the sample, up to the limit."""
    if selection.shard is None and selection.sample is None and selection.limit is None:
        return read

    def chosen() -> Iterator[pa.Table]:
        left = selection.limit
        for table in read():
            some = table
            if selection.shard is not None or selection.sample is not None:
                some = table.filter(pa.array(_by_hash(item_keys(_some_ids(table)), selection)))
            if left is not None:
                some = some.slice(0, left)
                left -= some.num_rows
            yield some
            if left == 0:
                return

    return chosen


def _by_hash(keys: Keys, selection: Selection) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which items fall to the shard and to the sample; the two go by different halves of the key."""
    halves = keys.view(">u8").reshape(-1, 2)
    chosen = np.ones(len(keys), bool)
    if selection.shard is not None:
        number, count = selection.shard
        chosen &= halves[:, 0] % np.uint64(count) == np.uint64(number - 1)
    if selection.sample is not None:
        mixed = _mixed(halves[:, 1].astype(np.uint64) ^ _mixed(np.asarray([selection.sample_seed], np.uint64)))
        chosen &= (mixed >> np.uint64(11)) < np.uint64(int(selection.sample * 2**53))
    return chosen


def _mixed(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The finalizer of SplitMix64: every bit of the input moves every bit of the output."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _some_ids(table: pa.Table) -> list[str]:
    """Ids to hash; one that is missing counts as empty here, and is refused later where it was chosen."""
    return [text or "" for text in table.column("item_id").to_pylist()]
