"""The items of a list to score: those that match a condition, of a shard, of a sample, the first ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ConfigError
from fsf_core.keys import Keys, item_keys
from fsf_core.manifest.rows import ReadBatches
from fsf_core.options import TarIds


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The items of a list to score; its fields apply in this order."""

    exclude: tuple[str, ...] = ()
    """Patterns of files below a folder, or members of an archive, that are left out."""
    tar_ids: TarIds = "key"
    """What the ids of the members of archives are."""
    image_column: str | None = None
    """Column of a Parquet table whose cells are the items."""
    where: str | None = None
    """Condition on the columns."""
    shard: tuple[int, int] | None = None
    """Shard i of n, counted from 1; a hash of its id assigns an item to a shard."""
    sample: float | None = None
    """Share of the items, 0 to 1, chosen by a hash of their ids."""
    sample_seed: int = 0
    """Seed of the sample."""
    limit: int | None = None
    """Most items; the first ones of the list are kept."""

    def facts(self) -> dict[str, Any]:
        """Return the fields that restrict the items, for records and messages."""
        chosen: dict[str, Any] = {"exclude": [*self.exclude] or None, "image_column": self.image_column}
        chosen |= {
            "tar_ids": self.tar_ids if self.tar_ids != "key" else None,
            "where": self.where,
            "shard": self.shard and list(self.shard),
            "sample": self.sample,
        }
        chosen |= {"sample_seed": self.sample_seed if self.sample is not None else None, "limit": self.limit}
        return {name: value for name, value in chosen.items() if value is not None}

    def require_fit(self, uri: str, found: str) -> None:
        """Check that the options for folders, archives and tables are given for one.

        Args:
            uri: the list.
            found: what it is: media, tables or archives of a folder or a glob, or a single table, archives or another
                file.

        Raises:
            ConfigError: an option would have no effect.
        """
        unfit = {
            "--exclude": bool(self.exclude) and found in {"table", "file"},
            "--tar-ids": self.tar_ids != "key" and found != "archives",
            "--image-column": self.image_column is not None and found not in {"tables", "table"},
        }
        wanted = {
            "--exclude": "files of folders and globs, and members of tar archives",
            "--tar-ids": "tar archives",
            "--image-column": "Parquet tables",
        }
        for option in (option for option, is_unfit in unfit.items() if is_unfit):
            raise ConfigError(
                f"{option} is for {wanted[option]}, and {storage.redact(uri)} has none; leave the option out"
            )


EVERYTHING = Selection()


def select_items(read: ReadBatches, selection: Selection) -> ReadBatches:
    """Return a reader of the items of the shard and of the sample, up to the limit."""
    if selection.shard is None and selection.sample is None and selection.limit is None:
        return read

    def chosen() -> Iterator[pa.Table]:
        left = selection.limit
        for table in read():
            kept = table
            if selection.shard is not None or selection.sample is not None:
                kept = table.filter(pa.array(_hash_mask(item_keys(_ids_to_hash(table)), selection)))
            if left is not None:
                kept = kept.slice(0, left)
                left -= kept.num_rows
            yield kept
            if left == 0:
                return

    return chosen


def _hash_mask(keys: Keys, selection: Selection) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which items are of the shard and of the sample; the two use different halves of the key."""
    halves = keys.view(">u8").reshape(-1, 2)
    chosen = np.ones(len(keys), bool)
    if selection.shard is not None:
        number, count = selection.shard
        chosen &= halves[:, 0] % np.uint64(count) == np.uint64(number - 1)
    if selection.sample is not None:
        mixed = _mix64(
            halves[:, 1].astype(np.uint64) ^ _mix64(np.asarray([selection.sample_seed % (1 << 64)], np.uint64))
        )
        chosen &= (mixed >> np.uint64(11)) < np.uint64(int(selection.sample * 2**53))
    return chosen


def _mix64(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Apply the finalizer of SplitMix64: every bit of the input affects every bit of the output."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _ids_to_hash(table: pa.Table) -> list[str]:
    """Return the ids of a table; a missing one is empty here, and refused later if it was chosen."""
    return [text or "" for text in table.column("item_id").to_pylist()]
