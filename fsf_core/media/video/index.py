"""What a video contains, learnt from its packets: every frame's time and number, and where decoding may begin.

Knows packets, timestamps and the few header bits that tell a clean entry point. Decodes one picture, for its true
size and rotation, and knows nothing of any other.
"""

# n frames; "frame k" is the k-th in presentation order, the order in which they are shown

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.video.bitstream import is_clean, is_hidden
from fsf_core.media.video.completeness import BlockGaps, missing_bytes
from fsf_core.media.video.container import Source, ignore_other_streams, open_video, said

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream


MAX_FRAME_PX = 1 << 28
"""16384×16384: beyond this a header is a lie or a bomb."""

MAX_FRAMES = 10_000_000
"""46 hours at 60 frames a second."""

_SEEKABLE = frozenset({"mov", "matroska", "avi"})

# Their headers state a duration; for the others FFmpeg guesses one from the last packets, which proves nothing.
_DECLARE_DURATION = frozenset({"matroska", "flv", "asf"})

_DECLARE_COUNT = frozenset({"mov", "avi"})

# Broadcasts are joined midway; what comes before their first keyframe was never meant to be shown.
_JOINED_MIDWAY = frozenset({"mpegts", "mpeg"})

# Header durations are rounded, and audio may end a little later than the last picture.
_DURATION_SLACK_S = 1.0

_PROBE_PACKETS = 64  # a decoder holds back at most 16 pictures, times a few threads

_MAX_REORDER = 16  # the largest decoded-picture buffer of H.264 and H.265

_USUAL_REORDER = 8  # where timestamps do not tell; encoders put 1 to 4 B-frames in a row


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoIndex:
    """A video's table of contents. It pickles small: some 16 bytes a frame."""

    container: str
    """FFmpeg's name of the demuxer, by content."""
    codec: str
    width_px: int
    """Columns as shown, after rotation."""
    height_px: int
    """Rows as shown, after rotation."""
    rotation_deg: int
    """Clockwise turn that the file asks for: 0, 90, 180 or 270."""
    time_base: Fraction
    """Seconds per tick of pts."""
    pts: NDArray[np.int64]
    """Time of every frame in ticks, ascending. Its length is the number of frames."""
    end: int
    """Tick at which the last frame leaves the screen."""
    decode_rank: NDArray[np.int64]
    """When frame k's packet comes in the file: 0 first. With B-frames it is not k."""
    keyframes: NDArray[np.int64]
    """Frames that the container marks as keyframes, ascending."""
    clean: NDArray[np.bool_]
    """Per keyframe: whether every frame shown from it on can be decoded without any earlier packet."""
    seek_ticks: NDArray[np.int64]
    """Per keyframe: what the demuxer wants to be asked for."""
    timed_by: Literal["pts", "order"]
    """pts: a decoded frame is recognised by its timestamp. order: the file has no usable ones (B-frames in AVI); frames
    are numbered as they come out of the decoder, and pts are the packets' times, sorted."""
    seekable: bool
    """Whether decoding can begin at a keyframe and still be exact. Otherwise it begins at the start, always."""
    skips_to_keyframe: bool
    """Whether decoding from the start begins at the first keyframe, because the stream may have been joined midway."""
    reorder_frames: int
    """The farthest that a frame is shown before one that it may be predicted from."""
    declared_frames: int | None
    """Number of frames that the header promises; null where it promises none."""
    declared_duration_s: float | None
    """Duration that the header promises; null where it promises none."""
    intact_frames: int
    """Frames before the first place where the file lacks some; all of them where it lacks none. Behind a gap in the
    middle the numbers count the frames that are still there."""
    shortfall: str | None
    """What the file lacks, in words; null where nothing is missing."""

    @property
    def frames(self) -> int:
        """Number of frames that decoding should give."""
        return len(self.pts)

    def time_s(self, frame: int) -> float:
        """The source's time of a frame in seconds; it need not begin at 0."""
        return float(int(self.pts[frame]) * self.time_base)


def index_video(source: Source, *, max_frame_px: int = MAX_FRAME_PX, max_frames: int = MAX_FRAMES) -> VideoIndex:
    """Read all packets of a video once and note what they are; nothing but the first picture is decoded.

    Not counted are packets that no player shows: those an edit list cuts away, hidden reference pictures of VP8 and
    VP9, and what precedes the first keyframe in either order. H.264 whose two fields come as two packets (some
    interlaced broadcasts) is counted by field; decoding reports the difference as damage.

    Args:
        source: local path or seekable binary file object.
        max_frame_px: most pixels of one picture.
        max_frames: most frames.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: no video, no pictures, or nothing that can be indexed.
        LimitError: a picture or the video is larger than allowed.
    """
    with open_video(source) as (container, stream, name):
        if stream.width * stream.height > max_frame_px:
            raise LimitError(
                f"the pictures are {stream.width}x{stream.height}; the limit is {max_frame_px} pixels, see max_frame_px"
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(max_frame_px)}
        scan = _scan(source, container, stream, name, max_frames)
        declared_s = container.duration / av.time_base if container.duration and name in _DECLARE_DURATION else None
        return _assemble(scan, stream, name, declared_s, missing_bytes(source, name))


def likely_frames(source: Source) -> int | None:
    """How many frames the headers let expect, without reading on: a hint for planning, wrong where they are.

    Returns:
        None where the headers say nothing; 0 where decoding begins at the start anyway, however many there are.

    Raises:
        FetchError, DecodeError: as index_video.
    """
    with open_video(source) as (container, stream, name):
        if name not in _SEEKABLE:
            return 0
        seconds = container.duration / av.time_base if container.duration else 0.0
        return stream.frames or round(seconds * float(stream.average_rate or 0)) or None


@dataclass(slots=True)
class _Scan:
    """What one pass over the packets notes, in decode order."""

    pts: "array[int]" = field(default_factory=lambda: array("q"))
    end: int = 0
    """Tick at which the last of the frames so far leaves the screen."""
    dts: "array[int]" = field(default_factory=lambda: array("q"))
    keys: list[int] = field(default_factory=list)
    """Positions of keyframes in pts."""
    clean: list[bool] = field(default_factory=list)
    first_key_pts: int | None = None
    """Where the first packet is a keyframe."""
    keyed: bool = False
    """Whether a keyframe has come."""
    stored: int = 0
    """Packets of the stream, shown or not."""
    torn: bool = False
    """The last packet is incomplete."""
    untimed: bool = False
    """A packet has no pts."""
    reordered: bool = False
    """A packet's pts is not its dts."""
    end_s: float = 0.0
    """Where the last packet of any stream ends."""
    harm: str | None = None
    """What FFmpeg said where reading broke off."""
    gap_at: int | None = None
    """Before which position in pts the demuxer skipped damage."""
    picture: "av.VideoFrame | None" = None
    probed: int = 0
    """Packets given to the decoder for the first picture."""


def _scan(source: Source, container: "InputContainer", stream: "VideoStream", name: str, max_frames: int) -> _Scan:
    scan = _Scan()
    if name not in _DECLARE_DURATION:  # where a duration is declared it covers the sound too, so the sound is read
        ignore_other_streams(container, stream)
    gaps = BlockGaps()
    try:
        for packet in container.demux():
            if packet.pos is not None and name == "matroska":
                gaps.see(packet.pos, packet.size, len(scan.pts))
            _count(scan, packet, stream, name)
            if len(scan.pts) > max_frames:
                raise LimitError(f"the video has more than {max_frames} frames, which is the limit; raise --max-frames")
    except av.FFmpegError as error:
        scan.harm = f"reading stops after {scan.stored} frames: {said(error)}"
    _probe(scan, None, stream)
    scan.gap_at = gaps.first_unexplained(source)
    return scan


def _count(scan: _Scan, packet: "Packet[Stream]", stream: "VideoStream", name: str) -> None:
    """Take in one packet of any stream."""
    scan.end_s = max(scan.end_s, _end_s(packet))
    if packet.stream_index != stream.index or not (packet.size or packet.dts is not None):
        return
    scan.stored += 1
    scan.torn = packet.is_corrupt
    if packet.size:  # AVI stores an empty packet for "show the last picture again"
        _note(scan, packet, stream, name)
        _probe(scan, packet, stream)


def _note(scan: _Scan, packet: "Packet[Stream]", stream: "VideoStream", name: str) -> None:
    """Add one packet, unless no player shows it."""
    if packet.is_keyframe and not scan.keyed:
        scan.keyed = True
        if name in _JOINED_MIDWAY:
            del scan.pts[:], scan.dts[:]
            scan.untimed = False
        if not scan.pts:
            scan.first_key_pts = packet.pts
    scan.untimed |= packet.pts is None
    scan.reordered |= packet.pts != packet.dts
    codec = stream.codec_context.codec.canonical_name
    if packet.is_discard or is_hidden(packet, codec):
        return
    if packet.pts is not None and scan.first_key_pts is not None and packet.pts < scan.first_key_pts:
        return  # a leading picture of the very first keyframe: what it refers to is not in the file
    if packet.is_keyframe:
        scan.keys.append(len(scan.pts))
        scan.clean.append(is_clean(packet, codec, stream.codec_context.extradata))
    dts = packet.dts if packet.dts is not None else packet.pts
    pts = packet.pts if packet.pts is not None else dts
    scan.end = max(scan.end, (pts or 0) + (packet.duration or 0))
    scan.pts.append(pts or 0)
    scan.dts.append(dts or 0)


def _probe(scan: _Scan, packet: "Packet[Stream] | None", stream: "VideoStream") -> None:
    """Decode until the first picture is out, because only a picture tells its rotation; None means the end."""
    if scan.picture is not None or scan.probed > _PROBE_PACKETS:
        return
    scan.probed += 1
    try:
        pictures = stream.codec_context.decode(packet)
    except (av.FFmpegError, EOFError):
        return  # damage is decode_frames' to report, with its place
    scan.picture = next(iter(pictures), None)


def _assemble(scan: _Scan, stream: "VideoStream", name: str, declared_s: float | None, missing: int) -> VideoIndex:
    pts, dts, keys = np.asarray(scan.pts, np.int64), np.asarray(scan.dts, np.int64), np.asarray(scan.keys, np.int64)
    rank = np.argsort(pts, kind="stable").astype(np.int64)
    shown = pts[rank]
    # AVI stores no presentation times: FFmpeg's are right only where nothing is reordered.
    by_order = scan.untimed or bool((np.diff(shown) == 0).any()) or (name == "avi" and scan.reordered)
    if by_order:
        rank, shown = np.arange(len(pts), dtype=np.int64), np.sort(dts)
        reorder_frames = _USUAL_REORDER if stream.codec_context.reorder_depth else 0
    else:
        reorder_frames = min(_MAX_REORDER, _reorder(rank))
    shortfall = _shortfall(scan, stream.frames, declared_s, name, missing)
    gap = scan.gap_at is not None and scan.gap_at < len(pts)
    # In front of the last frames of a cut file others may be missing, so their numbers are not known.
    frames = max(0, len(pts) - (reorder_frames if shortfall and not gap else 0))
    if not frames:
        raise DecodeError(f"the {name} file holds no frames: {shortfall or 'there are headers, but no pictures'}")
    place = np.empty(len(pts), np.int64)  # each packet's number in presentation order
    place[rank] = np.arange(len(pts))
    keys = keys[np.argsort(place[keys], kind="stable")]
    keys = keys[place[keys] < frames]
    clean = dict(zip(scan.keys, scan.clean, strict=True))
    width_px, height_px, rotation_deg = _shape(scan.picture, stream)
    return VideoIndex(
        container=name,
        codec=stream.codec_context.codec.canonical_name,
        width_px=width_px,
        height_px=height_px,
        rotation_deg=rotation_deg,
        time_base=stream.time_base or Fraction(1, av.time_base),
        pts=shown[:frames],
        end=_end(scan, shown, frames),
        decode_rank=rank[:frames],
        keyframes=place[keys],
        clean=np.asarray([clean[key] for key in keys.tolist()], np.bool_),
        # MP4's own index is in decoding times, Matroska's in presentation times.
        seek_ticks=(dts if name == "mov" else pts)[keys],
        timed_by="order" if by_order else "pts",
        seekable=name in _SEEKABLE and not by_order,
        skips_to_keyframe=name in _JOINED_MIDWAY and scan.keyed,
        reorder_frames=reorder_frames,
        declared_frames=stream.frames or None,
        declared_duration_s=declared_s,
        intact_frames=int(place[scan.gap_at :].min()) if gap else frames,
        shortfall=shortfall,
    )


def _end(scan: _Scan, shown: NDArray[np.int64], frames: int) -> int:
    """When the last frame leaves the screen; it stays as long as the one before where the file does not say."""
    if frames < len(shown):
        return int(shown[frames])
    before = int(shown[-1] - shown[-2]) if frames > 1 else 1
    return scan.end if scan.end > shown[-1] else int(shown[-1]) + before


def _shape(picture: "av.VideoFrame | None", stream: "VideoStream") -> tuple[int, int, int]:
    """Width, height and clockwise rotation as shown; the header's where no picture could be decoded."""
    if picture is None:
        return stream.width, stream.height, 0
    rotation_deg = -quarter_turns(picture) % 4 * 90
    size = (picture.width, picture.height) if rotation_deg in (0, 180) else (picture.height, picture.width)
    return *size, rotation_deg


def quarter_turns(picture: "av.VideoFrame") -> int:
    """Counter-clockwise quarter turns that the file asks for, 0 to 3; like OpenCV, other angles and mirrors are not."""
    return round(picture.rotation / 90) % 4 if picture.rotation % 90 == 0 else 0


def _shortfall(scan: _Scan, declared: int, declared_s: float | None, name: str, missing: int) -> str | None:
    """What the file lacks, or None."""
    if name in _DECLARE_COUNT and declared:  # then a cut that only hit what lies behind the last frame is none
        short = declared > scan.stored
        return f"the header declares {declared} frames, the file ends after {scan.stored}" if short else None
    if scan.gap_at is not None or scan.harm:
        return scan.harm or "a damaged stretch inside the file was skipped"
    if declared_s is not None and declared_s > scan.end_s + _DURATION_SLACK_S:
        return f"the header declares {declared_s:.3f} s, the file ends after {scan.end_s:.3f} s"
    if scan.torn:
        return f"frame {scan.stored - 1} in storage order, the last one, is incomplete"
    if missing:
        return f"the file lacks its last {missing} bytes or more"
    return None


def _end_s(packet: "Packet[Stream]") -> float:
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None or packet.time_base is None:
        return 0.0
    return float((time + (packet.duration or 0)) * packet.time_base)


def _reorder(rank: NDArray[np.int64]) -> int:
    """The farthest distance, in frames, from a frame to a later one that is decoded before it."""
    if not len(rank):
        return 0
    # earliest[k]: the first packet among frame k and all that are shown after it; it never falls.
    earliest = np.minimum.accumulate(rank[::-1])[::-1]
    last_before = np.searchsorted(earliest, rank, side="left") - 1
    return max(0, int((last_before - np.arange(len(rank))).max()))
