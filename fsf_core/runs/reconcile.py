"""Leaving every unit in exactly one part, and counting parts against the manifest."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import storage
from fsf_core.keys import Keys
from fsf_core.runs.folder import files_below
from fsf_core.runs.key_arrays import NO_KEYS, as_keys, contained, keys_of, sorted_unique
from fsf_core.runs.parts import commit, retract
from fsf_core.runs.reading import part_or_empty, receipts
from fsf_core.runs.records import Receipt, Totals
from fsf_core.runs.resume import find_completed
from fsf_core.schema import TABLES


def count_totals(run_uri: str, manifest_keys: Iterable[Keys]) -> Totals:
    """Count the committed units against the items of a manifest.

    Args:
        run_uri: the run folder.
        manifest_keys: item keys of the manifest, batch by batch.
    """
    completed = find_completed(run_uri)
    known = sorted_unique([completed.items, as_keys(completed.segments)])
    missing = listed = 0
    for keys in manifest_keys:
        missing += len(keys) - int(completed.holds(keys).sum())
        listed += int(contained(known, keys).sum())
    failed = [NO_KEYS]
    frames, pixels = 0, np.zeros(0, np.int64)
    for receipt in receipts(run_uri):
        frames += receipt.frames
        size = max(len(pixels), len(receipt.pixels))
        pixels = np.pad(pixels, (0, size - len(pixels)))
        pixels[: len(receipt.pixels)] += np.asarray(receipt.pixels, np.int64)
        if receipt.failed_units:
            failed.append(keys_of(receipt.units.column("item_key").filter(receipt.units.column("failed"))))
    return Totals(
        missing_items=missing,
        foreign_items=len(known) - listed,
        failed_items=len(sorted_unique(failed)),
        frames=frames,
        pixels=tuple(pixels.tolist()),
    )


def reconcile(run_uri: str) -> Counter[str]:
    """Leave every unit in exactly one part, and no file without a receipt.

    Returns:
        How many `doubled_units` and `orphan_files` were removed; the names are keys of summary.json.
    """
    removed: Counter[str] = Counter()
    # From the last part to the first: the rest of one part may have the name of a later one.
    for receipt, duplicate in reversed(duplicate_units(run_uri)):
        removed["doubled_units"] += int(duplicate.sum())
        _rewrite_without(run_uri, receipt, duplicate)
    for path in orphans(run_uri, hidden=True):
        storage.remove(storage.join(run_uri, path))
        removed["orphan_files"] += 1
    return removed


def orphans(run_uri: str, *, hidden: bool) -> list[str]:
    """Return paths of files in the tables' folders that no receipt lists, left behind by tasks that died."""
    # Files before receipts: a part that is committed in between must not look like an orphan.
    found = [
        f"{name}/{entry.relative}"
        for name in (*TABLES, "receipts")
        for entry in files_below(storage.join(run_uri, name), hidden=hidden)
    ]
    listed: set[str] = set()
    for receipt in receipts(run_uri):
        listed.add(f"receipts/{receipt.part}.arrow")
        listed.update(file["path"] for file in receipt.files.values())
    return [path for path in found if path not in listed]


def duplicate_units(run_uri: str) -> list[tuple[Receipt, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """Return the parts that repeat units of an earlier part in name order, with a flag for each of their units."""
    parts = [(receipt.part, keys_of(receipt.units.column("unit_key"))) for receipt in receipts(run_uri)]
    keys = np.concatenate([NO_KEYS, *(keys for _, keys in parts)])
    order = np.argsort(keys, kind="stable")
    repeated = np.zeros(len(keys), bool)
    repeated[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    ends = np.cumsum([len(keys) for _, keys in parts])
    by_part = {part: repeated[end - len(keys) : end] for (part, keys), end in zip(parts, ends, strict=True)}
    with_duplicates = {part: flags for part, flags in by_part.items() if flags.any()}
    return [
        (receipt, with_duplicates[receipt.part]) for receipt in receipts(run_uri) if receipt.part in with_duplicates
    ]


def _rewrite_without(run_uri: str, receipt: Receipt, unwanted: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Replace a part by one without some of its units."""
    kept = receipt.units.filter(pa.array(~unwanted))
    if kept.num_rows:
        tables = {name: _rows_of(part_or_empty(run_uri, receipt, name), kept) for name in ("masks", "class_stats")}
        failed = receipt.units.column("failed").to_numpy()
        tables["failures"] = part_or_empty(run_uri, receipt, "failures").filter(pa.array(~unwanted[failed]))
        commit(run_uri, tables, kept)
    retract(run_uri, receipt)


def _rows_of(table: pa.Table, units: pa.Table) -> pa.Table:
    """Return the rows of frames that belong to these units."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for unit in units.to_pylist():
        if unit["frames"]:
            spans[unit["item_id"]].append((unit["first_frame"], unit["last_frame"]))
    rows = zip(table.column("item_id").to_pylist(), table.column("frame_index").to_pylist(), strict=True)
    keep = [any(first <= frame <= last for first, last in spans.get(item_id, ())) for item_id, frame in rows]
    return table.filter(pa.array(keep, pa.bool_()))
