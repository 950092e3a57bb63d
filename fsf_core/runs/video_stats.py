"""The classes of every video second by second: a table derived from the committed parts of a settled run.

Knows the tables. Knows no pictures and no films.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import runs, storage
from fsf_core.errors import FetchError
from fsf_core.schema import VIDEO_STATS, conform

TABLE = "video_stats"
PATH = f"{TABLE}/all.parquet"
PARTS_AT_ONCE = 64
"""How many parts are summed up before they are put together, so that memory goes by seconds, not by frames."""

_KEYS = ["item_id", "second", "class_id", "class_name"]


def write_video_stats(run_uri: str) -> list[dict[str, Any]]:
    """Sum up what the run found in each second of each video; an older table is replaced, or removed without videos.

    Returns:
        The file as the run's list names it; nothing where no video has scored frames.
    """
    uri = storage.join(run_uri, PATH)
    sums = _sums(run_uri)
    if not sums.num_rows:
        storage.remove(uri)
        return []
    table = _with_ratios(sums).sort_by([("item_id", "ascending"), ("second", "ascending"), ("class_id", "ascending")])
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(conform(table, VIDEO_STATS), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    storage.write_bytes(uri, data, durable=True)
    sha256 = hashlib.sha256(data).hexdigest()
    return [{"part": None, "table": TABLE, "path": PATH, "rows": table.num_rows, "bytes": len(data), "sha256": sha256}]


def verify(run_uri: str) -> list[str]:
    """Check the table against the run's list of files; returns what is wrong, in words."""
    if not storage.exists(storage.join(run_uri, "manifest.json")):
        return []
    listed = [file for file in runs.read_json(run_uri, "manifest.json")["files"] if file["table"] == TABLE]
    try:
        data = storage.read_bytes(storage.join(run_uri, PATH))
    except FetchError:
        return [f"missing: {PATH} is listed and not there" for _ in listed]
    if not listed:
        return [f"orphan: {PATH} is not listed; it is not part of the run"]
    differs = hashlib.sha256(data).hexdigest() != listed[0]["sha256"]
    return [f"torn: {PATH} differs from the run's list of files"] if differs else []


def manifest_entries(run_uri: str) -> list[dict[str, Any]]:
    """The table as a published run lists it."""
    return [dict(file) for file in runs.read_json(run_uri, "manifest.json")["files"] if file["table"] == TABLE]


def _sums(run_uri: str) -> pa.Table:
    """Frames and pixels of every second and class of every video."""
    held: list[pa.Table] = [pa.table({name: pa.array([], VIDEO_STATS.field(name).type) for name in _KEYS})]
    held[0] = (
        held[0].append_column("frames", pa.array([], pa.int64())).append_column("pixels", pa.array([], pa.int64()))
    )
    for sums in _part_sums(run_uri):
        held.append(sums)
        if len(held) > PARTS_AT_ONCE:
            held = [_together(held)]
    return _together(held)


def _part_sums(run_uri: str) -> Iterator[pa.Table]:
    for receipt in runs.video_parts(run_uri):
        frames = runs.read_part(run_uri, receipt, "masks", ["item_id", "frame_index", "pts_s"])
        frames = frames.filter(pc.is_valid(frames.column("pts_s")))
        if frames.num_rows:
            second = pc.floor(frames.column("pts_s")).cast(pa.int64())
            frames = frames.drop_columns(["pts_s"]).append_column("second", second)
            stats = runs.read_part(
                run_uri, receipt, "class_stats", ["item_id", "frame_index", "class_id", "class_name", "pixels"]
            )
            timed = stats.join(frames, ["item_id", "frame_index"], join_type="inner")
            yield _together(
                [timed.append_column("frames", pa.array([1] * len(timed), pa.int64())).drop_columns(["frame_index"])]
            )


def _together(tables: list[pa.Table]) -> pa.Table:
    columns = [*_KEYS, "frames", "pixels"]
    every = pa.concat_tables([table.select(columns) for table in tables])
    sums = every.group_by(_KEYS).aggregate([("frames", "sum"), ("pixels", "sum")])
    return sums.rename_columns({"frames_sum": "frames", "pixels_sum": "pixels"})


def _with_ratios(sums: pa.Table) -> pa.Table:
    totals = sums.group_by(["item_id", "second"]).aggregate([("pixels", "sum")])
    both = sums.join(totals, ["item_id", "second"], join_type="inner")
    pixels, whole = both.column("pixels").cast(pa.float64()), both.column("pixels_sum").cast(pa.float64())
    return both.append_column("ratio", pc.divide(pixels, whole))
