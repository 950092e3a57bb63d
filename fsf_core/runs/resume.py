"""Resuming a run: the units that are committed, and how often the failed ones were tried."""

import numpy as np
import pyarrow.compute as pc

from fsf_core.errors import OutputError
from fsf_core.runs.key_arrays import (
    NO_KEYS,
    NO_SEGMENTS,
    as_keys,
    contained,
    group_videos,
    keys_of,
    segments_of,
    sorted_unique,
)
from fsf_core.runs.ledger import Ledger
from fsf_core.runs.reading import read_part
from fsf_core.runs.records import Completed


def find_completed(ledger: Ledger) -> Completed:
    """Collect the committed work from the receipts, in 16 bytes per image and 24 per segment, however long the ids."""
    whole, several = [NO_KEYS], [NO_SEGMENTS]
    for receipt in ledger.receipts():
        single = pc.equal(receipt.units.column("segments"), 1)
        whole.append(keys_of(receipt.units.column("item_key").filter(single)))
        several.append(segments_of(receipt.units.filter(pc.invert(single))))
    finished, begun = group_videos(np.concatenate(several))
    whole.append(finished)
    items = sorted_unique(whole)
    # A video that failed as a whole after some of its segments were committed has no work left.
    finished_after_all = contained(items, as_keys(begun))
    return Completed(
        items=items,
        segments={key: begun[key] for key, done in zip(begun, finished_after_all, strict=True) if not done},
        lost=dict(ledger.lost),
    )


def count_attempts(ledger: Ledger) -> dict[bytes, int]:
    """Count the attempts at the failed units of a run.

    Args:
        ledger: with all failures.

    Returns:
        Item key to the number of attempts so far.
    """
    attempts: dict[bytes, int] = {}
    for receipt in ledger.receipts():
        if receipt.failed_units:
            try:
                failures = read_part(ledger.uri, receipt, "failures", ["item_id", "attempts"]).to_pylist()
            except OutputError:
                continue  # its items are tried again all the same
            keys = dict(zip(*(receipt.units.column(name).to_pylist() for name in ("item_id", "item_key")), strict=True))
            for row in failures:
                key = keys[row["item_id"]]
                attempts[key] = max(attempts.get(key, 0), row["attempts"])
    return attempts
