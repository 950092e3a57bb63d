"""Merging the small parts of a run into larger ones.

Knows receipts and sizes; knows no rows.
"""

from collections.abc import Iterable, Iterator

from fsf_core.runs.ledger import Ledger
from fsf_core.runs.parts import merge_parts
from fsf_core.runs.records import Receipt
from fsf_core.runs.staging import Staging


def compact(staging: Staging, ledger: Ledger, *, target_bytes: int) -> int:
    """Merge neighbouring parts up to a size; at most one merged part is in memory.

    Args:
        staging: where the attempt writes.
        ledger: of the run, reconciled.
        target_bytes: upper bound for all files of a merged part together; a larger part stays as it is.

    Returns:
        The number of parts that were merged into others.

    Raises:
        DamagedPartError: a file of a part differs from its receipt.
    """
    merged = 0
    for failed in (False, True):
        parts = [receipt for receipt in ledger.receipts() if (receipt.failed_units > 0) is failed]
        for group in _groups(parts, target_bytes):
            merge_parts(staging, ledger, group)
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
