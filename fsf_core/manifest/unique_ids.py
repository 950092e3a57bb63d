"""The check that every item has a unique id."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.keys import item_keys
from fsf_core.manifest.rows import NAMES_SHOWN, ReadBatches


def check_ids(uri: str, read: ReadBatches, explain_repeated: Callable[[str], str] | None = None) -> int:
    """Count the items of a list and check their ids. Memory: 16 bytes per item, not the ids.

    Args:
        uri: the list, for messages.
        read: its items.
        explain_repeated: as in ItemReader.

    Raises:
        ManifestError: an id is missing, or occurs more than once.
    """
    keys, rows = [np.empty(0, "S16")], 0
    for table in read():
        ids = table.column("item_id")
        empty = pc.index(pc.equal(pc.fill_null(ids, ""), ""), value=True).as_py()
        if empty >= 0:
            raise ManifestError(
                f"{storage.redact(uri)} has no id in row {rows + empty} (the first is 0), expected one in every row; "
                "fill the `id` column, or leave it out where every row has a uri"
            )
        keys.append(item_keys(ids.to_pylist()))
        rows += len(ids)
    ordered = np.concatenate(keys)
    keys.clear()
    ordered.sort()
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated):
        names = _ids_with_keys(repeated[:NAMES_SHOWN], read)
        do = explain_repeated(names[0]) if explain_repeated else "correct the `id` column, or add one"
        raise ManifestError(
            f"{storage.redact(uri)} has {len(repeated)} ids more than once, e.g. {[*map(storage.redact, names)]}, "
            f"expected unique ids; {do}"
        )
    return rows


def _ids_with_keys(wanted: np.ndarray[Any, np.dtype[np.bytes_]], read: ReadBatches) -> list[str]:
    found: set[str] = set()
    for table in read():
        ids = table.column("item_id").to_pylist()
        found.update(np.asarray(ids, object)[np.isin(item_keys(ids), wanted)].tolist())
    return sorted(found)
