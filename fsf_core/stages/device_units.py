"""The infer stage on a card: class maps of small images from the card, the network's scores of large ones.

Which of the two a unit has depends on the sizes of its frames, and on the actor's share of a card, so that it does not
change from run to run. Knows batches and the model, no files and no masks.
"""

# N frames, K classes, H×W pixels, h×w cells of the network's grid

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.model.device_model import DeviceModel, Size
from fsf_core.stages import fused_outputs, units
from fsf_core.stages.free_sizes import frame_sizes


@dataclass(frozen=True, kw_only=True)
class DeviceUnits:
    """Runs a model on a card over units whose frames have inputs of one size."""

    model: DeviceModel
    input_hw: Size
    num_classes: int
    max_frames: int
    """Maximum frames per output table, unless a unit or a batch is larger."""
    max_bytes: int
    """Maximum bytes of outputs per table, unless a unit has more."""
    planes: bool
    """Whether the winners on the grid are wanted too."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units; see Infer."""
        counts, sizes = units.frame_counts(table), frame_sizes(table)
        frames_NHWC = units.as_array(table.column("inputs"), np.uint8, (*self.input_hw, 3))
        frame_bytes = [self._output_bytes(*size) for size in sizes]
        rest = table.drop_columns(["inputs"])
        most = self._frames_per_chunk(max(frame_bytes, default=1))
        unit_bytes = units.sums(frame_bytes, counts)
        at = 0
        for chunk in units.chunks(counts, most, sizes=unit_bytes, max_bytes=self.max_bytes):
            stop = at + sum(counts[chunk])
            part = rest.slice(chunk.start, chunk.stop - chunk.start)
            yield self._with_outputs(part, counts[chunk], sizes[at:stop], frames_NHWC[at:stop])
            at = stop

    def _frames_per_chunk(self, frame_bytes: int) -> int:
        """Return the maximum frames per output table: full calls, within the maximum of bytes if one call is.

        Args:
            frame_bytes: of the outputs of the largest frame.
        """
        batch = self.model.batch_frames
        most = max(batch, self.max_frames // batch * batch)
        return min(most, self.max_bytes // frame_bytes // batch * batch) or most

    def _with_outputs(
        self, part: pa.Table, counts: Sequence[int], sizes: Sequence[Size], frames_NHWC: NDArray[np.uint8]
    ) -> pa.Table:
        """Return units with their class maps or scores."""
        on_card = self._units_on_card(counts, sizes)
        of_frame = np.repeat(on_card, counts)
        columns = self._scores(frames_NHWC, np.flatnonzero(~of_frame).tolist(), counts, on_card)
        if self.model.makes_maps:
            columns |= self._class_maps(frames_NHWC, np.flatnonzero(of_frame).tolist(), counts, on_card, sizes)
        for name, column in columns.items():
            part = part.append_column(name, column)
        return part

    def _units_on_card(self, counts: Sequence[int], sizes: Sequence[Size]) -> NDArray[np.bool_]:
        """Return whether the card makes the class maps of a unit: of all of its frames or none."""
        fit = [self.model.makes_map(*size) for size in sizes]
        return np.array(
            [fitting == count for fitting, count in zip(units.sums(fit, counts), counts, strict=True)], bool
        )

    def _scores(
        self, frames_NHWC: NDArray[np.uint8], chosen: Sequence[int], counts: Sequence[int], on_card: NDArray[np.bool_]
    ) -> dict[str, pa.LargeBinaryArray]:
        """Return the network's outputs of the units whose class maps the card does not make."""
        outputs = units.allocate(self._score_bytes() * len(chosen))
        self.model.scores(frames_NHWC, chosen, outputs.view(np.float32).reshape(len(chosen), *self.model.scores_shape))
        lengths = [0 if maps else count * self._score_bytes() for count, maps in zip(counts, on_card, strict=True)]
        return {"outputs": units.from_bytes(outputs, lengths)}

    def _class_maps(
        self,
        frames_NHWC: NDArray[np.uint8],
        chosen: Sequence[int],
        counts: Sequence[int],
        on_card: NDArray[np.bool_],
        sizes: Sequence[Size],
    ) -> dict[str, pa.LargeBinaryArray]:
        """Return class maps and figures of the units whose class maps the card makes."""
        lengths = [0] * len(sizes)
        for frame in chosen:
            lengths[frame] = math.prod(sizes[frame]) * self.class_bytes
        starts = [*accumulate(lengths, initial=0)]
        outputs = units.allocate(starts[-1])
        ordered = sorted(chosen, key=sizes.__getitem__)
        figures = self.model.class_maps(frames_NHWC, ordered, sizes, outputs=outputs, starts=starts)
        columns = {fused_outputs.CLASS_MAPS: units.from_bytes(outputs, units.sums(lengths, counts))}
        if self.model.has_figures:
            back = np.argsort(ordered)  # the order of the frames
            figures = {name: values[back] for name, values in figures.items()}
            kept = [count if maps else 0 for count, maps in zip(counts, on_card, strict=True)]
            columns |= fused_outputs.to_columns(figures, kept, planes=self.planes)
        return columns

    @property
    def class_bytes(self) -> int:
        """Return the bytes of a pixel of a class map."""
        return np.dtype(masks.class_map_dtype(self.num_classes)).itemsize

    def _score_bytes(self) -> int:
        """Return the bytes of the scores of a frame."""
        return math.prod(self.model.scores_shape) * np.dtype(np.float32).itemsize

    def _output_bytes(self, height_px: int, width_px: int) -> int:
        """Return the bytes of the outputs of a frame."""
        if not self.model.makes_map(height_px, width_px):
            return self._score_bytes()
        planes = math.prod(self.model.scores_shape[1:]) * fused_outputs.CELL_BYTES if self.planes else 0
        return height_px * width_px * self.class_bytes + planes
