"""What workers log on a joined cluster: the parts that they commit, and the items that fail, at a bounded rate."""

import logging
import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs

MAX_FAILURES, PER_S = 60, 60.0
"""Most failed items that one process logs in a while, and the while; all of them are in the table of failures."""

MAX_MESSAGE = 300
"""Characters of an error that are logged."""

log = logging.getLogger("fsf")


class FailureBudget:
    """Bounds the rate at which failed items are logged."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._logged = self._dropped = 0

    def allow(self) -> bool:
        """Return whether one more failure may be logged; begins anew after a while, and logs what was left out."""
        now = time.monotonic()
        if now - self._since >= PER_S:
            if self._dropped:
                log.warning("event=failures_not_logged units=%d seconds=%.0f", self._dropped, now - self._since)
            self._since, self._logged, self._dropped = now, 0, 0
        allowed = self._logged < MAX_FAILURES
        self._logged += allowed
        self._dropped += not allowed
        return allowed


_budget = FailureBudget()


def log_commit(receipts: Iterable[runs.Receipt], units: pa.Table, *, budget: FailureBudget = _budget) -> None:
    """Log parts and the failures in them.

    Args:
        receipts: of the parts.
        units: item_id, segment, failed_stage, error_type and error_message of their units.
        budget: of failures.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    for receipt in receipts:
        log.info(
            "event=part_committed part=%s units=%d frames=%d failed_units=%d bytes=%d",
            receipt.part, receipt.units.num_rows, receipt.frames, receipt.failed_units,
            sum(int(file["bytes"]) for file in receipt.files.values()),
        )  # fmt: skip
    columns = ["item_id", "segment", "failed_stage", "error_type", "error_message"]
    failed: list[dict[str, Any]] = units.select(columns).filter(pc.is_valid(units.column("error_type"))).to_pylist()
    for unit in failed:
        if budget.allow():
            log.warning(
                "event=item_failed item=%r segment=%d stage=%s error_type=%s error=%r",
                unit["item_id"], unit["segment"], unit["failed_stage"], unit["error_type"],
                unit["error_message"][:MAX_MESSAGE],
            )  # fmt: skip
