"""Every table that a run writes, declared once: columns, types, units, version.

Readers and writers call `conform(table, MASKS)`. Knows no files and no values.
"""

import json
from collections.abc import Iterable

import pyarrow as pa

SCHEMA_VERSION = "1"
"""Written into the footer of every part; another version is another table."""


def _column(name: str, kind: pa.DataType, description: str, *, unit: str = "", nullable: bool = False) -> pa.Field:
    """One documented column; the description and the unit travel in the Parquet footer."""
    words = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=words)


def _table(name: str, *columns: pa.Field, features: dict[str, dict[str, str]] | None = None) -> pa.Schema:
    metadata = {"fsf_table": name, "fsf_schema_version": SCHEMA_VERSION}
    if features:
        # Hugging Face dataset viewers show the column as a picture.
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    return pa.schema(columns, metadata=metadata)


MASK_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

MASKS = _table(
    "masks",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("frame_index", pa.int64(), "position of the frame in its video, from 0; 0 for an image", unit="frame"),
    _column("pts_s", pa.float64(), "presentation time of the frame; null for an image", unit="s", nullable=True),
    _column("uri", pa.string(), "where the item was read from"),
    _column("height_px", pa.int32(), "rows of the source picture, upright", unit="pixel"),
    _column("width_px", pa.int32(), "columns of the source picture, upright", unit="pixel"),
    _column("mask", MASK_IMAGE, "class map as a PNG: pixel value = class_id; indexed with the class palette"),
    _column("overlay", pa.string(), "path of the overlay inside the run folder, where asked for", nullable=True),
    _column("item_sha256", pa.string(), "sha256 of the source bytes; null for a video in a store", nullable=True),
    _column(
        "item_version", pa.string(), "size and time of the source bytes, or the etag of their store", nullable=True
    ),
    _column("run_id", pa.string(), "the run that wrote this row"),
    _column("bundle_sha256", pa.string(), "identity of the bundle that scored this row"),
    features={"mask": {"_type": "Image"}},
)

CLASS_STATS = _table(
    "class_stats",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("frame_index", pa.int64(), "position of the frame in its video, from 0", unit="frame"),
    _column("class_id", pa.int32(), "class, as in the mask"),
    _column("class_name", pa.string(), "name of the class in the bundle"),
    _column("pixels", pa.int64(), "pixels of the class in the mask", unit="pixel"),
    _column("ratio", pa.float64(), "pixels over all pixels of the mask, 0 to 1"),
    _column("components", pa.int64(), "connected regions of the class in the mask"),
    _column("largest_component_px", pa.int64(), "pixels of the largest region", unit="pixel"),
    _column(
        "mean_probability",
        pa.float64(),
        "mean probability of the class over the cells of the network's grid that it wins; null where it wins none",
        nullable=True,
    ),
)

FAILURES = _table(
    "failures",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("uri", pa.string(), "where the item was to be read from"),
    _column("stage", pa.string(), "stage that gave up: decode, infer or mask"),
    _column(
        "frame_index",
        pa.int64(),
        "first frame that is missing; null where the whole item is",
        unit="frame",
        nullable=True,
    ),
    _column("error_type", pa.string(), "kind of error, e.g. DecodeError"),
    _column("error_message", pa.string(), "what was found, what was expected, what to do"),
    _column("attempts", pa.int32(), "runs of this job that tried the item"),
)

UNITS = _table(
    "units",
    _column("unit_key", pa.binary(16), "hash of (item_id, segment)"),
    _column("item_key", pa.binary(16), "hash of item_id"),
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("segment", pa.int32(), "number of the segment in its video, from 0; 0 for an image"),
    _column("segments", pa.int32(), "segments of the whole item"),
    _column("frames", pa.int32(), "frames scored", unit="frame"),
    _column("first_frame", pa.int64(), "least frame_index of the unit", unit="frame"),
    _column("last_frame", pa.int64(), "greatest frame_index of the unit", unit="frame"),
    _column("failed", pa.bool_(), "whether the unit has a row in failures"),
)
"""What a receipt lists: one row per work unit of its part."""

VIDEO_STATS = _table(
    "video_stats",
    _column("item_id", pa.string(), "id of the video in the manifest"),
    _column(
        "second", pa.int64(), "whole second of the source's time: frames with second <= pts_s < second + 1", unit="s"
    ),
    _column("class_id", pa.int32(), "class, as in the mask"),
    _column("class_name", pa.string(), "name of the class in the bundle"),
    _column("frames", pa.int64(), "frames scored in this second", unit="frame"),
    _column("ratio", pa.float64(), "pixels of the class over all pixels of these frames, 0 to 1"),
)

TABLES = {"masks": MASKS, "class_stats": CLASS_STATS, "failures": FAILURES}
"""The published tables by the name of their folder."""

DERIVED = {"video_stats": VIDEO_STATS}
"""Tables that are made of the published ones when a run ends; there where the run has videos."""


def with_columns(schema: pa.Schema, extra: Iterable[pa.Field]) -> pa.Schema:
    """The schema with the manifest's pass-through columns after its own."""
    for field in extra:
        schema = schema.append(field.with_nullable(True))
    return schema


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the schema's order, types and metadata.

    Raises:
        ValueError: a column is missing or cannot be cast, or a column that may not be null holds one.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise ValueError(f"table has columns {table.column_names}, lacks {missing}")
    conformed = table.select(schema.names).cast(schema)
    for field in schema:
        nulls = conformed.column(field.name).null_count
        if nulls and not field.nullable:
            raise ValueError(f"column {field.name} holds {nulls} nulls and may hold none")
    return conformed
