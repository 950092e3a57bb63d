"""Videos to units: decodes the segments that a row asks for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import DecodeError, ItemError, LabelError, LimitError
from fsf_core.manifest import LABEL_COLUMN
from fsf_core.media import video
from fsf_core.model.input_figures import input_figures
from fsf_core.stages import units
from fsf_core.stages.decode_row import SEE_FIRST_FAILURE, failures_for_rest, share_of
from fsf_core.stages.decode_settings import DecodeSettings, fit_within
from fsf_core.stages.labels import FrameLabels
from fsf_core.stages.units import Frame, Unit
from fsf_core.stages.video_plan import VideoPlan, plan_open_video, unpack_plan

OVERLAY_SOURCE_QUALITY = 95
"""JPEG quality of video frames that overlays are drawn on."""


def decode_video(
    file: BinaryIO,
    blank: Unit,
    row: Mapping[str, Any],
    settings: DecodeSettings,
    *,
    heartbeat: Callable[[], None] = lambda: None,
) -> Iterator[Unit | None]:
    """Decode the segments that a row asks for, share by share of the video's plan.

    Args:
        file: the video.
        blank: the unit without segments.
        row: a row of the manifest; with `share` and `plan`, one task's share.
        settings: settings of the stage.
        heartbeat: called every few frames while the frames are counted by decoding.

    Yields:
        A unit per segment, failed ones if the labels of the video cannot be used; None for a segment that was done in
        an earlier run but had to be decoded past. Shares that were done whole are skipped.
    """
    if row.get("plan"):
        plan = unpack_plan(row["plan"])
    else:
        labels = row.get(LABEL_COLUMN)
        plan = plan_open_video(file, blank.uri, settings, label_uri=labels, heartbeat=heartbeat)
    share = share_of(row)
    done = frozenset(row["done_segments"] or ())
    notes = "; ".join(plan.index.notes) or None
    whole = replace(blank, segments=plan.segments, item_sha256=plan.item_sha256, notes=notes)
    if plan.labels and plan.labels.error:
        error = LabelError(plan.labels.error)
        for unit in failures_for_rest(row, set(), plan.segments, error, stage="label"):
            yield replace(unit, item_version=blank.item_version)
        return
    for task in plan.tasks:
        if (share is None or task == share) and not done.issuperset(task):
            yield from _decode_share(storage.path_or_file(blank.uri, file), whole, plan, task, done, settings)


def _decode_share(
    source: video.Source, whole: Unit, plan: VideoPlan, task: range, done: frozenset[int], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """Decode one task's segments: segment k holds the wanted frames k·n to (k+1)·n − 1, whichever can be decoded.

    Lost frames leave their segments incomplete. The first of these is held back until the decoder gives the reason at
    the end, and carries it; the others refer to it.
    """
    index, size = plan.index, settings.segment_frames
    wanted = video.select_frames(index, settings.sampling)
    starts = [0, *wanted[size::size].tolist(), index.frames]  # the tasks cover all frames, wanted or not
    frames = video.decode_frames(
        source,
        index,
        range(starts[task.start], starts[task.stop]),
        sampling=settings.sampling,
        max_frame_px=settings.limits.max_pixels,
    )
    labels = _labels_of_share(plan, task, done, wanted, settings)
    cursor = _FrameCursor(_prepare(frame, settings) for frame in frames)
    incomplete: Unit | None = None
    for number in task:
        prepared = cursor.take_before(starts[number + 1] if number + 1 < task.stop else None)
        if number in done:
            yield None
            continue
        unit = replace(
            whole,
            segment=number,
            frames=[one.frame for one in prepared],
            inputs_HWC=[one.input_HWC for one in prepared],
            source_images=[one.jpeg for one in prepared if one.jpeg is not None],
        )
        if labels:
            unit = labels.attach(unit)
        complete = 0 < len(prepared) == len(wanted[number * size : (number + 1) * size])
        failed_at_end = number + 1 == task.stop and cursor.error is not None and incomplete is None
        if complete and not failed_at_end:
            yield unit
        elif incomplete is None:
            incomplete = unit
        else:
            yield unit.failed(SEE_FIRST_FAILURE)
    if incomplete is not None:
        error = cursor.error or _missing_frames_error(index, settings.sampling, len(wanted))
        yield incomplete.failed(units.failure("decode", error, frame_index=getattr(error, "frame_index", None)))


def _labels_of_share(
    plan: VideoPlan, task: range, done: frozenset[int], wanted: NDArray[np.int64], settings: DecodeSettings
) -> FrameLabels | None:
    """Return the labels of the frames that are left to score in a share; None for a video without labels."""
    if plan.labels is None:
        return None
    size = settings.segment_frames
    frames = [wanted[number * size : (number + 1) * size] for number in task if number not in done]
    return FrameLabels(plan.labels, np.concatenate(frames).tolist(), settings)


def _missing_frames_error(index: video.VideoIndex, sampling: video.Sampling, wanted: int) -> ItemError:
    """Return the reason for missing frames where the decoder raised none."""
    if wanted:
        return DecodeError(f"found fewer frames than the {index.frames} that the file announces")
    clock = index.clock()
    last_s = float(int(clock[-1] - clock[0]) * index.time_base)
    end = "its end" if sampling.end_s is None else f"{sampling.end_s:g} s"
    return LimitError(
        f"found no frame between {sampling.start_s:g} s and {end}, the last one begins at {last_s:.3f} s; correct "
        "--start-s and --end-s or leave the video out"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _PreparedFrame:
    """What is kept of a video frame; its full-size image is released at once."""

    frame: Frame
    input_HWC: NDArray[np.uint8]
    jpeg: bytes | None
    """The full-size image, to draw an overlay on; None without overlays."""


def _prepare(frame: video.VideoFrame, settings: DecodeSettings) -> _PreparedFrame:
    """Fit a frame into the network's input.

    Raises:
        LimitError: the input exceeds its limit.
    """
    height_px, width_px = frame.image_HWC.shape[:2]
    input_HWC = fit_within(frame.image_HWC, settings)
    return _PreparedFrame(
        frame=Frame(
            frame_index=frame.frame_index,
            pts_s=frame.pts_s,
            height_px=height_px,
            width_px=width_px,
            figures=input_figures(input_HWC, settings.profile.channel_order),
        ),
        input_HWC=input_HWC,
        jpeg=encode_jpeg(frame.image_HWC) if settings.overlays else None,
    )


def encode_jpeg(image_HWC: NDArray[np.uint8]) -> bytes:
    """Encode a frame for the overlay to be drawn on."""
    _, data = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, OVERLAY_SOURCE_QUALITY])
    return data.tobytes()


class _FrameCursor:
    """Frames in order, up to the error that ends them.

    Attributes:
        error: what ended the frames; None while there are more, or if they ended as announced.
    """

    def __init__(self, frames: Iterator[_PreparedFrame]) -> None:
        self._frames = frames
        self._next: _PreparedFrame | None = None
        self.error: ItemError | None = None
        self._advance()

    def take_before(self, frame_index: int | None) -> list[_PreparedFrame]:
        """Take the remaining frames before this one; all that remain if it is None."""
        taken = []
        while self._next is not None and (frame_index is None or self._next.frame.frame_index < frame_index):
            taken.append(self._next)
            self._advance()
        return taken

    def _advance(self) -> None:
        """Decode one frame ahead."""
        try:
            self._next = next(self._frames, None)
        except ItemError as error:
            self._next, self.error = None, error
