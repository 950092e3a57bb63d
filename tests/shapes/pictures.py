"""What the generator of pictures draws: one function for each family of formats."""

# H×W pixels, C channels (red, green, blue)

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.shapes.tiff_file import Layout, Page, file_of

Pixels = NDArray[np.uint8]
ALPHA, FIRST = "alpha was not applied", "first of"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One picture and what is right for it."""

    text: str
    """What it is."""
    suffix: str
    data: bytes
    right: Pixels | None
    """Its pixels, upright RGB; None if it is refused."""
    stored: Pixels | None = None
    """Its pixels where orientation is not honoured; None if it has none."""
    refusal: str = ""
    """Part of the message of a refusal."""
    tolerance: float = 0
    """Largest mean difference, in levels; 0 for formats without loss."""
    notes: tuple[str, ...] = ()
    """Parts of the notes; none if there are no notes."""


def picture(rng: Generator) -> Pixels:
    """Draw a picture of odd size that differs from each of its eight sides."""
    height, width = (int(side) for side in rng.integers(9, 48, 2))
    y, x = np.mgrid[0:height, 0:width]
    image = np.dstack([255 * x // (width - 1), 255 * y // (height - 1), (x * 7 + y * 13) % 256]).astype(np.uint8)
    image[: height // 3, : width // 2] = rng.integers(0, 256, 3)
    image[0, 0], image[-1, -1] = 255, 0
    return image


def encoded(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Pixels:
    """Decode the first frame with Pillow, upright."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels as EXIF defines orientations 1 to 8; any other number means 1."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def exif_with(orientation: int) -> Image.Exif:
    """Return an EXIF block with an orientation."""
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def as_rgb(grey_HW: NDArray[Any]) -> Pixels:
    """Return grey as three equal channels."""
    return np.dstack([grey_HW.astype(np.uint8)] * 3)


def eight_bits(samples: NDArray[Any], bits: int) -> Pixels:
    """Return samples as 8 bits: the upper byte of 16, rounded for others."""
    return (samples >> 8 if bits == 16 else np.rint(samples * 255 / ((1 << bits) - 1))).astype(np.uint8)


def one_of(rng: Generator, *choices: Any) -> Any:
    """Choose one."""
    return choices[int(rng.integers(len(choices)))]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """Return a chunk of PNG."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


# --- one function a family -------------------------------------------------------------------------------------------


def with_exif(rng: Generator) -> Shape:
    """PNG, WebP or JPEG with EXIF's orientation, also out of range, also in PNG's older places."""
    kind, options = one_of(rng, ("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95}))
    image, orientation, place = picture(rng), int(rng.integers(0, 11)), ""
    exif = exif_with(orientation)
    if kind == "PNG" and rng.integers(2):
        place = one_of(rng, "tEXt", "zTXt")
        block = exif.tobytes()
        text = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
        name = one_of(rng, b"Raw profile type exif", b"Raw profile type APP1") + b"\0"
        payload = name + (b"\0" + zlib.compress(text) if place == "zTXt" else text)
        plain = encoded(image, kind)
        data = plain[:33] + png_chunk(place.encode(), payload) + plain[33:]
    else:
        data = encoded(image, kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    text = f"{kind} with EXIF orientation {orientation} {place}"
    return Shape(text=text, suffix=kind.lower(), data=data, right=upright(stored, orientation), stored=stored)


def avif(rng: Generator) -> Shape:
    """AVIF with any orientation, subsampling and alpha, or a sequence."""
    image, orientation = picture(rng), int(rng.integers(1, 9))
    kind = one_of(rng, "still", "alpha", "sequence")
    options: dict[str, Any] = {"quality": 90, "subsampling": one_of(rng, "4:2:0", "4:4:4", "4:0:0")}
    if kind == "sequence":
        data = encoded(image, "AVIF", save_all=True, append_images=[Image.fromarray(image[::-1].copy())], **options)
        orientation = 1
    else:
        pixels = np.dstack([image, np.full(image.shape[:2], 77, np.uint8)]) if kind == "alpha" else image
        data = encoded(pixels, "AVIF", exif=exif_with(orientation), **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return Shape(
        text=f"AVIF, {kind}, {options['subsampling']}, turned as EXIF orientation {orientation}", suffix="avif",
        data=data, right=upright(stored, orientation), stored=stored,
        notes={"sequence": (FIRST,), "alpha": (ALPHA,), "still": ()}[kind], tolerance=1e-6,
    )  # fmt: skip


def netpbm(rng: Generator) -> Shape:
    """PBM, PGM, PPM and PAM, binary and text, of any MAXVAL."""
    kind = int(rng.integers(1, 8))
    image = picture(rng)
    maxval = int(one_of(rng, 1, 2, 11, 100, 254, 255, 256, 1023, 4095, 65535, int(rng.integers(1, 65536))))
    maxval = 1 if kind in (1, 4) else maxval
    channels = {1: 1, 2: 1, 3: 3, 4: 1, 5: 1, 6: 3, 7: int(rng.integers(1, 5))}[kind]
    source = np.dstack([image, image[..., :1]])[..., :channels] if channels != 2 else image[..., :2]
    samples = np.rint(source / 255 * maxval).astype(int)
    height, width = image.shape[:2]
    size = b"%d %d\n" % (width, height)
    if kind == 7:
        name = {1: b"GRAYSCALE", 2: b"GRAYSCALE_ALPHA", 3: b"RGB", 4: b"RGB_ALPHA"}[channels]
        head = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n"
        data = head % (width, height, channels, maxval, name)
    else:
        comment = one_of(rng, b"", b"# 640 480\n")
        data = b"P%d\n" % kind + comment + size + (b"" if kind in (1, 4) else b"%d\n" % maxval)
    if kind in (1, 4):
        dark = (1 - samples[..., 0]).astype(np.uint8)
        text = (one_of(rng, b"", b" ")).join(b"%d" % value for value in dark.ravel())
        data += text if kind == 1 else np.packbits(dark, axis=1).tobytes()
    elif kind in (2, 3):
        data += b" ".join(b"%d" % value for value in samples.ravel()) + b"\n"
    else:
        data += samples.astype("u1" if maxval < 256 else ">u2").tobytes()
    levels = np.rint(samples * 255 / maxval)
    right = as_rgb(levels[..., 0]) if channels < 3 else levels[..., :3].astype(np.uint8)
    transparent = channels % 2 == 0 and (levels[..., -1] < 255).any()
    return Shape(
        text=f"P{kind} of {channels} channels, MAXVAL {maxval}", suffix="pnm", data=data, right=right,
        notes=(ALPHA,) if transparent else (),
    )  # fmt: skip


def tiff(rng: Generator) -> Shape:
    """TIFF of any depth, colour model, layout, band, orientation, number of pages and declared white."""
    bits = int(one_of(rng, 1, 2, 4, 6, 8, 10, 12, 14, 16))
    colours = one_of(rng, "black", "white", "rgb", "palette", "cmyk")
    if colours == "palette":
        bits = min(bits, 8)
    image, whitest = picture(rng), (1 << bits) - 1
    used = {"rgb": 3, "cmyk": 4}.get(colours, 1)
    source = np.dstack([image, np.minimum(image[..., :1], 60)])[..., :used] / 255
    declared = int(one_of(rng, 0, 0, whitest // 2 + 1)) if bits > 1 and colours != "palette" else 0
    samples = np.rint(source * (declared or whitest)).astype(np.uint16 if bits > 8 else np.uint8)
    samples[0, 0], samples[-1, -1] = declared or whitest, 0
    numbers = samples.astype(int)
    tags, notes = {}, ()
    levels = np.rint(numbers * 255 / declared).astype(np.uint8) if declared else eight_bits(numbers, bits)
    if declared and declared != whitest:
        tags[281], notes = ("H", [declared] * used), (f"(0 to {declared}) were scaled",)
    extra = one_of(rng, (), (), (0,), (1,), (2,), (0, 0))
    further = rng.integers(0, whitest, (*image.shape[:2], len(extra))).astype(samples.dtype)
    if extra:
        tags[338] = ("H", list(extra))
        alpha = extra[0] > 0 and bool((eight_bits(further[..., 0].astype(int), bits) < 255).any())
        if alpha or not extra[0]:
            notes = (ALPHA if alpha else "were scored", *notes)
    if colours == "palette":
        table = rng.integers(0, 65536, (3, 1 << bits))
        tags[320] = ("H", table.ravel().tolist())
        stored = (table.T[samples[..., 0]] >> 8).astype(np.uint8)
    elif colours == "cmyk":
        light = 255 - levels.astype(int)
        stored = (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
    else:
        stored = as_rgb(255 - levels[..., 0] if colours == "white" else levels[..., 0]) if used == 1 else levels
    orientation = int(one_of(rng, 1, int(rng.integers(0, 10))))
    if orientation != 1:
        tags[274] = ("H", [orientation])
    deflate = bool(rng.integers(2))
    layout = Layout(
        order=one_of(rng, "<", ">"), planar=bool(rng.integers(2)), big=not rng.integers(4), deflate=deflate,
        tile_px=one_of(rng, None, 16, 32, 64), strip_rows=one_of(rng, None, 1, 5, 100),
        predictor=deflate and bits in (8, 16) and bool(rng.integers(2)),
    )  # fmt: skip
    code = {"white": 0, "black": 1, "rgb": 2, "palette": 3, "cmyk": 5}[colours]
    sample_format = int(one_of(rng, 1, 1, 1, 1, 2, 3))
    page = Page(
        samples_HWC=np.dstack([samples, further]), bits=bits, photometric=code, layout=layout, tags=tags,
        sample_format=sample_format,
    )  # fmt: skip
    pages = int(one_of(rng, 1, 1, 3))
    thumbnail = Page(samples_HWC=samples[::2, ::2], bits=bits, photometric=code, layout=layout, tags={254: ("I", [1])})
    others = [page] * (pages - 1) + [thumbnail] * int(rng.integers(2))
    if pages > 1:
        notes = (f"first of {pages} pages", *notes)
    text = f"TIFF, {bits} bits, {colours}, extra {extra}, white {declared}, orientation {orientation}, {layout}"
    if sample_format > 1:
        return Shape(
            text=f"{text}, SampleFormat {sample_format}", suffix="tif", data=file_of([page, *others]), right=None,
            refusal=f"(SampleFormat {sample_format})",
        )  # fmt: skip
    return Shape(
        text=text, suffix="tif", data=file_of([page, *others]), right=upright(stored, orientation), stored=stored,
        notes=notes,
    )  # fmt: skip


def tiff_of_pillow(rng: Generator) -> Shape:
    """TIFF of libtiff's compressions, and colour models that are refused."""
    image = Image.fromarray(picture(rng))
    mode = one_of(rng, "1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "RGBA", "LA")
    compression = one_of(rng, "tiff_lzw", "packbits", "tiff_adobe_deflate", "raw", "jpeg", "group4")
    if compression == "group4":
        mode = "1"
    if compression == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        mode = "RGB"
    if mode == "LAB":
        data = encoded(Image.frombytes("LAB", image.size, image.tobytes()), "TIFF")
        return Shape(text="CIELab TIFF", suffix="tif", data=data, right=None, refusal="CIELab")
    turned = image.convert(mode)
    if mode in ("RGBA", "LA"):
        turned.putalpha(90)
    orientation = int(rng.integers(1, 9))
    data = encoded(turned, "TIFF", compression=compression, exif=exif_with(orientation))
    stored = upright(decoded(data), {6: 8, 8: 6}.get(orientation, orientation))
    lossy = {"jpeg": 1.5}.get(compression, 0) + {"CMYK": 1.0, "YCbCr": 1.5}.get(mode, 0)
    return Shape(
        text=f"Pillow's TIFF, {mode}, {compression}, orientation {orientation}", suffix="tif", data=data,
        right=upright(stored, orientation), stored=stored, tolerance=lossy, notes=(ALPHA,) if "A" in mode else (),
    )  # fmt: skip


def bmp(rng: Generator) -> Shape:
    """BMP with bit fields of any order and width behind any header, and of 16 bits without."""
    bits = int(one_of(rng, 16, 32))
    widths = one_of(rng, (5, 6, 5), (5, 5, 5), (4, 4, 4)) if bits == 16 else one_of(rng, (8, 8, 8), (10, 10, 10))
    order, fields = rng.permutation(3), {}
    at = int(rng.integers(0, bits - sum(widths) + 1))
    for channel in order:
        fields[int(channel)] = ((1 << widths[channel]) - 1 << at, at, widths[channel])
        at += widths[channel]
    header_bytes = int(one_of(rng, 40, 52, 56, 108, 124))
    if bits == 16 and not rng.integers(4):
        header_bytes, fields = 0, {0: (0x7C00, 10, 5), 1: (0x3E0, 5, 5), 2: (0x1F, 0, 5)}
    image, top_down = picture(rng), bool(rng.integers(2))
    height, width = image.shape[:2]
    words, right = np.zeros((height, width), np.uint32), np.zeros_like(image)
    for channel, (_, shift, count) in fields.items():
        value = np.rint(image[..., channel] / 255 * ((1 << count) - 1)).astype(np.uint32)
        words |= value << np.uint32(shift)
        right[..., channel] = np.rint(value * 255 / ((1 << count) - 1))
    rows = words.astype(f"<u{bits // 8}") if top_down else words[::-1].astype(f"<u{bits // 8}")
    padding = -(width * bits // 8) % 4
    body = b"".join(row.tobytes() + bytes(padding) for row in rows)
    masks = struct.pack("<III", *(fields[channel][0] for channel in range(3))) if header_bytes else b""
    begin = 14 + max(40, header_bytes) + (len(masks) if header_bytes == 40 else 0)
    head = struct.pack(
        "<IiiHHIIiiII", header_bytes or 40, width, -height if top_down else height, 1, bits, 3 if masks else 0,
        len(body), 2835, 2835, 0, 0,
    )  # fmt: skip
    data = (b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + head + masks).ljust(begin, b"\0") + body
    shown = ", ".join(f"{fields[channel][0]:#x}" for channel in range(3))
    return Shape(text=f"BMP, {bits} bits, header {header_bytes}, {shown}", suffix="bmp", data=data, right=right)


def png(rng: Generator) -> Shape:
    """PNG of any depth, with and without a transparent colour, or animated."""
    image, colour = picture(rng), int(one_of(rng, 0, 2, 3, 4, 6))
    bits = int(one_of(rng, *{0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(colour, (8, 16))))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    source = image[..., :2] if channels == 2 else np.dstack([image, image[..., 1:2]])[..., :channels]
    top = (1 << bits) - 1
    samples = np.rint(source / 255 * top).astype(np.uint16)
    if bits == 16:
        samples ^= 0x55  # the lower byte is not the upper one
    lines = samples.reshape(len(samples), -1)
    if bits == 16:
        packed = lines.astype(">u2").view(np.uint8)
    else:
        packed = np.packbits(
            (lines[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(len(lines), -1).astype(np.uint8), axis=1
        )
    chunks, notes = [], ()
    levels = samples >> 8 if bits == 16 else np.rint(samples * 255 / top)
    table = rng.integers(0, 256, (1 << min(bits, 8), 3)).astype(np.uint8)
    if colour == 3:
        chunks.append(png_chunk(b"PLTE", table.tobytes()))
    right = table[samples[..., 0]] if colour == 3 else as_rgb(levels[..., 0]) if channels < 3 else levels[..., :3]
    if colour in (4, 6) and (samples[..., -1] < top).any():
        notes = (ALPHA,)
    if colour in (0, 2, 3) and rng.integers(2):
        chunks.append(
            png_chunk(b"tRNS", b"\0" if colour == 3 else struct.pack(f">{channels}H", *samples[0, 0].tolist()))
        )
        if colour != 3 or (samples == 0).any():
            notes = (ALPHA,)
    if not rng.integers(4):
        chunks.append(png_chunk(b"acTL", struct.pack(">II", 5, 0)))
        moves = bool(rng.integers(2))  # whether the image is the first frame, or shown instead of the animation
        if moves:
            size = (image.shape[1], image.shape[0])
            chunks.append(png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *size, 0, 0, 1, 10, 0, 0)))
        notes = (f"first of {5 if moves else 6} frames", *notes)
    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], bits, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    body = [png_chunk(b"IHDR", head), *chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return Shape(
        text=f"PNG, {bits} bits, colour type {colour}, {len(chunks)} further chunks", suffix="png",
        data=b"\x89PNG\r\n\x1a\n" + b"".join(body), right=right.astype(np.uint8), notes=notes,
    )  # fmt: skip


def moving(rng: Generator) -> Shape:
    """GIF, WebP and APNG, with several frames or one, with transparency or without."""
    image = Image.fromarray(picture(rng))
    kind, frames = one_of(rng, "GIF", "WEBP", "PNG"), int(rng.integers(1, 4))
    more = [Image.fromarray(np.roll(np.asarray(image), 3 * n, 1)) for n in range(1, frames)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    notes: tuple[str, ...] = (f"first of {frames} frames",) if frames > 1 else ()
    if kind == "GIF":
        image, more = image.quantize(60), [each.quantize(60) for each in more]
        if rng.integers(2):
            options["transparency"] = int(np.asarray(image)[0, 0])
    elif rng.integers(2):
        for each in (image, *more):
            each.putalpha(Image.fromarray(np.asarray(image)[..., 0]))
        options |= {"exact": True}
        notes = (*notes, ALPHA)
    if frames > 1:
        options |= {"save_all": True, "append_images": more, "duration": 50}
    data = encoded(image, kind, **options)
    if kind == "GIF" and (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] < 255).any():
        notes = (*notes, ALPHA)
    return Shape(
        text=f"{kind} of {frames} frames, {notes}", suffix=kind.lower(), data=data, right=decoded(data), notes=notes
    )


def jpeg(rng: Generator) -> Shape:
    """JPEG of any colour model and subsampling, and Multi-Picture files."""
    image = Image.fromarray(picture(rng)).resize((64, 48))
    mode = one_of(rng, "L", "RGB", "CMYK", "MPO")
    options: dict[str, Any] = {"quality": 96, "progressive": bool(rng.integers(2))}
    if mode == "MPO":
        data = encoded(image, "MPO", save_all=True, append_images=[image.rotate(180)], quality=96)
    else:
        options["subsampling"] = one_of(rng, 0, 1, 2)
        data = encoded(image.convert(mode), "JPEG", **options)
    if mode == "CMYK" and rng.integers(2):
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    return Shape(
        text=f"JPEG, {mode}, {options}", suffix="jpg", data=data, right=decoded(data), tolerance=1.5,
        notes=("first of 2 pictures",) if mode == "MPO" else (),
    )  # fmt: skip


def jpeg_2000(rng: Generator) -> Shape:
    """JPEG 2000 of any colour model and depth, as a file or a codestream."""
    image, mode = picture(rng), one_of(rng, "L", "RGB", "RGBA", "LA", "YCbCr", "I;16", "signed")
    options: dict[str, Any] = {"irreversible": False}
    picked = Image.fromarray(image[..., 2].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(image)
    if mode not in ("I;16", "signed"):
        picked = picked.convert(mode)
    if mode in ("RGBA", "LA"):
        picked.putalpha(90)
    data = encoded(
        picked, "JPEG2000", signed=mode == "signed", no_jp2=mode == "RGB" and bool(rng.integers(2)), **options
    )
    if mode == "signed":
        return Shape(text="JPEG 2000, signed", suffix="jp2", data=data, right=None, refusal="components are signed")
    right = as_rgb(image[..., 2]) if mode == "I;16" else decoded(data)
    return Shape(text=f"JPEG 2000, {mode}", suffix="jp2", data=data, right=right, notes=(ALPHA,) if "A" in mode else ())


MAKERS: tuple[Callable[[Generator], Shape], ...] = (
    with_exif, avif, netpbm, tiff, tiff, tiff, tiff_of_pillow, bmp, png, moving, jpeg, jpeg_2000,
)  # fmt: skip
"""Each draws a picture of one family."""
