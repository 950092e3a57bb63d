"""Work units with made-up rows, for tests of the run ledger: the rows of a unit follow from its name alone.

Knows the tables of a run. Knows no images and no stages.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.keys import item_key, unit_key
from fsf_core.runs import staging, video_stats
from fsf_core.runs.compaction import compact
from fsf_core.schema import CLASS_STATS, CONFUSION, FAILURES, LATER_COLUMNS, MASKS, PART_TABLES, REGIONS, UNITS, conform

CLASSES = ("background", "peel")
HEIGHT_PX, WIDTH_PX = 3, 4


@contextlib.contextmanager
def claim_run(uri, *, fingerprint, details):
    """Lock a folder and begin an attempt, as a job does whose checks all pass."""
    with runs.lock_run(uri, fingerprint=fingerprint) as lease:
        yield runs.begin_attempt(uri, lease, fingerprint=fingerprint, details=details)


class HeldLease:
    """A lease that nobody takes away."""

    number = 0

    def check(self):
        """Do nothing: the lease is held."""

    def confirm(self):
        """Do nothing: the lease is held."""


def newest_staging(uri):
    """Return where the newest attempt of a run writes."""
    return runs.Staging(run_uri=uri, number=staging.attempt_numbers(uri)[0])


def newest_attempt(uri):
    """Return the newest attempt of a run, as the job that began it would go on."""
    known = runs.read_document(uri, "run.json")
    return runs.Attempt(
        run_id=known["run_id"], start=len(known["attempts"]), staging=newest_staging(uri), lease=HeldLease()
    )


def next_attempt(uri):
    """Begin another attempt in a run, whatever its fingerprint."""
    return begin(uri, fingerprint=runs.read_fingerprint(uri))


def publish(run, summary, *, keep_failures=True, derived=None, compact_bytes=0):
    """Reconcile and publish a run as the score job does.

    Args:
        run: an attempt, or the URI of a run whose newest attempt goes on.
        summary: the totals.
        keep_failures: whether failures of earlier attempts still count.
        derived: files that were computed from the parts; the seconds of the videos by default.
        compact_bytes: size of merged parts; 0 merges none.

    Returns:
        What `runs.reconcile` removed.
    """
    attempt = newest_attempt(run) if isinstance(run, str) else run
    ledger = runs.load_ledger(attempt.uri)
    ledger.retry_before = 0 if keep_failures else attempt.number
    removed = runs.reconcile(attempt.staging, ledger)
    if compact_bytes:
        compact(attempt.staging, ledger, target_bytes=compact_bytes)
    if derived is None:
        derived = video_stats.write_video_stats(attempt.staging, ledger)
    runs.publish(attempt, ledger, summary, derived=derived)
    return removed


def snapshot(uri):
    """Return the content of every file of a run, hidden ones included; a lock file is not part of it."""
    entries = storage.list_files(uri, hidden=True)
    return {
        entry.relative: storage.read_bytes(entry.uri)
        for entry in entries
        if not entry.relative.startswith((".lock", ".lease-"))
    }


def visible_files(uri, folder):
    """Return the paths of the files of a folder that a plain reader finds, sorted."""
    found = storage.list_files(storage.join(uri, folder)) if storage.exists(storage.join(uri, folder)) else ()
    return sorted(f"{folder}/{entry.relative}" for entry in found)


def assert_folders_are_the_manifest(uri):
    """Check that plain readers of a finished run find exactly what manifest.json lists, byte for byte."""
    manifest = runs.read_document(uri, "manifest.json")
    listed = {file["path"]: file for file in [*manifest["files"], *manifest["receipts"]]}
    for folder in (*PART_TABLES, "video_stats", "receipts"):
        assert visible_files(uri, folder) == sorted(path for path in listed if path.startswith(f"{folder}/"))
    for path, file in listed.items():
        data = storage.read_bytes(storage.join(uri, path))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"]), path


def begin(uri, *, fingerprint=None):
    """Begin an attempt as a start of the job does; the lock is free again after it, and its lease is never lost."""
    with claim_run(uri, fingerprint=fingerprint or {}, details={}) as attempt:
        return replace(attempt, lease=HeldLease())


@dataclass(frozen=True, kw_only=True)
class ScoredUnit:
    """A work unit as a task would have scored it."""

    item_id: str
    segment: int = 0
    segments: int = 1
    frames: int = 1
    """Number of scored frames."""
    first_frame: int = 0
    failed: bool = False
    timed: bool = True
    """Whether its frames have times, as those of a video do."""
    row_digest: bytes | None = None
    """Of the item's row in the manifest; None in older runs."""
    notes: str | None = None
    optional: bool = False
    """Whether it has rows in the tables that exist by option: a label, and regions."""

    @property
    def key(self):
        return unit_key(self.item_id, self.segment)


def image(name, *, failed=False):
    return ScoredUnit(item_id=name, frames=0 if failed else 1, failed=failed, timed=False)


def video(name, *frames):
    """Return consecutive segments of a video with these numbers of frames."""
    starts = [sum(frames[:number]) for number in range(len(frames))]
    return [
        ScoredUnit(item_id=name, segment=number, segments=len(frames), frames=count, first_frame=start)
        for number, (count, start) in enumerate(zip(frames, starts, strict=True))
    ]


def broken(unit, *, frames=0):
    """Return the same unit, failed after some frames."""
    return replace(unit, frames=frames, failed=True)


def tables_of(units: Sequence[ScoredUnit], *, attempt=1):
    """Return the rows of these units in every table, in their order."""
    frames = [(unit, unit.first_frame + at) for unit in units for at in range(unit.frames)]
    masks = [_mask(unit, frame) for unit, frame in frames]
    stats = [row for unit, frame in frames for row in _stats(unit.item_id, frame)]
    failures = [_failure(unit, attempt) for unit in units if unit.failed]
    tables = {
        "masks": conform(pa.Table.from_pylist(masks, schema=MASKS), MASKS),
        "class_stats": conform(pa.Table.from_pylist(stats, schema=CLASS_STATS), CLASS_STATS),
        "failures": conform(pa.Table.from_pylist(failures, schema=FAILURES), FAILURES),
    }
    if any(unit.optional for unit in units):
        confusion = [row for unit in units if unit.optional and unit.frames for row in _confusion(unit)]
        regions = [_region(unit.item_id, frame) for unit, frame in frames if unit.optional]
        tables["confusion"] = conform(pa.Table.from_pylist(confusion, schema=CONFUSION), CONFUSION)
        tables["regions"] = conform(pa.Table.from_pylist(regions, schema=REGIONS), REGIONS)
    return tables


def rows_of(units: Sequence[ScoredUnit]):
    """Return the units as a receipt lists them."""
    found = [
        {
            "unit_key": unit.key,
            "item_key": item_key(unit.item_id),
            "item_id": unit.item_id,
            "segment": unit.segment,
            "segments": unit.segments,
            "frames": unit.frames,
            "first_frame": unit.first_frame if unit.frames else 0,
            "last_frame": unit.first_frame + unit.frames - 1 if unit.frames else 0,
            "failed": unit.failed,
            "row_digest": unit.row_digest,
        }
        for unit in units
    ]
    return pa.Table.from_pylist(found, schema=UNITS)


def commit(run, *units: ScoredUnit, attempt=1):
    """Commit these units as one part.

    Args:
        run: an attempt, where it writes, or the URI of a run: then of its newest attempt.
        units: of the part.
        attempt: how often the failed ones were tried, as the table of failures says.
    """
    where = newest_staging(run) if isinstance(run, str) else getattr(run, "staging", run)
    return runs.commit(where, tables_of(units, attempt=attempt), rows_of(units))


def commit_older(run, *units: ScoredUnit, passed=()):
    """Commit these units as one part, as a version did that had no notes and no figures.

    Args:
        run: an attempt.
        units: of the part.
        passed: pass-through columns, (field, value of every row).
    """
    tables = tables_of(units)
    schema = pa.schema([field for field in MASKS if field.name not in LATER_COLUMNS], MASKS.metadata)
    schema = schema.set(schema.get_field_index("mask"), schema.field("mask").with_nullable(False))
    masks = tables["masks"].drop_columns([*LATER_COLUMNS]).cast(schema)
    for field, value in passed:
        masks = masks.append_column(field, pa.array([value] * masks.num_rows, field.type))
    return runs.commit(run.staging, tables | {"masks": masks}, rows_of(units))


def sorted_rows(run_uri, name, *, but=()):
    """Return all committed rows of a table, in an order that does not depend on the parts."""
    table = runs.read_table(run_uri, name).drop_columns([*but])
    names = ("item_id", "segment", "frame_index", "region", "class_id", "label_class_id", "predicted_class_id")
    order = [column for column in names if column in table.column_names]
    return table.sort_by([(column, "ascending") for column in order]).to_pylist()


def _mask(unit, frame):
    item_id = unit.item_id
    return {
        "item_id": item_id,
        "frame_index": frame,
        "pts_s": frame / 25 if unit.timed else None,
        "uri": f"/photos/{item_id}" + (f"?{unit.row_digest.hex()}" if unit.row_digest else ""),
        "height_px": HEIGHT_PX,
        "width_px": WIDTH_PX,
        "mask": {"bytes": b"\x89PNG" + hashlib.sha512(f"{item_id}/{frame}".encode()).digest() * 3, "path": None},
        "overlay": None,
        "item_sha256": hashlib.sha256(item_id.encode()).hexdigest(),
        "item_version": "1234 1700000000000000000",
        "run_id": "20261122T000000Z-00000000",
        "bundle_sha256": "ab" * 32,
        "notes": unit.notes,
        "confidence": 0.75,
        "uncertain_share": 0.25,
        "brightness": 127.0,
        "contrast": 31.5,
        "sharpness": float(frame),
    }


def _stats(item_id, frame):
    peel = (len(item_id) + frame) % (HEIGHT_PX * WIDTH_PX)
    for class_id, pixels in enumerate((HEIGHT_PX * WIDTH_PX - peel, peel)):
        yield {
            "item_id": item_id,
            "frame_index": frame,
            "class_id": class_id,
            "class_name": CLASSES[class_id],
            "pixels": pixels,
            "ratio": pixels / (HEIGHT_PX * WIDTH_PX),
            "components": 1,
            "largest_component_px": pixels,
            "mean_probability": None,
        }


def _confusion(unit):
    """Pixels of a unit by label class and predicted class; all labels are of class 1."""
    peel = sum((len(unit.item_id) + unit.first_frame + at) % (HEIGHT_PX * WIDTH_PX) for at in range(unit.frames))
    for predicted, pixels in enumerate((HEIGHT_PX * WIDTH_PX * unit.frames - peel, peel)):
        if pixels:
            yield {
                "item_id": unit.item_id,
                "segment": unit.segment,
                "label_class_id": 1,
                "predicted_class_id": predicted,
                "pixels": pixels,
                "label_boundary_px": pixels,
                "predicted_boundary_px": pixels,
                "shared_boundary_px": pixels,
            }


def _region(item_id, frame):
    return {
        "item_id": item_id,
        "frame_index": frame,
        "region": 0,
        "class_id": 1,
        "class_name": CLASSES[1],
        "pixels": 1 + frame,
        "top_px": 0,
        "left_px": 0,
        "height_px": 1,
        "width_px": 1 + frame,
        "centroid_row": 0.0,
        "centroid_column": frame / 2,
        "mean_probability": None,
        "touches_border": True,
    }


def _failure(unit, attempt):
    return {
        "item_id": unit.item_id,
        "uri": f"/photos/{unit.item_id}",
        "stage": "decode",
        "frame_index": unit.first_frame + unit.frames if unit.frames else None,
        "error_type": "DecodeError",
        "error_message": f"found noise in segment {unit.segment}; replace the file",
        "attempts": attempt,
    }
