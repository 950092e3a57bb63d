"""The scoring actor: all four stages in one process, for models on CPUs.

Decoded images, logits and masks never leave the process. That saves 1 MB per frame through the object store (4 classes,
224×224 grid), and the workers that would decode and write, whose imports take seconds on few cores.
"""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from fsf_core.logs import LogSettings
from fsf_core.score.actor_starts import reported_start
from fsf_core.score.clock import Clock
from fsf_core.score.recovery import recovering_decode, tracked_write
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask

MAX_HELD_FRAMES = 16
"""Frames whose logits are held until their masks are made: 13 MB for 4 classes on a 224×224 grid."""

MAX_PART_S, MAX_PART_BYTES = 30.0, 64 << 20
"""A part is committed after this time or this size even if it is not full; it bounds the loss of a killed job."""


class ScoringActor:
    """Scores blocks of the manifest and commits parts of the run."""

    def __init__(self, *, spec: PipelineSpec, tracker: Any, observed: LogSettings | None) -> None:
        """Load the model."""
        with reported_start(tracker, joined=not spec.owns_cluster):
            self._infer = Infer(**spec.model, chunk_frames=MAX_HELD_FRAMES)
        self._spec = spec
        self._tracker = tracker
        self._clock = Clock(observed, meter=self._infer.meter)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score the items of a block and commit all of their units.

        Returns:
            One row with the number of units.

        Raises:
            GateError: almost all of the first items failed.
        """
        held: list[pa.Table] = []
        units, part_started = 0, time.monotonic()
        decoded = recovering_decode(rows, self._spec.decode, self._spec.child, self._tracker)
        for table in self._clock.tables("decode", decoded):
            for masked in self.infer_and_mask(table):
                held.append(masked)
                units += masked.num_rows
                if self._is_full(held) or time.monotonic() - part_started >= MAX_PART_S:
                    self._commit(held)
                    held, part_started = [], time.monotonic()
        self._commit(held)
        return pa.table({"units": pa.array([units], pa.int64())})

    def infer_and_mask(self, decoded: pa.Table) -> Iterator[pa.Table]:
        """Infer and mask decoded units, a few frames at a time."""
        for inferred in self._clock.tables("infer", self._infer(decoded)):
            with self._clock.stage("mask"):
                masked = mask(inferred, self._spec.mask)
            yield masked

    def _commit(self, held: list[pa.Table]) -> None:
        """Commit the held units as a part."""
        tracked_write(held, self._spec.write, self._tracker, self._clock)

    def _is_full(self, held: list[pa.Table]) -> bool:
        """Return whether the held units make a full part."""
        units, size_bytes = (sum(getattr(table, name) for table in held) for name in ("num_rows", "nbytes"))
        return bool(units >= self._spec.part_units or size_bytes >= MAX_PART_BYTES)
