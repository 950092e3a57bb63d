"""Merging the small parts of a finished run into larger ones.

Knows receipts and sizes; knows no rows.
"""

from collections.abc import Iterable, Iterator

from fsf_core.runs.parts import merge_parts
from fsf_core.runs.reading import receipts
from fsf_core.runs.records import Receipt


def compact(run_uri: str, *, target_bytes: int) -> int:
    """Merge neighbouring parts up to a size; at most one merged part is in memory.

    Args:
        run_uri: a reconciled run that this process has claimed.
        target_bytes: upper bound for all files of a merged part together; a larger part stays as it is.

    Returns:
        The number of parts that were merged into others.
    """
    merged = 0
    for failed in (False, True):
        parts = [receipt for receipt in receipts(run_uri) if (receipt.failed_units > 0) is failed]
        for group in _groups(parts, target_bytes):
            merge_parts(run_uri, group)
            merged += len(group)
    return merged


def _groups(parts: Iterable[Receipt], target_bytes: int) -> Iterator[list[Receipt]]:
    """Yield groups of two or more consecutive parts that fit the size together."""
    group: list[Receipt] = []
    group_bytes = 0
    for part in parts:
        part_bytes = sum(file["bytes"] for file in part.files.values())
        if group_bytes + part_bytes > target_bytes:
            if len(group) > 1:
                yield group
            group, group_bytes = [], 0
        group.append(part)
        group_bytes += part_bytes
    if len(group) > 1:
        yield group
