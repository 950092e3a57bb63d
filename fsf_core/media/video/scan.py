"""One pass over the packets of a video: what each holds, when it is shown, and where reading stopped.

Decodes only as much as gives the first frame, for its true size and rotation.
"""

# A packet's "rank" is its position among the stored packets of its stream, in decoding order

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import av

from fsf_core.errors import LimitError
from fsf_core.media.video.bitstream import is_clean, is_entry, picture_reader
from fsf_core.media.video.completeness import BlockGaps
from fsf_core.media.video.container import (
    DECLARE_DURATION,
    UNTIMED,
    Source,
    ffmpeg_message,
    ignore_other_streams,
)
from fsf_core.media.video.pictures import DROPPED, Kind, Picture, PictureReader

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

MAX_FRAMES = 10_000_000
"""46 hours at 60 frames per second."""

NO_TIME: Final = -(1 << 63)
"""In place of a time that a packet lacks."""

KINDS: Final[tuple[Kind, ...]] = ("frame", "reference", "dropped", "unclear", "unknown")

_PROBE_PACKETS = 64  # a decoder holds back at most 16 frames, times a few threads


@dataclass(slots=True)
class PacketScan:
    """What one pass over the packets records, by rank."""

    pts: "array[int]" = field(default_factory=lambda: array("q"))
    """Ticks, or NO_TIME."""
    dts: "array[int]" = field(default_factory=lambda: array("q"))
    """Ticks, or NO_TIME."""
    kinds: "array[int]" = field(default_factory=lambda: array("b"))
    """Positions in KINDS."""
    epochs: "array[int]" = field(default_factory=lambda: array("q"))
    orders: "array[int]" = field(default_factory=lambda: array("q"))
    """With epochs, the order in which the frames are shown; both are valid where `is_ordered`."""
    is_ordered: "array[int]" = field(default_factory=lambda: array("b"))
    end: int = NO_TIME
    """Tick at which the last frame so far leaves the screen."""
    keyframes: list[int] = field(default_factory=list)
    """Ranks of keyframes that are shown."""
    clean: list[bool] = field(default_factory=list)
    """Per keyframe: whether decoding may begin there."""
    places: list[int] = field(default_factory=list)
    """Per keyframe: its offset in the file; -1 where the demuxer does not tell."""
    first_keyframe: int | None = None
    """Rank of the first packet that a decoder may begin with, shown or not."""
    entries: int = 0
    """Packets of the stream, those without data included."""
    shown: int = 0
    """Packets that seem to hold a frame."""
    incomplete: set[int] = field(default_factory=set)
    """Ranks of packets that the demuxer marked as corrupt."""
    end_s: float = 0.0
    """Where the last packet of any stream ends."""
    read_error: str | None = None
    """FFmpeg's message where reading stopped early."""
    gaps: list[int] = field(default_factory=list)
    """Ranks before which the demuxer skipped damaged bytes."""
    first_frame: "av.VideoFrame | None" = None
    probed_packets: int = 0
    """Packets given to the decoder for the first frame."""

    @property
    def packets(self) -> int:
        """Number of packets so far."""
        return len(self.pts)

    def seams(self) -> frozenset[int]:
        """Return the incomplete packets of MPEG-TS after which another recording may begin.

        The packet counter also jumps where healthy recordings were joined. FFmpeg's parsers move the mark of the last
        packet before the jump to the one before it; after it comes a keyframe.
        """
        keyframes = frozenset(self.keyframes)
        return frozenset(rank for rank in self.incomplete if rank + 2 in keyframes and rank + 1 not in keyframes)


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
    context = stream.codec_context
    reader = picture_reader(context.codec.canonical_name, context.extradata, reorders=context.codec.reorder)
    gaps = BlockGaps()
    try:
        for packet in container.demux():
            if packet.pos is not None and name == "matroska":
                gaps.add(packet.pos, packet.size, scan.packets)
            scan.end_s = max(scan.end_s, _end_s(packet))
            if packet.stream_index != stream.index:
                continue
            scan.entries += bool(packet.size or packet.dts is not None)
            if packet.size:
                _record_packet(scan, packet, stream, reader, name)
                _decode_first_frame(scan, packet, stream)
            if scan.shown > max_frames:
                raise LimitError(f"the video has more than {max_frames} frames, which is the limit; raise --max-frames")
    except av.FFmpegError as error:
        scan.read_error = f"reading stops after {scan.packets} frames: {ffmpeg_message(error)}"
    _decode_first_frame(scan, None, stream)
    scan.gaps = gaps.unexplained(source)
    return scan


def _record_packet(
    scan: PacketScan, packet: "Packet[Stream]", stream: "VideoStream", reader: PictureReader, name: str
) -> None:
    """Record one packet of the stream."""
    rank = scan.packets
    is_untimed = name in UNTIMED
    codec, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata
    if scan.first_keyframe is None and is_entry(packet, codec, extradata):
        scan.first_keyframe = rank
    # Most decoders leave out what precedes the first keyframe, others return pictures with parts that are missing.
    picture = reader.read(memoryview(packet)) if scan.first_keyframe is not None else DROPPED
    if packet.is_discard:
        picture = Picture("reference")
    is_shown = picture.kind not in ("reference", "dropped")
    scan.shown += is_shown
    if packet.is_corrupt:
        scan.incomplete.add(rank)
    if packet.is_keyframe and is_shown:
        scan.keyframes.append(rank)
        scan.clean.append(is_clean(packet, codec, extradata))
        scan.places.append(-1 if packet.pos is None else packet.pos)
    pts, dts = (NO_TIME if tick is None or is_untimed else tick for tick in (packet.pts, packet.dts))
    time = dts if pts == NO_TIME else pts
    if time != NO_TIME and is_shown:
        scan.end = max(scan.end, time + (packet.duration or 0))
    scan.pts.append(pts)
    scan.dts.append(dts)
    scan.kinds.append(KINDS.index(picture.kind))
    scan.is_ordered.append(picture.order is not None)
    epoch, order = picture.order or (0, 0)
    scan.epochs.append(epoch)
    scan.orders.append(order)


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
