"""What this process has read from stores, written and retried; counted by all of its threads, for metrics."""

import threading
from collections import Counter

READ_BYTES = "read_bytes"
"""Bytes read from object stores and web servers."""

WRITTEN_BYTES = "written_bytes"
"""Bytes of the files written to stores and disks."""

RETRIES = "retries"
"""Prefix of the counts of retries, which end in the reason."""

_lock = threading.Lock()
_counts = Counter[str]()
_totals = Counter[str]()


def count(name: str, amount: int = 1) -> None:
    """Add to a count."""
    with _lock:
        _counts[name] += amount
        _totals[name] += amount


def totals() -> Counter[str]:
    """Return the counts since the process began."""
    with _lock:
        return Counter(_totals)


def take() -> dict[str, int]:
    """Return the counts since the last call, and start again at zero."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    return taken
