"""What a job that starts again need not do, and what it should try again."""

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


def completed(run_uri: str, *, with_failures: bool = True) -> Completed:
    """Return what the receipts list as finished, in 16 bytes per image and 24 per segment.

    Args:
        run_uri: the run.
        with_failures: whether failed units count; else the result is that after `retract_failed_parts`.
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
    # A video that failed as a whole after some of its segments were done has nothing left to do.
    over = contained(items, as_keys(begun))
    return Completed(
        items=items, segments={key: begun[key] for key, ended in zip(begun, over, strict=True) if not ended}
    )


def retract_failed_parts(run_uri: str) -> dict[bytes, int]:
    """Take back the parts that hold failed units, so that these are tried again.

    Failed units are committed apart from good ones, so nothing good is taken back with them.

    Returns:
        Item key to how often it was tried.
    """
    tried: dict[bytes, int] = {}
    for receipt in receipts(run_uri):
        if receipt.failed_units:
            failures = read_part(run_uri, receipt, "failures", ["item_id", "attempts"]).to_pylist()
            keys = dict(zip(*(receipt.units.column(name).to_pylist() for name in ("item_id", "item_key")), strict=True))
            for row in failures:
                key = keys[row["item_id"]]
                tried[key] = max(tried.get(key, 0), row["attempts"])
            retract(run_uri, receipt)
    return tried
