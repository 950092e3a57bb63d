"""The frames of a video, exact and numbered as in the source, whichever part of it is decoded.

Knows decoding, seeking and how to recover from damage. Knows no files but the one it is given, and no model.
"""

# H×W pixels; a frame's "rank" is its place in decoding order, its number the place in presentation order

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from fsf_core.errors import DecodeError
from fsf_core.media.images.exif import upright
from fsf_core.media.video.container import Source, ffmpeg_message
from fsf_core.media.video.exact import ExactFrames, InexactError
from fsf_core.media.video.index import MAX_FRAME_PX, VideoIndex
from fsf_core.media.video.packet_decoder import STALL_S, DecodeLimits, Landing, LandingError, PacketDecoder
from fsf_core.media.video.segments import EVERY_FRAME, Sampling, select_frames

T = TypeVar("T")


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
    start of the file, before the frame counts as lost. Only MP4, MOV, Matroska, and AVI without B-frames can be
    entered exactly, and only where the packets prove the order of the frames; others are always decoded from the start.

    Damage: frames that the decoder complains about or does not return are lost, and with them all that may have been
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
        # Skipping is exact only where a keyframe needs nothing before it and packets prove the order.
        skip = sampling.keyframes_only and index.timed_by == "pts" and bool(index.clean.all())
        limits = DecodeLimits(max_frame_px=max_frame_px, stall_s=stall_s)
        converter = VideoReformatter()
        images = decode_as(
            lambda frame: _upright_bgr(frame, converter, index.orientation),
            source,
            index,
            wanted,
            only_keyframes=skip,
            limits=limits,
        )
        for number, image_HWC in images:
            yield VideoFrame(frame_index=number, pts_s=index.time_s(number), image_HWC=image_HWC)
    _refuse_shortfall(index, sampling, within)


def _refuse_shortfall(index: VideoIndex, sampling: Sampling, within: range) -> None:
    """Raise the shortfall that the index found, if it begins within the given frames or right after them.

    Raises:
        BrokenVideoError: the file lacks frames.
    """
    last = max(0, index.intact_frames - 1)
    if not index.shortfall or last not in within:
        return
    clock = index.clock()
    if sampling.end_s is None or sampling.end_s > float(int(clock[last] - clock[0]) * index.time_base):
        raise _broken(index, index.intact_frames, f"the video is incomplete: {index.shortfall}")


def _broken(index: VideoIndex, frame: int, reason: str) -> BrokenVideoError:
    """Return the error for a video whose first missing frame is `frame`."""
    place = f"frame {frame} at {index.time_s(frame):.3f} s" if frame < index.frames else f"after frame {frame - 1}"
    before = "frames before it are good, " if frame else ""
    error = BrokenVideoError(f"{place}: {reason}; {before}repair or re-export the video")
    error.frame_index = frame
    return error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """One entry point for decoding."""

    keyframe: int | None
    """Ordinal of the keyframe to seek to; None for the start of the file."""
    is_last: bool = False
    """Whether nothing more exact can be tried, so that a frame missing now is lost."""


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


def _landing(index: VideoIndex, keyframe: int | None) -> Landing | None:
    """Return where to seek for a keyframe; None for the start of the file."""
    if keyframe is None:
        return None
    ranks = index.decode_rank[index.keyframes].tolist()
    return Landing(
        tick=int(index.seek_ticks[keyframe]),
        last_rank=ranks[keyframe],
        ranks=dict(zip(index.places.tolist(), ranks, strict=True)),
    )


def decode_as(
    convert: Callable[[av.VideoFrame], T],
    source: Source,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    *,
    only_keyframes: bool = False,
    limits: DecodeLimits,
) -> Iterator[tuple[int, T]]:
    """Yield the wanted frames converted, with their numbers, retrying from an earlier entry point while one is missing.

    Raises:
        BrokenVideoError: some are missing even in the last attempt.
    """
    expected = np.zeros(index.frames, np.bool_)
    expected[index.keyframes if only_keyframes else slice(None)] = True
    pending = np.zeros(index.frames, np.bool_)
    pending[wanted] = True
    position, stop = int(wanted[0]), int(wanted[-1]) + 1
    for attempt in _attempts(index, position):
        decoder = PacketDecoder(
            source,
            stream_index=index.stream_index,
            begin=index.begin,
            limits=limits,
            landing=_landing(index, attempt.keyframe),
            only_keyframes=only_keyframes,
            seams=index.seams,
        )
        exact = ExactFrames(index, expected=expected, is_last=attempt.is_last, first=position, stop=stop)
        try:
            for number, frame in exact.filter(decoder.frames()):
                position = number + 1
                if pending[number]:
                    pending[number] = False
                    yield number, convert(frame)
        except (InexactError, LandingError):
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
