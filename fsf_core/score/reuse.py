"""Reuse of an earlier run: which of its items are complete, and the tasks that check whether their sources changed.

What a task checks and copies is in `fsf_core.stages.reuse`.
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

SELECTING_ENTRIES = ("manifest", "columns", "selection")
"""Entries of the fingerprint that select items; they do not change the result of an item."""


def why_not_reusable(earlier_uri: str, fingerprint: Mapping[str, Any]) -> str | None:
    """Return which options differ between two runs so that no result can be reused; None if none does.

    Raises:
        OutputError: there is no earlier run.
    """
    old = runs.read_fingerprint(earlier_uri)
    old, new = _without_labels(old), _without_labels(fingerprint)
    names = sorted(({*old} | {*new}) - {*SELECTING_ENTRIES})
    changed = [f"{name} differs" for name in names if old.get(name) != new.get(name)]
    return "; ".join(changed) or None


def _without_labels(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fingerprint without what depends on labels: each item is compared by its own."""
    tables = [name for name in fingerprint.get("tables", ()) if name != "confusion"]
    return {**fingerprint, "tables": tables}


def reuse_unchanged(rows: Iterable[pa.Table], earlier: "EarlierRun", settings: ReuseSettings) -> int:
    """Copy the results of unchanged items from an earlier run, and commit them.

    Args:
        rows: pending items, as manifest rows.
        earlier: the earlier run.
        settings: of the reuse tasks.

    Returns:
        The number of items that were copied.

    Raises:
        FSFError: what a task raised.
    """
    ledger_ref = ray.put(earlier.ledger)
    task = ray.remote(num_cpus=DECODE_CPUS)(reuse_items)
    items, running = 0, list[Any]()
    for group, parts in earlier.group_by_parts(rows):
        # Tasks beyond the CPUs make an autoscaler add nodes.
        if len(running) >= max(2, int(2 * resources()["CPU"])):
            items += _await_one(running)
        running.append(task.remote(group, parts, ledger_ref, settings))
    while running:
        items += _await_one(running)
    return items


def _await_one(running: list[Any]) -> int:
    """Wait for one task and remove it from the list; returns the number of items that it copied."""
    ended, running[:] = ray.wait(running, num_returns=1)
    with unwrap_worker_errors():
        items: int = ray.get(ended[0])
    return items


def open_earlier_run(uri: str) -> "EarlierRun":
    """Read which items of an earlier run can be reused.

    Raises:
        OutputError: there is no run, or it is damaged.
    """
    return EarlierRun(uri, runs.load_ledger(uri), run_id=runs.read_document(uri, "run.json")["run_id"])


class EarlierRun:
    """The complete items of a run that have no failure and one row, and their parts; 20 bytes per unit."""

    def __init__(self, uri: str, ledger: runs.Ledger, *, run_id: str) -> None:
        self.uri, self.ledger, self.run_id = uri, ledger, run_id
        self._parts: list[str] = []
        keys, parts, failed = [np.empty(0, "S16")], [np.empty(0, np.int32)], [np.empty(0, "S16")]
        for receipt in ledger.receipts():
            unit_items = runs.item_keys_of(receipt)
            keys.append(unit_items)
            parts.append(np.full(len(unit_items), len(self._parts), np.int32))
            failed.append(unit_items[receipt.units.column("failed").to_numpy()])
            self._parts.append(receipt.part)
        all_keys, all_parts = np.concatenate(keys), np.concatenate(parts)
        done = runs.find_completed(ledger)
        usable = done.holds(all_keys) & ~np.isin(all_keys, np.concatenate([*failed, done.items_of_several_rows()]))
        order = np.argsort(all_keys[usable], kind="stable")
        self._keys: Keys = all_keys[usable][order]
        self._part_numbers = all_parts[usable][order]

    def group_by_parts(self, tables: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, tuple[str, ...]]]:
        """Yield rows of items that are in the same parts, with these parts."""
        for table in tables:
            keys = item_keys(table.column("item_id").to_pylist())
            begin, end = (np.searchsorted(self._keys, keys, side=side) for side in ("left", "right"))
            members: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for row in np.flatnonzero(end > begin).tolist():
                members[tuple(dict.fromkeys(self._part_numbers[begin[row] : end[row]].tolist()))].append(row)
            for numbers, rows in members.items():
                yield table.take(pa.array(rows)), tuple(self._parts[number] for number in numbers)
