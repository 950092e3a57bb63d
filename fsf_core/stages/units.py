"""Work units on their way through the stages: one Arrow row each, a row a whole image or a run of video frames.

A row carries its frames with it, so however a table is cut into blocks, a unit stays whole and its part stays complete.
Knows the columns between stages; knows no files and no model.
"""

# N frames, H×W pixels, C channels, K classes

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.errors import ItemError
from fsf_core.storage import redact

FRAME = pa.struct(
    [("frame_index", pa.int64()), ("pts_s", pa.float64()), ("height_px", pa.int32()), ("width_px", pa.int32())]
)
MESSAGE_CHARACTERS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where one frame comes from."""

    frame_index: int
    pts_s: float | None
    """Seconds; None for an image."""
    height_px: int
    width_px: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a unit, or the rest of it, has no result."""

    stage: str
    """Stage that gave up."""
    error_type: str
    error_message: str
    frame_index: int | None = None
    """First frame that is missing; None where the whole unit is."""


def failure(stage: str, error: Exception, *, frame_index: int | None = None) -> Failure:
    """The row that an error becomes; one that is not ours shows its type, lest a defect be taken for data."""
    name = type(error).__name__
    message = str(error) if isinstance(error, ItemError) else f"{name}: {error}"
    # A lone surrogate, from a file name that is no UTF-8, cannot be written as Arrow text.
    shown = redact(message)[:MESSAGE_CHARACTERS].encode(errors="backslashreplace").decode()
    return Failure(stage=stage, error_type=name, error_message=shown, frame_index=frame_index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One image, or some consecutive frames of one video, as decoded."""

    item_id: str
    uri: str
    segment: int = 0
    segments: int = 1
    attempt: int = 1
    """How often this job has tried the item, counting this time."""
    item_sha256: str | None = None
    item_version: str | None = None
    """See storage.version."""
    frames: Sequence[Frame] = ()
    inputs_HWC: Sequence[NDArray[np.uint8]] = ()
    """The network's input of every frame, uint8."""
    source_images: Sequence[bytes] = ()
    """Encoded source picture of every frame, where an overlay is wanted."""
    failure: Failure | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Pass-through columns of the manifest."""

    def failed(self, why: Failure) -> "Unit":
        """The same unit with what it has, and the reason why there is no more."""
        return replace(self, failure=why)


def to_table(units: Sequence[Unit], *, extra: pa.Schema) -> pa.Table:
    """Units as the table that leaves the decode stage.

    Args:
        units: at least none; the columns are the same.
        extra: types of the pass-through columns.

    Returns:
        Columns item_id, uri, segment, segments, attempt, item_sha256, item_version, frames (list of FRAME), inputs (the
        N×H×W×3 bytes of the frames), source_images, failed_stage, error_type, error_message, failed_frame, and `extra`
        where the manifest has such columns.
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
        "frames": pa.array([[_plain(frame) for frame in unit.frames] for unit in units], pa.list_(FRAME)),
        "inputs": stacked([array for unit in units for array in unit.inputs_HWC], [len(u.inputs_HWC) for u in units]),
        "source_images": pa.array([list(unit.source_images) for unit in units], pa.list_(pa.large_binary())),
        "failed_stage": pa.array([why and why.stage for why in failures], pa.string()),
        "error_type": pa.array([why and why.error_type for why in failures], pa.string()),
        "error_message": pa.array([why and why.error_message for why in failures], pa.string()),
        "failed_frame": pa.array([why.frame_index if why else None for why in failures], pa.int64()),
    }
    if len(extra):
        columns["extra"] = pa.array([dict(unit.extra) for unit in units], pa.struct(list(extra)))
    return pa.table(columns)


def stacked(arrays: Sequence[NDArray[Any]], counts: Sequence[int]) -> pa.LargeBinaryArray:
    """Equal-shaped arrays as one binary value a unit: `counts` of them each, back to back, without a copy per value."""
    each = arrays[0].nbytes if arrays else 0
    buffer = allocate(each * len(arrays))
    for at, array in enumerate(arrays):
        buffer[at * each : (at + 1) * each] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return from_bytes(buffer, [count * each for count in counts])


def allocate(size_bytes: int) -> NDArray[np.uint8]:
    """Bytes to be written over, from Arrow's pool: it keeps its pages, where NumPy has large arrays mapped anew.

    Logits of 64 frames, written by the model into such a room: 0.07 ms a frame; into np.empty: 0.14; returned, then
    stacked: 0.20 (2-core EPYC, 2026-11-24).
    """
    return np.frombuffer(pa.allocate_buffer(size_bytes), np.uint8)


def from_bytes(data: NDArray[np.uint8], lengths: Sequence[int]) -> pa.LargeBinaryArray:
    """One binary column over a buffer that holds its values back to back; no copy."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def view(column: pa.ChunkedArray, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """All values of a binary column as one read-only array of items of the given shape; no copy for a single chunk."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(whole, pa.ChunkedArray):  # combine_chunks of an empty column
        return np.empty((0, *shape), dtype)
    offsets = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
    if not len(whole) or offsets[0] == offsets[-1]:
        return np.empty((0, *shape), dtype)
    data = np.frombuffer(whole.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    data.flags.writeable = False  # what came through Ray is read-only anyway; a table made here must not differ
    return data.view(dtype).reshape(-1, *shape)


def frame_counts(table: pa.Table) -> list[int]:
    """Frames of every unit in order."""
    return [int(count) for count in pc.list_value_length(table.column("frames")).to_pylist()]


def chunks(counts: Sequence[int], most: int) -> list[slice]:
    """Cut consecutive units into runs of at most `most` frames; a longer unit stands alone."""
    cuts, start, held = [], 0, 0
    for at, count in enumerate(counts):
        if held and held + count > most:
            cuts.append(slice(start, at))
            start, held = at, 0
        held += count
    if start < len(counts):
        cuts.append(slice(start, len(counts)))
    return cuts


def _plain(frame: Frame) -> dict[str, Any]:
    return {
        "frame_index": frame.frame_index,
        "pts_s": frame.pts_s,
        "height_px": frame.height_px,
        "width_px": frame.width_px,
    }
