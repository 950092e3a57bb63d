"""A video's index: the time, number and storage order of every frame, and where decoding may begin.

Knows timestamps and what containers declare. Decodes nothing itself.
"""

# n frames; "frame k" is the k-th in presentation order, the order in which frames are shown

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.video.completeness import missing_bytes
from fsf_core.media.video.container import (
    DECLARE_COUNT,
    DECLARE_DURATION,
    JOINED_MIDWAY,
    SEEKABLE,
    Source,
    open_video,
)
from fsf_core.media.video.orientation import UPRIGHT, read_orientation, shown_size
from fsf_core.media.video.scan import MAX_FRAMES, PacketScan, scan_packets

if TYPE_CHECKING:
    from av.video.stream import VideoStream

MAX_FRAME_PX = 1 << 28
"""16384×16384. A header that announces more is wrong or a bomb."""

# Header durations are rounded, and audio may end a little later than the last frame.
_DURATION_SLACK_S = 1.0

_MAX_REORDER = 16  # the largest decoded-picture buffer of H.264 and H.265

_USUAL_REORDER = 8  # where timestamps do not tell; encoders put 1 to 4 B-frames in a row


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
    time_base: Fraction
    """Seconds per tick of pts."""
    pts: NDArray[np.int64]
    """Time of every frame in ticks, ascending; one entry per frame."""
    end: int
    """Tick at which the last frame leaves the screen."""
    decode_rank: NDArray[np.int64]
    """Position of frame k's packet in decoding order, from 0. With B-frames it is not k."""
    keyframes: NDArray[np.int64]
    """Frames that the container marks as keyframes, ascending."""
    clean: NDArray[np.bool_]
    """Per keyframe: whether every frame shown from it on can be decoded without an earlier packet."""
    seek_ticks: NDArray[np.int64]
    """Per keyframe: the tick to pass to the demuxer's seek."""
    timed_by: Literal["pts", "order"]
    """pts: decoded frames are identified by their timestamps. order: the file has no usable ones (B-frames in AVI);
    frames are numbered in the order in which the decoder returns them, and pts are the packets' times, sorted."""
    seekable: bool
    """Whether decoding can begin at a keyframe and still be exact; otherwise it always begins at the start."""
    skips_to_keyframe: bool
    """Whether decoding from the start begins at the first keyframe, because the stream may have been joined midway."""
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
        """Return the source's time of a frame in seconds; the first need not be 0."""
        return float(int(self.pts[frame]) * self.time_base)


def index_video(source: Source, *, max_frame_px: int = MAX_FRAME_PX, max_frames: int = MAX_FRAMES) -> VideoIndex:
    """Index a video by reading all its packets once; only the first frame is decoded.

    Not counted are packets that no player shows: those cut away by an edit list, hidden reference frames of VP8 and
    VP9, and what precedes the first keyframe in either order. H.264 whose two fields come as two packets (some
    interlaced broadcasts) is counted by field; decoding reports the difference as damage.

    Args:
        source: local path or seekable binary file object.
        max_frame_px: most pixels of one frame.
        max_frames: most frames.

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
        declared_s = container.duration / av.time_base if container.duration and name in DECLARE_DURATION else None
        shortfall = _shortfall(scan, stream.frames, declared_s, name, missing_bytes(source, name))
        return _build_index(scan, stream, name, declared_s, shortfall)


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
class _PresentationOrder:
    """The frames of a scan in the order in which they are shown."""

    pts: NDArray[np.int64]
    """Ascending."""
    rank: NDArray[np.int64]
    """Per shown frame: position of its packet in the scan."""
    timed_by: Literal["pts", "order"]
    reorder_frames: int


def _build_index(
    scan: PacketScan, stream: "VideoStream", name: str, declared_s: float | None, shortfall: str | None
) -> VideoIndex:
    """Build the index from what the scan recorded.

    Raises:
        DecodeError: no frame is known to be complete.
    """
    order = _presentation_order(scan, name, can_reorder=bool(stream.codec_context.reorder_depth))
    gap_at = scan.gap_at if scan.gap_at is not None and scan.gap_at < len(order.pts) else None
    # Before the last frames of a cut file others may be missing, so their numbers are not known.
    frames = max(0, len(order.pts) - (order.reorder_frames if shortfall and gap_at is None else 0))
    if not frames:
        raise DecodeError(f"the {name} file holds no frames: {shortfall or 'it has headers, but no frame data'}")
    number = np.empty(len(order.pts), np.int64)  # of each packet, in presentation order
    number[order.rank] = np.arange(len(order.pts))
    keyframes, clean, seek_ticks = _keyframes(scan, number, frames, name)
    height_px, width_px, orientation = _shape(scan.first_frame, stream)
    return VideoIndex(
        container=name,
        stream_index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        width_px=width_px,
        height_px=height_px,
        orientation=orientation,
        time_base=stream.time_base or Fraction(1, av.time_base),
        pts=order.pts[:frames],
        end=_end(scan, order.pts, frames),
        decode_rank=order.rank[:frames],
        keyframes=keyframes,
        clean=clean,
        seek_ticks=seek_ticks,
        timed_by=order.timed_by,
        seekable=name in SEEKABLE and order.timed_by == "pts",
        skips_to_keyframe=name in JOINED_MIDWAY and scan.has_keyframe,
        reorder_frames=order.reorder_frames,
        declared_frames=stream.frames or None,
        declared_duration_s=declared_s,
        intact_frames=frames if gap_at is None else int(number[gap_at:].min()),
        shortfall=shortfall,
    )


def _presentation_order(scan: PacketScan, name: str, *, can_reorder: bool) -> _PresentationOrder:
    """Sort the frames of a scan by presentation time, or keep their order if the file has no usable times."""
    pts, dts = np.asarray(scan.pts, np.int64), np.asarray(scan.dts, np.int64)
    rank = np.argsort(pts, kind="stable").astype(np.int64)
    shown = pts[rank]
    # AVI stores no presentation times: FFmpeg's are right only where nothing is reordered.
    guessed = name == "avi" and scan.has_reordered_frames
    if scan.has_frame_without_pts or bool((np.diff(shown) == 0).any()) or guessed:
        return _PresentationOrder(
            pts=np.sort(dts),
            rank=np.arange(len(pts), dtype=np.int64),
            timed_by="order",
            reorder_frames=_USUAL_REORDER if can_reorder else 0,
        )
    return _PresentationOrder(pts=shown, rank=rank, timed_by="pts", reorder_frames=_reorder_frames(rank))


def _keyframes(
    scan: PacketScan, number: NDArray[np.int64], frames: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return the numbers of the keyframes, ascending, whether each is clean, and the tick to seek to for each."""
    packets, clean = np.asarray(scan.keyframes, np.int64), np.asarray(scan.clean, np.bool_)
    order = np.argsort(number[packets], kind="stable")
    order = order[number[packets[order]] < frames]
    # MP4's own index is in decoding times, Matroska's in presentation times.
    ticks = np.asarray(scan.dts if name == "mov" else scan.pts, np.int64)
    return number[packets[order]], clean[order], ticks[packets[order]]


def _end(scan: PacketScan, shown: NDArray[np.int64], frames: int) -> int:
    """Return the tick at which the last frame leaves the screen; undeclared, it lasts as long as the one before."""
    if frames < len(shown):
        return int(shown[frames])
    duration = int(shown[-1] - shown[-2]) if frames > 1 else 1
    return scan.end if scan.end > shown[-1] else int(shown[-1]) + duration


def _shape(frame: av.VideoFrame | None, stream: "VideoStream") -> tuple[int, int, int]:
    """Return height and width as shown, and the orientation; the header's size if no frame could be decoded."""
    if frame is None:
        return stream.height, stream.width, UPRIGHT
    orientation, _ = read_orientation(frame)
    return *shown_size(frame.height, frame.width, orientation), orientation


def _shortfall(scan: PacketScan, declared_frames: int, declared_s: float | None, name: str, missing: int) -> str | None:
    """Return what the file lacks, as text; None if nothing is missing."""
    if name in DECLARE_COUNT and declared_frames:  # a cut behind the last frame loses none
        short = declared_frames > scan.stored_packets
        return (
            f"the header declares {declared_frames} frames, the file ends after {scan.stored_packets}"
            if short
            else None
        )
    if scan.gap_at is not None or scan.read_error:
        return scan.read_error or "the demuxer skipped damaged bytes inside the file"
    if declared_s is not None and declared_s > scan.end_s + _DURATION_SLACK_S:
        return f"the header declares {declared_s:.3f} s, the file ends after {scan.end_s:.3f} s"
    if scan.last_is_incomplete:
        return f"frame {scan.stored_packets - 1} in storage order, the last one, is incomplete"
    if missing:
        return f"the file lacks at least its last {missing} bytes"
    return None


def _reorder_frames(rank: NDArray[np.int64]) -> int:
    """Return the largest distance from a frame to a later one that is decoded before it, at most _MAX_REORDER."""
    if not len(rank):
        return 0
    # earliest[k]: the first packet among frame k and all frames shown after it; it never falls.
    earliest = np.minimum.accumulate(rank[::-1])[::-1]
    last_before = np.searchsorted(earliest, rank, side="left") - 1
    return min(_MAX_REORDER, max(0, int((last_before - np.arange(len(rank))).max())))
