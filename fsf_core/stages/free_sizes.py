"""The infer stage where the size of the network's input depends on the image: batches of frames of equal size.

A frame that the network rejects ends its unit, and no other. Knows batches and the session, no files and no masks.
"""

# N frames, K classes, H×W pixels, h×w cells of the network's grid

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.errors import LimitError
from fsf_core.model import preprocess
from fsf_core.model.bundle import Signature
from fsf_core.model.fused_figures import FIGURES, PLANES
from fsf_core.model.runtime_messages import first_line, is_out_of_memory
from fsf_core.model.session import Session, failed_card
from fsf_core.model.warm_up import names_driver
from fsf_core.stages import fused_outputs, units
from fsf_core.stages.meter import ModelMeter

MAX_BATCH_PX = 1 << 23
"""Maximum pixels of one call's inputs, unless one frame or the graph's batch has more: 32 frames of 512×512, 4 of
1920×1080. The memory of a network's layers grows with them."""

Size = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Result:
    """What the model returned for one frame."""

    output: NDArray[Any]
    """Scores Khw, or a class map of a fused model."""
    grid_hw: Size
    figures: Mapping[str, NDArray[Any]]
    """Outputs of fused_figures by name; of a plain model none."""


@dataclass(frozen=True, kw_only=True)
class FreeSizes:
    """Runs a model over units whose frames have inputs of different sizes."""

    session: Session
    profile: preprocess.Profile
    signature: Signature
    meter: ModelMeter
    batch_frames: int
    """Maximum frames per call."""
    max_frames: int
    """Maximum frames per output table, unless a unit is larger."""
    max_bytes: int
    """Maximum bytes of outputs per table, unless a unit has more."""
    planes: bool
    """Whether a fused model returns the winners on its grid too."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units; see Infer.

        Yields:
            The same units with the columns that `Infer` adds, and `grids`: rows and columns of the network's grid for
            every frame. A unit with a frame that the network rejects ends before it, with the failure.
        """
        counts = units.frame_counts(table)
        sizes = frame_sizes(table)
        inputs = [preprocess.input_hw(*size, self.profile) for size in sizes]
        frames = units.as_arrays(table.column("inputs"), np.uint8, [(*size, 3) for size in inputs])
        output_bytes = units.sums([self._output_bytes(*both) for both in zip(sizes, inputs, strict=True)], counts)
        rest = table.drop_columns(["inputs"])
        at = 0
        for chunk in units.chunks(counts, self.max_frames, sizes=output_bytes, max_bytes=self.max_bytes):
            stop = at + sum(counts[chunk])
            results = self._run(frames[at:stop], sizes[at:stop])
            yield self._with_results(rest.slice(chunk.start, chunk.stop - chunk.start), counts[chunk], results)
            at = stop

    def _output_bytes(self, size: Size, input_hw: Size) -> int:
        """Return about how many bytes a frame's outputs have."""
        cells = math.prod(self.signature.grid_of(input_hw))
        if not self.session.fused:
            return cells * self.signature.output_shape[1] * np.dtype(np.float32).itemsize
        # A class map has 1 or 2 bytes per pixel.
        return 2 * math.prod(size) + (cells * fused_outputs.CELL_BYTES if self.planes else 0)

    def _run(self, frames: Sequence[NDArray[np.uint8]], sizes: Sequence[Size]) -> list[_Result | LimitError]:
        """Return the result of every frame, from calls with frames of one size; fused ones of one original size."""
        keys: list[Size] = [*sizes] if self.session.fused else [(len(frame), frame.shape[1]) for frame in frames]
        found: dict[int, _Result | LimitError] = {}
        for key, members in groupby(sorted(range(len(frames)), key=keys.__getitem__), keys.__getitem__):
            chosen = list(members)
            step = frames_per_call(frames[chosen[0]].size // 3, self.batch_frames, self.session.fixed_batch)
            for start in range(0, len(chosen), step):
                batch = chosen[start : start + step]
                found |= zip(batch, self._try(np.stack([frames[at] for at in batch]), key), strict=True)
        return [found[at] for at in range(len(frames))]

    def _try(self, frames_NHWC: NDArray[np.uint8], size: Size) -> list[_Result | LimitError]:
        """Return the results of one call; where it fails, of a call per frame, whose failure is the frame's alone.

        Raises:
            ResumableError: the card or its libraries fail, as they would for every frame.
        """
        try:
            return self._call(frames_NHWC, size)
        except RuntimeError as error:
            reason = str(error.__cause__)
            if self.session.provider != "cpu" and names_driver(reason) and not is_out_of_memory(reason):
                raise failed_card(first_line(reason)) from error
            if len(frames_NHWC) > 1:
                return [self._try(frame_HWC[None], size)[0] for frame_HWC in frames_NHWC]
            rows, columns = frames_NHWC.shape[1:3]
            rejected = LimitError(
                f"the network rejects its input of {columns}×{rows} pixels for this image: {error}; scale the image to "
                "another size, or leave it out"
            )
            return [rejected]

    def _call(self, frames_NHWC: NDArray[np.uint8], size: Size) -> list[_Result | LimitError]:
        """Return the results of one call.

        Raises:
            RuntimeError: onnxruntime rejects the batch or runs out of memory.
        """
        if not self.session.fused:
            batch_NCHW = preprocess.normalise(frames_NHWC, self.profile.levels())
            with self.meter.call(len(batch_NCHW)):
                scores_NKhw = self.session.run(batch_NCHW)
            return [_Result(output=one_Khw, grid_hw=one_Khw.shape[1:], figures={}) for one_Khw in scores_NKhw]
        with self.meter.call(len(frames_NHWC)):
            class_maps_NHW, figures = self.session.run_figures(
                frames_NHWC, height_px=size[0], width_px=size[1], planes=self.planes
            )
        grid_hw = figures[PLANES[0]].shape[2:] if self.planes else (0, 0)
        return [
            _Result(output=one_HW, grid_hw=grid_hw, figures={name: values[at] for name, values in figures.items()})
            for at, one_HW in enumerate(class_maps_NHW)
        ]

    def _with_results(self, part: pa.Table, counts: Sequence[int], results: Sequence[_Result | LimitError]) -> pa.Table:
        """Return units with the columns of their results; one with a failed frame ends before it."""
        kept: list[list[_Result]] = []
        failed: dict[int, tuple[int, LimitError]] = {}
        rest = iter(results)
        for unit, count in enumerate(counts):
            of_unit = [next(rest) for _ in range(count)]
            good = [one for one in of_unit if isinstance(one, _Result)]
            wrong = next(((at, one) for at, one in enumerate(of_unit) if isinstance(one, LimitError)), None)
            if wrong is not None:
                failed[unit] = wrong
                good = [one for one in of_unit[: wrong[0]] if isinstance(one, _Result)]
            kept.append(good)
        part = _cut(part, failed) if failed else part
        done, frames = [one for good in kept for one in good], [len(good) for good in kept]
        name = fused_outputs.CLASS_MAPS if self.session.fused else "outputs"
        part = part.append_column(name, units.stack([one.output for one in done], frames))
        grids = [[{"rows": one.grid_hw[0], "columns": one.grid_hw[1]} for one in good] for good in kept]
        part = part.append_column("grids", pa.array(grids, units.GRIDS))
        if self.session.has_figures:
            names = [*FIGURES, *(PLANES if self.planes else ())]
            figures = {name: [one.figures[name] for one in done] for name in names}
            for name, column in fused_outputs.to_columns(figures, frames, planes=self.planes).items():
                part = part.append_column(name, column)
        return part


def frames_per_call(pixels: int, batch_frames: int, fixed_batch: int | None) -> int:
    """Return the frames per call.

    Args:
        pixels: of each frame's input.
        batch_frames: most of them.
        fixed_batch: number that the graph is built for, if it is.
    """
    fixed = fixed_batch or 1
    return max(1, min(batch_frames, MAX_BATCH_PX // pixels) // fixed) * fixed


def frame_sizes(table: pa.Table) -> list[Size]:
    """Return the original size of every frame of all units, in order."""
    return [
        (frame["height_px"], frame["width_px"]) for frames in table.column("frames").to_pylist() for frame in frames
    ]


def _cut(part: pa.Table, failed: Mapping[int, tuple[int, LimitError]]) -> pa.Table:
    """Return units of which some end before a frame, with its failure.

    Args:
        part: units.
        failed: position of a unit to that of the frame in it, and what is wrong with it.
    """
    names = ("frames", "failed_stage", "error_type", "error_message", "failed_frame")
    columns = {name: part.column(name).to_pylist() for name in names}
    for unit, (at, error) in failed.items():
        frames = columns["frames"][unit]
        why = units.failure("infer", error, frame_index=frames[at]["frame_index"])
        columns["frames"][unit] = frames[:at]
        columns["failed_stage"][unit], columns["error_type"][unit] = why.stage, why.error_type
        columns["error_message"][unit], columns["failed_frame"][unit] = why.error_message, why.frame_index
    for name, values in columns.items():
        at = part.column_names.index(name)
        part = part.set_column(at, name, pa.array(values, part.schema.field(name).type))
    return part
