"""The ledger of a run: parts, receipts, resume, publication.

A part is the rows of some work units in every table. It exists when its receipt does: the receipt is written last, and
readers go by receipts. Knows files and keys; knows no pictures, no Ray.

    run.json                      what this run is: its fingerprint and its attempts
    masks/ class_stats/ failures/ part-<key>.parquet
    receipts/                     part-<key>.arrow: the units of the part, and the sha256 of its files
    manifest.json summary.json    the committed files and the totals, written at the end
    _SUCCESS                      written last of all
"""

from fsf_core.runs.folder import (
    BUNDLE_FOLDER,
    LAYOUT_VERSION,
    begin_attempt,
    claim_run,
    fingerprint,
    lock_run,
    locked_finished_run,
    read_json,
    require_usable,
    unpublish,
)
from fsf_core.runs.parts import commit, merge_parts
from fsf_core.runs.publish import publish
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
from fsf_core.runs.reconcile import reconcile, totals
from fsf_core.runs.records import Completed, Receipt, Run, Totals
from fsf_core.runs.resume import completed, retract_failed_parts
from fsf_core.runs.verify import verify

__all__ = [
    "BUNDLE_FOLDER",
    "LAYOUT_VERSION",
    "Completed",
    "Receipt",
    "Run",
    "Totals",
    "begin_attempt",
    "claim_run",
    "commit",
    "completed",
    "failure_kinds",
    "fingerprint",
    "item_keys_of",
    "lock_run",
    "locked_finished_run",
    "merge_parts",
    "publish",
    "read_frames",
    "read_json",
    "read_part",
    "read_receipt",
    "read_table",
    "receipts",
    "reconcile",
    "require_usable",
    "retract_failed_parts",
    "totals",
    "unpublish",
    "verify",
    "video_parts",
]
