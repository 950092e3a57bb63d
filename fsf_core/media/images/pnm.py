"""Netpbm: PBM, PGM, PPM, binary and as text, and PAM, of any MAXVAL. Follows Netpbm's definitions."""

# H×W pixels, C channels (blue, green, red)

import re
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError
from fsf_core.media.images import opencv
from fsf_core.media.images.stored import Stored, transparency

_HEAD_BYTES = 4096
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_WHITE = rb"(?:\s|#[^\r\n]*[\r\n])"
"""One blank, or the end of a comment, separates the header from samples in binary."""
_PBM = re.compile(rb"P([14])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _WHITE)
_PNM = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _WHITE)
_PAM = re.compile(rb"P7\s.*?^ENDHDR[^\n]*\n", re.DOTALL | re.MULTILINE)
_PAM_LINE = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)[ \t]+(\S+)[ \t\r]*$", re.MULTILINE)
_COMMENT = re.compile(rb"#[^\r\n]*")
_TEXT_SAMPLES = re.compile(rb"[\s\d]*")
_MAXVAL_LIMIT = 65_535
_CHANNELS = MappingProxyType(
    {
        b"BLACKANDWHITE": 1,
        b"GRAYSCALE": 1,
        b"RGB": 3,
        b"BLACKANDWHITE_ALPHA": 2,
        b"GRAYSCALE_ALPHA": 2,
        b"RGB_ALPHA": 4,
    }
)
_TEXT_KINDS, _BILEVEL_KINDS = (1, 2, 3), (1, 4)


class Header(NamedTuple):
    """What the header declares."""

    kind: int
    """1 to 7, the digit after P."""
    width_px: int
    height_px: int
    channels: int
    maxval: int
    start: int
    """Offset of the first sample."""


def size(data: bytes) -> tuple[int, int]:
    """Return height and width; 0 where the header cannot be read."""
    header = _read_header(data)
    return (header.height_px, header.width_px) if header else (0, 0)


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR: value · 255 / MAXVAL, rounded.

    Raises:
        DecodeError: the file is cut off or damaged, or has channels that are neither grey nor RGB.
    """
    header = _read_header(data)
    assert header is not None, "its size was read"
    if not 1 <= header.maxval <= _MAXVAL_LIMIT:
        raise DecodeError(
            f"the pnm declares a MAXVAL of {header.maxval}, expected 1 to {_MAXVAL_LIMIT}; save it again as PNG"
        )
    if not header.channels:
        raise DecodeError("the pnm does not declare (TUPLTYPE) that its samples are grey or RGB; save it again as PNG")
    samples_HWC, end = _read_samples(data, header)
    whole_range = header.maxval == np.iinfo(samples_HWC.dtype).max
    greatest = header.maxval if whole_range else int(samples_HWC.max())
    if greatest > header.maxval:
        raise DecodeError(
            f"the pnm is damaged: it holds a sample of {greatest}, its MAXVAL is {header.maxval}; copy it again, or "
            "save it again as PNG"
        )
    if header.kind in _BILEVEL_KINDS:
        samples_HWC = 1 - samples_HWC  # 1 is black, unlike in all others
    levels = np.rint(np.arange(header.maxval + 1) * 255 / header.maxval).astype(np.uint8)
    image_HWC = samples_HWC.astype(np.uint8, copy=False) if header.maxval == 255 else levels[samples_HWC]  # noqa: PLR2004
    notes: tuple[str, ...] = ()
    if header.channels % 2 == 0:
        notes += transparency(levels[samples_HWC[..., -1]])
    if re.match(rb"\s*P[1-7]\s", data[end : end + 16]):
        notes += ("first of several images",)
    return Stored(opencv.as_bgr(image_HWC[..., : header.channels - (header.channels + 1) % 2]), notes=notes)


def _read_header(data: bytes) -> Header | None:
    """Read the header; None if it is damaged."""
    head = bytes(data[:_HEAD_BYTES])
    if found := _PAM.match(head):
        fields = dict(_PAM_LINE.findall(found[0]))
        try:
            width, height, depth, maxval = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
        except (KeyError, ValueError):
            return None
        # Of several samples without a type the order is unknown: OpenCV writes BGR without one.
        channels = _CHANNELS.get(fields.get(b"TUPLTYPE", b"GRAYSCALE"), 0)
        return Header(7, width, height, channels if channels == depth else 0, maxval, found.end())
    if found := _PBM.match(head):
        kind, width, height = map(int, found.groups())
        return Header(kind, width, height, 1, 1, found.end())
    if found := _PNM.match(head):
        kind, width, height, maxval = map(int, found.groups())
        return Header(kind, width, height, 3 if kind in (3, 6) else 1, maxval, found.end())
    return None


def _read_samples(data: bytes, header: Header) -> tuple[NDArray[Any], int]:
    """Return all samples, H×W×channels of unsigned integers, and where they end.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    shape = (header.height_px, header.width_px, header.channels)
    count = header.height_px * header.width_px * header.channels
    if header.kind in _TEXT_KINDS:
        return _text_samples(data, header, count).reshape(shape), len(data)
    if header.kind in _BILEVEL_KINDS:
        row_bytes = (header.width_px + 7) // 8
        end = header.start + row_bytes * header.height_px
        packed = _taken(data, header.start, end).reshape(header.height_px, row_bytes)
        samples: NDArray[Any] = np.unpackbits(packed, axis=1)[:, : header.width_px]
    else:
        kind = np.dtype(np.uint8) if header.maxval < 256 else np.dtype(">u2")  # noqa: PLR2004
        end = header.start + count * kind.itemsize
        samples = _taken(data, header.start, end).view(kind)
    return samples.reshape(shape), end


def _taken(data: bytes, start: int, end: int) -> NDArray[np.uint8]:
    """Return bytes of the file.

    Raises:
        DecodeError: it ends before.
    """
    if len(data) < end:
        raise DecodeError(
            f"the pnm cannot be decoded: it is cut off, {len(data)} bytes found, {end} expected; copy it again"
        )
    return np.frombuffer(data, np.uint8, end - start, start)


def _text_samples(data: bytes, header: Header, count: int) -> NDArray[np.int64]:
    """Return samples that are written as decimal numbers; those of PBM need no blanks between them.

    Raises:
        DecodeError: there are fewer, or other characters.
    """
    text = _COMMENT.sub(b"", data[header.start :])
    if not _TEXT_SAMPLES.fullmatch(text):
        raise DecodeError("the pnm is damaged: its samples are no decimal numbers; copy it again")
    if header.kind == 1:
        text = b" ".join(re.findall(rb"\d", text))
    samples = np.fromstring(text.decode(), np.int64, sep=" ")
    if len(samples) < count:
        raise DecodeError(
            f"the pnm cannot be decoded: it is cut off, {len(samples)} samples found, {count} expected; copy it again"
        )
    return samples[:count]
