"""Class ratios of every video second by second: a table derived from the committed parts of a reconciled run.

Knows the tables. Knows no images and no rendered videos.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.runs.folder import read_document
from fsf_core.runs.ledger import Ledger
from fsf_core.runs.parquet import write_parquet
from fsf_core.runs.publish import Derived
from fsf_core.runs.reading import read_part, video_parts
from fsf_core.runs.staging import Staging
from fsf_core.schema import VIDEO_STATS, conform

TABLE = "video_stats"
PATH = f"{TABLE}/all.parquet"
PARTS_AT_ONCE = 64
"""Parts whose sums are held before they are merged, so that memory grows with seconds, not with frames."""

_KEYS = ["item_id", "second", "class_id", "class_name"]


def write_video_stats(staging: Staging, ledger: Ledger) -> list[Derived]:
    """Sum the classes of every second of every video, in a file of the attempt.

    Returns:
        The file, to be published; none where no video has scored frames.
    """
    sums = _sums_of_run(ledger)
    if not sums.num_rows:
        return []
    table = _with_ratios(sums).sort_by([("item_id", "ascending"), ("second", "ascending"), ("class_id", "ascending")])
    file = write_parquet(staging, PATH, conform(table, VIDEO_STATS))
    return [Derived(table=TABLE, path=PATH, staged=file.pop("path"), facts=file | {"path": PATH})]


def published_video_stats(run_uri: str) -> list[Derived]:
    """Return the table as it is published; none for a run without videos."""
    return [Derived(table=TABLE, path=PATH, staged=None, facts=file) for file in manifest_entries(run_uri)]


def verify(run_uri: str) -> list[str]:
    """Check the table against manifest.json; returns one line per problem, as `runs.verify` does."""
    if not storage.exists(storage.join(run_uri, "manifest.json")):
        return []
    listed = manifest_entries(run_uri)
    try:
        data = storage.read_bytes(storage.join(run_uri, PATH))
    except FetchError:
        return [f"missing: {PATH} is listed in manifest.json and does not exist" for _ in listed]
    if not listed:
        return [f"orphan: {PATH} is not listed in manifest.json and is not part of the run"]
    differs = hashlib.sha256(data).hexdigest() != listed[0]["sha256"]
    return [f"torn: {PATH} differs from manifest.json"] if differs else []


def manifest_entries(run_uri: str) -> list[dict[str, Any]]:
    """Return the table's entry in manifest.json; none for a run without videos."""
    return [dict(file) for file in read_document(run_uri, "manifest.json")["files"] if file["table"] == TABLE]


def _sums_of_run(ledger: Ledger) -> pa.Table:
    """Sum frames and pixels for every video, second and class."""
    columns = [(name, VIDEO_STATS.field(name).type) for name in _KEYS]
    pending = [pa.schema([*columns, ("frames", pa.int64()), ("pixels", pa.int64())]).empty_table()]
    for sums in _sums_of_parts(ledger):
        pending.append(sums)
        if len(pending) > PARTS_AT_ONCE:
            pending = [_merge_sums(pending)]
    return _merge_sums(pending)


def _sums_of_parts(ledger: Ledger) -> Iterator[pa.Table]:
    """Yield the sums of each part that has frames of videos."""
    for receipt in video_parts(ledger):
        frames = read_part(ledger.uri, receipt, "masks", ["item_id", "frame_index", "pts_s"])
        frames = frames.filter(pc.is_valid(frames.column("pts_s")))
        if frames.num_rows:
            second = pc.floor(frames.column("pts_s")).cast(pa.int64())
            frames = frames.drop_columns(["pts_s"]).append_column("second", second)
            stats = read_part(
                ledger.uri, receipt, "class_stats", ["item_id", "frame_index", "class_id", "class_name", "pixels"]
            )
            timed = stats.join(frames, ["item_id", "frame_index"], join_type="inner").drop_columns(["frame_index"])
            yield _merge_sums([timed.append_column("frames", pa.array([1] * len(timed), pa.int64()))])


def _merge_sums(tables: list[pa.Table]) -> pa.Table:
    """Add up the frames and pixels of equal video, second and class."""
    rows = pa.concat_tables([table.select([*_KEYS, "frames", "pixels"]) for table in tables])
    sums = rows.group_by(_KEYS).aggregate([("frames", "sum"), ("pixels", "sum")])
    return sums.rename_columns({"frames_sum": "frames", "pixels_sum": "pixels"})


def _with_ratios(sums: pa.Table) -> pa.Table:
    """Append the share of each class in the pixels of its second."""
    totals = sums.group_by(["item_id", "second"]).aggregate([("pixels", "sum")])
    joined = sums.join(totals, ["item_id", "second"], join_type="inner")
    pixels, total = joined.column("pixels").cast(pa.float64()), joined.column("pixels_sum").cast(pa.float64())
    return joined.append_column("ratio", pc.divide(pixels, total))
