"""One picture's bytes to its pixels, within limits.

The pixels are those of `cv2.imdecode(data, IMREAD_COLOR)`, whichever decoder makes them: 8 bits, alpha dropped, 16 bits
shifted right by 8, the first frame of an animation, the first page of a TIFF. The size is read from the header and
held against the limits before anything is decoded, and a damaged picture is an error, never a half-grey picture.
"""

# H×W pixels, C channels (blue, green, red)

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.images import jpeg, opencv, png, tiff
from fsf_core.media.images.headers import ImageHeader, read_header


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """The largest picture that is decoded; a larger one is refused from its header, at no cost."""

    max_pixels: int = 105_000_000
    """Height times width. 100 megapixels are 300 MB of BGR, and as much again while EXIF turns them."""
    max_side_px: int = 65_500
    """Either side. libjpeg ends here, so a longer picture could not come back as the most common format."""
    max_bytes: int = 1 << 30
    """Encoded size. 100 megapixels of raw 16-bit RGB are 0.6 GB; Arrow's binary columns end at 2 GiB."""

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_side_px, self.max_bytes) < 1:
            raise ValueError(f"{self}: every limit must be at least 1")


DEFAULT_LIMITS = ImageLimits()
_LARGE = "make it smaller or raise the limit"


def decode_bgr(data: bytes, *, honour_exif: bool, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one picture.

    Args:
        data: the whole encoded picture.
        honour_exif: turn JPEG, PNG and WebP as their EXIF orientation says, or leave them as stored. OpenCV 5.0 turns
            TIFF in either case and AVIF in neither; so does this.
        limits: what is refused before it is decoded.

    Returns:
        uint8, H×W×3, blue green red, contiguous.

    Raises:
        DecodeError: the bytes are no picture, a damaged one, or one of a kind that is not decoded here.
        LimitError: the picture is larger than the limits allow.
    """
    if len(data) > limits.max_bytes:
        raise LimitError(f"the file has {len(data):,} bytes, the limit is {limits.max_bytes:,}; {_LARGE}")
    header = read_header(data)
    _refuse_large(header, limits)
    image_HWC = _decode(data, header.format, honour_exif=honour_exif)
    _refuse_other_size(image_HWC, header)
    return np.ascontiguousarray(image_HWC)


def _decode(data: bytes, name: str, *, honour_exif: bool) -> NDArray[np.uint8]:
    """Decode by format, after the checks that OpenCV does not make."""
    match name:
        case "jpeg":
            return jpeg.decode(data, honour_exif=honour_exif)
        case "png":
            png.check(data)
            return opencv.decode(data, name, honour_exif=honour_exif)
        case "tiff":
            tiff.check(data)
            return opencv.decode(data, name, honour_exif=honour_exif, reason=tiff.why_not(data))
        case _:
            return opencv.decode(data, name, honour_exif=honour_exif)


def _refuse_large(header: ImageHeader, limits: ImageLimits) -> None:
    """Hold the announced size against the limits."""
    announced = f"the {header.format} announces {header.width_px}x{header.height_px} pixels"
    pixels = header.height_px * header.width_px
    if pixels > limits.max_pixels:
        raise LimitError(f"{announced}, {pixels:,} in all, the limit is {limits.max_pixels:,}; {_LARGE}")
    if max(header.height_px, header.width_px) > limits.max_side_px:
        raise LimitError(f"{announced}, the limit of a side is {limits.max_side_px:,}; {_LARGE}")


def _refuse_other_size(image_HWC: NDArray[np.uint8], header: ImageHeader) -> None:
    """A picture of another size than announced went past the limits."""
    height_px, width_px = image_HWC.shape[:2]
    if sorted((height_px, width_px)) != sorted((header.height_px, header.width_px)):
        raise DecodeError(
            f"the {header.format} announces {header.width_px}x{header.height_px} pixels and decodes to "
            f"{width_px}x{height_px}; save it anew as JPEG or PNG"
        )
