"""All four stages in one actor, for models on CPUs.

Decoded pictures, answers and masks never leave the process: a frame saves 1 MB through the object store (4 classes on a
grid of 224×224), and a job saves the workers that would decode and write, whose imports take seconds on few cores.
"""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from fsf_core.score.recovery import counting_write, recovering_decode
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask

MAX_HELD_FRAMES = 16
"""Frames whose answers are held before their masks are drawn: 13 MB of logits of 4 classes, 224×224."""

PART_S, PART_BYTES = 30.0, 64 << 20
"""After so long, or so much, what is there is committed, full part or not: a killed job has no more to do again."""


class ScoringActor:
    """Takes blocks of the manifest, and commits parts of the run."""

    def __init__(self, *, spec: PipelineSpec, watch: Any) -> None:
        """Load the model, for answers that are used up at once."""
        self._infer = Infer(**spec.model, group_frames=MAX_HELD_FRAMES)
        self._spec = spec
        self._watch = watch

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score the items of a block.

        Returns:
            One row, with how many units are committed: all of them.

        Raises:
            GateError: so many items failed so early that the job should not go on.
        """
        held: list[pa.Table] = []
        units, since = 0, time.monotonic()
        for table in recovering_decode(rows, self._spec.decode, self._spec.child, self._watch):
            for masked in self.masks(table):
                held.append(masked)
                units += masked.num_rows
                if self._is_part(held) or time.monotonic() - since >= PART_S:
                    counting_write(held, self._spec.write, self._watch)
                    held, since = [], time.monotonic()
        counting_write(held, self._spec.write, self._watch)
        return pa.table({"units": pa.array([units], pa.int64())})

    def masks(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decoded units to masked ones, some frames at a time."""
        for answered in self._infer(table):
            yield mask(answered, self._spec.mask)

    def _is_part(self, held: list[pa.Table]) -> bool:
        units, size_bytes = (sum(getattr(table, name) for table in held) for name in ("num_rows", "nbytes"))
        return bool(units >= self._spec.part_units or size_bytes >= PART_BYTES)
