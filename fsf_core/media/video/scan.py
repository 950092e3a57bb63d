"""One pass over the packets of a video: which are shown, when, and where reading stopped.

Decodes only as much as gives the first frame, for its true size and rotation.
"""

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av

from fsf_core.errors import LimitError
from fsf_core.media.video.bitstream import is_clean, is_hidden
from fsf_core.media.video.completeness import BlockGaps
from fsf_core.media.video.container import (
    DECLARE_DURATION,
    JOINED_MIDWAY,
    UNTIMED,
    Source,
    ffmpeg_message,
    ignore_other_streams,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

MAX_FRAMES = 10_000_000
"""46 hours at 60 frames per second."""

_PROBE_PACKETS = 64  # a decoder holds back at most 16 frames, times a few threads


@dataclass(slots=True)
class PacketScan:
    """What one pass over the packets records, in decoding order."""

    pts: "array[int]" = field(default_factory=lambda: array("q"))
    dts: "array[int]" = field(default_factory=lambda: array("q"))
    end: int = 0
    """Tick at which the last frame so far leaves the screen."""
    keyframes: list[int] = field(default_factory=list)
    """Positions of keyframes in pts."""
    clean: list[bool] = field(default_factory=list)
    """Per keyframe: whether decoding may begin there."""
    first_key_pts: int | None = None
    """Tick of the first packet, if that is a keyframe."""
    has_keyframe: bool = False
    has_frame_without_pts: bool = False
    has_reordered_frames: bool = False
    """Whether some packet's pts is not its dts."""
    stored_packets: int = 0
    """Packets of the stream, shown or not."""
    last_is_incomplete: bool = False
    """Whether the demuxer marked the last packet as corrupt."""
    end_s: float = 0.0
    """Where the last packet of any stream ends."""
    read_error: str | None = None
    """FFmpeg's message where reading stopped early."""
    gap_at: int | None = None
    """Position in pts before which the demuxer skipped damaged bytes."""
    first_frame: "av.VideoFrame | None" = None
    probed_packets: int = 0
    """Packets given to the decoder for the first frame."""


def scan_packets(
    source: Source, container: "InputContainer", stream: "VideoStream", name: str, *, max_frames: int
) -> PacketScan:
    """Read all packets of a container once.

    Args:
        source: what the container was opened from.
        container: an open container.
        stream: its video stream.
        name: the container's name, from sniff_container.
        max_frames: most frames.

    Raises:
        LimitError: the video has more frames.
    """
    scan = PacketScan()
    if name not in DECLARE_DURATION:  # a declared duration covers the sound too, so there the sound is read
        ignore_other_streams(container, stream)
    gaps = BlockGaps()
    try:
        for packet in container.demux():
            if packet.pos is not None and name == "matroska":
                gaps.add(packet.pos, packet.size, len(scan.pts))
            _record_packet(scan, packet, stream, name)
            if len(scan.pts) > max_frames:
                raise LimitError(f"the video has more than {max_frames} frames, which is the limit; raise --max-frames")
    except av.FFmpegError as error:
        scan.read_error = f"reading stops after {scan.stored_packets} frames: {ffmpeg_message(error)}"
    _decode_first_frame(scan, None, stream)
    scan.gap_at = gaps.first_unexplained(source)
    return scan


def _record_packet(scan: PacketScan, packet: "Packet[Stream]", stream: "VideoStream", name: str) -> None:
    """Record one packet of any stream."""
    scan.end_s = max(scan.end_s, _end_s(packet))
    if packet.stream_index != stream.index or not (packet.size or packet.dts is not None):
        return
    scan.stored_packets += 1
    scan.last_is_incomplete = packet.is_corrupt
    if packet.size:  # AVI stores an empty packet for "show the last frame again"
        _record_frame(scan, packet, stream, name)
        _decode_first_frame(scan, packet, stream)


def _record_frame(scan: PacketScan, packet: "Packet[Stream]", stream: "VideoStream", name: str) -> None:
    """Record one frame, unless no player shows it."""
    if packet.is_keyframe and not scan.has_keyframe:
        scan.has_keyframe = True
        if name in JOINED_MIDWAY:
            del scan.pts[:], scan.dts[:]
            scan.has_frame_without_pts = False
        if not scan.pts:
            scan.first_key_pts = packet.pts
    scan.has_frame_without_pts |= packet.pts is None or name in UNTIMED
    scan.has_reordered_frames |= packet.pts != packet.dts
    codec = stream.codec_context.codec.canonical_name
    if packet.is_discard or is_hidden(packet, codec):
        return
    if packet.pts is not None and scan.first_key_pts is not None and packet.pts < scan.first_key_pts:
        return  # a leading frame of the first keyframe: what it refers to is not in the file
    if packet.is_keyframe:
        scan.keyframes.append(len(scan.pts))
        scan.clean.append(is_clean(packet, codec, stream.codec_context.extradata))
    dts = next((tick for tick in (packet.dts, packet.pts) if tick is not None and name not in UNTIMED), scan.end)
    pts = packet.pts if packet.pts is not None and name not in UNTIMED else dts
    scan.end = max(scan.end, pts + (packet.duration or 0))
    scan.pts.append(pts)
    scan.dts.append(dts)


def _decode_first_frame(scan: PacketScan, packet: "Packet[Stream] | None", stream: "VideoStream") -> None:
    """Decode until the first frame is out, because only a frame carries its rotation; None flushes the decoder."""
    if scan.first_frame is not None or scan.probed_packets > _PROBE_PACKETS:
        return
    scan.probed_packets += 1
    try:
        frames = stream.codec_context.decode(packet)
    except (av.FFmpegError, EOFError):
        return  # decode_frames reports damage, with its place
    scan.first_frame = next(iter(frames), None)


def _end_s(packet: "Packet[Stream]") -> float:
    """Return the time in seconds at which a packet ends, 0 if it has none."""
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None or packet.time_base is None:
        return 0.0
    return float((time + (packet.duration or 0)) * packet.time_base)
