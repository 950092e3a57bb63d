"""Class maps to PNG and back. Knows no model."""

# K classes, H×W pixels

import io
import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import DecodeError
from fsf_core.masks import kernels
from fsf_core.masks.class_map import ClassMap

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(class_map_HW: ClassMap, palette_K3: NDArray[np.uint8]) -> bytes:
    """Encode a class map as an indexed PNG with its palette, or as a 16-bit grey PNG above 256 classes.

    Equal maps and palettes give equal bytes on every machine, whatever its zlib.

    Args:
        class_map_HW: classes below K.
        palette_K3: uint8 RGB of every class; its length determines the bits per pixel.

    Raises:
        ValueError: the map is empty, or a class has no colour.
    """
    # 4 classes, 6 % of the cells on a border, one core of an EPYC, CPU time, `python -m tests.bench.bench_masks`,
    # 2026-11-28:
    #                                 512x512             4000x3000
    #   encode_png                0.31 ms  4,847 B     2.0 ms   39,580 B
    #   cv2.imencode, grey        0.61     7,735      22        63,117
    #   Pillow P, level 1         0.87     7,106      35        69,116
    #   zlib Z_RLE (*)            0.23     4,750      10.2      39,377
    #   isal level 1 (*)          0.08     6,275       0.7      59,998
    #   zlib level 6 (*)          1.09     5,302      20        49,010
    # (*) the stream only, of the same 2-bit rows with filter Up. With 8 bits a pixel or without the filter, isal
    # gives 10,099 B and 83,908 B, Z_RLE 5,913 B and 50,693 B.
    height, width = class_map_HW.shape
    classes = len(palette_K3)
    if height < 1 or width < 1 or class_map_HW.max() >= classes:
        raise ValueError(f"found a {height}x{width} class map and {classes} colours; expected a colour for every class")
    bits = next((bits for bits in (1, 2, 4, 8) if classes <= 1 << bits), 16)
    indexed = bits < 16  # noqa: PLR2004 # a PNG palette holds at most 256
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if indexed else 0, 0, 0, 0)
    palette = _chunk(b"PLTE", np.ascontiguousarray(palette_K3, dtype=np.uint8).tobytes()) if indexed else b""
    pixels = _chunk(b"IDAT", kernels.compress_rows(class_map_HW, bits))
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + palette + pixels + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def decode_png(encoded: bytes) -> ClassMap:
    """Decode the class map of an indexed or grey PNG of any depth, written by any program; the palette is ignored.

    Raises:
        DecodeError: not a PNG, truncated, or a PNG of colours instead of class numbers.
    """
    image = open_png(encoded)
    if image.mode not in ("P", "1", "L", "I;16", "I"):
        raise DecodeError(
            f"found a PNG of mode {image.mode}, expected class numbers (palette or grey): convert the colours first"
        )
    return stored_values(image, bits=encoded[24])


def open_png(encoded: bytes) -> Image.Image:
    """Return the pixels of a PNG as Pillow reads them.

    Raises:
        DecodeError: not a PNG, or a damaged one.
    """
    if not encoded.startswith(PNG_SIGNATURE):
        raise DecodeError(f"found {encoded[:8]!r}, expected a PNG: use a mask from fsf or from a labelling tool")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # masks of 100 megapixels are ordinary
            image = Image.open(io.BytesIO(encoded))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"found a PNG that cannot be read ({error}), expected a whole one: write it again") from error
    return image


def stored_values(image: Image.Image, *, bits: int) -> ClassMap:
    """Return the numbers that a palette or grey PNG stores.

    Args:
        image: from `open_png`.
        bits: per pixel in the file; Pillow stretches grey of 2 and 4 bits to 0..255.
    """
    values_HW = np.asarray(image)
    if image.mode in ("I;16", "I"):
        return values_HW.astype(np.uint16)
    return values_HW // np.uint8(255 // ((1 << bits) - 1)) if image.mode == "L" else values_HW.astype(np.uint8)
