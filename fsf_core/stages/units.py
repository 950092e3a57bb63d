"""Work units between the stages: one Arrow row each, a whole image or consecutive frames of a video.

A row carries its frames, so however Ray splits a table into blocks, a unit stays whole and its part complete. Knows the
columns between stages; knows no files and no model.
"""

# N frames, H×W pixels, C channels, K classes

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.errors import ItemError
from fsf_core.model.input_figures import InputFigures
from fsf_core.schema import CONFUSION, REGIONS, UNITS

FRAME = pa.struct(
    [
        ("frame_index", pa.int64()),
        ("pts_s", pa.float64()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("sharpness", pa.float64()),
        ("confidence", pa.float64()),
        ("uncertain_share", pa.float64()),
    ]
)
"""What every frame has besides its mask; each a column of the masks table. The mask stage adds the last two."""

GRIDS = pa.list_(pa.struct([("rows", pa.int32()), ("columns", pa.int32())]))
"""The network's grid for every frame, where its size depends on the image; the infer stage adds it."""

LABELS, DIGESTS = pa.list_(pa.large_binary()), pa.list_(pa.string())

CELL = pa.struct([field for field in CONFUSION if field.name not in {"item_id", "segment"}])
"""One row of a unit in the table confusion; the mask stage adds a list of them where the manifest names labels."""

REGION = pa.struct([field for field in REGIONS if field.name not in {"item_id", "class_name"}])
"""One row of a unit in the table regions; the mask stage adds a list of them, ordered by frame and region."""

MESSAGE_CHARACTERS = 2_000
"""Maximum length of a failure's message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Identity and size of one frame."""

    frame_index: int
    """Position in the video, or of a page in its TIFF, from 0; 0 for an image."""
    pts_s: float | None
    """Presentation time in seconds; None for an image."""
    height_px: int
    width_px: int
    figures: InputFigures | None = None
    """Of the network's input; None where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """The ground truth of one frame."""

    data: bytes
    """A PNG, as it was read, or made from a frame of a label video."""
    sha256: str | None
    """Digest of the file; None for a label video in a store, which is read in ranges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a unit, or the rest of it, has no result."""

    stage: str
    """Stage that failed."""
    error_type: str
    error_message: str
    frame_index: int | None = None
    """First missing frame; None if the whole unit is missing."""


def failure(stage: str, error: Exception, *, frame_index: int | None = None) -> Failure:
    """Return an error as a failure.

    Of an error that is no ItemError, and may quote what it was given, the type alone, and what the system says.
    """
    name = type(error).__name__
    reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    message = str(error) if isinstance(error, ItemError) else f"{name}{reason}"
    return Failure(stage=stage, error_type=name, error_message=message[:MESSAGE_CHARACTERS], frame_index=frame_index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One image, or consecutive frames of one video."""

    item_id: str
    uri: str
    segment: int = 0
    """Position in the item, from 0."""
    segments: int = 1
    """Segments of the whole item."""
    attempt: int = 1
    """How often the item has been tried, this time included."""
    item_sha256: str | None = None
    """Digest of the source; None for a video in a store."""
    item_version: str | None = None
    """See storage.etag_or_mtime."""
    frames: Sequence[Frame] = ()
    inputs_HWC: Sequence[NDArray[np.uint8]] = ()
    """Input of the network for every frame, uint8."""
    labels: "Sequence[Label | None]" = ()
    """Label of every frame, None for a frame without one; empty where no frame has one."""
    source_images: Sequence[bytes] = ()
    """Encoded source image of every frame; empty without overlays."""
    failure: Failure | None = None
    notes: str | None = None
    """What was done with the item that its user may not expect: sentences joined by "; "."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Pass-through columns of the manifest."""
    row_digest: bytes | None = None
    """Digest of the item's row in the manifest."""

    def failed(self, why: Failure) -> "Unit":
        """Return the unit with its frames and this failure."""
        return replace(self, failure=why)


def to_table(units: Sequence[Unit], *, extra: pa.Schema, labelled: bool = False) -> pa.Table:
    """Return units as the table that the decode stage outputs.

    Args:
        units: any number, including none.
        extra: types of the pass-through columns.
        labelled: whether the manifest names labels.

    Returns:
        Columns item_id, uri, segment, segments, attempt, item_sha256, item_version, frames (list of FRAME), inputs (the
        H×W×3 bytes of the frames, one behind the other), source_images, failed_stage, error_type, error_message,
        failed_frame, notes, row_digest, and `extra` where the manifest has such columns. Where it names labels,
        `labels` and `label_sha256` too, with an entry per frame.
    """
    failures = [unit.failure for unit in units]
    columns: dict[str, pa.Array] = {
        "item_id": pa.array([unit.item_id for unit in units], pa.string()),
        "uri": pa.array([unit.uri for unit in units], pa.string()),
        "segment": pa.array([unit.segment for unit in units], pa.int32()),
        "segments": pa.array([unit.segments for unit in units], pa.int32()),
        "attempt": pa.array([unit.attempt for unit in units], pa.int32()),
        "item_sha256": pa.array([unit.item_sha256 for unit in units], pa.string()),
        "item_version": pa.array([unit.item_version for unit in units], pa.string()),
        "frames": pa.array([[frame_to_dict(frame) for frame in unit.frames] for unit in units], pa.list_(FRAME)),
        "inputs": stack([array for unit in units for array in unit.inputs_HWC], [len(u.inputs_HWC) for u in units]),
        "source_images": pa.array([list(unit.source_images) for unit in units], pa.list_(pa.large_binary())),
        "failed_stage": pa.array([why and why.stage for why in failures], pa.string()),
        "error_type": pa.array([why and why.error_type for why in failures], pa.string()),
        "error_message": pa.array([why and why.error_message for why in failures], pa.string()),
        "failed_frame": pa.array([why.frame_index if why else None for why in failures], pa.int64()),
        "notes": pa.array([unit.notes for unit in units], pa.string()),
        "row_digest": pa.array([unit.row_digest for unit in units], UNITS.field("row_digest").type),
    }
    if len(extra):
        columns["extra"] = pa.array([dict(unit.extra) for unit in units], pa.struct(list(extra)))
    if labelled:
        labels = [unit.labels or [None] * len(unit.frames) for unit in units]
        columns["labels"] = pa.array([[one and one.data for one in each] for each in labels], LABELS)
        columns["label_sha256"] = pa.array([[one and one.sha256 for one in each] for each in labels], DIGESTS)
    return pa.table(columns)


def stack(arrays: Sequence[NDArray[Any]], counts: Sequence[int]) -> pa.LargeBinaryArray:
    """Concatenate arrays into one binary value per unit, of `counts` arrays each, with one copy in all."""
    sizes = [array.nbytes for array in arrays]
    buffer = allocate(sum(sizes))
    ends = [*itertools.accumulate(sizes, initial=0)]
    for start, end, array in zip(ends, ends[1:], arrays, strict=False):
        buffer[start:end] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return from_bytes(buffer, sums(sizes, counts))


def sums(values: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Return the sum of each unit's values, of which it has `counts`."""
    rest = iter(values)
    return [sum(itertools.islice(rest, count)) for count in counts]


def allocate(size_bytes: int) -> NDArray[np.uint8]:
    """Allocate uninitialised bytes from Arrow's pool, which keeps its pages; NumPy maps large arrays anew each time.

    Logits of 64 frames, written by the model into this buffer: 0.07 ms per frame; into np.empty: 0.14; returned, then
    stacked: 0.20 (2-core EPYC, 2026-11-24).
    """
    return np.frombuffer(pa.allocate_buffer(size_bytes), np.uint8)


def from_bytes(data: NDArray[np.uint8], lengths: Sequence[int]) -> pa.LargeBinaryArray:
    """Return a binary column over a buffer of consecutive values of these lengths in bytes; no copy."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def as_array(column: pa.ChunkedArray, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return all values of a binary column as one read-only array [N, *shape]; no copy for a single chunk."""
    data = _bytes_of(column)
    return data.view(dtype).reshape(-1, *shape) if len(data) else np.empty((0, *shape), dtype)


def as_arrays(
    column: pa.ChunkedArray, dtype: type[np.generic], shapes: Sequence[tuple[int, ...]]
) -> list[NDArray[Any]]:
    """Return all values of a binary column as consecutive read-only arrays of these shapes; no copy as for as_array."""
    return split(_bytes_of(column), dtype, shapes)


def split(
    data: NDArray[np.uint8], dtype: np.dtype[Any] | type[np.generic], shapes: Sequence[tuple[int, ...]]
) -> list[NDArray[Any]]:
    """Return bytes as consecutive arrays of these shapes, which are views of them.

    Raises:
        ValueError: there are other bytes than these arrays have.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape in shapes]
    ends = [*itertools.accumulate(sizes, initial=0)]
    if ends[-1] != len(data):
        raise ValueError(f"found {len(data)} bytes, expected {ends[-1]} for arrays of {len(shapes)} shapes")
    return [
        data[start:end].view(dtype).reshape(shape) for start, end, shape in zip(ends, ends[1:], shapes, strict=False)
    ]


def _bytes_of(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Return all values of a binary column, one behind the other, read-only."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(whole, pa.ChunkedArray) or not len(whole):  # combine_chunks of an empty column
        return np.empty(0, np.uint8)
    offsets = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
    if offsets[0] == offsets[-1]:
        return np.empty(0, np.uint8)
    data = np.frombuffer(whole.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    data.flags.writeable = False  # as is what comes through Ray
    return data


def value(table: pa.Table, name: str, at: int) -> NDArray[np.uint8]:
    """Return the bytes of a row of a binary column, none where it is null: a view, while Arrow's scalar is a copy."""
    for chunk in table.column(name).chunks:
        if at < len(chunk):
            _, offsets, data = chunk.buffers()
            first = (chunk.offset + at) * np.dtype(np.int64).itemsize
            start, end = np.frombuffer(offsets, np.int64, 2, first)
            return np.frombuffer(data, np.uint8, end - start, start) if start < end else np.empty(0, np.uint8)
        at -= len(chunk)
    raise IndexError(f"found {table.num_rows} rows, expected row {at} more")


def frame_bytes(table: pa.Table) -> int:
    """Return the bytes of the frames of all units: the network's inputs, source images and labels."""
    columns = [table.column("inputs")]
    lists = {"source_images", "labels"}.intersection(table.column_names)
    columns += [pc.list_flatten(table.column(name)) for name in lists]
    return sum(int(pc.sum(pc.binary_length(column)).as_py() or 0) for column in columns)


def frame_counts(table: pa.Table) -> list[int]:
    """Return the number of frames of every unit, in order."""
    return [int(count) for count in pc.list_value_length(table.column("frames")).to_pylist()]


def chunks(counts: Sequence[int], max_frames: int, *, sizes: Sequence[int] = (), max_bytes: int = 0) -> list[slice]:
    """Split consecutive units into chunks of at most `max_frames` frames; a longer unit is a chunk of its own.

    Args:
        counts: frames of every unit.
        max_frames: of a chunk.
        sizes: bytes of every unit, where these are limited too; a larger unit is a chunk of its own.
        max_bytes: of a chunk.
    """
    found, start, frames, size = [], 0, 0, 0
    for index, (count, more) in enumerate(zip(counts, sizes or [0] * len(counts), strict=True)):
        if frames and (frames + count > max_frames or size + more > max_bytes):
            found.append(slice(start, index))
            start, frames, size = index, 0, 0
        frames, size = frames + count, size + more
    if start < len(counts):
        found.append(slice(start, len(counts)))
    return found


def frame_to_dict(frame: Frame) -> dict[str, Any]:
    """Return a frame as a value of FRAME."""
    return {
        "frame_index": frame.frame_index,
        "pts_s": frame.pts_s,
        "height_px": frame.height_px,
        "width_px": frame.width_px,
        **(frame.figures._asdict() if frame.figures else {}),
    }
