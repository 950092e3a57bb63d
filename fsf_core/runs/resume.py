"""Resuming a run: the units that are committed, and how often the failed ones were tried."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.errors import OutputError
from fsf_core.runs.key_arrays import (
    NO_ROWS,
    NO_SEGMENTS,
    as_keys,
    contain_items,
    contained,
    group_videos,
    items_of,
    rows_of,
    segments_of,
    sorted_unique,
)
from fsf_core.runs.ledger import Ledger
from fsf_core.runs.reading import read_part
from fsf_core.runs.records import Completed


def find_completed(ledger: Ledger) -> Completed:
    """Collect the committed work from the receipts, in 24 bytes per image and segment, however long the ids."""
    images, segments, videos = [NO_ROWS], [NO_SEGMENTS], [NO_ROWS]
    for receipt in ledger.receipts():
        units = receipt.units.filter(pa.array(ledger.counts(receipt))) if len(ledger.superseded) else receipt.units
        single = pc.equal(units.column("segments"), 1)
        if pc.all(single).as_py():  # as in most parts, of images
            images.append(rows_of(units))
            continue
        images.append(rows_of(units.filter(single)))
        several = units.filter(pc.invert(single))
        segments.append(segments_of(several))
        videos.append(np.unique(rows_of(several)))
    finished, begun = group_videos(np.concatenate(segments))
    video_rows = sorted_unique(videos)
    is_finished = contained(finished, items_of(video_rows))
    images.append(video_rows[is_finished])
    rows = sorted_unique(images)
    # A video that failed as a whole after some of its segments were committed has no work left.
    finished_after_all = contain_items(rows, as_keys(begun))
    return Completed(
        rows=rows,
        segments={key: begun[key] for key, done in zip(begun, finished_after_all, strict=True) if not done},
        begun_rows=video_rows[~is_finished],
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
