"""The frames of a video, exact and numbered as in the source, whichever part of it is decoded.

Knows decoding, seeking and how to recover from damage. Knows no files but the one it is given, and no model.
"""

# H×W pixels; a frame's "rank" is its place in decoding order, its number the place in presentation order

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.video.container import Source, ffmpeg_message, ignore_other_streams, open_video
from fsf_core.media.video.index import MAX_FRAME_PX, VideoIndex
from fsf_core.media.video.orientation import upright
from fsf_core.media.video.segments import EVERY_FRAME, Sampling, select_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

STALL_S = 60.0
"""Default of the longest time without a decoded frame."""

_Numbered = tuple[int, av.VideoFrame]
"""A frame's number and the decoded frame, not yet converted to BGR."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFrame:
    """One frame as it is shown."""

    frame_index: int
    """The frame's number in the source, from 0 in presentation order; sampling does not renumber."""
    pts_s: float
    """The source's own time of the frame in seconds."""
    image_HWC: NDArray[np.uint8]
    """uint8 BGR, upright; the conversion to BGR is bit for bit that of OpenCV's VideoCapture."""


class BrokenVideoError(DecodeError):
    """A video ends too early, or some of its frames cannot be decoded."""

    frame_index: int = 0
    """The first missing frame."""


def decode_frames(
    source: Source,
    index: VideoIndex,
    within: range | None = None,
    *,
    sampling: Sampling = EVERY_FRAME,
    max_frame_px: int = MAX_FRAME_PX,
    stall_s: float = STALL_S,
) -> Iterator[VideoFrame]:
    """Decode the wanted frames of a video, or of one part of it.

    The frames of a part are exactly those of one pass over the whole video. Decoding therefore begins at a keyframe
    after which nothing refers back: for an H.264 keyframe that is not an IDR picture it begins one keyframe earlier.
    If a frame is still missing, decoding begins again one keyframe earlier, then at the last clean keyframe or the
    start of the file, before the frame counts as lost. Only MP4, MOV, Matroska, and AVI without
    B-frames can be entered exactly; others are always decoded from the start.

    Damage: frames that the decoder marks as corrupt or does not return are lost, and with them all that may have been
    predicted from them, up to the next keyframe. The others are yielded, then the loss is raised. A decoder cannot
    notice every flipped bit: most codecs carry no checksums.

    Memory stays flat: only the frames that the video reorders are held.

    Args:
        source: local path or seekable binary file object, the one that was indexed.
        index: index of this source.
        within: consecutive frame numbers to stay within; all by default.
        sampling: which frames are wanted.
        max_frame_px: most pixels of one frame; a video may change its size midway.
        stall_s: longest time without a decoded frame. Checked between packets: a decoder that hangs inside one packet
            can only be ended from outside, with its process.

    Raises:
        FetchError: the bytes could not be read.
        BrokenVideoError: wanted frames are missing; raised after all that could be decoded, with the frame's number.
        LimitError: no frame for stall_s.
    """
    within = range(index.frames) if within is None else within
    wanted = select_frames(index, sampling)
    wanted = wanted[(wanted >= within.start) & (wanted < within.stop)]
    if wanted.size:
        # Skipping is exact only where a keyframe needs nothing before it and frames are known by their timestamps.
        skip = sampling.keyframes_only and index.timed_by == "pts" and bool(index.clean.all())
        limits = _DecodeLimits(max_frame_px=max_frame_px, stall_s=stall_s)
        yield from _decode_wanted(source, index, wanted, only_keyframes=skip, limits=limits)
    _refuse_shortfall(index, sampling, within)


def _refuse_shortfall(index: VideoIndex, sampling: Sampling, within: range) -> None:
    """Raise the shortfall that the index found, if it begins within the given frames or right after them.

    Raises:
        BrokenVideoError: the file lacks frames.
    """
    last = max(0, index.intact_frames - 1)
    beyond = sampling.end_s is None or sampling.end_s > index.time_s(last) - index.time_s(0)
    if index.shortfall and last in within and beyond:
        raise _broken(index, index.intact_frames, f"the video is incomplete: {index.shortfall}")


def _broken(index: VideoIndex, frame: int, reason: str) -> BrokenVideoError:
    """Return the error for a video whose first missing frame is `frame`."""
    place = f"frame {frame} at {index.time_s(frame):.3f} s" if frame < index.frames else f"after frame {frame - 1}"
    error = BrokenVideoError(f"{place}: {reason}; frames before it are good, repair or re-export the video")
    error.frame_index = frame
    return error


@dataclass(frozen=True, kw_only=True, slots=True)
class _DecodeLimits:
    max_frame_px: int
    stall_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """One entry point for decoding."""

    keyframe: int | None
    """Ordinal of the keyframe to seek to; None for the start of the file."""
    is_last: bool = False
    """Whether nothing more exact can be tried, so that a frame missing now is lost."""


class _InexactError(Exception):
    """This attempt cannot show that its frames are those of a pass from the start."""


def _attempts(index: VideoIndex, first: int) -> Iterator[_Attempt]:
    """Yield entry points from which a frame can be reached, the cheapest first."""
    ordinal = int(np.searchsorted(index.keyframes, first, side="right")) - 1
    if index.seekable and ordinal > 0:
        nearest = ordinal if index.clean[ordinal] else ordinal - 1
        for keyframe in (nearest, nearest - 1):
            if keyframe > 0:
                yield _Attempt(keyframe=keyframe)
        # Nothing before a clean keyframe can mend damage behind it; a pass from the start of a video of hours would
        # take minutes for the same result.
        clean = np.flatnonzero(index.clean[: max(0, nearest)])
        if clean.size and clean[-1] > 0:
            yield _Attempt(keyframe=int(clean[-1]), is_last=True)
    yield _Attempt(keyframe=None, is_last=True)


def _decode_wanted(
    source: Source, index: VideoIndex, wanted: NDArray[np.int64], *, only_keyframes: bool, limits: _DecodeLimits
) -> Iterator[VideoFrame]:
    """Yield the wanted frames, retrying from an earlier entry point while one is missing.

    Raises:
        BrokenVideoError: some are missing even in the last attempt.
    """
    expected = np.zeros(index.frames, np.bool_)
    expected[index.keyframes if only_keyframes else slice(None)] = True
    pending = np.zeros(index.frames, np.bool_)
    pending[wanted] = True
    converter = VideoReformatter()
    position, stop = int(wanted[0]), int(wanted[-1]) + 1
    for attempt in _attempts(index, position):
        decoder = _PacketDecoder(
            source=source, index=index, attempt=attempt, only_keyframes=only_keyframes, limits=limits
        )
        exact = _ExactFrames(index=index, expected=expected, is_last=attempt.is_last, first=position, stop=stop)
        try:
            for number, frame in exact.filter(decoder.frames()):
                position = number + 1
                if pending[number]:
                    pending[number] = False
                    image_HWC = _upright_bgr(frame, converter, index.orientation)
                    yield VideoFrame(frame_index=number, pts_s=index.time_s(number), image_HWC=image_HWC)
        except _InexactError:
            continue
        lost = np.flatnonzero(pending)
        if lost.size:
            reason = f"cannot be decoded ({decoder.damage}); {lost.size} of {wanted.size} wanted frames are lost"
            raise _broken(index, int(lost[0]), reason)
        return


def _upright_bgr(frame: av.VideoFrame, converter: VideoReformatter, orientation: int) -> NDArray[np.uint8]:
    """Convert as OpenCV does, with libswscale's bicubic chroma, then turn and mirror as the video requests.

    Raises:
        DecodeError: libswscale does not read this pixel format.
    """
    try:
        bgr = converter.reformat(frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1)
    except av.FFmpegError as error:
        reason = ffmpeg_message(error)
        raise DecodeError(f"frames in {frame.format.name} cannot be converted to BGR: {reason}") from error
    return upright(np.asarray(bgr.to_ndarray(), np.uint8), orientation)


class _ExactFrames:
    """Frames held back until no damage can reach them any more.

    A damaged frame spoils what is decoded after it and shown before the next keyframe. Some of that is shown before
    the damaged frame itself (B-frames), therefore frames are held back.
    """

    def __init__(self, *, index: VideoIndex, expected: NDArray[np.bool_], is_last: bool, first: int, stop: int) -> None:
        self._index = index
        self._expected = expected
        self._is_last = is_last
        self._first = first
        self._stop = stop
        # Damage before the keyframe that `first` depends on cannot reach it.
        ordinal = int(np.searchsorted(index.keyframes, first, side="right")) - 1
        by_pts = index.timed_by == "pts"
        self._next = int(index.keyframes[ordinal]) if by_pts and ordinal >= 0 else 0
        self._horizon = min(index.frames, stop + index.reorder_frames)
        self._lost = np.zeros(index.frames, np.bool_)

    def filter(self, frames: Iterator[_Numbered]) -> Iterator[_Numbered]:
        """Yield the exact frames from first to stop (exclusive), in order.

        Raises:
            _InexactError: a frame is missing or corrupt, and this is not the last attempt.
        """
        held: deque[_Numbered] = deque()
        for number, frame in frames:
            if number < self._next:
                continue
            self._mark_missing(self._next, number)
            if frame.is_corrupt and self._expected[number]:
                self._mark_lost(number)
            self._next = number + 1
            held.append((number, frame))
            if len(held) > self._index.reorder_frames:
                yield from self._release(held.popleft())
            if self._next >= self._horizon:
                break
        self._mark_missing(self._next, self._horizon)
        while held:
            yield from self._release(held.popleft())

    def _release(self, item: _Numbered) -> Iterator[_Numbered]:
        """Yield a frame that was held back, unless it is out of range or lost."""
        if self._first <= item[0] < self._stop and not self._lost[item[0]]:
            yield item

    def _mark_missing(self, begin: int, end: int) -> None:
        """Mark the expected frames from begin to end (exclusive) as lost."""
        for frame in (begin + np.flatnonzero(self._expected[begin:end])).tolist():
            self._mark_lost(frame)

    def _mark_lost(self, frame: int) -> None:
        """Mark a frame as lost, and all frames that may have been predicted from it.

        Raises:
            _InexactError: this is not the last attempt.
        """
        if not self._is_last:
            raise _InexactError
        index = self._index
        begin = max(0, frame - index.reorder_frames)
        if index.timed_by == "order":  # neither the decoding order nor the next sound frame is known
            self._lost[begin:] = True
            return
        ordinal = int(np.searchsorted(index.keyframes, frame, side="right"))
        until = int(index.keyframes[ordinal]) if ordinal < len(index.keyframes) else index.frames
        self._lost[begin:until] |= index.decode_rank[begin:until] >= index.decode_rank[frame]


class _PacketDecoder:
    """One pass over the packets of a source, from one entry point."""

    def __init__(
        self, *, source: Source, index: VideoIndex, attempt: _Attempt, only_keyframes: bool, limits: _DecodeLimits
    ) -> None:
        self._source = source
        self._index = index
        self._attempt = attempt
        self._only_keyframes = only_keyframes
        self._limits = limits
        self._first_error: str | None = None

    @property
    def damage(self) -> str:
        """FFmpeg's first message about damage."""
        return self._first_error or "FFmpeg returns no frame, or one that it marks as corrupt"

    def frames(self) -> Iterator[_Numbered]:
        """Yield decoded frames with their numbers, in presentation order.

        Raises:
            _InexactError: seeking did not lead to a keyframe at or before the requested one.
            LimitError: no frame for too long.
        """
        with open_video(self._source, stream_index=self._index.stream_index) as (container, stream, _):
            ignore_other_streams(container, stream)
            codec = stream.codec_context
            codec.thread_count = 1  # tasks run side by side; with several, MPEG-2 fails to notice some damage
            codec.options = {"max_pixels": str(self._limits.max_frame_px)}
            if self._only_keyframes:
                codec.skip_frame = "NONKEY"
            decoded = 0
            since = time.monotonic()
            for packet in self._packets(container, stream):
                for frame in self._decode(packet, stream):
                    number = decoded if self._index.timed_by == "order" else self._number(frame.pts)
                    decoded += 1
                    if number is not None and number < self._index.frames:
                        yield number, frame
                    since = time.monotonic()  # the caller's time does not count
                self._refuse_stall(since, decoded)
                if self._first_error and self._index.timed_by == "order":
                    return  # after an error the number of the next frame is unknown

    def _packets(self, container: "InputContainer", stream: "VideoStream") -> "Iterator[Packet[VideoStream] | None]":
        """Yield the packets to decode, then None to flush the decoder."""
        begun = self._attempt.keyframe is None and not self._index.skips_to_keyframe
        try:
            if self._attempt.keyframe is not None:
                container.seek(int(self._index.seek_ticks[self._attempt.keyframe]), stream=stream)
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if not begun and self._attempt.keyframe is not None:
                    self._check_landing(packet, self._attempt.keyframe)
                begun = begun or packet.is_keyframe
                if not begun:
                    continue
                if packet.is_corrupt:  # the demuxer knows that bytes are missing from it
                    self._first_error = self._first_error or "a packet is incomplete"
                    continue
                yield packet
        except av.FFmpegError as error:
            self._first_error = self._first_error or ffmpeg_message(error)
        yield None

    def _check_landing(self, packet: "Packet[VideoStream]", keyframe: int) -> None:
        """Refuse to begin after the requested keyframe, or at one that the index does not know.

        Raises:
            _InexactError: seeking led there.
        """
        number = self._number(packet.pts)
        if number is None or number > self._index.keyframes[keyframe] or number not in self._index.keyframes:
            raise _InexactError

    def _decode(self, packet: "Packet[VideoStream] | None", stream: "VideoStream") -> list[av.VideoFrame]:
        """Decode one packet; an error is recorded and gives no frames."""
        try:
            return stream.codec_context.decode(packet)
        except (av.FFmpegError, EOFError) as error:
            self._first_error = self._first_error or ffmpeg_message(error)
            return []

    def _number(self, pts: int | None) -> int | None:
        """Return the number of the frame shown at a tick; None if there is none."""
        if pts is None:
            return None
        number = int(np.searchsorted(self._index.pts, pts))
        return number if number < self._index.frames and self._index.pts[number] == pts else None

    def _refuse_stall(self, since: float, decoded: int) -> None:
        """Raise if the decoder has returned nothing for too long.

        Raises:
            LimitError: as the summary states.
        """
        limit_s = self._limits.stall_s
        if time.monotonic() - since > limit_s:
            raise LimitError(f"no frame for {limit_s} s after {decoded} decoded ones; see stall_s")
