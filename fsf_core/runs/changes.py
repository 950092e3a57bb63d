"""Rows that have changed: committed units whose item has another address or other columns in the list now."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fsf_core.keys import RowKeys
from fsf_core.runs.key_arrays import NO_ROWS, contain_items, digests_of, find_rows, items_of, sorted_unique
from fsf_core.runs.records import Completed


@dataclass(frozen=True, kw_only=True)
class Changes:
    """A list compared with the committed work of a run."""

    finished_items: int
    """Items of the list that are finished, whatever the list holds of them now."""
    changed_items: int
    """Items of the list that are committed with other rows alone."""
    superseded: RowKeys
    """Sorted keys of committed rows that the list no longer holds, of items that it holds."""


def find_changes(completed: Completed, listed: Iterable[RowKeys]) -> Changes:
    """Compare a list with the committed work.

    Units of older versions have no digest. They count as current unless their item has units of another row too.

    Args:
        completed: the committed work.
        listed: the row keys of the list, batch by batch.
    """
    begun = completed.begun_rows
    every = sorted_unique([completed.rows, begun]) if len(begun) else completed.rows
    finished = changed = 0
    superseded = [NO_ROWS]
    for batch in listed:
        rows = np.sort(batch)  # in order, they are found four times as fast
        items = items_of(rows)
        known = contain_items(every, items)
        finished += int((completed.holds(items) if len(begun) else known).sum())
        first, stop = find_rows(every, items[known])
        counts = stop - first
        differing = (counts > 1) | (every[first] != rows[known])
        listed_rows, first, counts = rows[known][differing], first[differing], counts[differing]
        # All committed rows of these items, one after the other.
        owner = np.repeat(np.arange(len(counts)), counts)
        committed = every[first[owner] + np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]]
        is_listed = committed == listed_rows[owner]
        has_listed = np.bincount(owner[is_listed], minlength=len(counts)) > 0
        has_other = np.bincount(owner[~is_listed & (digests_of(committed) != b"")], minlength=len(counts)) > 0
        changed += int((has_other & ~has_listed).sum())
        superseded.append(committed[~is_listed & has_other[owner]])
    return Changes(finished_items=finished, changed_items=changed, superseded=sorted_unique(superseded))
