"""The ledger of a run: parts, receipts, resume, publication.

A part holds the rows of some work units in every table. It exists once its receipt does: the receipt is written last,
and readers follow receipts. Knows files and keys; knows no images and no Ray.

    run.json                      identity of the run: its fingerprint and its attempts
    masks/ class_stats/ failures/ part-<key>.parquet
    receipts/                     part-<key>.arrow: the units of the part and the sha256 of its files
    manifest.json summary.json    the committed files and the totals, written when the run ends
    _SUCCESS                      written last
"""

from fsf_core.runs.folder import (
    BUNDLE_FOLDER,
    LAYOUT_VERSION,
    begin_attempt,
    lock_run,
    locked_finished_run,
    read_document,
    read_fingerprint,
    require_usable,
    unpublish,
)
from fsf_core.runs.parts import commit, merge_parts
from fsf_core.runs.publish import publish
from fsf_core.runs.reader import RunReader, open_run
from fsf_core.runs.reading import (
    failure_kinds,
    item_keys_of,
    read_frames,
    read_part,
    read_receipt,
    read_table,
    receipts,
    video_parts,
)
from fsf_core.runs.reconcile import count_totals, reconcile
from fsf_core.runs.records import Completed, Receipt, Run, Totals
from fsf_core.runs.resume import find_completed, retract_failed_parts
from fsf_core.runs.verify import verify

__all__ = [
    "BUNDLE_FOLDER",
    "LAYOUT_VERSION",
    "Completed",
    "Receipt",
    "Run",
    "RunReader",
    "Totals",
    "begin_attempt",
    "commit",
    "count_totals",
    "failure_kinds",
    "find_completed",
    "item_keys_of",
    "lock_run",
    "locked_finished_run",
    "merge_parts",
    "open_run",
    "publish",
    "read_document",
    "read_fingerprint",
    "read_frames",
    "read_part",
    "read_receipt",
    "read_table",
    "receipts",
    "reconcile",
    "require_usable",
    "retract_failed_parts",
    "unpublish",
    "verify",
    "video_parts",
]
