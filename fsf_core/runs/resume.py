"""Resuming a run: the units that are committed, and the failed ones to try again."""

import numpy as np
import pyarrow.compute as pc

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
from fsf_core.runs.parts import retract
from fsf_core.runs.reading import read_part, receipts
from fsf_core.runs.records import Completed


def find_completed(run_uri: str, *, with_failures: bool = True) -> Completed:
    """Collect the committed work from the receipts, in 16 bytes per image and 24 per segment, however long the ids.

    Args:
        run_uri: the run folder.
        with_failures: whether failed units count; without them the result is that after `retract_failed_parts`.
    """
    whole, several = [NO_KEYS], [NO_SEGMENTS]
    for receipt in receipts(run_uri):
        if receipt.failed_units and not with_failures:
            continue
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
    )


def retract_failed_parts(run_uri: str) -> dict[bytes, int]:
    """Retract the parts of failed units, so that they are tried again.

    Failed units are committed separately from good ones, so no good unit is retracted with them.

    Returns:
        Item key to the number of attempts so far.
    """
    attempts: dict[bytes, int] = {}
    for receipt in receipts(run_uri):
        if receipt.failed_units:
            failures = read_part(run_uri, receipt, "failures", ["item_id", "attempts"]).to_pylist()
            keys = dict(zip(*(receipt.units.column(name).to_pylist() for name in ("item_id", "item_key")), strict=True))
            for row in failures:
                key = keys[row["item_id"]]
                attempts[key] = max(attempts.get(key, 0), row["attempts"])
            retract(run_uri, receipt)
    return attempts
