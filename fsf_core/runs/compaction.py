"""Few large files instead of many small ones: the parts of a finished run, joined up to a size.

Knows receipts and sizes; knows no rows.
"""

from collections.abc import Iterable, Iterator

from fsf_core import runs
from fsf_core.runs import Receipt


def compact(run_uri: str, *, target_bytes: int) -> int:
    """Join neighbouring parts for as long as they stay below a size. Holds one such part in memory.

    Args:
        run_uri: a run whose books are settled, and that this process holds.
        target_bytes: of all files of a part; a part that is larger already stays as it is.

    Returns:
        How many parts were joined into others.
    """
    joined = 0
    for failed in (False, True):
        parts = [each for each in runs.receipts(run_uri) if (each.failed_units > 0) is failed]
        for several in _groups(parts, target_bytes):
            runs.merge_parts(run_uri, several)
            joined += len(several)
    return joined


def _groups(parts: Iterable[Receipt], target_bytes: int) -> Iterator[list[Receipt]]:
    """Two parts or more that fit together, in name order."""
    held: list[Receipt] = []
    size = 0
    for part in parts:
        own = sum(facts["bytes"] for facts in part.files.values())
        if size + own > target_bytes:
            if len(held) > 1:
                yield held
            held, size = [], 0
        held.append(part)
        size += own
    if len(held) > 1:
        yield held
