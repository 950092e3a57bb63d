"""The length that a file of MXF, DV or YUV4MPEG must have, by its first bytes. Knows no packets."""

import re
from collections.abc import Callable
from typing import BinaryIO

_HEAD_BYTES = 4096

# SMPTE 377 §7.1: behind key and length of a partition pack, the offset of the footer follows 24 bytes.
_MXF_KEY_BYTES, _MXF_FOOTER = 16, 24

# IEC 61834-2: a frame of 25 Mbit/s, with 625 lines or with 525; faster kinds have multiples of it.
_DV_FRAME_BYTES = {True: 144_000, False: 120_000}

_Y4M_FRAME = b"FRAME\n"
# Samples of both chroma planes, by columns and rows of luma.
_Y4M_CHROMA: dict[str, Callable[[int, int], int]] = {
    "420": lambda width, height: 2 * (-(-width // 2)) * (-(-height // 2)),
    "411": lambda width, height: 2 * (-(-width // 4)) * height,
    "422": lambda width, height: 2 * (-(-width // 2)) * height,
    "444": lambda width, height: 2 * width * height,
    "444alpha": lambda width, height: 3 * width * height,
    "mono": lambda _width, _height: 0,
}
_Y4M_COLOURS = re.compile(r"(444alpha|420|411|422|444|mono)(?:jpeg|mpeg2|paldv)?p?(\d*)")


def missing_mxf_bytes(file: BinaryIO, size: int) -> int:
    """Return the bytes up to the footer that a finished MXF file declares and does not have."""
    head = _head(file)
    length = head[_MXF_KEY_BYTES] if len(head) > _MXF_KEY_BYTES else 0
    begin = _MXF_KEY_BYTES + 1 + (length & 0x7F if length & 0x80 else 0)
    footer = int.from_bytes(head[begin + _MXF_FOOTER : begin + _MXF_FOOTER + 8], "big")
    return max(0, footer + 1 - size) if footer else 0


def missing_dv_bytes(file: BinaryIO, size: int) -> int:
    """Return the bytes that the last frame of DV lacks."""
    head = _head(file)
    return -size % _DV_FRAME_BYTES[bool(head[3] & 0x80)]


def missing_y4m_bytes(file: BinaryIO, size: int) -> int:
    """Return the bytes that the last frame of YUV4MPEG lacks; 0 if its frames have parameters of their own."""
    head = _head(file)
    line, _, frames = head.partition(b"\n")
    facts = {word[:1]: word[1:] for word in line.decode("latin-1").split()[1:]}
    colours = _Y4M_COLOURS.fullmatch(facts.get("C", "420"))
    if not frames.startswith(_Y4M_FRAME) or colours is None:
        return 0
    try:
        width, height = int(facts["W"]), int(facts["H"])
    except (KeyError, ValueError):
        return 0
    samples = width * height + _Y4M_CHROMA[colours[1]](width, height)
    deep = int(colours[2] or 8) > 8  # noqa: PLR2004 - bits of a byte
    return (len(line) + 1 - size) % (len(_Y4M_FRAME) + samples * (1 + deep))


def _head(file: BinaryIO) -> bytes:
    """Return the first bytes of a file."""
    file.seek(0)
    return file.read(_HEAD_BYTES)
