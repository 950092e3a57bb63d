"""The ledger of a run: attempts, parts, receipts, resume, publication.

A part holds the rows of some work units in every table. It exists once its receipt does: the receipt is written last,
and readers follow receipts. Knows files and keys; knows no images and no Ray.

    run.json                      identity of the run: its fingerprint and its attempts
    .attempt-0001/                what an attempt has written and not yet published
    masks/ class_stats/ failures/ part-<digest>-<attempt>.parquet
    confusion/ regions/           the same, where labels are given, and with --regions
    masks_tiff/ overlays/         what does not fit into a row: masks of pictures scored in windows, and with --overlays
    receipts/                     part-<digest>-<attempt>.arrow: the units of the part and the sha256 of its files
    manifest.json                 the pointer: which files and receipts are the run
    summary.json                  the totals
    _SUCCESS                      exists while the folders hold exactly what manifest.json lists
"""

from fsf_core.runs.attempt import Attempt, begin_attempt, begin_change
from fsf_core.runs.changes import Changes, find_changes
from fsf_core.runs.folder import (
    BUNDLE_FOLDER,
    LAYOUT_VERSION,
    is_finished,
    lock_run,
    locked_run,
    read_document,
    read_fingerprint,
    read_summary,
    require_run_or_empty,
    require_same,
    require_usable,
    tables_of,
)
from fsf_core.runs.latest import find_run
from fsf_core.runs.lease import find_holder
from fsf_core.runs.ledger import ALL_FAILURES, Ledger, item_keys_of, load_ledger, open_ledger, receipt_path, receipts
from fsf_core.runs.mask_files import FOLDER as MASK_FILES
from fsf_core.runs.mask_files import class_map_of, find_mask_problem, open_mask, png_of
from fsf_core.runs.pages import paged_items
from fsf_core.runs.parts import commit, merge_parts
from fsf_core.runs.publish import publish
from fsf_core.runs.reader import RunReader, open_run, read_ledger
from fsf_core.runs.reading import failure_kinds, failure_reasons, read_frames, read_part, read_table, video_parts
from fsf_core.runs.reconcile import count_totals, reconcile
from fsf_core.runs.records import Completed, Receipt, Totals
from fsf_core.runs.repair import repair
from fsf_core.runs.resume import count_attempts, find_completed
from fsf_core.runs.staging import Staging
from fsf_core.runs.verify import require_sound, verify

__all__ = [
    "ALL_FAILURES",
    "BUNDLE_FOLDER",
    "LAYOUT_VERSION",
    "MASK_FILES",
    "Attempt",
    "Changes",
    "Completed",
    "Ledger",
    "Receipt",
    "RunReader",
    "Staging",
    "Totals",
    "begin_attempt",
    "begin_change",
    "class_map_of",
    "commit",
    "count_attempts",
    "count_totals",
    "failure_kinds",
    "failure_reasons",
    "find_changes",
    "find_completed",
    "find_holder",
    "find_mask_problem",
    "find_run",
    "is_finished",
    "item_keys_of",
    "load_ledger",
    "lock_run",
    "locked_run",
    "merge_parts",
    "open_ledger",
    "open_mask",
    "open_run",
    "paged_items",
    "png_of",
    "publish",
    "read_document",
    "read_fingerprint",
    "read_frames",
    "read_ledger",
    "read_part",
    "read_summary",
    "read_table",
    "receipt_path",
    "receipts",
    "reconcile",
    "repair",
    "require_run_or_empty",
    "require_same",
    "require_sound",
    "require_usable",
    "tables_of",
    "verify",
    "video_parts",
]
