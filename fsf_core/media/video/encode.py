"""Frames to H.264 that browsers play: segments are encoded separately, then joined with the source's sound.

Knows FFmpeg. Every segment is encoded with the same settings, without B-frames and beginning at a keyframe, so that the
concatenated streams of all segments are one valid stream.
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
from fsf_core.media.video.container import Source, ffmpeg_message, ignore_other_streams, open_video

if TYPE_CHECKING:
    from types import TracebackType

    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

KEYFRAME_EVERY = 64
"""Frames. At 30 per second a browser decodes at most two seconds of video to show the position that was clicked."""
QUALITY = 20
"""x264's constant rate factor, visually lossless."""
MAX_TIMESCALE = 1_000_000
_MAX_TICKS = (1 << 31) - 1
SOUND_IN_MP4 = frozenset({"aac", "mp3", "opus"})
"""Audio codecs that MP4 holds and browsers play; others are re-encoded as AAC."""
AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})
_BT709 = 1  # ITU-T H.273: primaries, transfer and matrix of HD video, which browsers also assume by default

Opener: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens one encoded segment."""


def timescale(time_base: Fraction, longest_s: Fraction = Fraction(0)) -> int:
    """Return ticks per second that express every time of the source exactly, or MPEG's 90,000 for odd clocks.

    Fewer where a frame stays on screen so long that MP4 could not store it (ISO/IEC 14496-12 §8.6.1.2: 32 bits, of
    which FFmpeg uses 31).

    Args:
        time_base: of the source.
        longest_s: longest time between two frames, in seconds.
    """
    exact = time_base.denominator if time_base.denominator <= MAX_TIMESCALE else 90_000
    return min(exact, int(_MAX_TICKS / longest_s)) if longest_s * exact > _MAX_TICKS else exact


class SegmentWriter:
    """Encoder of one segment, in memory: a segment is short."""

    def __init__(self, *, height_px: int, width_px: int, ticks_per_s: int) -> None:
        """Begin a segment.

        Args:
            height_px: of the frames; an odd side is made even, as 4:2:0 requires, by repeating the last row or column.
            width_px: likewise.
            ticks_per_s: time scale of the file.
        """
        self._size = (height_px + height_px % 2, width_px + width_px % 2)
        self._file = io.BytesIO()
        self._output: OutputContainer = av.open(
            self._file, "w", format="mp4", container_options={"video_track_timescale": str(ticks_per_s)}
        )
        # cpu-independent: macroblock-tree rate control without vector code. Its AVX-512 routine gave other bytes on
        # every run for some widths (20, 25, 28, 30 macroblocks; not 32, 40). No measurable cost: 24 frames of 1080p
        # take 0.65 s of CPU instead of 0.63, 0.8 % fewer bytes (2026-11).
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
        stream.codec_context.thread_count = 1  # tasks encode segments side by side
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
        """Encode one frame, uint8 BGR H×W×3, shown from this tick on."""
        height_px, width_px = image_HWC.shape[:2]
        down, right = self._size[0] - height_px, self._size[1] - width_px
        if down in (0, 1) and right in (0, 1):
            even = (
                cv2.copyMakeBorder(image_HWC, 0, down, 0, right, cv2.BORDER_REPLICATE) if down or right else image_HWC
            )
        else:  # a video that changes its size midway
            even = cv2.resize(image_HWC, self._size[::-1], interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even, np.uint8), format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = ticks, self._stream.codec_context.time_base
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """Flush the encoder and return the segment as an MP4 file."""
        self._output.mux(self._stream.encode())
        self._output.close()
        return self._file.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedVideo:
    """The result of concatenate."""

    sound: str
    """none, copied or aac, with the second at which it could no longer be read, if that happened."""


def concatenate(
    segments: Sequence[Opener], times: Sequence[int], source: Source, out: Path, *, end: int, zero_s: float
) -> JoinedVideo:
    """Concatenate segments and add the source's sound; memory holds a few packets.

    Args:
        segments: openers of the files that SegmentWriter.finish returned, in order.
        times: tick of every frame of the joined video, ascending.
        source: the video that the sound comes from.
        out: a local path, replaced; the MP4 index comes first, so that playback starts before the download ends.
        end: tick at which the last frame leaves the screen.
        zero_s: the source's time, in seconds, at which the joined video begins.

    Raises:
        FetchError, DecodeError: a segment or the source cannot be read.
    """
    with av.open(str(out), "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
        with segments[0]() as file, av.open(file, mode="r", format="mov") as first:
            video = output.add_stream_from_template(first.streams.video[0])
            ticks = first.streams.video[0].time_base
        assert ticks is not None
        video.time_base = ticks
        with open_video(source) as (container, _, name):
            sound = _Sound(container, name, output, zero_s=zero_s, end_s=float(end * ticks))
            packets = heapq.merge(
                _video_packets(segments, times, end, ticks), sound.packets(), key=lambda timed: timed[0]
            )
            for _, packet, is_video in packets:
                packet.stream = video if is_video else sound.stream
                output.mux(packet)
        return JoinedVideo(sound=sound.outcome)


def _video_packets(
    segments: Sequence[Opener], times: Sequence[int], end: int, ticks: Fraction
) -> "Iterator[tuple[float, Packet[Any], bool]]":
    """Yield the packets of all segments: time in seconds, packet with the joined video's times, True."""
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
    """The first audio track of a source, as packets for MP4 with the joined video's times."""

    def __init__(
        self, container: "InputContainer", name: str, output: "OutputContainer", *, zero_s: float, end_s: float
    ) -> None:
        self._container = container
        self._zero_s = zero_s
        self._end_s = end_s
        self._track: Any = next((s for s in container.streams.audio if s.codec_context is not None), None)
        self.stream: Any = None
        self.outcome = "none"
        self._copied = False
        if self._track is None:
            return
        codec = self._track.codec_context.codec.canonical_name
        # In other containers AAC carries headers that MP4 must not have.
        self._copied = codec in SOUND_IN_MP4 and name in ("mov", "matroska")
        if self._copied:
            self.stream = output.add_stream_from_template(self._track)
        else:
            rate = self._track.rate if self._track.rate in AAC_RATES else 48000
            self.stream = output.add_stream("aac", rate=rate)
            self.stream.layout = "mono" if self._track.channels == 1 else "stereo"
        self.outcome = "copied" if self._copied else "aac"

    def packets(self) -> "Iterator[tuple[float, Packet[Any], bool]]":
        """Yield the audio packets: time in seconds, packet, False. Damage ends the sound, and `outcome` says when."""
        if self._track is None:
            return
        ignore_other_streams(self._container, self._track)
        last_s = 0.0
        try:
            for last_s, packet in self._copied_packets() if self._copied else self._encoded_packets():
                yield last_s, packet, False
        except (av.FFmpegError, DecodeError) as error:
            self.outcome = f"{self.outcome} until {last_s:.3f} s ({ffmpeg_message(error)})"

    def _copied_packets(self) -> "Iterator[tuple[float, Packet[Any]]]":
        """Yield the source's packets between zero_s and end_s, shifted to the joined video's times."""
        for packet in self._container.demux(self._track):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base) - self._zero_s
            if at_s >= self._end_s:
                return
            if at_s >= 0:
                shift = round(Fraction(self._zero_s) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                yield at_s, packet

    def _encoded_packets(self) -> "Iterator[tuple[float, Packet[Any]]]":
        """Decode, resample and re-encode the sound between zero_s and end_s."""
        context = self.stream.codec_context
        resampler = AudioResampler(format="fltp", layout=context.layout, rate=context.rate, frame_size=1024)
        samples = 0
        for decoded in self._container.decode(self._track):
            if decoded.pts is None or decoded.time is None or decoded.time - self._zero_s < 0:
                continue
            if decoded.time - self._zero_s >= self._end_s:
                break
            if not samples:
                samples = round((decoded.time - self._zero_s) * context.rate)
            decoded.pts = None
            for resampled in resampler.resample(decoded):
                samples = yield from self._encode(resampled, samples)
        for resampled in resampler.resample(None):
            samples = yield from self._encode(resampled, samples)
        yield from self._with_times(self.stream.encode(None))

    def _encode(self, sound: av.AudioFrame, samples: int) -> "Generator[tuple[float, Packet[Any]], None, int]":
        """Encode an audio frame that follows `samples` samples, and return the samples so far."""
        sound.pts, sound.time_base = samples, Fraction(1, self.stream.codec_context.rate)
        yield from self._with_times(self.stream.encode(sound))
        return samples + sound.samples

    def _with_times(self, packets: "list[Packet[Any]]") -> "Iterator[tuple[float, Packet[Any]]]":
        """Yield each packet after its time in seconds."""
        for packet in packets:
            assert packet.pts is not None
            assert packet.time_base is not None
            yield float(packet.pts * packet.time_base), packet
