"""A video's index: the time, number and storage order of every frame, and where decoding may begin.

Knows what packets prove and what containers declare. Decodes only what they leave open.
"""

# n frames; "frame k" is the k-th that a decoder returns, in presentation order; a packet's "rank" is its position among
# the stored packets of its stream, in decoding order

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.video.container import (
    DECLARE_DURATION,
    SEEKABLE,
    UNTIMED,
    Source,
    open_video,
)
from fsf_core.media.video.count import counted_order
from fsf_core.media.video.order import frame_times, proven_order, running_clock, usual_duration
from fsf_core.media.video.orientation import UPRIGHT, read_orientation, shown_aspect, shown_size
from fsf_core.media.video.packet_decoder import DecodeLimits
from fsf_core.media.video.remarks import remarks
from fsf_core.media.video.scan import KINDS, MAX_FRAMES, NO_TIME, PacketScan, scan_packets
from fsf_core.media.video.shortfall import shortfall_of

if TYPE_CHECKING:
    from av.video.stream import VideoStream

MAX_FRAME_PX = 1 << 28
"""16384×16384. A header that announces more is wrong or a bomb."""

_MAX_REORDER = 16  # the largest decoded-picture buffer of H.264 and H.265


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoIndex:
    """The index of one video. Pickled, it takes about 16 bytes per frame."""

    container: str
    """FFmpeg's name of the demuxer, by content."""
    stream_index: int
    """The stream that holds the frames."""
    codec: str
    width_px: int
    """Columns as shown, upright."""
    height_px: int
    """Rows as shown, upright."""
    orientation: int
    """How a stored frame becomes upright, as EXIF numbers it: 1 as it is, 2 mirrored, … 6 turned by 90° clockwise."""
    pixel_aspect: Fraction
    """Width of a pixel as shown over its height; masks are in stored pixels."""
    notes: tuple[str, ...]
    """What was done with the video that its user may not expect, one sentence each."""
    time_base: Fraction
    """Seconds per tick of pts."""
    pts: NDArray[np.int64]
    """Time of every frame in ticks, as the file has it: it may repeat or step back."""
    end: int
    """Tick of the running clock at which the last frame leaves the screen."""
    decode_rank: NDArray[np.int64]
    """Rank of frame k's packet, which identifies the frame. With B-frames it does not ascend."""
    begin: int
    """Rank of the packet that decoding begins with: not the first if the stream was joined midway."""
    seams: frozenset[int]
    """Ranks of packets that the demuxer marks as corrupt, where perhaps only two recordings were joined."""
    references: NDArray[np.int64]
    """Ranks of packets that hold no frame of their own, but what others need, ascending."""
    keyframes: NDArray[np.int64]
    """Frames that the container marks as keyframes, ascending."""
    clean: NDArray[np.bool_]
    """Per keyframe: whether every frame shown from it on can be decoded without an earlier packet."""
    seek_ticks: NDArray[np.int64]
    """Per keyframe: the tick to pass to the demuxer's seek."""
    places: NDArray[np.int64]
    """Per keyframe: the offset of its packet in the file, -1 if it is not known."""
    timed_by: Literal["pts", "order"]
    """pts: the packets prove the order of the frames, and they store their times. order: frames were counted by
    decoding the video, or the container stores no times of presentation (B-frames in AVI)."""
    is_counted: bool
    """Whether the frames were counted by decoding the video."""
    seekable: bool
    """Whether decoding can begin at a keyframe and still be exact; otherwise it always begins at the start."""
    reorder_frames: int
    """Largest number of frames by which a frame is shown before one that it may be predicted from."""
    declared_frames: int | None
    """Number of frames that the header declares; null if it declares none."""
    declared_duration_s: float | None
    """Duration that the header declares; null if it declares none."""
    intact_frames: int
    """Frames before the first place where the file lacks some; all of them if it lacks none. Behind a gap in the
    middle, frame numbers count the frames that are still there."""
    shortfall: str | None
    """What the file lacks, as text; null if nothing is missing."""

    @property
    def frames(self) -> int:
        """Number of frames that decoding should return."""
        return len(self.pts)

    def time_s(self, frame: int) -> float:
        """Return the source's time of a frame in seconds; the first need not be 0, nor the later one be later."""
        return float(int(self.pts[frame]) * self.time_base)

    def clock(self) -> NDArray[np.int64]:
        """Return the running clock in ticks, one entry per frame: the times, without their steps back."""
        return running_clock(self.pts)

    def numbers(self) -> NDArray[np.int64]:
        """Return the frame of every packet by rank; -1 for a packet without one."""
        found = np.full(int(self.decode_rank.max()) + 1, -1, np.int64)
        found[self.decode_rank] = np.arange(self.frames)
        return found

    def is_needed(self, rank: int) -> bool:
        """Return whether frames need a packet that holds none."""
        at = int(np.searchsorted(self.references, rank))
        return at < len(self.references) and int(self.references[at]) == rank


def index_video(
    source: Source,
    *,
    max_frame_px: int = MAX_FRAME_PX,
    max_frames: int = MAX_FRAMES,
    heartbeat: Callable[[], None] = lambda: None,
) -> VideoIndex:
    """Index a video by reading all its packets once; only the first frame is decoded.

    Where the packets do not prove how many frames a decoder returns, and in which order, the video is decoded once to
    count them: with times that repeat, are missing or contradict the order of the pictures, with several pictures or
    none in a packet, and if it begins in the middle of a group of pictures that only a decoder can judge.

    Not counted are packets that no player shows: those cut away by an edit list, hidden reference frames of VP8 and
    VP9, second fields, and pictures that refer to what precedes the first keyframe.

    Args:
        source: local path or seekable binary file object.
        max_frame_px: most pixels of one frame.
        max_frames: most frames.
        heartbeat: called every few frames while the video is decoded.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: the file is no video, has no frames, or cannot be indexed.
        LimitError: a frame or the video is larger than allowed.
    """
    with open_video(source) as (container, stream, name):
        if stream.width * stream.height > max_frame_px:
            raise LimitError(
                f"the frames are {stream.width}x{stream.height}; the limit is {max_frame_px} pixels, see max_frame_px"
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(max_frame_px)}
        scan = scan_packets(source, container, stream, name, max_frames=max_frames)
        has_pts = name not in UNTIMED and (name != "avi" or scan.pts == scan.dts)
        begin = scan.first_keyframe or 0
        seams = scan.seams() if name == "mpegts" else frozenset()
        ranks = proven_order(scan, has_pts=has_pts)
        is_counted = ranks is None
        if ranks is None:
            limits = DecodeLimits(max_frame_px=max_frame_px)
            ranks = counted_order(
                source, scan, stream_index=stream.index, begin=begin, seams=seams, limits=limits, heartbeat=heartbeat
            )
        # The average rate of a bare stream is FFmpeg's 25, whatever its own headers state.
        rate = stream.guessed_rate if name in UNTIMED else stream.average_rate
        usual_ticks = usual_duration(rate, _time_base(stream))
        times = frame_times(scan, ranks, has_pts=has_pts, usual_ticks=usual_ticks)
        order = _FrameOrder(ranks=ranks, pts=times, begin=begin, seams=seams, has_pts=has_pts, is_counted=is_counted)
        declared_s = container.duration / av.time_base if container.duration and name in DECLARE_DURATION else None
        shortfall = shortfall_of(source, scan, stream, name, declared_s)
        return _build_index(scan, order, stream, name, declared_s, shortfall)


def estimate_frames(source: Source) -> int | None:
    """Estimate the number of frames from the headers alone; wrong where the headers are.

    Returns:
        None if the headers do not tell; 0 if decoding begins at the start anyway, whatever the number.

    Raises:
        FetchError, DecodeError: as index_video.
    """
    with open_video(source) as (container, stream, name):
        if name not in SEEKABLE:
            return 0
        seconds = container.duration / av.time_base if container.duration else 0.0
        return stream.frames or round(seconds * float(stream.average_rate or 0)) or None


@dataclass(frozen=True, kw_only=True, slots=True)
class _FrameOrder:
    """The frames of a scan in the order in which they are shown."""

    ranks: NDArray[np.int64]
    """Per frame: the rank of its packet."""
    pts: NDArray[np.int64]
    begin: int
    """Rank of the packet that decoding begins with."""
    seams: frozenset[int]
    """Ranks of packets that the demuxer marks as corrupt, where perhaps only two recordings were joined."""
    has_pts: bool
    """Whether the container stores times of presentation."""
    is_counted: bool
    """Whether the packets do not prove it."""


def _build_index(
    scan: PacketScan,
    order: _FrameOrder,
    stream: "VideoStream",
    name: str,
    declared_s: float | None,
    shortfall: str | None,
) -> VideoIndex:
    """Build the index from what the scan recorded.

    Raises:
        DecodeError: no frame is known to be complete.
    """
    ranks, total = order.ranks, len(order.ranks)
    number = np.full(scan.packets, -1, np.int64)  # of each packet, in presentation order
    number[ranks] = np.arange(total)
    behind_gap = number[scan.gaps[0] :] if scan.gaps else number[:0]
    behind_gap = behind_gap[behind_gap >= 0]
    reorder_frames = _reorder_frames(ranks)
    # Before the last frames of a cut file others may be missing, so their numbers are not known.
    frames = max(0, total - (reorder_frames if shortfall and not behind_gap.size else 0))
    if not frames:
        reason = "none of its frames can be decoded" if scan.packets else "it has headers, but no frame data"
        raise DecodeError(f"the {name} file holds no frames: {shortfall or reason}")
    keyframes, clean, seek_ticks, places = _keyframes(scan, number, frames, name)
    height_px, width_px, orientation = _shape(scan.first_frame, stream)
    needed = np.flatnonzero((np.asarray(scan.kinds, np.int8) == KINDS.index("reference")) & (number < 0))
    has_places = bool((places >= 0).all()) and len(np.unique(places)) == len(places)
    return VideoIndex(
        container=name,
        stream_index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        width_px=width_px,
        height_px=height_px,
        orientation=orientation,
        pixel_aspect=shown_aspect(stream.sample_aspect_ratio, orientation),
        notes=(*remarks(stream, name, scan.first_frame), *_order_remarks(order)),
        time_base=_time_base(stream),
        pts=order.pts[:frames],
        end=_end(scan, running_clock(order.pts), frames),
        decode_rank=ranks[:frames],
        begin=order.begin,
        seams=order.seams,
        references=needed.astype(np.int64),
        keyframes=keyframes,
        clean=clean,
        seek_ticks=seek_ticks,
        places=places,
        timed_by="pts" if order.has_pts and not order.is_counted else "order",
        is_counted=order.is_counted,
        seekable=name in SEEKABLE and order.has_pts and not order.is_counted and has_places,
        reorder_frames=reorder_frames,
        declared_frames=stream.frames or None,
        declared_duration_s=declared_s,
        intact_frames=int(behind_gap.min()) if behind_gap.size else frames,
        shortfall=shortfall,
    )


def _order_remarks(order: _FrameOrder) -> Iterator[str]:
    """Yield what a user may not expect of the times and the beginning of a video, one sentence each."""
    if order.begin:
        yield f"{order.begin} packets before the first keyframe were left out"
    steps_back = int((np.diff(order.pts) < 0).sum())
    if steps_back:
        places = "one place" if steps_back == 1 else f"{steps_back} places"
        yield f"its times step back at {places}, frames are in the order of the file"


def _time_base(stream: "VideoStream") -> Fraction:
    """Return the seconds per tick of a stream's times."""
    return stream.time_base or Fraction(1, av.time_base)


def _keyframes(
    scan: PacketScan, number: NDArray[np.int64], frames: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return, for the keyframes in order: number, whether it is clean, the tick to seek to, and the offset."""
    ranks = np.asarray(scan.keyframes, np.int64)
    order = np.argsort(number[ranks], kind="stable")
    order = order[(number[ranks[order]] >= 0) & (number[ranks[order]] < frames)]
    # MP4's own index is in decoding times, Matroska's in presentation times.
    pts, dts = np.asarray(scan.pts, np.int64)[ranks], np.asarray(scan.dts, np.int64)[ranks]
    first, second = (dts, pts) if name == "mov" else (pts, dts)
    ticks = np.where(first == NO_TIME, second, first)
    clean, places = np.asarray(scan.clean, np.bool_), np.asarray(scan.places, np.int64)
    return number[ranks[order]], clean[order], ticks[order], places[order]


def _end(scan: PacketScan, clock: NDArray[np.int64], frames: int) -> int:
    """Return the tick at which the last frame leaves the screen; undeclared, it lasts as long as the one before."""
    if frames < len(clock):
        return int(clock[frames])
    duration = max(1, int(clock[-1] - clock[-2])) if frames > 1 else 1
    return scan.end if scan.end > clock[-1] else int(clock[-1]) + duration


def _shape(frame: av.VideoFrame | None, stream: "VideoStream") -> tuple[int, int, int]:
    """Return height and width as shown, and the orientation; the header's size if no frame could be decoded."""
    if frame is None:
        return stream.height, stream.width, UPRIGHT
    orientation, _ = read_orientation(frame)
    return *shown_size(frame.height, frame.width, orientation), orientation


def _reorder_frames(rank: NDArray[np.int64]) -> int:
    """Return the largest distance from a frame to a later one that is decoded before it, at most _MAX_REORDER."""
    if not len(rank):
        return 0
    # earliest[k]: the first packet among frame k and all frames shown after it; it never falls.
    earliest = np.minimum.accumulate(rank[::-1])[::-1]
    last_before = np.searchsorted(earliest, rank, side="left") - 1
    return min(_MAX_REORDER, max(0, int((last_before - np.arange(len(rank))).max())))
