"""Test images, good and broken, all of them generated.

`python -m tests.support.assets FOLDER [--damaged]` writes it.

Good images cover the formats, sizes, colour models and file names that users have; broken ones the ways in which files
break, each with its expected error. A seeded fuzzer damages good images at random.
"""

# H×W pixels, C channels (red, green, blue)

import argparse
import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import DecodeError, FetchError, ItemError, LimitError

HEIGHT_PX, WIDTH_PX = 90, 120


# --- one image, and the encoders -------------------------------------------------------------------------------------


def picture(height_px: int = HEIGHT_PX, width_px: int = WIDTH_PX) -> NDArray[np.uint8]:
    """Draw an orange on leaves, uint8 RGB H×W×3, that differs in each of the eight orientations."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    noise_HW = np.random.default_rng(0).normal(0, 6, (height_px, width_px)).astype(np.float32)
    leaf_HWC = np.stack([40 + 40 * x / width_px, 90 + 60 * y / height_px, 40 + 0 * x], -1)
    distance_HW = np.hypot(x - 0.4 * width_px, y - 0.45 * height_px) / (0.35 * min(height_px, width_px) + 1e-6)
    light_HW = np.clip(1.1 - 0.5 * distance_HW, 0, 1)[..., None]
    image_HWC = np.where(distance_HW[..., None] < 1, light_HW * np.float32([240, 140, 30]), leaf_HWC)
    return np.clip(image_HWC + noise_HW[..., None], 0, 255).astype(np.uint8)


def pillow(image: Image.Image | NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def opencv(image_HWC: NDArray[Any], ending: str, *options: int) -> bytes:
    """Encode RGB or grey pixels with OpenCV."""
    ordered = image_HWC[..., ::-1] if image_HWC.ndim == 3 and image_HWC.shape[2] == 3 else image_HWC
    return cv2.imencode(ending, np.ascontiguousarray(ordered), options)[1].tobytes()


def png_chunk(kind: bytes, payload: bytes, *, checksum_error: int = 0) -> bytes:
    """Return one PNG chunk; checksum_error is XORed into its checksum."""
    checksum = zlib.crc32(kind + payload) ^ checksum_error
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def png_by_hand(width_px: int, height_px: int, bits: int, colour: int, rows: bytes, *, interlaced: int = 0) -> bytes:
    """Return a PNG from filtered rows, for what no encoder writes."""
    header = struct.pack(">IIBBBBB", width_px, height_px, bits, colour, 0, 0, interlaced)
    data = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + data + png_chunk(b"IEND", b"")


def interlaced_png(image_HWC: NDArray[np.uint8]) -> bytes:
    """Encode as PNG in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, right in passes
        for row in image_HWC[top::down, left::right]
        if row.size
    )
    return png_by_hand(image_HWC.shape[1], image_HWC.shape[0], 8, 2, rows, interlaced=1)


def exif(orientation: int, *, order: str = "<", make_at: int | None = None) -> bytes:
    """Return an EXIF block with an orientation, after a Make tag whose text is at `make_at` (may be out of range)."""
    entries = [] if make_at is None else [struct.pack(order + "HHII", 0x10F, 2, 40, make_at)]
    entries.append(struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0))
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + directory


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """Return one segment of a JPEG header."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpeg_with(jpeg: bytes, *segments: bytes) -> bytes:
    """Insert segments after a JPEG's first marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def before(data: bytes, mark: bytes, extra: bytes) -> bytes:
    """Insert bytes before the first occurrence of a mark."""
    at = data.index(mark)
    return data[:at] + extra + data[at:]


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """Overwrite numbers in a header."""
    new = struct.pack(form, *values)
    return data[:at] + new + data[at + len(new) :]


def jpeg_sized(jpeg: bytes, width_px: int, height_px: int) -> bytes:
    """Make a JPEG's header declare another size."""
    return patched(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", height_px, width_px)


def tiff_tagged(tiff: bytes, tag: int, value: int, *, new_tag: int | None = None) -> bytes:
    """Change the value, and optionally the tag, of one entry in a little-endian TIFF's first directory."""
    directory = struct.unpack_from("<I", tiff, 4)[0]
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", tiff, directory)[0], 12):
        if struct.unpack_from("<H", tiff, entry)[0] == tag:
            return patched(tiff, entry, "<HHII", new_tag or tag, 4, 1, value)
    raise ValueError(f"no tag {tag} in this TIFF")


# --- good images -----------------------------------------------------------------------------------------------------


@cache
def good_images() -> dict[str, bytes]:
    """Return images by relative path, which are decoded without loss of anything but what `decode_image` documents."""
    makers = (_good_jpegs, _good_exif, _good_pngs, _good_tiffs, _good_others, _good_sizes, _good_names)
    return {name: data for maker in makers for name, data in maker()}


def _good_jpegs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    image = Image.fromarray(rgb)
    plain = pillow(rgb, "JPEG", quality=90)
    for sampling in ("444", "422", "420", "440", "411"):
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
        yield f"jpeg/{sampling}.jpg", opencv(rgb, ".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor)
    yield "jpeg/progressive.jpg", pillow(rgb, "JPEG", progressive=True)
    yield "jpeg/restart markers.jpg", opencv(rgb, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    yield "jpeg/grey.jpg", pillow(image.convert("L"), "JPEG")
    yield "jpeg/rgb inside.jpg", pillow(image, "JPEG", keep_rgb=True)
    cmyk = pillow(image.convert("CMYK"), "JPEG", quality=90)
    yield "jpeg/cmyk.jpg", cmyk
    yield "jpeg/ycck.jpg", patched(cmyk, cmyk.index(b"Adobe") + 11, "B", 2)
    yield "jpeg/unknown adobe transform.jpg", patched(cmyk, cmyk.index(b"Adobe") + 11, "B", 7)
    flat = pillow(np.full_like(rgb, 128), "JPEG", subsampling="4:4:4")
    yield "jpeg/odd sampling.jpg", patched(flat, flat.index(b"\xff\xc0") + 11, "B", 0x31)
    yield "jpeg/bytes after the end.jpg", plain + b"camera maker's notes" * 20
    yield "jpeg/two pictures in one.jpg", plain + pillow(rgb[::2, ::2], "JPEG")
    yield "jpeg/padded before the end.jpg", plain[:-2] + bytes(300) + plain[-2:]
    yield "jpeg/stray bytes in the header.jpg", before(plain, b"\xff\xda", b"\0\0\0")
    yield "jpeg/fill bytes in the header.jpg", before(plain, b"\xff\xda", b"\xff\xff\xff")
    yield "jpeg/end marker twice.jpg", plain + b"\xff\xd9"
    yield "jpeg/comment.jpg", jpeg_with(plain, jpeg_segment(0xFE, b"\xff\xd8 and \xff\xc0 in a comment"))


def _good_exif() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    plain = pillow(rgb, "JPEG", quality=90)
    for orientation in range(10):  # 1 to 8, and two that do not exist
        yield f"exif/orientation {orientation}.jpg", jpeg_with(plain, jpeg_segment(0xE1, exif(orientation)))
    xmp = jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
    yield "exif/big endian.jpg", jpeg_with(plain, jpeg_segment(0xE1, exif(6, order=">")))
    yield "exif/behind xmp.jpg", jpeg_with(plain, xmp, jpeg_segment(0xE1, exif(6)))
    yield "exif/two blocks.jpg", jpeg_with(plain, jpeg_segment(0xE1, exif(6)), jpeg_segment(0xE1, exif(3)))
    yield "exif/behind the frame header.jpg", before(plain, b"\xff\xda", jpeg_segment(0xE1, exif(8)))
    yield "exif/points outside itself.jpg", jpeg_with(plain, jpeg_segment(0xE1, exif(6, make_at=60_000)))
    yield "exif/cut off.jpg", jpeg_with(plain, jpeg_segment(0xE1, exif(6)[:-10]))
    yield "exif/nothing in it.jpg", jpeg_with(plain, jpeg_segment(0xE1, b"Exif\0\0"))
    cmyk = pillow(Image.fromarray(rgb).convert("CMYK"), "JPEG")
    yield "exif/cmyk 5.jpg", jpeg_with(cmyk, jpeg_segment(0xE1, exif(5)))
    yield (
        "exif/odd sampling 7.jpg",
        jpeg_with(dict(_good_jpegs())["jpeg/odd sampling.jpg"], jpeg_segment(0xE1, exif(7))),
    )
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        yield f"exif/orientation 6.{kind.lower()}", pillow(rgb, kind, exif=_pillow_exif(6))


def _pillow_exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x112] = orientation
    return block


def _good_pngs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    image = Image.fromarray(rgb)
    deep = rgb.astype(np.uint16) * 256 + 77
    plain = pillow(rgb, "PNG")
    yield "png/rgb.png", plain
    yield "png/interlaced.png", interlaced_png(rgb)
    yield "png/grey.png", pillow(image.convert("L"), "PNG")
    yield "png/grey and alpha.png", pillow(_with_alpha(image.convert("LA")), "PNG")
    yield "png/rgb and alpha.png", pillow(_with_alpha(image.convert("RGBA")), "PNG")
    yield "png/1 bit.png", pillow(image.convert("1"), "PNG")
    yield "png/palette.png", pillow(image.convert("P"), "PNG")
    yield "png/palette of 4.png", pillow(image.quantize(4), "PNG", bits=2)
    yield "png/palette with transparency.png", pillow(image.quantize(16), "PNG", transparency=3)
    yield "png/16 bit grey.png", opencv(deep[..., 0], ".png")
    yield "png/16 bit rgb.png", opencv(deep, ".png")
    yield "png/16 bit rgb and alpha.png", opencv(np.dstack([deep, deep[..., :1]]), ".png")
    yield "png/animated.png", pillow(image, "PNG", save_all=True, append_images=[image.rotate(90)])
    yield "png/bytes after the end.png", plain + b"trailing"
    yield "png/damaged note.png", before(plain, b"\0\0\0\0IEND", png_chunk(b"tEXt", b"Comment\0x", checksum_error=1))


def _with_alpha(image: Image.Image) -> Image.Image:
    alpha_HW = np.tile(np.arange(image.width, dtype=np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(alpha_HW))
    return image


def _good_tiffs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    image = Image.fromarray(rgb)
    deep = rgb.astype(np.uint16) * 256 + 77
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff/{compression}.tif", pillow(rgb, "TIFF", compression=compression)
    yield "tiff/big.tif", pillow(rgb, "TIFF", big_tiff=True)
    yield "tiff/big deflate.tif", pillow(rgb, "TIFF", big_tiff=True, compression="tiff_adobe_deflate")
    yield "tiff/two pages.tif", pillow(image, "TIFF", save_all=True, append_images=[image.rotate(90)])
    for mode in ("L", "1", "P", "CMYK", "RGBA", "YCbCr"):
        yield f"tiff/{mode}.tif", pillow(image.convert(mode), "TIFF")
    yield "tiff/fax.tif", pillow(image.convert("1"), "TIFF", compression="group4")
    yield "tiff/16 bit grey.tif", pillow(deep[..., 0], "TIFF")
    yield "tiff/16 bit rgb.tif", opencv(deep, ".tiff")


def _good_others() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    image = Image.fromarray(rgb)
    animation: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90)]}
    yield "webp/lossy.webp", pillow(rgb, "WEBP")
    yield "webp/lossless.webp", pillow(rgb, "WEBP", lossless=True)
    yield "webp/alpha.webp", pillow(_with_alpha(image.convert("RGBA")), "WEBP")
    yield "webp/animated.webp", pillow(image, "WEBP", **animation)
    yield "bmp/24 bit.bmp", pillow(rgb, "BMP")
    yield "bmp/top row first.bmp", patched(pillow(rgb, "BMP"), 22, "<i", -HEIGHT_PX)
    yield "bmp/32 bit.bmp", pillow(_with_alpha(image.convert("RGBA")), "BMP")
    for mode in ("L", "1", "P"):
        yield f"bmp/{mode}.bmp", pillow(image.convert(mode), "BMP")
    rows = b"".join(row.tobytes() for row in rgb[::-1, :, ::-1])
    os2 = struct.pack("<IHHHH", 12, WIDTH_PX, HEIGHT_PX, 1, 24)
    yield "bmp/os2.bmp", b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + os2 + rows
    yield "gif/still.gif", pillow(rgb, "GIF")
    yield "gif/animated.gif", pillow(image, "GIF", **animation)
    yield "jp2/file.jp2", pillow(rgb, "JPEG2000")
    yield "jp2/codestream.j2k", pillow(rgb, "JPEG2000", no_jp2=True)
    yield "jp2/grey.jp2", pillow(image.convert("L"), "JPEG2000")
    yield "avif/rgb.avif", pillow(rgb, "AVIF")
    yield "avif/alpha.avif", pillow(_with_alpha(image.convert("RGBA")), "AVIF")
    yield "pnm/colour.ppm", pillow(rgb, "PPM")
    yield "pnm/grey.pgm", pillow(image.convert("L"), "PPM")
    yield "pnm/1 bit.pbm", pillow(image.convert("1"), "PPM")
    yield "pnm/text.ppm", b"P3 # written by hand\n2\t2\n# levels\n255\n" + b"1 2 3\n" * 4
    yield "pnm/16 bit.ppm", opencv(rgb.astype(np.uint16) * 256, ".ppm")
    yield "pnm/any.pam", b"P7\nWIDTH 120\nHEIGHT 90\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + rgb.tobytes()
    yield "hdr/light.hdr", opencv(rgb.astype(np.float32) / 255, ".hdr")


def _good_sizes() -> Iterator[tuple[str, bytes]]:
    for height_px, width_px in ((1, 1), (1, 37), (37, 1), (2, 2), (17, 33), (224, 224)):
        rgb = picture(height_px, width_px)
        yield f"sizes/{width_px}x{height_px}.jpg", pillow(rgb, "JPEG")
        yield f"sizes/{width_px}x{height_px}.png", pillow(rgb, "PNG")
        yield f"sizes/{width_px}x{height_px}.webp", pillow(rgb, "WEBP")
    yield "sizes/3 megapixels.jpg", pillow(picture(1500, 2000), "JPEG", quality=80)
    yield "sizes/very wide.png", pillow(picture(2, 60_000), "PNG")


def _good_names() -> Iterator[tuple[str, bytes]]:
    jpeg, png = pillow(picture(), "JPEG"), pillow(picture(), "PNG")
    yield "names/апельсин в саду.jpg", jpeg
    yield "names/みかん/温州.png", png
    yield "names/pink 🍊.jpg", jpeg
    yield "names/100% ripe #1 & more?.jpg", jpeg
    yield "names/percent%20encoded.jpg", jpeg
    yield 'names/it\'s "quoted", with, commas;.jpg', jpeg
    yield "names/[brackets] {braces} *star*.png", png
    yield "names/-dash first.jpg", jpeg
    yield "names/no extension", jpeg
    yield "names/SHOUTING.JPG", jpeg
    yield "names/png inside.jpg", png
    yield "names/jpeg inside.png", jpeg
    yield "names/" + "/".join(f"level{number}" for number in range(12)) + "/deep.jpg", jpeg
    yield "names/" + "long" * 50 + ".jpg", jpeg


# --- broken files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A file that must be refused."""

    data: bytes
    error: type[ItemError]
    message: str
    """Text that the error message must contain."""


@cache
def broken_files() -> dict[str, Broken]:
    """Return broken files by name, with their expected errors."""
    makers = (_broken_jpegs, _broken_pngs, _broken_tiffs, _broken_others, _not_images, _unsupported_images, _bombs)
    return {
        name: Broken(data=data, error=LimitError if maker is _bombs else DecodeError, message=message)
        for maker in makers
        for name, data, message in maker()
    }


def _broken_jpegs() -> Iterator[tuple[str, bytes, str]]:
    plain = pillow(picture(), "JPEG", quality=90)
    progressive = pillow(picture(), "JPEG", quality=90, progressive=True)
    cmyk = pillow(Image.fromarray(picture()).convert("CMYK"), "JPEG")
    scan = plain.index(b"\xff\xda")
    yield "jpeg cut in half.jpg", plain[: len(plain) // 2], "Premature end"
    yield "jpeg without its last byte.jpg", plain[:-1], "Premature end"
    yield "jpeg without its end marker.jpg", plain[:-2], "Premature end"
    yield "jpeg progressive cut.jpg", progressive[: len(progressive) * 2 // 3], "Premature end"
    yield "jpeg cmyk cut.jpg", cmyk[: len(cmyk) * 2 // 3], "Premature end"
    yield "jpeg of three bytes.jpg", plain[:3], "cut off inside its header"
    yield "jpeg cut in its header.jpg", plain[:150], "cut off inside its header"
    yield "jpeg end before picture.jpg", plain[:scan] + b"\xff\xd9", "ends before its image data"
    yield "jpeg without a frame header.jpg", plain[:2] + plain[scan:], "no frame header"
    yield "jpeg of no height.jpg", jpeg_sized(plain, WIDTH_PX, 0), "declares 120x0 pixels"
    yield "jpeg taller than its data.jpg", jpeg_sized(plain, WIDTH_PX, 4000), "premature end"
    yield "jpeg damaged scan.jpg", plain[: scan + 900] + b"\xff\xd3" + plain[scan + 902 :], "damaged"
    stray = before(plain, b"\xff\xda", b"\0\0\0")
    yield "jpeg stray bytes and damaged.jpg", stray[: scan + 900] + b"\xff\xd3" + stray[scan + 902 :], "damaged"
    yield "jpeg zeros from the middle.jpg", plain[: len(plain) // 2] + bytes(len(plain) // 2), "Premature end"
    yield "jpeg of 12 bits.jpg", patched(plain, plain.index(b"\xff\xc0") + 4, "B", 12), "cannot be decoded"
    yield "jpeg-ls.jpg", patched(plain, plain.index(b"\xff\xc0") + 1, "B", 0xF7), "of a kind that OpenCV does not read"


def _broken_pngs() -> Iterator[tuple[str, bytes, str]]:
    plain = pillow(picture(), "PNG")
    data_at = plain.index(b"IDAT") + 4
    rows = (b"\0" + bytes(3 * WIDTH_PX)) * (HEIGHT_PX // 2)
    yield "png cut in half.png", plain[: len(plain) // 2], "cut off"
    yield "png without its end.png", plain[:-12], "cut off"
    yield "png signature only.png", plain[:8], "cut off inside its header"
    yield (
        "png damaged.png",
        plain[: data_at + 500] + b"!" + plain[data_at + 501 :],
        "'IDAT' at byte 33 fails its checksum",
    )
    yield "png damaged header.png", patched(plain, 29, "B", plain[29] ^ 1), "'IHDR' at byte 8 fails its checksum"
    yield "png half its rows.png", png_by_hand(WIDTH_PX, HEIGHT_PX, 8, 2, rows), "cannot be decoded"
    bad_row = png_by_hand(4, 1, 8, 2, b"\x09" + bytes(12))  # a filter that does not exist
    yield "png unknown filter.png", bad_row, "cannot be decoded"
    yield "png of no width.png", png_by_hand(0, 5, 8, 2, b""), "declares 0x5 pixels"
    yield "png wrong first chunk.png", plain.replace(b"IHDR", b"JUNK"), "damaged"


def _broken_tiffs() -> Iterator[tuple[str, bytes, str]]:
    rgb = picture()
    image = Image.fromarray(rgb)
    plain, deflate = pillow(rgb, "TIFF"), pillow(rgb, "TIFF", compression="tiff_adobe_deflate")
    opencv_tiff = opencv(rgb, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1)
    yield "tiff cut.tif", plain[:-1000], "the tiff is cut off"
    yield "tiff without its directory.tif", opencv_tiff[: len(opencv_tiff) // 2], "cut off inside its header"
    yield "tiff of five bytes.tif", plain[:5], "cut off inside its header"
    middle = len(deflate) // 2
    yield (
        "tiff deflate damaged.tif",
        deflate[:middle] + bytes(8) + deflate[middle + 8 :],
        "compressed data cannot be inflated",
    )
    yield "tiff deflate cut.tif", deflate[:-1000], "cut off"
    yield "tiff floating point.tif", pillow(image.convert("F"), "TIFF"), "floating-point"
    yield "tiff floating point rgb.tif", opencv(rgb.astype(np.float32), ".tiff"), "floating-point"
    yield "tiff 32 bit.tif", pillow(image.convert("I"), "TIFF"), "signed (SampleFormat 2)"
    yield "tiff zstandard.tif", pillow(rgb, "TIFF", compression="zstd"), "Zstandard"
    yield "tiff thumbnail first.tif", tiff_tagged(plain, 277, 1, new_tag=254), "thumbnail"


def _broken_others() -> Iterator[tuple[str, bytes, str]]:
    rgb = picture()
    webp = pillow(rgb, "WEBP")
    yield "webp cut.webp", webp[: len(webp) // 2], "the webp cannot be decoded"
    yield "webp cut in its header.webp", webp[:20], "cut off inside its header"
    for name, data in _good_others():
        if name in {
            "bmp/24 bit.bmp",
            "gif/still.gif",
            "jp2/file.jp2",
            "avif/rgb.avif",
            "pnm/colour.ppm",
            "hdr/light.hdr",
        }:
            kind, ending = name.split("/")[0], name.rpartition(".")[2]
            yield f"{kind} cut.{ending}", data[: len(data) * 2 // 3], f"the {kind} cannot be decoded"
    yield "bmp header only.bmp", pillow(rgb, "BMP")[:20], "cut off inside its header"
    yield "pnm without a size.ppm", b"P6\nhello there\n255\n", "declares 0x0 pixels"
    yield "hdr without a size.hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", "declares 0x0 pixels"


def _not_images() -> Iterator[tuple[str, bytes, str]]:
    yield "empty.jpg", b"", "empty (0 bytes)"
    yield "one byte.jpg", b"\xff", "unknown bytes"
    yield "text.jpg", b"these are notes about oranges\n", "text (30 bytes)"
    yield "text in german.png", "Süße Früchte, äußerst saftig".encode(), "text"
    yield "web page.jpg", b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><svg></svg><body>Not found</body></html>", "HTML text"
    yield "store error.jpg", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"
    yield "answer.jpg", b'{"error": "quota exceeded"}', "JSON text"
    yield "pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"
    yield "archive.jpg", b"PK\x03\x04" + bytes(60), "ZIP archive"
    yield "document.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF document"
    yield "compressed.jpg", b"\x1f\x8b\x08\0\0\0\0\0", "gzip"
    yield "clip.jpg", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(64), "MP4 or QuickTime video"
    yield "clip.png", b"\x1aE\xdf\xa3" + bytes(60), "Matroska or WebM video"
    yield "clip.avi", b"RIFF\0\0\0\0AVI LIST" + bytes(60), "AVI video"
    yield "zeros.jpg", bytes(5000), "nothing but zero bytes"
    yield "noise.jpg", b"\x8d" + np.random.default_rng(1).bytes(3000), "unknown bytes"
    yield "table.jpg", b"PAR1" + bytes(60), "Parquet table"


def _unsupported_images() -> Iterator[tuple[str, bytes, str]]:
    yield (
        "phone.heic",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
        "HEIC (a phone's photo), which is not supported",
    )
    yield "phone.jpg", b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(60), "HEIC"
    yield "new.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL"
    yield "stream.jxl", b"\xff\x0a" + bytes(60), "JPEG XL"
    yield "layers.psd", b"8BPS\0\x01" + bytes(60), "Photoshop"
    yield "sign.ico", pillow(picture(32, 32), "ICO"), "icon"
    yield "drawing.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG (a drawing)"
    yield "light.pfm", opencv(picture().astype(np.float32) / 255, ".pfm"), "floating-point"
    yield "light.exr", b"\x76\x2f\x31\x01" + bytes(60), "floating-point"
    yield "camera.cr2", b"II*\0\x10\0\0\0CR\x02\0" + bytes(60), "camera's raw file"
    yield "camera.cr3", b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(60), "camera's raw file"


def _bombs() -> Iterator[tuple[str, bytes, str]]:
    """Yield small files that decode to gigabytes, or declare it."""
    tiny = pillow(picture(8, 8), "JPEG")
    yield "bomb.jpg", jpeg_sized(tiny, 20_000, 20_000), "20000x20000 pixels, 400,000,000 in all"
    yield "bomb of the largest jpeg.jpg", jpeg_sized(tiny, 65_500, 65_500), "65500x65500"
    zeros = bytes(12_000 * (1 + 12_000 // 8))  # 1-bit grey: 18 MB of rows, 18 kB of file, 432 MB of pixels
    yield "bomb.png", png_by_hand(12_000, 12_000, 1, 0, zeros), "12000x12000 pixels, 144,000,000 in all"
    yield "bomb of the largest png.png", png_by_hand(2**31 - 1, 2**31 - 1, 8, 2, b""), "2147483647x2147483647"
    yield "ribbon.png", png_by_hand(70_000, 1, 1, 0, bytes(1 + 70_000 // 8)), "the limit of a side is 65,500"
    yield "bomb.gif", patched(pillow(picture(), "GIF"), 6, "<HH", 60_000, 60_000), "60000x60000"
    yield "bomb.bmp", patched(pillow(picture(), "BMP"), 18, "<ii", 30_000, -30_000), "30000x30000"
    yield (
        "bomb.webp",
        patched(pillow(_animation(), "WEBP", save_all=True), 24, "<HBHB", 65_535, 0, 65_535, 0),
        "65536x65536",
    )
    yield "bomb.tif", tiff_tagged(tiff_tagged(pillow(picture(), "TIFF"), 256, 50_000), 257, 50_000), "50000x50000"
    yield "bomb.ppm", b"P6 40000 40000 255\n" + bytes(100), "40000x40000"
    yield "bomb.hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 40000 +X 40000\n", "40000x40000"
    jp2, avif = pillow(picture(), "JPEG2000", no_jp2=True), pillow(picture(), "AVIF")
    yield "bomb.j2k", patched(jp2, 8, ">II", 40_000, 40_000), "40000x40000"
    yield "bomb.avif", patched(avif, avif.index(b"ispe") + 8, ">II", 40_000, 40_000), "40000x40000"


def _animation() -> Image.Image:
    """Return an image with alpha, which gives WebP its extended header."""
    return _with_alpha(Image.fromarray(picture()).convert("RGBA"))


# --- the fuzzer ------------------------------------------------------------------------------------------------------


def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    altered = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        altered[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(altered)


def _flip_in_header(data: bytes, rng: np.random.Generator) -> bytes:
    altered = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        altered[int(rng.integers(min(64, len(data))))] = int(rng.integers(256))
    return bytes(altered)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _drop(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + rng.bytes(int(rng.integers(1, 200))) + data[start:]


def _zero_run(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 4096))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def _splice(data: bytes, rng: np.random.Generator) -> bytes:
    other = list(good_images().values())[int(rng.integers(len(good_images())))]
    return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip bits": _flip_bits,
    "flip in header": _flip_in_header,
    "cut": _cut,
    "drop": _drop,
    "insert": _insert,
    "zero run": _zero_run,
    "splice": _splice,
    "wrong extension": lambda data, _rng: data,
}
"""Kinds of damage. Not every one breaks the image: a flipped bit may change nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damaged:
    """One file that the fuzzer made."""

    name: str
    source: str
    """Name of the good image it was made from."""
    damage: str
    """Key of DAMAGES."""
    data: bytes


def damaged_files(*, seed: int, count: int) -> Iterator[Damaged]:
    """Yield good images, each damaged in one way; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    sources = sorted(name for name, data in good_images().items() if 0 < len(data) < 100_000)
    for number in range(count):
        source = sources[int(rng.integers(len(sources)))]
        damage = list(DAMAGES)[int(rng.integers(len(DAMAGES)))]
        ending = ".dat" if damage == "wrong extension" else Path(source).suffix
        data = DAMAGES[damage](good_images()[source], rng)
        yield Damaged(name=f"{number:05d} {damage}{ending}", source=source, damage=damage, data=data)


# --- writing ---------------------------------------------------------------------------------------------------------


def write_good(folder: Path) -> list[Path]:
    """Write every good image; return the paths sorted by name."""
    return [_write(folder / name, data) for name, data in sorted(good_images().items())]


def write_broken(folder: Path) -> list[Path]:
    """Write every broken file, and paths that cannot be read."""
    return [_write(folder / name, broken.data) for name, broken in sorted(broken_files().items())] + [
        path for path, _ in write_unreadable(folder)
    ]


def write_unreadable(folder: Path) -> list[tuple[Path, type[ItemError]]]:
    """Create paths that look like images and cannot be read, each with its expected error."""
    folder.mkdir(parents=True, exist_ok=True)
    directory, dangling, huge = folder / "folder.jpg", folder / "dangling.jpg", folder / "huge.jpg"
    directory.mkdir(exist_ok=True)
    dangling.unlink(missing_ok=True)
    dangling.symlink_to("nowhere.jpg")
    huge.write_bytes(pillow(picture(), "JPEG"))
    os.truncate(huge, 3 << 30)  # sparse: it takes no space
    found: list[tuple[Path, type[ItemError]]] = [(directory, FetchError), (dangling, FetchError), (huge, LimitError)]
    if os.geteuid() != 0:  # root reads everything
        locked = _write(folder / "locked.jpg", pillow(picture(), "JPEG"))
        locked.chmod(0)
        found.append((locked, FetchError))
    return found


def write_damaged(folder: Path, *, seed: int, count: int) -> list[Path]:
    """Write the fuzzer's files, and `damage.jsonl`, which records the damage and source of each."""
    files = list(damaged_files(seed=seed, count=count))
    record = [json.dumps({"name": f.name, "source": f.source, "damage": f.damage, "seed": seed}) + "\n" for f in files]
    paths = [_write(folder / file.name, file.data) for file in files]
    (folder / "damage.jsonl").write_text("".join(record), encoding="utf-8")
    return paths


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the test images.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--damaged", action="store_true", help="also write broken and damaged files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    parser.add_argument("--count", type=int, default=100, help="number of damaged files")
    arguments = parser.parse_args()
    paths = write_good(arguments.folder / "good")
    if arguments.damaged:
        paths += write_broken(arguments.folder / "broken")
        paths += write_damaged(arguments.folder / "damaged", seed=arguments.seed, count=arguments.count)
    sys.stdout.write(f"{len(paths)} files in {arguments.folder}\n")


if __name__ == "__main__":
    main()
