"""Frames to H.264 that browsers play, in segments that are encoded separately and joined later.

Knows FFmpeg. Every segment is encoded with the same settings, without B-frames and beginning at a keyframe, so that the
concatenated streams of all segments are one valid stream.
"""

# H×W pixels

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

if TYPE_CHECKING:
    from types import TracebackType

    from av.container import OutputContainer

KEYFRAME_EVERY = 64
"""Frames. At 30 per second a browser decodes at most two seconds of video to show the position that was clicked."""
QUALITY = 20
"""x264's constant rate factor, visually lossless."""
MAX_TIMESCALE = 1_000_000
_MAX_TICKS = (1 << 31) - 1
_BT709 = 1  # ITU-T H.273: primaries, transfer and matrix of HD video, which browsers also assume by default


def timescale(time_base: Fraction, longest_s: Fraction = Fraction(0)) -> int:
    """Return ticks per second that express every time of the source exactly, or MPEG's 90,000 for odd clocks.

    Fewer where a frame is shown for longer than MP4 can store (ISO/IEC 14496-12 §8.6.1.2: 32 bits, of which FFmpeg
    uses 31).

    Args:
        time_base: of the source.
        longest_s: longest time between two frames, in seconds.
    """
    exact = time_base.denominator if time_base.denominator <= MAX_TIMESCALE else 90_000
    return min(exact, int(_MAX_TICKS / longest_s)) if longest_s * exact > _MAX_TICKS else exact


class SegmentWriter:
    """Encoder of one segment, in memory: a segment is short."""

    def __init__(
        self, *, height_px: int, width_px: int, ticks_per_s: int, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        """Begin a segment.

        Args:
            height_px: of the frames; an odd side is made even, as 4:2:0 requires, by repeating the last row or column.
            width_px: likewise.
            ticks_per_s: time scale of the file.
            pixel_aspect: width of a pixel over its height.
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
        stream.codec_context.sample_aspect_ratio = pixel_aspect
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
