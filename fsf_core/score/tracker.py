"""Counting and guarding: what was committed, which block took its process down, whether to go on at all.

One small actor, asked once a block by decoding and once a part by writing. Knows no pictures.
"""

import contextlib
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ray

LIVE_EVERY_S, LOG_EVERY_S = 1.0, 10.0
"""How often people are told, on a terminal and elsewhere."""
ANSWER_S = 1.0

log = logging.getLogger("fsf")


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class JobTracker:
    """The one place that every task of a job reports to."""

    def __init__(self, *, early_units: int, early_share: float) -> None:
        self._totals = Counter[str]()
        self._begun = Counter[str]()
        self._early_units = early_units
        self._early_share = early_share
        self._judged = False
        self._verdict: str | None = None

    def begin(self, block: str) -> int:
        """Announce a block; returns how often it was begun without coming to its end, this time included."""
        self._begun[block] += 1
        return self._begun[block]

    def end(self, block: str) -> None:
        """A block came to its end; were it ever needed again, it is harmless."""
        self._begun.pop(block, None)

    def committed(self, *, frames: int, units: int, failed: int) -> str | None:
        """Add one part, all of its units and the failed ones; returns why the job should stop, if it should."""
        self._totals.update(frames=frames, units=units, failed=failed)
        units, failed = self._totals["units"], self._totals["failed"]
        if units >= self._early_units and not self._judged:
            self._judged = True
            self._verdict = (
                f"{failed} of the first {units} items failed" if failed > self._early_share * units else None
            )
        return self._verdict

    def totals(self) -> dict[str, int]:
        """Frames, units and failed units so far."""
        return dict(self._totals)


@contextlib.contextmanager
def show_progress(watch: Any, pending: int) -> Iterator[None]:
    """Tell people how it goes: one living line on a terminal, key=value lines elsewhere."""
    stopped = threading.Event()
    thread = threading.Thread(target=_tell, args=(watch, pending, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=5)


def _tell(watch: Any, pending: int, stopped: threading.Event) -> None:
    terminal = sys.stderr.isatty()
    started = time.monotonic()
    totals: Counter[str] = Counter()
    ended = False
    while not ended:
        ended = stopped.wait(LIVE_EVERY_S if terminal else LOG_EVERY_S)
        with contextlib.suppress(Exception):  # a display must never end a run; it tells what it last heard
            totals = Counter(ray.get(watch.totals.remote(), timeout=ANSWER_S))
        spent = time.monotonic() - started
        if terminal:
            sys.stderr.write("\r\x1b[K" + _living_line(totals, pending, spent) + ("\n" if ended else ""))
            sys.stderr.flush()
        else:
            log.info(
                "event=progress units=%d items=%d frames=%d failed=%d frames_per_s=%.1f seconds=%.0f",
                totals["units"], pending, totals["frames"], totals["failed"], totals["frames"] / spent, spent,
            )  # fmt: skip


def _living_line(totals: Counter[str], pending: int, spent_s: float) -> str:
    share = min(1.0, totals["units"] / max(1, pending))
    left = f"{spent_s / share - spent_s:.0f} s left" if 0 < share < 1 else ""
    return (
        f"{totals['units']:,} of {pending:,} items · {totals['frames']:,} frames · "
        f"{totals['frames'] / spent_s:.1f} frames/s · {totals['failed']} failed · {left}"
    )
