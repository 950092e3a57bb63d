"""The stages as operators of their own, beside GPUs: each reports its time to the tracker. The work is in `stages`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray

from fsf_core.errors import ProviderError
from fsf_core.logs import LogSettings
from fsf_core.score.actor_starts import own_address, reported_start
from fsf_core.score.card_share import memory_limit
from fsf_core.score.clock import Clock
from fsf_core.score.opened import describe_card
from fsf_core.score.recovery import recovering_decode
from fsf_core.score.spec import GPU_PROVIDERS
from fsf_core.stages import infer
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.mask import mask as mask_units


def decode(
    rows: pa.Table, settings: DecodeSettings, limits: ChildLimits, tracker: Any, *, observed: LogSettings | None
) -> Iterator[pa.Table]:
    """Decode a block as an operator of its own, and report the time."""
    clock = Clock(observed, rest="decode")
    yield from clock.tables("decode", recovering_decode(rows, settings, limits, tracker))
    report(clock, tracker)


def mask(table: pa.Table, settings: MaskSettings, tracker: Any, *, observed: LogSettings | None) -> pa.Table:
    """Mask a block as an operator of its own, and report the time."""
    clock = Clock(observed, rest="mask")
    with clock.stage("mask"):
        masked = mask_units(table, settings)
    report(clock, tracker)
    return masked


class Infer(infer.Infer):
    """The model as an operator of its own, which reports its time."""

    def __init__(self, *, tracker: Any, observed: LogSettings | None, gpus: float = 0.0, **model: Any) -> None:
        """Load the model.

        Args:
            tracker: of the job.
            observed: how the driver logs.
            gpus: share of a GPU that this actor has; 0 on CPUs.
            model: arguments of the stage.
        """
        with reported_start(tracker, joined=observed is not None):
            limit_bytes = memory_limit(gpus)
            super().__init__(**model, memory_bytes=limit_bytes)
        self._clock = Clock(observed, meter=self.meter, rest="infer")
        self._tracker = tracker
        self._card = CardNote(tracker, provider=model["provider"], limit_bytes=limit_bytes)
        self._card.note(self.batch_frames)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units, as the stage does."""
        yield from self._clock.tables("infer", super().__call__(table))
        report(self._clock, self._tracker)
        self._card.note(self.batch_frames)


class CardNote:
    """Tells the tracker what the model of this actor runs on, where that is a GPU, and again when its batch changes."""

    def __init__(self, tracker: Any, *, provider: str, limit_bytes: int | None) -> None:
        """Note nothing yet; the provider and the limit of its memory are those of the actor."""
        self._tracker, self._provider, self._limit_bytes = tracker, provider, limit_bytes
        self._noted_frames = 0

    def note(self, batch_frames: int) -> None:
        """Report the card, unless it was reported with this batch."""
        if self._provider not in GPU_PROVIDERS or batch_frames == self._noted_frames:
            return
        self._noted_frames = batch_frames
        with contextlib.suppress(ProviderError):  # what is only shown must not end a job
            opened = describe_card(
                node=own_address(), provider=self._provider, batch_frames=batch_frames, limit_bytes=self._limit_bytes
            )
            self._tracker.note_opened.remote(ray.get_runtime_context().get_actor_id(), opened)


def report(clock: Clock, tracker: Any) -> None:
    """Send what was measured to the tracker, without waiting."""
    measures = clock.take()
    if measures:
        tracker.report.remote(measures)
