"""The scoring actor: all four stages in one process, for models on CPUs, and for pictures scored in windows.

Decoded images, logits and masks never leave the process. That saves 1 MB per frame through the object store (4 classes,
224×224 grid), and the workers that would decode and write, whose imports take seconds on few cores.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from fsf_core.logs import LogSettings
from fsf_core.masks import load_kernels
from fsf_core.score.actor_starts import reported_start
from fsf_core.score.card_share import memory_limit
from fsf_core.score.clock import Clock
from fsf_core.score.measured import CardNote
from fsf_core.score.recovery import recovering_decode, recovering_tiles, tracked_write
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask
from fsf_core.stages.tiles import TileSettings, score_tiled
from fsf_core.stages.watchdog import watchdog

MAX_HELD_FRAMES = 16
"""Frames whose logits are held until their masks are made: 13 MB for 4 classes on a 224×224 grid."""

MAX_PART_S, MAX_PART_BYTES = 30.0, 64 << 20
"""A part is committed after this time or this size even if it is not full; it bounds the loss of a killed job."""


class ScoringActor:
    """Scores blocks of the manifest and commits parts of the run."""

    def __init__(self, *, spec: PipelineSpec, tracker: Any, observed: LogSettings | None) -> None:
        """Load the model, and beside it the kernels."""
        threading.Thread(target=load_kernels, daemon=True).start()
        with reported_start(tracker, joined=not spec.owns_cluster):
            limit_bytes = memory_limit(spec.gpus)
            self._infer = Infer(**spec.model, chunk_frames=MAX_HELD_FRAMES, memory_bytes=limit_bytes)
        self._card = CardNote(tracker, provider=spec.provider, limit_bytes=limit_bytes)
        self._card.note(self._infer.batch_frames)
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
        for masked in self._tiled(rows, self._spec.tile) if self._spec.tile else self._masked(rows):
            held.append(masked)
            units += masked.num_rows
            if self._is_full(held) or time.monotonic() - part_started >= MAX_PART_S:
                self._commit(held)
                held, part_started = [], time.monotonic()
        self._commit(held)
        self._card.note(self._infer.batch_frames)
        return pa.table({"units": pa.array([units], pa.int64())})

    def _masked(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Decode, infer and mask the items of a block."""
        decoded = recovering_decode(rows, self._spec.decode, self._spec.child, self._tracker)
        for table in self._clock.tables("decode", decoded):
            yield from self.infer_and_mask(table)

    def _tiled(self, rows: pa.Table, settings: TileSettings) -> Iterator[pa.Table]:
        """Score the pictures of a block in windows, as many at a time as the loaded model takes."""
        settings = replace(settings, batch_frames=self._infer.batch_frames)

        def infer(windows: pa.Table) -> Iterator[pa.Table]:
            return self._clock.tables("infer", self._infer(windows))

        def score(chosen: pa.Table) -> Iterator[pa.Table]:
            limit = partial(watchdog, self._spec.child.item_s)
            return score_tiled(chosen, infer, settings, watchdog=limit, timed=self._clock.stage)

        return recovering_tiles(rows, score, settings, self._tracker)

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
