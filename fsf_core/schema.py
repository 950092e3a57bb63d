"""Every table that a run writes, declared once: columns, types, units, version.

Readers and writers call `conform(table, MASKS)`. Column names and types are names on disk and never change.
Knows no files and no values.
"""

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

SCHEMA_VERSION = "1"
"""Version of the columns, in the footer of every file."""

UNCERTAIN_MARGIN = 0.2
"""Difference of the two largest class probabilities of a cell, in float32, below which it counts as uncertain."""


def _column(name: str, kind: pa.DataType, description: str, *, unit: str = "", nullable: bool = False) -> pa.Field:
    """Declare one column; description and unit are written to the Parquet footer."""
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def _table(name: str, *columns: pa.Field, features: dict[str, dict[str, str]] | None = None) -> pa.Schema:
    """Declare one table; `features` is Hugging Face's description of its columns."""
    metadata = {"fsf_table": name, "fsf_schema_version": SCHEMA_VERSION}
    if features:
        # Hugging Face dataset viewers show the column as an image.
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    return pa.schema(columns, metadata=metadata)


MASK_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

MASKS = _table(
    "masks",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column(
        "frame_index",
        pa.int64(),
        "index of the frame in its video, counted from 0 over all frames of the source, or of the page in its TIFF; 0 "
        "for an image",
        unit="frame",
    ),
    _column(
        "pts_s",
        pa.float64(),
        "presentation time of the frame in its video, which need not start at 0; null for an image",
        unit="s",
        nullable=True,
    ),
    _column("uri", pa.string(), "path or URI that the item was read from, without credentials"),
    _column(
        "height_px",
        pa.int32(),
        "height of the source image or frame, upright where its orientation is honoured",
        unit="pixel",
    ),
    _column(
        "width_px",
        pa.int32(),
        "width of the source image or frame, upright where its orientation is honoured",
        unit="pixel",
    ),
    _column(
        "mask",
        MASK_IMAGE,
        "class map as a PNG: pixel value = class_id, with the class colours as its palette; never null. With --tile "
        "the bytes of a picture above --max-pixels are null, and path is that of a TIFF in the run folder, which a "
        "picture with a place on the ground has too",
        nullable=True,  # Hugging Face's datasets takes only a nullable struct for an Image
    ),
    _column(
        "overlay", pa.string(), "path of the overlay inside the run folder; null without --overlays", nullable=True
    ),
    _column(
        "item_sha256",
        pa.string(),
        "SHA-256 of the source file; null for a video in a bucket, and with --tile for a large TIFF there, which are "
        "read in ranges",
        nullable=True,
    ),
    _column(
        "item_version",
        pa.string(),
        "size and modification time of the source file, or its etag in a bucket",
        nullable=True,
    ),
    _column("run_id", pa.string(), "id of the run that wrote this row"),
    _column("bundle_sha256", pa.string(), "SHA-256 that identifies the bundle that scored this row"),
    _column(
        "notes",
        pa.string(),
        "what was done with the item that its user may not expect, for example that only its first page was scored; "
        "null where there is nothing to note, and in rows of older versions",
        nullable=True,
    ),
    _column(
        "confidence",
        pa.float64(),
        "mean over the network's output grid, without padding, of the largest class probability, 0 to 1; null for "
        "models that output class maps, and in rows of older versions",
        nullable=True,
    ),
    _column(
        "uncertain_share",
        pa.float64(),
        f"share of the cells of that grid whose two largest class probabilities differ by less than {UNCERTAIN_MARGIN}"
        ", 0 to 1; 0 for a model of one class; null for models that output class maps, and in rows of older versions",
        nullable=True,
    ),
    _column(
        "brightness",
        pa.float64(),
        "mean luma (Rec. 601) of the network's input, its padding included, 0 to 255; null in rows of older versions",
        unit="grey level",
        nullable=True,
    ),
    _column(
        "contrast",
        pa.float64(),
        "standard deviation of the luma of the network's input, 0 to 127.5; null in rows of older versions",
        unit="grey level",
        nullable=True,
    ),
    _column(
        "sharpness",
        pa.float64(),
        "variance of the Laplacian (4 neighbours) of the luma of the network's input, 0 to 1040400; null in rows of "
        "older versions",
        unit="grey level squared",
        nullable=True,
    ),
    _column(
        "label_sha256",
        pa.string(),
        "SHA-256 of the file of the frame's label; null without a label, for a label video in a bucket, and in rows of "
        "older versions",
        nullable=True,
    ),
    _column(
        "label_ignored_px",
        pa.int64(),
        "pixels whose label is no class, which the table confusion leaves out; null where the frame has no label, and "
        "in rows of older versions",
        unit="pixel",
        nullable=True,
    ),
    features={"mask": {"_type": "Image"}},
)

LATER_COLUMNS = tuple(MASKS.names[MASKS.names.index("notes") :])
"""Columns of masks that earlier versions did not write, and let a manifest pass through."""

CLASS_STATS = _table(
    "class_stats",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("frame_index", pa.int64(), "index of the frame in its video, as in masks", unit="frame"),
    _column("class_id", pa.int32(), "class id, the pixel value in the mask"),
    _column("class_name", pa.string(), "name of the class"),
    _column("pixels", pa.int64(), "pixels of the class in the mask", unit="pixel"),
    _column("ratio", pa.float64(), "share of the mask's pixels, 0 to 1"),
    _column(
        "components",
        pa.int64(),
        "connected regions of the class in the mask; pixels that touch at a corner are connected",
    ),
    _column("largest_component_px", pa.int64(), "pixels of the largest connected region", unit="pixel"),
    _column(
        "mean_probability",
        pa.float64(),
        "mean probability of the class over the cells of the network's output grid where it is the most probable one; "
        "null where there are none",
        nullable=True,
    ),
)

FAILURES = _table(
    "failures",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("uri", pa.string(), "path or URI that the item should be read from, without credentials"),
    _column("stage", pa.string(), "stage that failed: decode, infer, mask or label"),
    _column(
        "frame_index",
        pa.int64(),
        "index of the first missing frame; null if the whole item failed",
        unit="frame",
        nullable=True,
    ),
    _column("error_type", pa.string(), "type of the error, for example DecodeError"),
    _column("error_message", pa.string(), "what was found, what was expected and what to do"),
    _column("attempts", pa.int32(), "number of starts of the job that tried the item"),
)

FRAME_FIGURES = ("confidence", "uncertain_share", "brightness", "contrast", "sharpness")
"""Columns of masks that describe a frame without a label; a receipt holds their means over the frames of each unit."""

UNITS = _table(
    "units",
    _column("unit_key", pa.binary(16), "key of the unit: BLAKE2b-128 of item_key and segment"),
    _column("item_key", pa.binary(16), "key of the item: BLAKE2b-128 of item_id"),
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("segment", pa.int32(), "index of the segment in its video, from 0; 0 for an image"),
    _column("segments", pa.int32(), "number of segments of the item"),
    _column("frames", pa.int32(), "number of scored frames", unit="frame"),
    _column("first_frame", pa.int64(), "smallest frame_index of the unit; 0 without frames", unit="frame"),
    _column("last_frame", pa.int64(), "largest frame_index of the unit; 0 without frames", unit="frame"),
    _column("failed", pa.bool_(), "whether the unit has a row in failures"),
    _column(
        "row_digest",
        pa.binary(8),
        "BLAKE2b-64 of the item's address and pass-through columns; null in receipts of older versions",
        nullable=True,
    ),
    *(
        _column(
            name,
            pa.float32(),
            f"mean of {name} in masks over the frames of the unit; null without frames, and in receipts of older "
            "versions",
            nullable=True,
        )
        for name in FRAME_FIGURES
    ),
)
"""Table inside a receipt: one row per work unit of its part."""

VIDEO_STATS = _table(
    "video_stats",
    _column("item_id", pa.string(), "id of the video in the manifest"),
    _column("second", pa.int64(), "whole second: the frames with second <= pts_s < second + 1", unit="s"),
    _column("class_id", pa.int32(), "class id, the pixel value in the mask"),
    _column("class_name", pa.string(), "name of the class"),
    _column("frames", pa.int64(), "number of frames scored in this second", unit="frame"),
    _column("ratio", pa.float64(), "share of the pixels of these frames, 0 to 1"),
)

CONFUSION = _table(
    "confusion",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column(
        "segment",
        pa.int32(),
        "index of the segment in its video, from 0; 0 for an image. The rows of a video add up over its segments",
    ),
    _column("label_class_id", pa.int32(), "class of the pixels in the label"),
    _column("predicted_class_id", pa.int32(), "class of the same pixels in the mask"),
    _column("pixels", pa.int64(), "pixels of both classes, over all labelled frames; never 0", unit="pixel"),
    _column(
        "label_boundary_px",
        pa.int64(),
        "those of them within 2 % of the image diagonal of the border of the label's class, inside it",
        unit="pixel",
    ),
    _column(
        "predicted_boundary_px",
        pa.int64(),
        "those of them within 2 % of the image diagonal of the border of the predicted class, inside it",
        unit="pixel",
    ),
    _column("shared_boundary_px", pa.int64(), "those of them within both", unit="pixel"),
)

REGIONS = _table(
    "regions",
    _column("item_id", pa.string(), "id of the item in the manifest"),
    _column("frame_index", pa.int64(), "index of the frame in its video, as in masks", unit="frame"),
    _column(
        "region",
        pa.int32(),
        "number of the region in its frame, from 0: by class, then by its first pixel in "
        "raster order; without the regions that --min-region-px leaves out",
    ),
    _column("class_id", pa.int32(), "class id, the pixel value in the mask; never 0"),
    _column("class_name", pa.string(), "name of the class"),
    _column("pixels", pa.int64(), "pixels of the region; pixels that touch at a corner are connected", unit="pixel"),
    _column("top_px", pa.int32(), "first row of its bounding box", unit="pixel"),
    _column("left_px", pa.int32(), "first column of its bounding box", unit="pixel"),
    _column("height_px", pa.int32(), "rows of its bounding box", unit="pixel"),
    _column("width_px", pa.int32(), "columns of its bounding box", unit="pixel"),
    _column("centroid_row", pa.float64(), "mean row of its pixels, counted from 0", unit="pixel"),
    _column("centroid_column", pa.float64(), "mean column of its pixels, counted from 0", unit="pixel"),
    _column(
        "mean_probability",
        pa.float64(),
        "mean, over the region's pixels whose nearest cell of the network's output grid the class wins, of the class's "
        "probability in that cell; null where there are none, and for models that output class maps",
        nullable=True,
    ),
    _column("touches_border", pa.bool_(), "whether it touches the border of the mask, and may go on outside"),
)

TABLES = {"masks": MASKS, "class_stats": CLASS_STATS, "failures": FAILURES}
"""The tables that every part may have, by the name of their folder."""

OPTIONAL = {"confusion": CONFUSION, "regions": REGIONS}
"""Tables of parts that exist by option only: where labels are given, and with --regions."""

PART_TABLES = {**TABLES, **OPTIONAL}
"""All tables of parts."""

DERIVED = {"video_stats": VIDEO_STATS}
"""Tables computed from those when a run ends, for runs with videos."""


def with_columns(schema: pa.Schema, extra: Iterable[pa.Field]) -> pa.Schema:
    """Return the schema with the manifest's pass-through columns after its own columns."""
    for field in extra:
        schema = schema.append(field.with_nullable(True))
    return schema


def is_own(field: pa.Field) -> bool:
    """Return whether a column that was read is one of a schema's own, and not one that a manifest passed through."""
    return b"description" in (field.metadata or {})


def complete(
    rows: pa.Table | pa.RecordBatch, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table | pa.RecordBatch:
    """Return rows in the columns of this version: nullable columns that the writer did not know hold nulls.

    Args:
        rows: as they were read, of any version.
        schema: of their table.
        columns: the columns that were asked for; None for all.

    Returns:
        The schema's columns in its order, then those that the manifest passed through. A column of the manifest that
        has the name of a newer column of the schema stays what it is.
    """
    found: pa.Schema = rows.schema
    own = [
        field
        for field in schema
        if (is_own(found.field(field.name)) if field.name in found.names else field.nullable)
        and (columns is None or field.name in columns)
    ]
    names = {field.name for field in own}
    fields = pa.schema([*own, *(field for field in found if field.name not in names)], found.metadata)
    if fields.equals(found):
        return rows
    values = [
        rows.column(field.name) if field.name in found.names else pa.nulls(rows.num_rows, field.type)
        for field in fields
    ]
    return type(rows).from_arrays(values, schema=fields)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table in the schema's order, types and metadata; further columns are dropped.

    Raises:
        ValueError: a column is missing, cannot be cast, or holds nulls and is not nullable.
    """
    present = table.column_names  # makes a list of them each time
    missing = [name for name in schema.names if name not in present]
    if missing:
        raise ValueError(f"table has columns {present}, expected {missing} too")
    chosen = table.select(schema.names)
    # Receipts conform as they are, and a cast of the same types takes most of the time of reading one.
    same = chosen.schema.types == schema.types
    conformed = type(table).from_arrays(chosen.columns, schema=schema) if same else chosen.cast(schema)
    for field in schema:
        nulls = 0 if field.nullable else conformed.column(field.name).null_count
        if nulls:
            raise ValueError(f"column {field.name} holds {nulls} nulls, expected none")
    return conformed
