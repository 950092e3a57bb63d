"""The sound of a rendered video: copied from its source where MP4 takes it as it is, otherwise encoded as AAC.

Knows FFmpeg. Encoded sound is laid out on the clock of the rendered video, sample by sample: gaps and damaged packets
become silence, overlaps are cut, and what changes on the way (channels, rate, format) is converted to what the first
piece of sound gave. Holds one packet's samples.
"""

# C channels, N samples

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition
from numpy.typing import NDArray

from fsf_core.media.video.container import ffmpeg_message, ignore_other_streams

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

COPIED = frozenset({"aac", "mp3", "opus"})
"""Codecs that MP4 holds and browsers play; others are encoded again."""
AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})

_FRAME_SAMPLES = 1024  # of AAC
_TOLERANCE_S = 0.02  # clocks of containers are rounded to a millisecond, and drift
_LONGEST_SILENCE_S = 600.0  # a longer gap is a jump of time, which costs nothing
# Before its first sample a decoder of copied sound needs earlier packets, which MP4's edit list hides: 80 ms for Opus
# (RFC 7845 §4.6), a frame or two of AAC and MP3.
_PREROLL_S = 0.1
_RESTART_S = 1.0  # sound that steps back by more belongs to a clock that begins anew
# Bits of an MP3 frame's header that give version, layer, sampling rate and number of channels.
_MP3_KIND = 0x001E0C00
_MONO = 3

Timed: TypeAlias = "tuple[float, Packet[Any]]"
"""Time in seconds, and a packet."""


_Placed: TypeAlias = tuple[int, NDArray[np.float32]]
"""Position in samples, and C×N samples."""


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
    damage = _Damage()
    decoded = _decoded(container, track, damage)
    first = next(decoded, None)
    if first is None:
        report.outcome = f"none ({damage.describe()})" if damage else "none"
        return
    rate = first.sample_rate if first.sample_rate in AAC_RATES else 48000
    stream: Any = output.add_stream("aac", rate=rate)
    stream.layout = "mono" if first.layout.nb_channels == 1 else "stereo"
    report.outcome = "aac"
    context = stream.codec_context
    timeline = _Timeline(rate, context.layout.name, zero_s=zero_s, end_s=end_s)
    placed = timeline.place(chain([first], decoded), damage)
    for begin, samples_CN in _in_frames(_filled(placed, context.layout.nb_channels, rate)):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples_CN), format="fltp", layout=context.layout.name)
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


class _Damage:
    """Packets that could not be decoded, and what ended the reading."""

    def __init__(self) -> None:
        self._packets = 0
        self._first = ""
        self._end = ""

    def __bool__(self) -> bool:
        return bool(self._packets or self._end)

    def add(self, time_s: float | None, error: Exception) -> None:
        """Record a packet that is lost."""
        if not self._packets:
            place = "" if time_s is None else f", the first at {time_s:.3f} s"
            self._first = f"{place}: {ffmpeg_message(error)}"
        self._packets += 1

    def end(self, time_s: float | None, error: Exception) -> None:
        """Record that nothing more can be read."""
        self._end = f"it ends at {time_s or 0.0:.3f} s: {ffmpeg_message(error)}"

    def describe(self) -> str:
        """Return the damage as text."""
        plural = "packet" if self._packets == 1 else "packets"
        lost = f"{self._packets} damaged {plural}{self._first}" if self._packets else ""
        return "; ".join(text for text in (lost, self._end) if text)


def _decoded(container: "InputContainer", track: Any, damage: _Damage) -> "Iterator[av.AudioFrame]":
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


class _Timeline:
    """Decoded sound as samples on the clock of the rendered video, which begins at 0."""

    def __init__(self, rate: int, layout: str, *, zero_s: float, end_s: float) -> None:
        self._rate = rate
        self._layout = layout
        self._zero = Fraction(zero_s)
        self._end = round(end_s * rate)
        self._at = 0
        """Samples that are placed."""

    def place(self, frames: "Iterator[av.AudioFrame]", damage: _Damage) -> Iterator[_Placed]:
        """Yield ascending positions in samples and float32 C×N samples, without overlap; gaps stay gaps."""
        run: _Run | None = None
        for frame in frames:
            begin = self._begin(frame)
            continues = run is not None and run.continues(frame, begin)
            if run is not None and not continues:
                yield from self._cut(run.finish())
            if not continues:
                begin = self._restarted(self._at if begin is None else begin)
                if begin >= self._end:
                    return
                run = _Run(frame, begin, self._rate, self._layout)
            assert run is not None
            try:
                yield from self._cut(run.convert(frame))
            except (av.FFmpegError, ValueError) as error:
                damage.add(frame.time, error)
                run = None
            if self._at >= self._end:
                return
        if run is not None:
            yield from self._cut(run.finish())

    def _restarted(self, begin: int) -> int:
        """Return where a piece goes: behind the others, if it is of a clock that begins anew."""
        if begin < self._at - _RESTART_S * self._rate:
            self._zero -= Fraction(self._at - begin, self._rate)
            return self._at
        return begin

    def _begin(self, frame: av.AudioFrame) -> int | None:
        """Return where a piece begins, in samples; None if it has no time."""
        if frame.pts is None or frame.time_base is None:
            return None
        return round((frame.pts * frame.time_base - self._zero) * self._rate)

    def _cut(self, pieces: Iterator[_Placed]) -> Iterator[_Placed]:
        """Yield what of some samples is neither before those already placed nor behind the end."""
        for begin, samples_CN in pieces:
            first, stop = max(begin, self._at), min(begin + samples_CN.shape[1], self._end)
            if first < stop:
                self._at = stop
                yield first, samples_CN[:, first - begin : stop - begin]


class _Run:
    """Consecutive sound of one kind: rate, channels and format."""

    def __init__(self, frame: av.AudioFrame, begin: int, rate: int, layout: str) -> None:
        self._kind = _kind_of(frame)
        self._resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        self._tolerance = _TOLERANCE_S * rate
        self._rate = rate
        self._begin = begin
        self._given_s = Fraction(0)
        self._returned = 0

    def continues(self, frame: av.AudioFrame, begin: int | None) -> bool:
        """Return whether a piece follows what was converted, in kind and, as far as clocks go, in time."""
        expected = self._begin + self._given_s * self._rate
        return _kind_of(frame) == self._kind and (begin is None or abs(begin - expected) <= self._tolerance)

    def convert(self, frame: av.AudioFrame) -> Iterator[_Placed]:
        """Convert a piece; yields positions and samples."""
        self._given_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None  # the positions are counted here
        yield from self._positioned(self._resampler.resample(frame))

    def finish(self) -> Iterator[_Placed]:
        """Yield what the conversion holds back."""
        yield from self._positioned(self._resampler.resample(None))

    def _positioned(self, frames: "Sequence[av.AudioFrame | None]") -> Iterator[_Placed]:
        for frame in frames:
            if frame is not None:
                begin = self._begin + self._returned
                self._returned += frame.samples
                yield begin, np.asarray(frame.to_ndarray(), np.float32)


def _kind_of(frame: av.AudioFrame) -> tuple[str, str, int]:
    """Return what a resampler is set up for."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def _filled(pieces: Iterator[_Placed], channels: int, rate: int) -> Iterator[_Placed]:
    """Yield the pieces with silence in the gaps between them, and before the first, except in long ones."""
    at = 0
    for begin, samples_CN in pieces:
        if begin - at <= _LONGEST_SILENCE_S * rate:
            for start in range(at, begin, _FRAME_SAMPLES):
                yield start, np.zeros((channels, min(_FRAME_SAMPLES, begin - start)), np.float32)
        yield begin, samples_CN
        at = begin + samples_CN.shape[1]


def _in_frames(pieces: Iterator[_Placed]) -> Iterator[_Placed]:
    """Yield frames of 1,024 samples; the last, and one before a jump of time, may be shorter."""
    held: list[NDArray[np.float32]] = []
    begin, samples = 0, 0
    for position, samples_CN in pieces:
        if position != begin + samples:
            if samples:
                yield begin, np.concatenate(held, axis=1)
            held, begin, samples = [], position, 0
        held.append(samples_CN)
        samples += samples_CN.shape[1]
        if samples >= _FRAME_SAMPLES:
            whole_CN = np.concatenate(held, axis=1)
            full = samples - samples % _FRAME_SAMPLES
            for start in range(0, full, _FRAME_SAMPLES):
                yield begin + start, whole_CN[:, start : start + _FRAME_SAMPLES]
            held, begin, samples = [whole_CN[:, full:]], begin + full, samples - full
    if samples:
        yield begin, np.concatenate(held, axis=1)
