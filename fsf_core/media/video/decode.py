"""The pictures of a video, exact and numbered as in the source, whichever segment they are decoded in.

Knows decoding, seeking and what to do about damage. Knows no files but the one it is given, and no model.
"""

# H×W pixels; "rank" is a frame's place in decoding order, its number the place in presentation order

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
from fsf_core.media.video.container import Source, ignore_other_streams, open_video, said
from fsf_core.media.video.index import MAX_FRAME_PX, VideoIndex, quarter_turns
from fsf_core.media.video.segments import EVERY_FRAME, FrameRange, Sampling, select_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
_Numbered = tuple[int, av.VideoFrame]
"""A frame's number and its decoded, not yet converted picture."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFrame:
    """One picture as it is shown."""

    frame_index: int
    """The source's number of the frame, counted from 0 in presentation order; sampling does not renumber."""
    pts_s: float
    """The source's own time of the frame."""
    image_HWC: NDArray[np.uint8]
    """uint8 BGR, rotated upright, bit for bit what OpenCV's VideoCapture gives for the same frame."""


class BrokenVideoError(DecodeError):
    """A video ends too early, or some of its frames cannot be decoded."""

    frame_index: int = 0
    """The first frame that is missing."""


def decode_frames(
    source: Source,
    index: VideoIndex,
    segment: FrameRange | None = None,
    *,
    sampling: Sampling = EVERY_FRAME,
    threads: int = 1,
    max_frame_px: int = MAX_FRAME_PX,
    stall_s: float | None = None,
) -> Iterator[VideoFrame]:
    """Decode the wanted frames of a video, or of one segment of it.

    The segments' frames are exactly those of one pass over the whole video. To that end decoding begins at a keyframe
    after which nothing refers back: an H.264 keyframe that is not an IDR picture is approached from the keyframe
    before it. If a frame is missing all the same, decoding begins anew one keyframe earlier, and where no clean one
    can be reached at the start of the file, before the frame is called lost. MPEG-TS, MPEG-PS, FLV, Ogg, ASF, and AVI
    with B-frames cannot seek exactly and are always decoded from the start.

    Damage: frames that the decoder marks as corrupt or does not return are lost, and with them all that may have been
    predicted from them, up to the next keyframe. The others are yielded, then the loss is raised. A decoder
    cannot notice every flipped bit: most codecs carry no checksums.

    Memory stays flat: a few pictures are held, as many as the video reorders.

    Args:
        source: local path or seekable binary file object, the one that was indexed.
        index: of this source.
        segment: the frames to stay within; all where it is left out.
        sampling: which frames are wanted.
        threads: decoder threads. Pictures do not depend on it; where frames are lost decoding is repeated with one, but
            several may fail to notice damage that one does (seen with MPEG-2).
        max_frame_px: most pixels of one picture; a video may change its size on the way.
        stall_s: longest time without a decoded picture. It is looked at between packets: a decoder that hangs inside
            one packet can only be ended from outside, with its process.

    Raises:
        FetchError: the bytes could not be read.
        BrokenVideoError: wanted frames are missing; raised after all that could be decoded, with the frame's number.
        LimitError: no picture for stall_s.
    """
    lowest, highest = (segment.first_frame, segment.last_frame) if segment else (0, index.frames)
    wanted = select_frames(index, sampling)
    wanted = wanted[(wanted >= lowest) & (wanted < highest)]
    if wanted.size:
        # Skipping is exact only where a keyframe needs nothing before it and frames are known by their timestamps.
        skip = sampling.keyframes_only and index.timed_by == "pts" and bool(index.clean.all())
        limits = _DecodeLimits(max_frame_px=max_frame_px, stall_s=stall_s)
        yield from _decode_wanted(source, index, wanted, threads=threads, only_keyframes=skip, limits=limits)
    _refuse_shortfall(index, sampling, lowest, highest)


def _refuse_shortfall(index: VideoIndex, sampling: Sampling, lowest: int, highest: int) -> None:
    """Raise what the index found missing, if it is missing among the frames lowest to highest (exclusive) or after.

    Raises:
        BrokenVideoError: the file lacks frames.
    """
    last = max(0, index.intact_frames - 1)
    beyond = sampling.end_s is None or sampling.end_s > index.time_s(last) - index.time_s(0)
    if index.shortfall and lowest <= last < highest and beyond:
        raise _broken(index, index.intact_frames, f"the video is incomplete: {index.shortfall}")


def _broken(index: VideoIndex, frame: int, reason: str) -> BrokenVideoError:
    place = f"frame {frame} at {index.time_s(frame):.3f} s" if frame < index.frames else f"after frame {frame - 1}"
    error = BrokenVideoError(f"{place}: {reason}; frames before it are good, repair or re-export the video")
    error.frame_index = frame
    return error


@dataclass(frozen=True, kw_only=True, slots=True)
class _DecodeLimits:
    max_frame_px: int
    stall_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """One way to decode: from where, and with how many threads."""

    keyframe: int | None
    """Ordinal of the keyframe to seek to; null: the start of the file."""
    threads: int
    tolerant: bool = False
    """Whether nothing more exact can be tried, so that a frame which is missing now is lost."""


class _InexactError(Exception):
    """This attempt cannot show that its frames are those of a pass from the start."""


def _attempts(index: VideoIndex, first: int, threads: int) -> Iterator[_Attempt]:
    """Ways to reach a frame, the cheapest first, the pass from the start last."""
    ordinal = int(np.searchsorted(index.keyframes, first, side="right")) - 1
    if index.seekable and ordinal > 0:
        nearest = ordinal if index.clean[ordinal] else ordinal - 1
        for keyframe in (nearest, nearest - 1):
            if keyframe > 0:
                yield _Attempt(keyframe=keyframe, threads=threads)
        # Nothing before a clean keyframe can mend what is damaged behind it; a pass from the start of a film of hours
        # would only take minutes to say so.
        clean = np.flatnonzero(index.clean[: max(0, nearest)])
        if clean.size and clean[-1] > 0:
            yield _Attempt(keyframe=int(clean[-1]), threads=1, tolerant=True)
    elif threads != 1:
        yield _Attempt(keyframe=None, threads=threads)
    yield _Attempt(keyframe=None, threads=1, tolerant=True)


def _decode_wanted(
    source: Source,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    *,
    threads: int,
    only_keyframes: bool,
    limits: _DecodeLimits,
) -> Iterator[VideoFrame]:
    """Yield the wanted frames, trying again from farther back as long as one is missing.

    Raises:
        BrokenVideoError: some are missing even in a pass from the start.
    """
    due = np.zeros(index.frames, np.bool_)
    due[index.keyframes if only_keyframes else slice(None)] = True
    owed = np.zeros(index.frames, np.bool_)
    owed[wanted] = True
    converter = VideoReformatter()
    position, stop = int(wanted[0]), int(wanted[-1]) + 1
    for attempt in _attempts(index, position, threads):
        reader = _Reader(source=source, index=index, attempt=attempt, only_keyframes=only_keyframes, limits=limits)
        sieve = _ExactFrames(index=index, due=due, tolerant=attempt.tolerant, first=position, stop=stop)
        try:
            for frame, picture in sieve.trusted(reader.pictures()):
                position = frame + 1
                if owed[frame]:
                    owed[frame] = False
                    yield VideoFrame(
                        frame_index=frame, pts_s=index.time_s(frame), image_HWC=_upright_bgr(picture, converter)
                    )
        except _InexactError:
            continue
        lost = np.flatnonzero(owed)
        if lost.size:
            reason = f"cannot be decoded ({reader.word}); {lost.size} of {wanted.size} wanted frames are lost"
            raise _broken(index, int(lost[0]), reason)
        return


def _upright_bgr(picture: av.VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert as OpenCV does: libswscale's bicubic chroma, then the rotation that the file asks for.

    Raises:
        DecodeError: libswscale does not read this pixel format.
    """
    try:
        bgr = converter.reformat(picture, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1)
    except av.FFmpegError as error:
        raise DecodeError(f"pictures in {picture.format.name} cannot be converted to BGR: {said(error)}") from error
    return np.ascontiguousarray(np.rot90(bgr.to_ndarray(), quarter_turns(picture)), np.uint8)


class _ExactFrames:
    """Holds pictures back until nothing can come that would spoil them, and lets the trusted ones through.

    A damaged frame spoils what is decoded after it and shown before the next keyframe. Some of that is shown before
    the damaged frame itself (B-frames), hence the holding back.
    """

    def __init__(self, *, index: VideoIndex, due: NDArray[np.bool_], tolerant: bool, first: int, stop: int) -> None:
        self._index = index
        self._due = due
        self._tolerant = tolerant
        self._first = first
        self._stop = stop
        # Damage before the keyframe that `first` depends on cannot reach it.
        ordinal = int(np.searchsorted(index.keyframes, first, side="right")) - 1
        by_pts = index.timed_by == "pts"
        self._expected = int(index.keyframes[ordinal]) if by_pts and ordinal >= 0 else 0
        self._horizon = min(index.frames, stop + index.reorder_frames)
        self._lost = np.zeros(index.frames, np.bool_)

    def trusted(self, pictures: Iterator[_Numbered]) -> Iterator[_Numbered]:
        """The pictures from first to stop (exclusive) that are exact, in order.

        Raises:
            _InexactError: a frame is missing or corrupt, and this pass is not the last resort.
        """
        held: deque[_Numbered] = deque()
        for number, picture in pictures:
            if number < self._expected:
                continue
            self._miss(self._expected, number)
            if picture.is_corrupt and self._due[number]:
                self._lose(number)
            self._expected = number + 1
            held.append((number, picture))
            if len(held) > self._index.reorder_frames:
                yield from self._release(held.popleft())
            if self._expected >= self._horizon:
                break
        self._miss(self._expected, self._horizon)
        while held:
            yield from self._release(held.popleft())

    def _release(self, item: _Numbered) -> Iterator[_Numbered]:
        if self._first <= item[0] < self._stop and not self._lost[item[0]]:
            yield item

    def _miss(self, begin: int, end: int) -> None:
        for frame in (begin + np.flatnonzero(self._due[begin:end])).tolist():
            self._lose(frame)

    def _lose(self, frame: int) -> None:
        if not self._tolerant:
            raise _InexactError
        index = self._index
        begin = max(0, frame - index.reorder_frames)
        if index.timed_by == "order":  # nothing tells what was decoded before what, nor where it is sound again
            self._lost[begin:] = True
            return
        ordinal = int(np.searchsorted(index.keyframes, frame, side="right"))
        until = int(index.keyframes[ordinal]) if ordinal < len(index.keyframes) else index.frames
        self._lost[begin:until] |= index.decode_rank[begin:until] >= index.decode_rank[frame]


class _Reader:
    """One pass over the packets of a source, from one entry point."""

    def __init__(
        self, *, source: Source, index: VideoIndex, attempt: _Attempt, only_keyframes: bool, limits: _DecodeLimits
    ) -> None:
        self._source = source
        self._index = index
        self._attempt = attempt
        self._only_keyframes = only_keyframes
        self._limits = limits
        self._said: str | None = None

    @property
    def word(self) -> str:
        """What FFmpeg said first about damage."""
        return self._said or "FFmpeg gives no picture, or one that it marks as corrupt"

    def pictures(self) -> Iterator[_Numbered]:
        """Decoded pictures with their frame numbers, in the order in which they are shown.

        Raises:
            _InexactError: seeking did not lead to a keyframe at or before the one asked for.
            LimitError: no picture for too long.
        """
        with open_video(self._source) as (container, stream, _):
            ignore_other_streams(container, stream)
            codec = stream.codec_context
            codec.thread_count = self._attempt.threads
            codec.thread_type = "AUTO"
            codec.options = {"max_pixels": str(self._limits.max_frame_px)}
            if self._only_keyframes:
                codec.skip_frame = "NONKEY"
            came = 0
            since = time.monotonic()
            for packet in self._packets(container, stream):
                for picture in self._decode(packet, stream):
                    number = came if self._index.timed_by == "order" else self._number(picture.pts)
                    came += 1
                    if number is not None and number < self._index.frames:
                        yield number, picture
                    since = time.monotonic()  # what the caller did meanwhile is not the decoder's time
                self._refuse_stall(since, came)
                if self._said and self._index.timed_by == "order":
                    return  # after an error nothing tells which frame the next picture is

    def _packets(self, container: "InputContainer", stream: "VideoStream") -> "Iterator[Packet[VideoStream] | None]":
        """The packets to decode, then None for "give what you still hold"."""
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
                    self._said = self._said or "a packet is incomplete"
                    continue
                yield packet
        except av.FFmpegError as error:
            self._said = self._said or said(error)
        yield None

    def _check_landing(self, packet: "Packet[VideoStream]", keyframe: int) -> None:
        """Refuse to begin after the keyframe that was asked for, or at one that the index does not know."""
        number = self._number(packet.pts)
        if number is None or number > self._index.keyframes[keyframe] or number not in self._index.keyframes:
            raise _InexactError

    def _decode(self, packet: "Packet[VideoStream] | None", stream: "VideoStream") -> list[av.VideoFrame]:
        try:
            return stream.codec_context.decode(packet)
        except (av.FFmpegError, EOFError) as error:
            self._said = self._said or said(error)
            return []

    def _number(self, pts: int | None) -> int | None:
        """The frame that is shown at this time, if one is."""
        if pts is None:
            return None
        number = int(np.searchsorted(self._index.pts, pts))
        return number if number < self._index.frames and self._index.pts[number] == pts else None

    def _refuse_stall(self, since: float, came: int) -> None:
        limit_s = self._limits.stall_s
        if limit_s is not None and time.monotonic() - since > limit_s:
            raise LimitError(f"no picture for {limit_s} s after {came} decoded ones; see stall_s")
