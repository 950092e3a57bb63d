"""The sound of a rendered video: copied from its source where MP4 takes it as it is, otherwise encoded as AAC.

Knows FFmpeg. Holds one packet's samples.
"""

# C channels, N samples

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np
from av.stream import Disposition

from fsf_core.media.video.container import ffmpeg_message, ignore_other_streams
from fsf_core.media.video.timeline import Damage, Timeline, filled, in_chunks

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

COPIED = frozenset({"aac", "mp3", "opus"})
"""Codecs that MP4 holds and browsers play; others are encoded again."""
AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})

# Before its first sample a decoder of copied sound needs earlier packets, which MP4's edit list hides: 80 ms for Opus
# (RFC 7845 §4.6), a frame or two of AAC and MP3.
_PREROLL_S = 0.1
# Bits of an MP3 frame's header that give version, layer, sampling rate and number of channels.
_MP3_KIND = 0x001E0C00
_MONO = 3

Timed: TypeAlias = "tuple[float, Packet[Any]]"
"""Time in seconds, and a packet."""


class SoundError(Exception):
    """The sound cannot be carried over in this way."""


@dataclass(slots=True)
class SoundReport:
    """What became of the sound."""

    outcome: str = "none"
    """none, copied or aac; with what was lost in parentheses."""


def choose_track(container: "InputContainer", video: "VideoStream", name: str) -> Any:
    """Return the sound track of a video: the one marked as default, or else the first; None if it has none.

    In a transport stream of several programmes it is that of the video's programme.
    """
    decodable = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not decodable:
        return None
    if name == "mpegts":
        related: Any = container.streams.best("audio", related=video)
        return related if related in decodable else decodable[0]
    return next((stream for stream in decodable if stream.disposition & Disposition.default), decodable[0])


def can_copy(track: Any, name: str) -> bool:
    """Return whether MP4 takes the packets of a track as they are; in other containers AAC has headers of its own."""
    return name in ("mov", "matroska") and track.codec_context.codec.canonical_name in COPIED


def copied_packets(
    container: "InputContainer",
    track: Any,
    output: "OutputContainer",
    report: SoundReport,
    *,
    zero_s: float,
    end_s: float,
) -> Iterator[Timed]:
    """Yield the packets of a track between zero_s and end_s, with the rendered video's times.

    The track is added to the output before the first packet, and not at all if there is none.

    Raises:
        SoundError: the sound changes on the way.
    """
    ignore_other_streams(container, track)
    stream: Any = None
    kind = -1
    at_s = 0.0
    try:
        for packet in container.demux(track):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base) - zero_s
            if at_s >= end_s:
                return
            if at_s < -_PREROLL_S:
                continue
            kind, before = _kind(packet, track), kind
            if stream is None:
                stream = output.add_stream_from_template(track)
                report.outcome = "copied"
            elif kind != before:
                raise SoundError(f"the sound changes at {at_s:.3f} s")
            shift = round(Fraction(zero_s) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = stream
            yield max(0.0, at_s), packet
    except av.FFmpegError as error:
        if stream is None:
            raise SoundError(ffmpeg_message(error)) from error
        report.outcome = f"copied until {at_s:.3f} s ({ffmpeg_message(error)})"


def _kind(packet: "Packet[Any]", track: Any) -> int:
    """Return what a decoder of copied packets is set up for; a change of it cannot be copied."""
    if packet.has_sidedata("new_extradata"):
        return hash(bytes(packet.get_sidedata("new_extradata")))
    if track.codec_context.codec.canonical_name != "mp3":
        return 0
    head = int.from_bytes(bytes(packet)[:4], "big")
    return head & _MP3_KIND | (head >> 6 & 3 == _MONO)


def encoded_packets(
    container: "InputContainer",
    track: Any,
    output: "OutputContainer",
    report: SoundReport,
    *,
    zero_s: float,
    end_s: float,
) -> Iterator[Timed]:
    """Yield the sound of a track between zero_s and end_s, encoded as AAC, with the rendered video's times.

    The track is added to the output before the first packet, and not at all if nothing can be decoded.
    """
    ignore_other_streams(container, track)
    damage = Damage()
    decoded = _decoded(container, track, damage)
    first = next(decoded, None)
    if first is None:
        report.outcome = f"none ({damage.describe()})" if damage else "none"
        return
    rate = first.sample_rate if first.sample_rate in AAC_RATES else 48000
    layout, channels = ("mono", 1) if first.layout.nb_channels == 1 else ("stereo", 2)
    timeline = Timeline(rate, layout, zero_s=zero_s, end_s=end_s)
    pieces = in_chunks(filled(timeline.place(chain([first], decoded), damage), channels, rate))
    begun = [*islice(pieces, 1)]
    if not begun:  # it is all before the video's begin, or behind its end
        return
    stream: Any = output.add_stream("aac", rate=rate)
    stream.layout = layout
    report.outcome = "aac"
    for begin, samples_CN in chain(begun, pieces):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples_CN), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        yield from _timed(stream.encode(frame))
    yield from _timed(stream.encode(None))
    if damage:
        report.outcome = f"aac ({damage.describe()})"


def _timed(packets: "list[Packet[Any]]") -> Iterator[Timed]:
    """Yield each packet after its time in seconds."""
    for packet in packets:
        assert packet.pts is not None
        assert packet.time_base is not None
        yield float(packet.pts * packet.time_base), packet


def _decoded(container: "InputContainer", track: Any, damage: Damage) -> "Iterator[av.AudioFrame]":
    """Yield the decoded pieces of a track, on with the next packet behind one that is damaged."""
    time_s: float | None = None
    try:
        for packet in container.demux(track):
            if packet.pts is not None:
                time_s = float(packet.pts * packet.time_base)
            try:
                yield from packet.decode()
            except (av.FFmpegError, EOFError) as error:
                if packet.size:
                    damage.add(time_s, error)
    except av.FFmpegError as error:
        damage.end(time_s, error)
