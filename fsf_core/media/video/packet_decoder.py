"""Decoding packet by packet: every frame comes with the rank of the packet that holds it, and so does every complaint.

The rank travels through the decoder in place of the time, so that frames are known whatever times the file has.
"""

# A packet's "rank" is its position among the stored packets of its stream, in decoding order

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from fsf_core.errors import LimitError
from fsf_core.media.video.container import Source, ffmpeg_message, ignore_other_streams, open_video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

STALL_S = 60.0
"""Default of the longest time without a decoded frame."""

_INCOMPLETE = "a packet is incomplete"


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """Limits of one pass."""

    max_frame_px: int
    stall_s: float = STALL_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Landing:
    """A keyframe to seek to, and those at which the seek may land."""

    tick: int
    """To pass to the demuxer's seek."""
    last_rank: int
    """Rank of the keyframe."""
    ranks: Mapping[int, int]
    """Rank of each keyframe by its offset in the file."""


class LandingError(Exception):
    """Seeking led to a place that is not known, or behind the keyframe."""


class PacketDecoder:
    """One pass over the packets of a source, from its beginning or from a keyframe.

    Attributes:
        suspects: ranks of packets that the demuxer marked as corrupt, so far.
    """

    def __init__(
        self,
        source: Source,
        *,
        stream_index: int,
        begin: int,
        limits: DecodeLimits,
        landing: Landing | None = None,
        only_keyframes: bool = False,
        seams: Collection[int] = (),
    ) -> None:
        """Prepare a pass.

        Args:
            source: local path or seekable binary file object.
            stream_index: the stream that holds the frames.
            begin: rank of the first packet to decode.
            limits: of frames and time.
            landing: keyframe to seek to; None to begin at `begin`.
            only_keyframes: whether the decoder is to skip all other frames.
            seams: ranks of packets that the demuxer marks as corrupt though nothing need be missing.
        """
        self._source = source
        self._stream_index = stream_index
        self._begin = begin
        self._limits = limits
        self._landing = landing
        self._only_keyframes = only_keyframes
        self._seams = seams
        self._first_error: str | None = None
        self.suspects: list[int] = []

    @property
    def damage(self) -> str:
        """FFmpeg's first message about damage."""
        return self._first_error or "FFmpeg returns no frame, or one that it marks as corrupt"

    def frames(self) -> "Iterator[tuple[int, av.VideoFrame | None]]":
        """Yield frames in presentation order, each with the rank of its packet; None for a packet that failed.

        A packet fails if the decoder raises an error, or if the demuxer says that bytes of it are missing; that comes
        as soon as it is known. A frame is damaged if `is_corrupt` says so: FFmpeg marks frames of which it concealed a
        part (decode_error_flags), and those whose references are missing (AV_FRAME_FLAG_CORRUPT).

        Raises:
            LandingError: seeking did not lead to a keyframe at or before the requested one.
            LimitError: no frame for too long.
        """
        with open_video(self._source, stream_index=self._stream_index) as (container, stream, name):
            ignore_other_streams(container, stream)
            codec = stream.codec_context
            codec.thread_count = 1  # tasks run side by side; with several, MPEG-2 fails to notice some damage
            codec.options = {"max_pixels": str(self._limits.max_frame_px)}
            if self._only_keyframes:
                codec.skip_frame = "NONKEY"
            decoded = 0
            since = time.monotonic()
            for rank, packet in self._packets(container, stream):
                yield from ((incomplete, None) for incomplete in self._incomplete(rank, packet, name))
                if packet is not None and packet.is_corrupt and name != "mpegts":
                    continue
                frames, error = _decode(packet, stream, rank)
                if error:
                    self._first_error = self._first_error or error
                    if packet is not None:
                        yield rank, None
                for frame in frames:
                    decoded += 1
                    number = frame.pts if frame.pts is not None else frame.dts
                    if number is not None:
                        yield number, frame
                    since = time.monotonic()  # the caller's time does not count
                if time.monotonic() - since > self._limits.stall_s:
                    limit_s = self._limits.stall_s
                    raise LimitError(f"no frame for {limit_s} s after {decoded} decoded ones; see stall_s")

    def _incomplete(self, rank: int, packet: "Packet[VideoStream] | None", name: str) -> list[int]:
        """Return the ranks of the packets that the demuxer marks as incomplete by marking this one.

        The mark is of a packet that the end of the file cuts off, and in MPEG-TS of a jump of the packet counter; there
        FFmpeg's parsers move it to the packet before.
        """
        if packet is None or not packet.is_corrupt:
            return []
        self.suspects.append(rank)
        if rank in self._seams:
            return []
        self._first_error = self._first_error or _INCOMPLETE
        return [rank, rank + 1] if name == "mpegts" else [rank]

    def _packets(
        self, container: "InputContainer", stream: "VideoStream"
    ) -> "Iterator[tuple[int, Packet[VideoStream] | None]]":
        """Yield the ranks and packets to decode, then None to flush the decoder."""
        rank = -1
        try:
            if self._landing is not None:
                container.seek(self._landing.tick, stream=stream)
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if self._landing is not None and rank < 0 and not packet.is_keyframe:
                    continue
                rank += 1
                if self._landing is not None and packet.is_keyframe:
                    rank = self._checked(rank, packet, self._landing)
                if rank >= self._begin:
                    yield rank, packet
        except av.FFmpegError as error:
            self._first_error = self._first_error or ffmpeg_message(error)
        yield rank + 1, None

    def _checked(self, rank: int, packet: "Packet[VideoStream]", landing: Landing) -> int:
        """Return the rank of a keyframe: the first one tells where seeking led, the others confirm it.

        Raises:
            LandingError: it led elsewhere.
        """
        known = -1 if packet.pos is None else landing.ranks.get(packet.pos, -1)
        if not rank:
            if not 0 <= known <= landing.last_rank:
                raise LandingError
            return known
        if known not in (-1, rank):
            raise LandingError
        return rank


def _decode(
    packet: "Packet[VideoStream] | None", stream: "VideoStream", rank: int
) -> tuple[list[av.VideoFrame], str | None]:
    """Decode one packet; an error gives no frames and FFmpeg's message."""
    if packet is not None:
        packet.pts = packet.dts = rank
    try:
        return stream.codec_context.decode(packet), None
    except (av.FFmpegError, EOFError) as error:
        if stream.codec_context.codec.canonical_name == "vp9":  # FFmpeg's never recovers by itself, and holds no frames
            stream.codec_context.flush_buffers()
        return [], ffmpeg_message(error)
