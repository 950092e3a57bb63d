"""Decoded sound on the clock of a rendered video, sample by sample.

Gaps and damaged packets become silence, overlaps are cut, and what changes on the way (channels, rate, format) is
converted to one kind. Knows FFmpeg's resampler; knows no files, no codecs and no encoder.
"""

# C channels, N samples

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from fsf_core.media.video.container import ffmpeg_message

_FRAME_SAMPLES = 1024  # of AAC
_CHUNK_SAMPLES = 16 * _FRAME_SAMPLES  # a third of a second
_TOLERANCE_S = 0.02  # clocks of containers are rounded to a millisecond, and drift
_LONGEST_SILENCE_S = 600.0  # a longer gap is a jump of time, which costs nothing
_RESTART_S = 1.0  # sound that steps back by more belongs to a clock that begins anew

Placed: TypeAlias = tuple[int, NDArray[np.float32]]
"""Position in samples, and C×N samples."""


class Damage:
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


class Timeline:
    """Decoded sound as samples on the clock of the rendered video, which begins at 0."""

    def __init__(self, rate: int, layout: str, *, zero_s: float, end_s: float) -> None:
        self._rate = rate
        self._layout = layout
        self._zero = Fraction(zero_s)
        self._end = round(end_s * rate)
        self._at = 0
        """Samples that are placed."""

    def place(self, frames: "Iterator[av.AudioFrame]", damage: Damage) -> Iterator[Placed]:
        """Yield ascending positions in samples and float32 C×N samples, without overlap; gaps stay gaps."""
        run: _Run | None = None
        for frame in frames:
            begin = self._begin(frame)
            length = frame.samples * self._rate // frame.sample_rate
            if not self._at and begin is not None and begin + length < -self._rate:
                continue  # more than a second before the video
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
        if self._at and begin < self._at - _RESTART_S * self._rate:
            self._zero -= Fraction(self._at - begin, self._rate)
            return self._at
        return begin

    def _begin(self, frame: av.AudioFrame) -> int | None:
        """Return where a piece begins, in samples; None if it has no time."""
        if frame.pts is None or frame.time_base is None:
            return None
        return round((frame.pts * frame.time_base - self._zero) * self._rate)

    def _cut(self, pieces: Iterator[Placed]) -> Iterator[Placed]:
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

    def convert(self, frame: av.AudioFrame) -> Iterator[Placed]:
        """Convert a piece; yields positions and samples."""
        self._given_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None  # the positions are counted here
        yield from self._positioned(self._resampler.resample(frame))

    def finish(self) -> Iterator[Placed]:
        """Yield what the conversion holds back."""
        yield from self._positioned(self._resampler.resample(None))

    def _positioned(self, frames: "Sequence[av.AudioFrame | None]") -> Iterator[Placed]:
        for frame in frames:
            if frame is not None:
                begin = self._begin + self._returned
                self._returned += frame.samples
                yield begin, np.asarray(frame.to_ndarray(), np.float32)


def _kind_of(frame: av.AudioFrame) -> tuple[str, str, int]:
    """Return what a resampler is set up for."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def filled(pieces: Iterator[Placed], channels: int, rate: int) -> Iterator[Placed]:
    """Yield the pieces with silence in the gaps between them, and before the first, except in long ones."""
    at = 0
    for begin, samples_CN in pieces:
        if begin - at <= _LONGEST_SILENCE_S * rate:
            for start in range(at, begin, _CHUNK_SAMPLES):
                yield start, np.zeros((channels, min(_CHUNK_SAMPLES, begin - start)), np.float32)
        yield begin, samples_CN
        at = begin + samples_CN.shape[1]


def in_chunks(pieces: Iterator[Placed]) -> Iterator[Placed]:
    """Yield chunks of whole frames of AAC, padded before a jump of time; the last may end within a frame.

    Few calls for many samples: the encoder cuts a chunk into frames in C.
    """
    held: list[NDArray[np.float32]] = []
    begin, samples = 0, 0
    for position, samples_CN in pieces:
        if position != begin + samples:
            if samples:
                padding = np.zeros((samples_CN.shape[0], -samples % _FRAME_SAMPLES), np.float32)
                yield begin, np.concatenate([*held, padding], axis=1)
            held, begin, samples = [], position, 0
        held.append(samples_CN)
        samples += samples_CN.shape[1]
        if samples >= _CHUNK_SAMPLES:
            whole_CN = np.concatenate(held, axis=1)
            full = samples - samples % _FRAME_SAMPLES
            yield begin, whole_CN[:, :full]
            held, begin, samples = [whole_CN[:, full:]], begin + full, samples - full
    if samples:
        yield begin, np.concatenate(held, axis=1)
