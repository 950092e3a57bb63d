"""Videos to units: the plan that lets several tasks decode one video, and each task's share of it."""

import pickle
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import DecodeError, ItemError, LimitError
from fsf_core.media import video
from fsf_core.model import preprocess
from fsf_core.stages import units
from fsf_core.stages.decode_row import HEAD_BYTES, SAME_LOSS, DecodeSettings, is_video, share_of
from fsf_core.stages.units import Frame, Unit

VIDEO_PICTURE_QUALITY = 95

"""Longest time that a video may take for one more frame."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """What is known of a video once its packets were read: enough for a task to decode its share of the segments."""

    index: video.VideoIndex
    item_sha256: str | None
    tasks: tuple[range, ...]
    """The segments of each task."""

    @property
    def segments(self) -> int:
        """Segments of the whole video."""
        return self.tasks[-1].stop


def pack(plan: Plan) -> bytes:
    """A plan to send along with a manifest row: 3 bytes a frame where frames come at an even rate."""
    return zlib.compress(pickle.dumps(plan), 1)


def plan_row(row: Mapping[str, Any], settings: DecodeSettings) -> Plan | None:
    """Read the packets of a video that is long enough for several tasks.

    Returns:
        None for what one task should decode whole: short videos, containers that cannot seek, and pictures.

    Raises:
        ItemError, OSError: nobody will decode it; the decode stage says so with the row.
    """
    storage.require_scheme(row["uri"], settings.schemes)
    with storage.open_binary(row["uri"]) as file:
        if not is_video(file.read(HEAD_BYTES), row["kind"]):
            return None
        likely = video.estimate_frames(storage.path_or_file(row["uri"], file))
        if likely is not None and likely < settings.task_segments * settings.segment_frames:
            return None
        plan = _plan(file, row["uri"], settings)
        return plan if len(plan.tasks) > 1 else None


def _plan(file: BinaryIO, uri: str, settings: DecodeSettings) -> Plan:
    index = video.index_video(
        storage.path_or_file(uri, file), max_frame_px=settings.limits.max_pixels, max_frames=settings.max_frames
    )
    wanted = video.select_frames(index, settings.sampling)
    tasks: tuple[range, ...] = (range(1),)  # where no frame is wanted somebody has to say so
    if len(wanted):
        tasks = video.partition_segments(
            index,
            wanted,
            segment_frames=settings.segment_frames,
            span_segments=settings.task_segments,
            dense=not settings.sampling.keyframes_only,
        )
    return Plan(index=index, item_sha256=_sha256(uri), tasks=tasks)


def decode_video(
    file: BinaryIO, blank: Unit, row: Mapping[str, Any], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """The segments of a video that the row asks for, one task's share after the other, whoever decodes them.

    Shares that were done in an earlier run are left out.
    """
    plan: Plan = pickle.loads(zlib.decompress(row["plan"])) if row.get("plan") else _plan(file, blank.uri, settings)  # noqa: S301 - from another task of this job
    share = share_of(row)
    done = frozenset(row["done_segments"] or ())
    whole = replace(blank, segments=plan.segments, item_sha256=plan.item_sha256)
    for task in plan.tasks:
        if (share is None or task == share) and not done.issuperset(task):
            yield from _decode_task(storage.path_or_file(blank.uri, file), whole, plan, task, done, settings)


def _decode_task(
    source: video.Source, whole: Unit, plan: Plan, task: range, done: frozenset[int], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """One unit a segment: segment k holds the wanted frames k·n to (k+1)·n − 1, whatever was decoded before.

    Segments that are done are decoded past, not given out. Lost frames leave their segments incomplete; the first
    of them waits for the reason, which the decoder gives at the end, and brings it; the others refer to it.
    """
    index, size = plan.index, settings.segment_frames
    wanted = video.select_frames(index, settings.sampling)
    starts = [0, *wanted[size::size].tolist(), index.frames]  # the tasks hold all frames between them, wanted or not
    frames = video.decode_frames(
        source,
        index,
        range(starts[task.start], starts[task.stop]),
        sampling=settings.sampling,
        max_frame_px=settings.limits.max_pixels,
    )
    reader = _Reader(_prepared(frame, settings) for frame in frames)
    waiting: Unit | None = None
    for number in task:
        prepared = reader.before(starts[number + 1] if number + 1 < task.stop else None)
        if number in done:
            yield None
            continue
        unit = replace(
            whole,
            segment=number,
            frames=[one.frame for one in prepared],
            inputs_HWC=[one.input_HWC for one in prepared],
            source_images=[one.picture for one in prepared if one.picture is not None],
        )
        complete = 0 < len(prepared) == len(wanted[number * size : (number + 1) * size])
        ended_badly = number + 1 == task.stop and reader.error is not None and waiting is None
        if complete and not ended_badly:
            yield unit
        elif waiting is None:
            waiting = unit
        else:
            yield unit.failed(SAME_LOSS)
    if waiting is not None:
        error = reader.error or _nothing_came(index, settings.sampling, len(wanted))
        yield waiting.failed(units.failure("decode", error, frame_index=getattr(error, "frame_index", None)))


def _nothing_came(index: video.VideoIndex, sampling: video.Sampling, wanted: int) -> ItemError:
    """Why a task has fewer frames than it should, where the decoder did not complain."""
    if wanted:
        return DecodeError(f"found fewer frames than the {index.frames} that the file announces")
    last_s = index.time_s(index.frames - 1) - index.time_s(0)
    end = "its end" if sampling.end_s is None else f"{sampling.end_s:g} s"
    return LimitError(
        f"found no frame between {sampling.start_s:g} s and {end}, the last one begins at {last_s:.3f} s; correct "
        "--start-s and --end-s or leave the video out"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """What is kept of a video frame; its full picture is let go at once."""

    frame: Frame
    input_HWC: NDArray[np.uint8]
    picture: bytes | None


def _prepared(frame: video.VideoFrame, settings: DecodeSettings) -> _Prepared:
    height_px, width_px = frame.image_HWC.shape[:2]
    return _Prepared(
        frame=Frame(frame_index=frame.frame_index, pts_s=frame.pts_s, height_px=height_px, width_px=width_px),
        input_HWC=preprocess.fit(frame.image_HWC, settings.profile),
        picture=_picture(frame.image_HWC) if settings.overlays else None,
    )


class _Reader:
    """Frames in order, up to the error that ends them, which is kept."""

    def __init__(self, frames: Iterator[_Prepared]) -> None:
        self._frames = frames
        self._ahead: _Prepared | None = None
        self.error: ItemError | None = None
        self._advance()

    def before(self, frame_index: int | None) -> list[_Prepared]:
        """The frames that were not given yet and lie before this one; all that are left where it is None."""
        given = []
        while self._ahead is not None and (frame_index is None or self._ahead.frame.frame_index < frame_index):
            given.append(self._ahead)
            self._advance()
        return given

    def _advance(self) -> None:
        try:
            self._ahead = next(self._frames, None)
        except ItemError as error:
            self._ahead, self.error = None, error


def _sha256(uri: str) -> str | None:
    """Digest of a local video; one in a store is read in ranges, and never whole."""
    if not storage.is_local(uri):
        return None
    with storage.open_binary(uri) as file:
        return storage.sha256_of(file)


def _picture(image_HWC: NDArray[np.uint8]) -> bytes:
    """A video frame to draw the overlay upon."""
    _, data = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, VIDEO_PICTURE_QUALITY])
    return data.tobytes()
