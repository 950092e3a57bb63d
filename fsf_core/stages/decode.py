"""First stage: manifest rows to the network's inputs. A bad item becomes a unit with a reason.

What an item is (image or video) is read from its bytes, never from its name. Knows no model beyond its input profile.
"""

import contextlib
import hashlib
import itertools
import os
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import geometry, images, members, storage, units, video
from fsf_core.errors import DecodeError, FetchError, ItemError, LimitError
from fsf_core.units import Failure, Frame, Unit

HEAD_BYTES = 4096
HELD_ITEMS = 64
"""Images that leave together; at 224×224 they are 10 MB."""
VIDEO_PICTURE_QUALITY = 95
STALL_S = 60.0
"""Longest time that a video may take for one more frame."""
TASK_SEGMENTS = 8
"""Segments of a task, unless it is told otherwise: with 64 frames each, 4 s of work at 1080p."""

SAME_LOSS = Failure(
    stage="decode", error_type=video.BrokenVideoError.__name__, error_message="see the first failure of this video"
)
"""Segments behind the first that lost frames: they fail, and are tried again, with it."""


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """What a decode task needs to know; plain values, so that it travels to any worker."""

    profile: geometry.Profile
    limits: images.Limits
    extra: pa.Schema
    """Pass-through columns of the manifest."""
    segment_frames: int
    """Most frames of one unit."""
    overlays: bool
    """Whether the source pictures travel along, to be drawn upon."""
    schemes: tuple[str, ...]
    """URI schemes that may be opened."""
    sampling: video.Sampling = video.EVERY_FRAME
    """Which frames of a video are wanted."""
    max_frames: int = video.MAX_FRAMES
    """Most frames of one video, wanted or not."""
    task_segments: int = TASK_SEGMENTS
    """Segments that one task decodes of a long video."""


def no_alarm(running: bool) -> None:  # noqa: FBT001 - a switch
    """Let every item take its time."""


def decode(rows: pa.Table, settings: DecodeSettings, *, alarm: Callable[[bool], None] = no_alarm) -> Iterator[pa.Table]:
    """Decode manifest rows into units.

    Args:
        rows: item_id, uri, kind, attempt, done_segments (list or null), `extra` where the manifest has columns, and
            where a task gets some segments of a video `share` (first, stop and total) and `plan` (of `pack`).
        settings: as it says.
        alarm: called with True when an item, or the next segment of one, begins, and with False when it is there.
            Segments that were done in an earlier run are decoded past, and count as any other.

    Yields:
        Tables of units (see units.to_table): one for some of the images, one for every segment of a long video.
    """
    held: list[Unit] = []
    every = rows.to_pylist()
    openings = members.open_ahead([row["uri"] for row in every], schemes=settings.schemes)
    for row, opening in zip(every, openings, strict=True):
        alarm(True)
        for unit in _decode_item(row, opening, settings):
            if unit is None:
                alarm(True)
            elif unit.segments > 1:
                alarm(False)  # who takes the segment may take long
                yield units.to_table([unit], extra=settings.extra)
                alarm(True)
            else:
                held.append(unit)
        alarm(False)
        if len(held) >= HELD_ITEMS:
            yield units.to_table(held, extra=settings.extra)
            held = []
    if held:
        yield units.to_table(held, extra=settings.extra)


def blank_unit(row: Mapping[str, Any]) -> Unit:
    """What is known of an item before its bytes are."""
    return Unit(item_id=row["item_id"], uri=row["uri"], attempt=row["attempt"], extra=row.get("extra") or {})


def lost_rest(row: Mapping[str, Any], given: set[int], segments: int | None, error: ItemError | OSError) -> list[Unit]:
    """The segments that a row still owes when an error ends it: the first has the reason, the others refer to it.

    Args:
        row: of the manifest, or a task's share of one.
        given: segments that it has given.
        segments: of the whole item, where the row does not say; None where nobody knows.
        error: what ended it.
    """
    gone = given | {*(row["done_segments"] or ())}
    share = _share(row)
    if share is not None:
        segments = row["share"]["total"]
        missing = [number for number in share if number not in gone]
    elif segments is not None:
        missing = [number for number in range(segments) if number not in gone]
    else:
        # A video that vanished after some of its segments were done must not take the number of one of them.
        missing = [next(number for number in itertools.count() if number not in gone)]
        segments = missing[0] + 1
    why = units.failure("decode", error)
    others = replace(SAME_LOSS, error_type=why.error_type)
    blank = replace(blank_unit(row), segments=segments)
    return [replace(blank, segment=number).failed(why if number == missing[0] else others) for number in missing]


def _share(row: Mapping[str, Any]) -> range | None:
    """The segments of a video that a row stands for; None for all of the item."""
    share = row.get("share")
    return range(share["first"], share["stop"]) if share else None


def _decode_item(row: Mapping[str, Any], opening: storage.Opening, settings: DecodeSettings) -> Iterator[Unit | None]:
    """All units of one item, whatever goes wrong in the last one; None where a segment was done in an earlier run."""
    blank = blank_unit(row)
    given: set[int] = set()
    try:
        with opening() as file:
            blank = replace(blank, item_version=storage.version(file))
            head = file.read(HEAD_BYTES)
            if _is_video(head, row["kind"]):
                for unit in _decode_video(file, blank, row, settings):
                    given.update(() if unit is None else (unit.segment,))
                    yield unit
            else:
                yield _decode_image(head + _rest(file, head, settings.limits), blank, settings)
    except (ItemError, OSError) as error:
        for unit in lost_rest(row, given, None, error):
            yield replace(unit, item_version=blank.item_version)


def _is_video(head: bytes, kind: str | None) -> bool:
    """Whether the bytes are a video's.

    Raises:
        DecodeError: they are a picture and the manifest says video, or the other way round.
    """
    container = None if images.sniff(head) else video.sniff_container(head)
    if kind == "image" and container:
        raise DecodeError(f"found a video ({container}), the manifest says image; correct its kind")
    if kind == "video" and images.sniff(head):
        raise DecodeError(
            f"found a picture ({images.sniff(head)}), the manifest says video; correct its kind or leave it empty"
        )
    return container is not None


def _rest(file: BinaryIO, head: bytes, limits: images.Limits) -> bytes:
    """What follows the head.

    Raises:
        LimitError: the file is larger than the limit, and is not read for that.
    """
    most = limits.max_bytes + 1 - len(head)
    with contextlib.suppress(FetchError, OSError):  # a web server that does not tell the size cannot seek either
        size = file.seek(0, os.SEEK_END)
        file.seek(len(head))
        if size > limits.max_bytes:
            raise LimitError(f"found {size} bytes, the limit is {limits.max_bytes}; raise --max-bytes")
        most = size - len(head)  # a read of a gigabyte takes a gigabyte, however short the file
    return file.read(most)


def _decode_image(data: bytes, blank: Unit, settings: DecodeSettings) -> Unit:
    if len(data) > settings.limits.max_bytes:
        raise LimitError(f"found more than {settings.limits.max_bytes} bytes, which is the limit; raise --max-bytes")
    image_HWC = images.decode_bgr(data, honour_exif=settings.profile.honour_exif, limits=settings.limits)
    height_px, width_px = image_HWC.shape[:2]
    return replace(
        blank,
        item_sha256=hashlib.sha256(data).hexdigest(),
        frames=[Frame(frame_index=0, pts_s=None, height_px=height_px, width_px=width_px)],
        inputs_HWC=[geometry.fit(image_HWC, settings.profile)],
        pictures=[data] if settings.overlays else [],
    )


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
        if not _is_video(file.read(HEAD_BYTES), row["kind"]):
            return None
        likely = video.likely_frames(_source(file, row["uri"]))
        if likely is not None and likely < settings.task_segments * settings.segment_frames:
            return None
        plan = _plan(file, row["uri"], settings)
        return plan if len(plan.tasks) > 1 else None


def _plan(file: BinaryIO, uri: str, settings: DecodeSettings) -> Plan:
    index = video.index_video(
        _source(file, uri), max_frame_px=settings.limits.max_pixels, max_frames=settings.max_frames
    )
    wanted = video.sampled(index, settings.sampling)
    tasks: tuple[range, ...] = (range(1),)  # where no frame is wanted somebody has to say so
    if len(wanted):
        tasks = video.share_out(
            index,
            wanted,
            segment_frames=settings.segment_frames,
            span_segments=settings.task_segments,
            dense=not settings.sampling.keyframes_only,
        )
    return Plan(index=index, item_sha256=_sha256(uri), tasks=tasks)


def _source(file: BinaryIO, uri: str) -> video.Source:
    """What FFmpeg opens: it reads a local file faster by itself."""
    return str(storage.local_path(uri)) if storage.is_local(uri) else file


def _decode_video(
    file: BinaryIO, blank: Unit, row: Mapping[str, Any], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """The segments of a video that the row asks for, one task's share after the other, whoever decodes them.

    Shares that were done in an earlier run are left out.
    """
    plan: Plan = pickle.loads(zlib.decompress(row["plan"])) if row.get("plan") else _plan(file, blank.uri, settings)  # noqa: S301 - from another task of this job
    share = _share(row)
    done = frozenset(row["done_segments"] or ())
    whole = replace(blank, segments=plan.segments, item_sha256=plan.item_sha256)
    for task in plan.tasks:
        if (share is None or task == share) and not done.issuperset(task):
            yield from _decode_task(_source(file, blank.uri), whole, plan, task, done, settings)


def _decode_task(
    source: video.Source, whole: Unit, plan: Plan, task: range, done: frozenset[int], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """One unit a segment: segment k holds the wanted frames k·n to (k+1)·n − 1, whatever was decoded before.

    Segments that are done are decoded past, not given out. Lost frames leave their segments incomplete; the first
    of them waits for the reason, which the decoder gives at the end, and brings it; the others refer to it.
    """
    index, size = plan.index, settings.segment_frames
    wanted = video.sampled(index, settings.sampling)
    starts = [0, *wanted[size::size].tolist(), index.frames]  # the tasks hold all frames between them, wanted or not
    frames = video.decode_frames(
        source,
        index,
        video.Segment(number=0, total=1, first_frame=starts[task.start], last_frame=starts[task.stop]),
        sampling=settings.sampling,
        max_frame_px=settings.limits.max_pixels,
        stall_s=STALL_S,
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
            pictures=[one.picture for one in prepared if one.picture is not None],
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
        input_HWC=geometry.fit(frame.image_HWC, settings.profile),
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
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # an open file has readinto


def _picture(image_HWC: NDArray[np.uint8]) -> bytes:
    """A video frame to draw the overlay upon."""
    _, data = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, VIDEO_PICTURE_QUALITY])
    return data.tobytes()
