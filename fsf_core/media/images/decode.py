"""Decoding of one image, within limits.

The pixels are those of `cv2.imdecode(data, IMREAD_COLOR)`, whichever decoder is used: 8 bits, alpha dropped, 16 bits
shifted right by 8, the first frame of an animation, the first page of a TIFF. The size is read from the header and
compared with the limits before anything is decoded, and a damaged image is an error, never a half-grey image.
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
    """The largest image that is decoded; a larger one is refused by its header, without decoding."""

    max_pixels: int = 105_000_000
    """Height times width. 100 megapixels are 300 MB of BGR, and as much again while EXIF orientation is applied."""
    max_side_px: int = 65_500
    """Either side. libjpeg's limit, so a longer image could not be written as JPEG."""
    max_bytes: int = 1 << 30
    """Encoded size. 100 megapixels of raw 16-bit RGB are 0.6 GB; Arrow's binary columns hold at most 2 GiB."""

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_side_px, self.max_bytes) < 1:
            raise ValueError(f"{self}: every limit must be at least 1")


DEFAULT_LIMITS = ImageLimits()
_LARGE = "make it smaller or raise the limit"


def decode_bgr(data: bytes, *, honour_exif: bool, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one image.

    Args:
        data: the whole encoded image.
        honour_exif: apply the EXIF orientation of JPEG, PNG and WebP. Like OpenCV 5.0, this always applies TIFF's and
            never AVIF's.
        limits: largest image to decode.

    Returns:
        uint8 H×W×3, BGR, contiguous.

    Raises:
        DecodeError: the bytes are no image, a damaged one, or of a format that is not supported.
        LimitError: the image is larger than the limits allow.
    """
    if len(data) > limits.max_bytes:
        raise LimitError(f"the file has {len(data):,} bytes; the limit is {limits.max_bytes:,}; {_LARGE}")
    header = read_header(data)
    _check_limits(header, limits)
    image_HWC = _decode(data, header.format, honour_exif=honour_exif)
    _check_size(image_HWC, header)
    return np.ascontiguousarray(image_HWC)


def _decode(data: bytes, name: str, *, honour_exif: bool) -> NDArray[np.uint8]:
    """Decode with the decoder of the format, after the checks that OpenCV omits."""
    match name:
        case "jpeg":
            return jpeg.decode(data, honour_exif=honour_exif)
        case "png":
            png.check(data)
            return opencv.decode(data, name, honour_exif=honour_exif)
        case "tiff":
            tiff.check(data)
            return opencv.decode(data, name, honour_exif=honour_exif, reason=tiff.unsupported_feature(data))
        case _:
            return opencv.decode(data, name, honour_exif=honour_exif)


def _check_limits(header: ImageHeader, limits: ImageLimits) -> None:
    """Compare the declared size with the limits.

    Raises:
        LimitError: it is larger.
    """
    declared = f"the {header.format} declares {header.width_px}x{header.height_px} pixels"
    pixels = header.height_px * header.width_px
    if pixels > limits.max_pixels:
        raise LimitError(f"{declared}, {pixels:,} in all; the limit is {limits.max_pixels:,}; {_LARGE}")
    if max(header.height_px, header.width_px) > limits.max_side_px:
        raise LimitError(f"{declared}; the limit of a side is {limits.max_side_px:,}; {_LARGE}")


def _check_size(image_HWC: NDArray[np.uint8], header: ImageHeader) -> None:
    """Compare the decoded size with the declared one, which the limits were checked against.

    Raises:
        DecodeError: they differ.
    """
    height_px, width_px = image_HWC.shape[:2]
    if sorted((height_px, width_px)) != sorted((header.height_px, header.width_px)):
        raise DecodeError(
            f"the {header.format} declares {header.width_px}x{header.height_px} pixels but decodes to "
            f"{width_px}x{height_px}; save it again as JPEG or PNG"
        )
