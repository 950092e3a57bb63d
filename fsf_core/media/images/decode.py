"""Decoding of one image, within limits.

Whichever decoder is used, the pixels are 8 bits in the colours that are stored: alpha is not applied, 16 bits lose the
lower byte, of several pages or frames the first one counts, and one rule for orientation holds for all formats. The
size is read from the header and compared with the limits before anything is decoded, and a damaged image is an error,
never a half-grey image.
"""

# H×W pixels, C channels (blue, green, red)

import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, ItemError, LimitError
from fsf_core.media.images import avif, bmp, exif, gif, jp2, jpeg, opencv, png, pnm, tiff, tiff_pixels, webp
from fsf_core.media.images.headers import ImageHeader, read_header
from fsf_core.media.images.room import Room
from fsf_core.media.images.sparse.grid import Wanted
from fsf_core.media.images.stored import Stored


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


class DecodedImage(NamedTuple):
    """An image, and what its user may not expect of it."""

    image_HWC: NDArray[np.uint8]
    """BGR, contiguous. In a room, or where only some pixels were wanted, valid until this thread decodes the next image
    so; pixels that were not wanted may have any content."""
    notes: str | None
    """Sentences joined by "; ", for example that only the first page was decoded; None if there are none."""


def decode_bgr(data: bytes, *, honour_exif: bool, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one image; arguments and errors as for `decode_image`.

    Returns:
        uint8 H×W×3, BGR, contiguous.
    """
    return decode_image(data, honour_exif=honour_exif, limits=limits).image_HWC


def decode_image(
    data: bytes,
    *,
    honour_exif: bool,
    limits: ImageLimits = DEFAULT_LIMITS,
    wanted: Wanted | None = None,
    room: Room | None = None,
) -> DecodedImage:
    """Decode one image.

    Args:
        data: the whole encoded image.
        honour_exif: turn the image upright, by its EXIF orientation, or by irot and imir in AVIF; otherwise it is as
            stored, whatever its format.
        limits: largest image to decode.
        wanted: which pixels of the returned image are looked at; all of them without it.
        room: memory for a JPEG; new memory without it.

    Raises:
        DecodeError: the bytes are no image, a damaged one, or of a format that is not supported.
        LimitError: the image is larger than the limits allow.
    """
    if len(data) > limits.max_bytes:
        raise LimitError(f"the file has {len(data):,} bytes; the limit is {limits.max_bytes:,}; {_LARGE}")
    header = read_header(data)
    if wanted and header.format == "jpeg" and jpeg.is_large(header.height_px, header.width_px):
        _check_limits(header, limits)
        image_HWC, notes = jpeg.decode_wanted(data, wanted, honour_exif=honour_exif)
        if image_HWC is not None:
            return DecodedImage(image_HWC, "; ".join(notes) or None)

    def decode() -> Stored:
        if room and header.format == "jpeg":
            return jpeg.decode(data, room.lend(3 * header.height_px * header.width_px))
        return _DECODERS[header.format](data)

    return _decode(header, decode, honour_exif=honour_exif, limits=limits)


class Pages(NamedTuple):
    """The pages of an image file."""

    pages: list[tiff.PageEntry]
    """Those that can be found; one of a format without pages."""
    error: ItemError | None
    """Why no more can be found after these; None if they are all."""


def read_pages(data: bytes) -> Pages:
    """List the pages of a TIFF, without thumbnails and masks; a file of another format has one page.

    Raises:
        DecodeError: the bytes are no image, or one of an unsupported format; as `read_header`.
    """
    header = read_header(data)
    if header.format != "tiff":
        return Pages([tiff.PageEntry(0, header.height_px, header.width_px)], None)
    found: list[tiff.PageEntry] = []
    try:
        found.extend(tiff.pages(data))
    except (DecodeError, LimitError) as error:
        return Pages(found, error)
    return Pages(found, None)


def decode_page(
    data: bytes, page: tiff.PageEntry, *, honour_exif: bool, limits: ImageLimits = DEFAULT_LIMITS
) -> DecodedImage:
    """Decode one of several pages of a TIFF; the others are not noted.

    Args:
        data: the whole file.
        page: of `read_pages`.
        honour_exif: as for `decode_image`; each page has its own orientation.
        limits: largest page to decode.

    Raises:
        DecodeError: the page is damaged, or of a kind that is not supported.
        LimitError: the page is larger than the limits allow.
    """
    if page.height_px < 1 or page.width_px < 1:
        raise DecodeError(f"the tiff declares a page of {page.width_px}x{page.height_px} pixels; copy it again")
    header = ImageHeader(format="tiff", height_px=page.height_px, width_px=page.width_px)
    return _decode(header, lambda: tiff_pixels.decode(data, page.at), honour_exif=honour_exif, limits=limits)


def _decode(
    header: ImageHeader, decode: Callable[[], Stored], *, honour_exif: bool, limits: ImageLimits
) -> DecodedImage:
    """Decode within limits; arguments and errors as for `decode_image`."""
    _check_limits(header, limits)
    try:
        stored = decode()
    except (struct.error, IndexError) as error:
        raise DecodeError(f"the {header.format} is cut off or damaged; copy it again from its source") from error
    except MemoryError as error:
        raise LimitError(
            f"the {header.format} does not fit into memory; give the task more memory or lower max_pixels"
        ) from error
    _check_size(stored.image_HWC, header)
    image_HWC = exif.upright(stored.image_HWC, stored.orientation) if honour_exif else stored.image_HWC
    return DecodedImage(np.ascontiguousarray(image_HWC), "; ".join(stored.notes) or None)


_DECODERS: MappingProxyType[str, Callable[[bytes], Stored]] = MappingProxyType(
    {
        "jpeg": jpeg.decode,
        "png": png.decode,
        "webp": webp.decode,
        "bmp": bmp.decode,
        "tiff": tiff_pixels.decode,
        "gif": gif.decode,
        "jp2": jp2.decode,
        "avif": avif.decode,
        "pnm": pnm.decode,
        "hdr": lambda data: Stored(opencv.decode(data, "hdr")),
    }
)
"""Per supported format: a function from the bytes to the stored pixels."""


def _check_limits(header: ImageHeader, limits: ImageLimits) -> None:
    """Compare the declared size with the limits.

    Raises:
        LimitError: it is larger.
    """
    declared = f"the {header.format} declares {header.width_px}x{header.height_px} pixels"
    pixels = header.height_px * header.width_px
    if pixels > limits.max_pixels:
        windows = "score it in windows with --tile, " if header.format == "tiff" else ""
        raise LimitError(f"{declared}, {pixels:,} in all; the limit is {limits.max_pixels:,}; {windows}{_LARGE}")
    if max(header.height_px, header.width_px) > limits.max_side_px:
        raise LimitError(f"{declared}; the limit of a side is {limits.max_side_px:,}; {_LARGE}")


def _check_size(image_HWC: NDArray[np.uint8], header: ImageHeader) -> None:
    """Compare the decoded size with the declared one, which the limits were checked against.

    Raises:
        DecodeError: they differ.
    """
    height_px, width_px = image_HWC.shape[:2]
    if (height_px, width_px) != (header.height_px, header.width_px):
        raise DecodeError(
            f"the {header.format} declares {header.width_px}x{header.height_px} pixels but decodes to "
            f"{width_px}x{height_px}; save it again as JPEG or PNG"
        )
