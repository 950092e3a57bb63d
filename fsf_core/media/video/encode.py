"""Pictures to H.264 that browsers play: segments encoded apart, and joined with the source's sound as they are.

Knows FFmpeg. Every segment is encoded the same way, without B-frames and beginning at a keyframe, so that the streams
of all segments are one stream when they stand one behind the other.
"""

# H×W pixels

import heapq
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

import av
import cv2
import numpy as np
from av.audio.resampler import AudioResampler
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from fsf_core.errors import DecodeError
from fsf_core.media.video.container import Source, ignore_other_streams, open_video, said

if TYPE_CHECKING:
    from types import TracebackType

    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

KEYFRAME_EVERY = 64
"""Frames; two seconds of film are what a browser decodes at most to show the place that was clicked."""
QUALITY = 20
"""x264's constant rate factor: no visible loss."""
MAX_TIMESCALE = 1_000_000
SOUND_IN_MP4 = frozenset({"aac", "mp3", "opus"})
"""Codecs that MP4 holds and browsers play; other sound becomes AAC."""
AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})
_BT709 = 1  # ITU-T H.273: primaries, transfer and matrix of HD video, which browsers also assume where nothing is said

Opener: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens one segment, when its turn comes."""


def timescale(time_base: Fraction) -> int:
    """Ticks a second of a film: enough to give every time of the source exactly, or MPEG's 90,000 for odd clocks."""
    return time_base.denominator if time_base.denominator <= MAX_TIMESCALE else 90_000


class SegmentWriter:
    """Encodes pictures of one segment, in memory: a segment is short."""

    def __init__(self, *, height_px: int, width_px: int, ticks_per_s: int) -> None:
        """Begin a segment; odd sides are made even, as H.264's 4:2:0 wants them, by repeating the last line."""
        self._size = (height_px + height_px % 2, width_px + width_px % 2)
        self._file = io.BytesIO()
        self._output: OutputContainer = av.open(
            self._file, "w", format="mp4", container_options={"video_track_timescale": str(ticks_per_s)}
        )
        # cpu-independent: macroblock-tree rate control without vector code. Its AVX-512 routine reads behind the last
        # macroblock of a row, so that some widths (20, 25, 28, 30 macroblocks; not 32, 40) gave other bytes on every
        # run. No measurable cost: 24 frames of 1080p take 0.65 s of CPU instead of 0.63, 0.8 % fewer bytes (2026-11).
        options = {
            "preset": "veryfast",
            "crf": str(QUALITY),
            "bf": "0",
            "forced-idr": "1",
            "x264-params": "cpu-independent=1",
        }
        stream: Any = self._output.add_stream("libx264", options=options)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, ticks_per_s)
        stream.codec_context.gop_size = KEYFRAME_EVERY
        stream.codec_context.thread_count = 1  # segments are what runs side by side
        stream.codec_context.color_range = ColorRange.MPEG
        for name in ("color_primaries", "color_trc", "colorspace"):
            setattr(stream.codec_context, name, _BT709)
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._output.close()

    def add(self, image_HWC: NDArray[np.uint8], ticks: int) -> None:
        """Encode one uint8 BGR picture that is shown from this tick on."""
        height_px, width_px = image_HWC.shape[:2]
        down, right = self._size[0] - height_px, self._size[1] - width_px
        if down in (0, 1) and right in (0, 1):
            even = (
                cv2.copyMakeBorder(image_HWC, 0, down, 0, right, cv2.BORDER_REPLICATE) if down or right else image_HWC
            )
        else:  # a video that changes its size on the way
            even = cv2.resize(image_HWC, self._size[::-1], interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even, np.uint8), format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = ticks, self._stream.codec_context.time_base
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """The segment as a file."""
        self._output.mux(self._stream.encode())
        self._output.close()
        return self._file.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """What came of the sound."""

    sound: str
    """none, copied, aac, or until which second the sound could be read."""


def concatenate(
    segments: Sequence[Opener], times: Sequence[int], source: Source, out: Path, *, end: int, zero_s: float
) -> Joined:
    """Put segments one behind the other, with the source's sound; memory holds some packets.

    Args:
        segments: open what SegmentWriter.finish gave, in order.
        times: tick of every frame of the film, ascending; they were given to the writer less the first of its segment.
        source: the video that the sound comes from.
        out: a local path, replaced; the index stands in front, so that a browser begins before it has all of it.
        end: tick at which the last frame leaves the screen.
        zero_s: the source's time at which the film begins.

    Raises:
        FetchError, DecodeError: a segment or the source cannot be read.
    """
    with av.open(str(out), "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
        with segments[0]() as file, av.open(file, mode="r", format="mov") as first:
            pictures = output.add_stream_from_template(first.streams.video[0])
            ticks = first.streams.video[0].time_base
        assert ticks is not None
        pictures.time_base = ticks
        with open_video(source) as (container, _, name):
            sound = _Sound(container, name, output, zero_s=zero_s, end_s=float(end * ticks))
            packets = heapq.merge(_pictures(segments, times, end, ticks), sound.packets(), key=lambda found: found[0])
            for _, packet, is_picture in packets:
                packet.stream = pictures if is_picture else sound.stream
                output.mux(packet)
        return Joined(sound=sound.word)


def _pictures(
    segments: Sequence[Opener], times: Sequence[int], end: int, ticks: Fraction
) -> "Iterator[tuple[float, Packet[Any], bool]]":
    """The packets of all segments at their place in the film."""
    number = 0
    for segment in segments:
        with segment() as file, av.open(file, mode="r", format="mov") as container:
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                until = times[number + 1] if number + 1 < len(times) else end
                packet.pts = packet.dts = times[number]
                packet.duration = max(1, until - times[number])
                packet.time_base = ticks
                yield float(times[number] * ticks), packet, True
                number += 1
    assert number == len(times)


class _Sound:
    """The first sound track of a source, as packets for MP4 at the film's time."""

    def __init__(
        self, container: "InputContainer", name: str, output: "OutputContainer", *, zero_s: float, end_s: float
    ) -> None:
        self._container = container
        self._zero_s = zero_s
        self._end_s = end_s
        self._from: Any = next((s for s in container.streams.audio if s.codec_context is not None), None)
        self.stream: Any = None
        self.word = "none"
        self._copied = False
        if self._from is None:
            return
        codec = self._from.codec_context.codec.canonical_name
        # Elsewhere than in these two, AAC carries headers that MP4 must not have.
        self._copied = codec in SOUND_IN_MP4 and name in ("mov", "matroska")
        if self._copied:
            self.stream = output.add_stream_from_template(self._from)
        else:
            rate = self._from.rate if self._from.rate in AAC_RATES else 48000
            self.stream = output.add_stream("aac", rate=rate)
            self.stream.layout = "mono" if self._from.channels == 1 else "stereo"
        self.word = "copied" if self._copied else "aac"

    def packets(self) -> "Iterator[tuple[float, Packet[Any], bool]]":
        """Time in the film, packet, and that it is no picture; damage ends the sound, and `word` says where."""
        if self._from is None:
            return
        ignore_other_streams(self._container, self._from)
        last_s = 0.0
        try:
            for last_s, packet in self._copies() if self._copied else self._encoded():
                yield last_s, packet, False
        except (av.FFmpegError, DecodeError) as error:
            self.word = f"{self.word} until {last_s:.3f} s ({said(error)})"

    def _copies(self) -> "Iterator[tuple[float, Packet[Any]]]":
        for packet in self._container.demux(self._from):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base) - self._zero_s
            if at_s >= self._end_s:
                return
            if at_s >= 0:
                shift = round(Fraction(self._zero_s) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                yield at_s, packet

    def _encoded(self) -> "Iterator[tuple[float, Packet[Any]]]":
        context = self.stream.codec_context
        resampler = AudioResampler(format="fltp", layout=context.layout, rate=context.rate, frame_size=1024)
        done = 0
        for sound in self._container.decode(self._from):
            if sound.pts is None or sound.time is None or sound.time - self._zero_s < 0:
                continue
            if sound.time - self._zero_s >= self._end_s:
                break
            if not done:
                done = round((sound.time - self._zero_s) * context.rate)
            sound.pts = None
            for piece in resampler.resample(sound):
                done = yield from self._encode(piece, done)
        for piece in resampler.resample(None):
            done = yield from self._encode(piece, done)
        yield from self._timed(self.stream.encode(None))

    def _encode(self, piece: av.AudioFrame, done: int) -> "Generator[tuple[float, Packet[Any]], None, int]":
        piece.pts, piece.time_base = done, Fraction(1, self.stream.codec_context.rate)
        yield from self._timed(self.stream.encode(piece))
        return done + piece.samples

    def _timed(self, packets: "list[Packet[Any]]") -> "Iterator[tuple[float, Packet[Any]]]":
        for packet in packets:
            assert packet.pts is not None
            assert packet.time_base is not None
            yield float(packet.pts * packet.time_base), packet
