"""Class maps as PNG files, and back. Knows no model."""

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
    """Write a class map as an indexed PNG that carries its palette, or above 256 classes as a grey PNG of 16 bits.

    The same map and palette give the same bytes on every machine.

    Args:
        class_map_HW: classes below K.
        palette_K3: RGB of every class, of `voc_palette`; its length alone decides the bits per pixel.
    """
    # 4 classes, 6 % of the tiles on a border, one core of an EPYC, `python tests/bench/bench_masks.py`, 2026-11-23:
    #                                 512x512             4000x3000
    #   this                      0.34 ms  4,847 B     3.8 ms   39,580 B
    #   cv2.imencode, grey        0.68     7,735      25        63,117
    #   Pillow P, level 1         0.89     7,106      42        69,116
    #   zlib Z_RLE (*)            0.18     4,750       5.2      39,377
    #   isal level 1 (*)          0.08     6,275       0.8      59,998
    #   zlib level 6 (*)          1.22     5,302      21        49,010
    # (*) only the stream, of the same 2-bit rows with the filter Up. With 8 bits a pixel or without the filter, isal
    # makes 10,099 B and 83,908 B, Z_RLE 5,913 B and 50,693 B.
    height, width = class_map_HW.shape
    classes = len(palette_K3)
    if height < 1 or width < 1 or class_map_HW.max() >= classes:
        raise ValueError(f"found a {height}x{width} class map and {classes} colours; expected a colour for every class")
    bits = next((bits for bits in (1, 2, 4, 8) if classes <= 1 << bits), 16)
    indexed = bits < 16  # noqa: PLR2004 # PNG's palettes end at 256
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if indexed else 0, 0, 0, 0)
    palette = _chunk(b"PLTE", np.ascontiguousarray(palette_K3, dtype=np.uint8).tobytes()) if indexed else b""
    pixels = _chunk(b"IDAT", kernels.compress_rows(class_map_HW, bits))
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + palette + pixels + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def decode_png(encoded: bytes) -> ClassMap:
    """Read the class map out of an indexed or grey PNG of any depth, ours or another's; the palette is not looked at.

    Raises:
        DecodeError: not a PNG, broken off, or a PNG of colours instead of classes.
    """
    if not encoded.startswith(PNG_SIGNATURE):
        raise DecodeError(f"found {encoded[:8]!r}; expected a PNG: give a mask that this program or a labeller wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # masks of 100 megapixels are ordinary
            picture = Image.open(io.BytesIO(encoded))
            values_HW = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"found a PNG that cannot be read ({error}); expected a whole one: write it again") from error
    if picture.mode not in ("P", "1", "L", "I;16", "I"):
        raise DecodeError(
            f"found a PNG of mode {picture.mode}; expected class numbers (palette or grey): convert the colours first"
        )
    if picture.mode in ("I;16", "I"):
        return values_HW.astype(np.uint16)
    if picture.mode == "L":
        bits = encoded[24]  # Pillow stretches grey of 2 and 4 bits to 0..255
        return values_HW // np.uint8(255 // ((1 << bits) - 1))
    return values_HW.astype(np.uint8)
