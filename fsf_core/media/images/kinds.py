"""File types, recognised by their first bytes. Knows signatures; knows no sizes, no pixels and no file names."""

import codecs
import re
from types import MappingProxyType

# OpenCV returns None for these, and for PFM zeros and ones where radiance from 0 to 1 was meant.
NOT_DECODED = MappingProxyType(
    {
        "heic": "HEIC (a phone's photo)",
        "jxl": "JPEG XL",
        "exr": "OpenEXR (floating-point radiance)",
        "pfm": "PFM (floating-point radiance)",
        "psd": "a Photoshop document",
        "qoi": "QOI",
        "ico": "an icon",
        "raw": "a camera's raw file",
        "svg": "SVG (a drawing)",
    }
)
"""Image formats that are recognised but not supported: name to description."""

_IMAGE_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # a bare codestream
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"8BPS", "psd"),
    (b"qoif", "qoi"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"IIU\x00", "raw"),
    (b"II*\x00\x10\x00\x00\x00CR", "raw"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),  # BigTIFF
    (b"MM\x00+", "tiff"),
)
_IMAGE_PATTERNS = (
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", re.DOTALL), "bmp"),  # size of its header
    (re.compile(rb"P[1-7][\s#]"), "pnm"),
    (re.compile(rb"P[Ff]\s"), "pfm"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", re.DOTALL), "svg"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

_OTHER_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file (run `git lfs pull`)"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"FLV\x01", "a Flash video"),
    (b"OggS", "Ogg audio or video"),
    (b"PAR1", "a Parquet table"),
    (b"\x93NUMPY", "a NumPy array"),
)
UNKNOWN = "unknown bytes"
"""What `describe` returns of bytes that it does not know."""
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")


def sniff(head: bytes) -> str | None:
    """Return the image format by content.

    Args:
        head: the first 64 bytes or more.

    Returns:
        jpeg, png, webp, bmp, tiff, gif, jp2, avif, pnm or hdr, which are supported; a key of NOT_DECODED for other
        images; None if it is no image.
    """
    for magic, name in _IMAGE_MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return _sniff_iso_media(head)
    for pattern, name in _IMAGE_PATTERNS:
        if pattern.match(head):
            return name
    return None


def _sniff_iso_media(head: bytes) -> str | None:
    """Tell AVIF, HEIC and Canon's raw from MP4, which shares their container, by the brands."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if b"crx " in brands:
        return "raw"
    return "heic" if head[8:12] in _HEIF_BRANDS else None


def describe(head: bytes) -> str:
    """Return the kind of bytes that are no image, for a message, which never quotes them."""
    for magic, name in _OTHER_MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "an MP4 or QuickTime video"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "an AVI video"
    if not any(head):
        return "nothing but zero bytes (an unfinished copy)"
    return _describe_text(head) or UNKNOWN


def _describe_text(head: bytes) -> str | None:
    """Describe a web page, an error document or other text; None if the bytes are no text."""
    try:
        # An incremental decoder accepts a last character that is cut in two.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).lstrip()
    except UnicodeDecodeError:
        return None
    if not text or _NO_TEXT.search(text):
        return None
    begin = text.lower()
    if begin.startswith("<!doctype html") or "<html" in begin:
        return "HTML text (a web page in place of the file)"
    if begin.startswith(("<?xml", "<error")):
        return "XML text (perhaps a store's error message)"
    return "JSON text" if begin[0] in "{[" else "text"
