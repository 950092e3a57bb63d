"""Images: the format of encoded bytes, the size that the header declares, and 8-bit BGR pixels.

Knows formats and how they break. Knows no files, no URIs, no network, no model.
"""

from fsf_core.media.images.decode import (
    DecodedImage,
    ImageLimits,
    Pages,
    decode_bgr,
    decode_image,
    decode_page,
    read_pages,
)
from fsf_core.media.images.headers import HEAD_BYTES, ImageHeader, read_header
from fsf_core.media.images.kinds import sniff
from fsf_core.media.images.room import Room
from fsf_core.media.images.sparse.grid import Grid
from fsf_core.media.images.sparse.precompile import compile_loops
from fsf_core.media.images.tiff import PageEntry

__all__ = [
    "HEAD_BYTES",
    "DecodedImage",
    "Grid",
    "ImageHeader",
    "ImageLimits",
    "PageEntry",
    "Pages",
    "Room",
    "compile_loops",
    "decode_bgr",
    "decode_image",
    "decode_page",
    "read_header",
    "read_pages",
    "sniff",
]
