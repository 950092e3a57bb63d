"""Leaving every unit in exactly one part of a ledger, and counting the parts against the manifest."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.keys import Keys
from fsf_core.runs.item_means import ItemMeans
from fsf_core.runs.key_arrays import NO_KEYS, as_keys, contained, find_rows, keys_of, sorted_unique
from fsf_core.runs.ledger import Ledger
from fsf_core.runs.parts import add_to, commit
from fsf_core.runs.reading import part_or_empty
from fsf_core.runs.records import Receipt, Totals
from fsf_core.runs.resume import find_completed
from fsf_core.runs.staging import Staging
from fsf_core.schema import PART_TABLES

Flags: TypeAlias = NDArray[np.bool_]


def count_totals(ledger: Ledger, manifest_keys: Iterable[Keys]) -> Totals:
    """Count the committed units against the items of a manifest.

    Args:
        ledger: of the run.
        manifest_keys: item keys of the manifest, batch by batch.
    """
    completed = find_completed(ledger)
    begun = sorted_unique([as_keys(completed.segments)])
    missing = listed = 0
    in_manifest: Flags = np.zeros(len(completed.rows), bool)
    for keys in manifest_keys:
        first, end = find_rows(completed.rows, keys)
        held = first < end
        missing += int((~held).sum())
        listed += int((held | contained(begun, keys)).sum())
        in_manifest[first[held]] = True
    failed, means = [NO_KEYS], ItemMeans()
    frames, pixels = 0, np.zeros(0, np.int64)
    for receipt in ledger.receipts():
        frames += receipt.frames
        means.add(receipt.units)
        size = max(len(pixels), len(receipt.pixels))
        pixels = np.pad(pixels, (0, size - len(pixels)))
        pixels[: len(receipt.pixels)] += np.asarray(receipt.pixels, np.int64)
        if receipt.failed_units:
            failed.append(keys_of(receipt.units.column("item_key").filter(receipt.units.column("failed"))))
    return Totals(
        missing_items=missing,
        foreign_items=len(sorted_unique([completed.items, begun])) - listed,
        failed_items=len(sorted_unique(failed)),
        frames=frames,
        pixels=tuple(pixels.tolist()),
        statistics=means.describe(),
        items_sha256=hashlib.sha256(completed.rows[in_manifest].tobytes()).hexdigest(),
    )


def reconcile(staging: Staging, ledger: Ledger) -> Counter[str]:
    """Leave every unit that counts in exactly one part of the ledger, that of the newest attempt.

    Args:
        staging: where the attempt writes what is left of a part.
        ledger: of the run.

    Returns:
        How many `doubled_units` and `superseded_units` were removed, and how many `orphan_files` publishing will
        remove; the names are keys of summary.json.

    Raises:
        DamagedPartError: a file of a part differs from its receipt.
    """
    removed: Counter[str] = Counter()
    orphans = ledger.strangers()
    if orphans:
        removed["orphan_files"] = len(orphans)
    # From the least preferred part on: what is left of one may have the name of a more preferred part's duplicate.
    for receipt, duplicate in reversed(unwanted_units(ledger)):
        superseded = ~ledger.counts(receipt)
        removed["doubled_units"] += int((duplicate & ~superseded).sum())
        removed["superseded_units"] += int(superseded.sum())
        _rewrite_without(staging, ledger, receipt, duplicate | superseded)
    return +removed  # without zeros


def unwanted_units(ledger: Ledger) -> list[tuple[Receipt, Flags]]:
    """Return the parts with units that do not count, or that repeat units of a preferred part, preferred parts first.

    Preferred is the part of the newest attempt, and of one attempt's parts the first in name order.

    Returns:
        Each part with a flag for each unit.
    """
    found = [
        (-receipt.attempt, receipt.part, keys_of(receipt.units.column("unit_key")), ledger.counts(receipt))
        for receipt in ledger.receipts()
    ]
    parts = sorted(found, key=lambda each: each[:2])
    counts: Flags = np.concatenate([np.empty(0, bool), *(counts for *_, counts in parts)])
    candidates = np.flatnonzero(counts)
    keys = np.concatenate([NO_KEYS, *(keys for *_, keys, _ in parts)])[candidates]
    order = np.argsort(keys, kind="stable")
    unwanted = ~counts
    unwanted[candidates[order[1:]]] = keys[order[1:]] == keys[order[:-1]]
    ends = np.cumsum([len(keys) for *_, keys, _ in parts])
    by_part = {part: unwanted[end - len(keys) : end] for (_, part, keys, _), end in zip(parts, ends, strict=True)}
    affected = {part: flags for part, flags in by_part.items() if flags.any()}
    return [(receipt, affected[receipt.part]) for receipt in ledger.receipts(affected)]


def _rewrite_without(staging: Staging, ledger: Ledger, receipt: Receipt, unwanted: Flags) -> None:
    """Replace a part of the ledger by one without some of its units."""
    kept = receipt.units.filter(pa.array(~unwanted))
    ledger.drop(receipt.part)
    if kept.num_rows:
        whole = {name: part_or_empty(ledger.uri, receipt, name, checked=True) for name in PART_TABLES}
        tables = {name: _rows_of(whole[name], kept) for name in ("masks", "class_stats", "regions")}
        tables["confusion"] = _rows_of_segments(whole["confusion"], kept)
        failed = receipt.units.column("failed").to_numpy()
        tables["failures"] = whole["failures"].filter(pa.array(~unwanted[failed]))
        add_to(ledger, staging, commit(staging, tables, kept))


def _rows_of_segments(table: pa.Table, units: pa.Table) -> pa.Table:
    """Return the rows of items and segments that belong to these units."""
    wanted = {*zip(units.column("item_id").to_pylist(), units.column("segment").to_pylist(), strict=True)}
    rows = zip(table.column("item_id").to_pylist(), table.column("segment").to_pylist(), strict=True)
    return table.filter(pa.array([row in wanted for row in rows], pa.bool_()))


def _rows_of(table: pa.Table, units: pa.Table) -> pa.Table:
    """Return the rows of frames that belong to these units."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for unit in units.to_pylist():
        if unit["frames"]:
            spans[unit["item_id"]].append((unit["first_frame"], unit["last_frame"]))
    rows = zip(table.column("item_id").to_pylist(), table.column("frame_index").to_pylist(), strict=True)
    keep = [any(first <= frame <= last for first, last in spans.get(item_id, ())) for item_id, frame in rows]
    return table.filter(pa.array(keep, pa.bool_()))
