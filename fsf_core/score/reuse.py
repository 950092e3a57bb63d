"""Carrying forward from an earlier run: which of its items are whole, and the tasks that look whether they still hold.

Knows the ledger of the earlier run and Ray's tasks; what a task does stands in carry.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from fsf_core import runs
from fsf_core.keys import Keys, item_keys
from fsf_core.score.cluster import resources, unwrap_worker_errors
from fsf_core.score.spec import DECODE_CPUS
from fsf_core.stages.reuse import ReuseSettings, reuse_items

DECIDES_NOT = ("manifest", "columns", "selection")
"""Entries of the fingerprint that say which items there are, not what is found of them."""


def why_not_reusable(earlier_uri: str, fingerprint: Mapping[str, Any]) -> str | None:
    """Why no result of the earlier run can stand in this one: another bundle, other options; None where all can.

    Raises:
        OutputError: no run is there.
    """
    old = runs.read_fingerprint(earlier_uri)
    names = sorted(({*old} | {*fingerprint}) - {*DECIDES_NOT})
    changed = [f"{name} is another" for name in names if old.get(name) != fingerprint.get(name)]
    return "; ".join(changed) or None


def reuse_unchanged(rows: Iterable[pa.Table], settings: ReuseSettings) -> int:
    """Carry what has not changed of these items.

    Args:
        rows: pending items, as the manifest gives them.
        settings: as it says.

    Returns:
        How many items were carried; they are committed.

    Raises:
        FSFError: what a task raised.
    """
    earlier = _Earlier(settings.earlier_uri)
    task = ray.remote(num_cpus=DECODE_CPUS)(reuse_items)
    most = max(2, int(resources()["CPU"]))
    items, under_way = 0, list[Any]()
    for wanted, parts in earlier.groups(rows):
        if len(under_way) >= most:
            items += _ended(under_way)
        under_way.append(task.remote(wanted, parts, settings))
    while under_way:
        items += _ended(under_way)
    return items


def _ended(under_way: list[Any]) -> int:
    """Wait for one task, take it off the list; returns the items that it carried."""
    ended, under_way[:] = ray.wait(under_way, num_returns=1)
    with unwrap_worker_errors():
        found: tuple[int, Any] = ray.get(ended[0])
    return found[0]


class _Earlier:
    """Which items of a run are whole and without a failure, and in which parts they lie: 20 bytes a unit."""

    def __init__(self, uri: str) -> None:
        self._parts: list[str] = []
        keys, numbers, failed = [np.empty(0, "S16")], [np.empty(0, np.int32)], [np.empty(0, "S16")]
        for receipt in runs.receipts(uri):
            of_part = runs.item_keys_of(receipt)
            keys.append(of_part)
            numbers.append(np.full(len(of_part), len(self._parts), np.int32))
            failed.append(of_part[receipt.units.column("failed").to_numpy()])
            self._parts.append(receipt.part)
        every, lies_in = np.concatenate(keys), np.concatenate(numbers)
        sound = runs.find_completed(uri).holds(every) & ~np.isin(every, np.concatenate(failed))
        order = np.argsort(every[sound], kind="stable")
        self._keys: Keys = every[sound][order]
        self._lies_in = lies_in[sound][order]

    def groups(self, tables: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, tuple[str, ...]]]:
        """Rows of items that lie in the same parts, and these parts."""
        for table in tables:
            keys = item_keys(table.column("item_id").to_pylist())
            begin, end = (np.searchsorted(self._keys, keys, side=side) for side in ("left", "right"))
            members: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for at in np.flatnonzero(end > begin).tolist():
                members[tuple(dict.fromkeys(self._lies_in[begin[at] : end[at]].tolist()))].append(at)
            for numbers, chosen in members.items():
                yield table.take(pa.array(chosen)), tuple(self._parts[number] for number in numbers)
