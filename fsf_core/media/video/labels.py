"""Label videos: frames whose pixels are class ids or class colours, as PNGs of exactly the stored values.

Knows which codecs and pixel formats keep values as they were written. Knows no classes.
"""

# H×W pixels, C channels

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import DecodeError
from fsf_core.media.images.exif import upright
from fsf_core.media.video.container import Source, ffmpeg_message, open_video
from fsf_core.media.video.decode import decode_as
from fsf_core.media.video.index import MAX_FRAME_PX, VideoIndex
from fsf_core.media.video.packet_decoder import DecodeLimits

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

GREY = frozenset({"gray", "gray16le", "gray16be"})
"""Pixel formats of one level per pixel, which is stored as it is."""

_LOSSLESS_PROFILE = "High 4:4:4 Predictive"
"""The only profile of H.264 that can be lossless."""

_DO = "write it without loss: `ffmpeg -i labels/%06d.png -c:v ffv1 -pix_fmt gray labels.mkv`"
_COLOURS_DO = "(for labels in class colours: -pix_fmt bgr0)"


def require_stored_values(source: Source) -> None:
    """Check that a video keeps the values of its pixels, as far as its headers tell.

    Grey levels that a codec changed are other classes. Colours that it changed are no colours of classes, which their
    reader reports.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: it does not, or is no video.
    """
    with open_video(source) as (_, stream, _name):
        context = stream.codec_context
        name = context.pix_fmt or "no pixel format"
        if name in GREY and not _is_lossless(context):
            raise DecodeError(
                f"found levels of grey in {context.codec.canonical_name}, expected a codec that keeps them; "
                f"{_DO} {_COLOURS_DO}"
            )
        if name not in GREY and not _holds_colours(context.format):
            raise DecodeError(
                f"found frames in {name}, expected levels of grey, a palette, or RGB of 8 bits: luma and chroma hold "
                f"no class ids; {_DO} {_COLOURS_DO}"
            )


def decode_stored(
    source: Source, index: VideoIndex, wanted: NDArray[np.int64], *, max_frame_px: int = MAX_FRAME_PX
) -> Iterator[tuple[int, bytes]]:
    """Yield frames as PNGs of their stored values, upright.

    Args:
        source: local path or seekable binary file object, the one that was indexed.
        index: index of this source.
        wanted: frame numbers, ascending.
        max_frame_px: most pixels of one frame.

    Yields:
        The number of each frame, and its PNG: of grey levels with 8 or 16 bits, of a palette, or RGB(A).

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: frames are missing, raised after all that could be decoded, or hold no stored values.
        LimitError: no frame for too long.
    """
    if wanted.size:
        limits = DecodeLimits(max_frame_px=max_frame_px)
        yield from decode_as(lambda frame: _as_png(frame, index.orientation), source, index, wanted, limits=limits)


def _is_lossless(context: "VideoCodecContext") -> bool:
    codec = context.codec
    return bool(codec.lossless and (not codec.lossy or str(context.profile) == _LOSSLESS_PROFILE))


def _holds_colours(pixels: Any) -> bool:
    """Return whether a pixel format is a palette, or RGB of 8 bits."""
    if pixels is None:
        return False
    return bool(pixels.name == "pal8" or (pixels.is_rgb and {part.bits for part in pixels.components} == {8}))


def _as_png(frame: av.VideoFrame, orientation: int) -> bytes:
    """Return the stored values of a frame as a PNG.

    Raises:
        DecodeError: its pixel format changed midway to one without such values.
    """
    name = frame.format.name
    if name == "pal8":
        indices_HW, palette_ARGB = frame.to_ndarray()
        image = Image.fromarray(_upright(indices_HW, orientation), "P")
        image.putpalette(np.ascontiguousarray(palette_ARGB.reshape(-1, 4)[:, 1:]).tobytes())
        sink = io.BytesIO()
        image.save(sink, "PNG", compress_level=1)
        return sink.getvalue()
    if name in GREY:
        values = frame.to_ndarray().astype(np.uint8 if name == "gray" else np.uint16, copy=False)
    elif _holds_colours(frame.format):
        try:
            has_alpha = len(frame.format.components) == 4  # noqa: PLR2004 - RGBA
            values = frame.to_ndarray(format="bgra" if has_alpha else "bgr24")
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(f"frames in {name} cannot be read: {ffmpeg_message(error)}") from error
    else:
        raise DecodeError(f"found a frame in {name}, expected levels of grey or RGB throughout; {_DO}")
    _, png = cv2.imencode(".png", _upright(values, orientation), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return png.tobytes()


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn values of any type as the video requests."""
    values = np.ascontiguousarray(values)
    height, width = values.shape[:2]
    turned = np.ascontiguousarray(upright(values.view(np.uint8).reshape(height, width, -1), orientation))
    turned = turned.reshape(*turned.shape[:2], -1).view(values.dtype)
    return turned if values.ndim == 3 else turned[..., 0]  # noqa: PLR2004 - channels
