"""The header of a baseline JPEG: sizes, sampling, tables. Knows nothing of image data; what is unusual is not read."""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIDES_PX = range(16, 65_501)
"""Of fewer than five columns libjpeg enlarges chroma in another way, and of more than 65,500 it reads none."""
_BASELINE, _EXTENDED = 0xC0, 0xC1
_HUFFMAN, _QUANTISATION, _RESTARTS, _SCAN = 0xC4, 0xDB, 0xDD, 0xDA
_APP0, _APP14, _APP15, _COMMENT = 0xE0, 0xEE, 0xEF, 0xFE
_SELECTION = bytes([0, 63, 0])
"""All 64 coefficients of a block at once, at their full precision."""
_COLOUR_IDS = [1, 2, 3]
_SAMPLINGS = {(1, 1), (2, 1), (1, 2), (2, 2)}
_DC, _AC = 0x00, 0x10
_LONGEST_DC = 15


class Component(NamedTuple):
    """One colour of a picture: luma, or a chroma."""

    across: int
    down: int
    """Blocks in a minimum coded unit."""
    quantisation: NDArray[np.int64]
    """64 divisors in the order of the coefficients (zigzag)."""
    dc: bytes
    ac: bytes
    """Huffman codes: 16 counts, one of each length, and the symbols."""


class Baseline(NamedTuple):
    """What a picture's only scan has to be read with."""

    height_px: int
    width_px: int
    components: tuple[Component, ...]
    """Grey, or luma and two chromas."""
    restart_units: int
    """Minimum coded units between restart markers; 0 without them."""
    scan_at: int
    """Offset of the image data."""


class _Tables(NamedTuple):
    """What the segments before the scan have defined, as far as they have."""

    quantisation: dict[int, NDArray[np.int64]]
    codes: dict[int, bytes]


def read_baseline(data: bytes) -> Baseline | None:
    """Read the header of a sequential Huffman-coded JPEG of 8 bits in one scan, grey or YCbCr in a usual sampling.

    Returns:
        None for every other picture, and for a header in which libjpeg finds anything to warn of.
    """
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError):
        return None


def _read(data: bytes) -> Baseline | None:
    """As `read_baseline`.

    Raises:
        struct.error, IndexError, ValueError: the header ends early, or is none of these.
    """
    tables, frame, restart_units, colours = _Tables({}, {}), b"", 0, set[str]()
    at = 2
    while True:
        prefix, marker, length = struct.unpack_from(">BBH", data, at)
        end = at + 2 + length
        payload = data[at + 4 : end]
        if prefix != 0xFF or length < 2 or len(payload) != length - 2:  # noqa: PLR2004 # the length's own bytes
            return None
        if marker == _SCAN:
            return _picture(frame, payload, tables, restart_units, end) if _is_ycc(frame, colours) else None
        if marker == _QUANTISATION:
            _read_quantisation(payload, tables.quantisation)
        elif marker == _HUFFMAN:
            _read_codes(payload, tables.codes)
        elif marker == _RESTARTS:
            (restart_units,) = struct.unpack(">H", payload)
        elif marker in (_BASELINE, _EXTENDED) and not frame:
            frame = payload
        elif marker in (_APP0, _APP14):
            colours.add(_colours_of(marker, payload))
        elif not (_APP0 < marker <= _APP15 or marker == _COMMENT):
            return None
        at = end


def _colours_of(marker: int, payload: bytes) -> str:
    """Return what a segment says of colours: jfif and adobe say YCbCr, and some say nothing.

    Raises:
        ValueError: they are other colours, or the segment is malformed.
    """
    if marker == _APP0 and payload[:4] == b"JFIF":
        if payload[4:6] != b"\0\1" or len(payload) < 14:  # noqa: PLR2004 # the shortest that counts
            raise ValueError
        return "jfif"
    if marker == _APP14 and payload[:5] == b"Adobe":
        if payload[11] != 1:
            raise ValueError
        return "adobe"
    return ""


def _is_ycc(frame: bytes, colours: set[str]) -> bool:
    """Return whether a frame is grey, or libjpeg takes its three components for YCbCr."""
    return frame[5] == 1 or bool(colours & {"jfif", "adobe"}) or list(frame[6::3]) == _COLOUR_IDS


def _read_quantisation(payload: bytes, tables: dict[int, NDArray[np.int64]]) -> None:
    """Add tables of 8 or 16 bits.

    Raises:
        ValueError: the segment is malformed.
    """
    while payload:
        wide, number = payload[0] >> 4, payload[0] & 15
        size = 1 + (128 if wide else 64)
        if wide > 1 or number > 3 or len(payload) < size:  # noqa: PLR2004 # four tables
            raise ValueError
        tables[number] = np.frombuffer(payload[1:size], ">u2" if wide else np.uint8).astype(np.int64)
        payload = payload[size:]


def _read_codes(payload: bytes, codes: dict[int, bytes]) -> None:
    """Add Huffman codes, by class and number.

    Raises:
        ValueError: the segment is malformed, or a code is none.
    """
    while payload:
        size = 17 + sum(payload[1:17])
        code = payload[1:size]
        if payload[0] & ~_AC > 3 or len(payload) < size or not _is_code(code):  # noqa: PLR2004 # four codes
            raise ValueError
        codes[payload[0]] = code
        payload = payload[size:]


def _is_code(code: bytes) -> bool:
    """Return whether as many symbols fit into lengths as are counted, with the word of ones left free (T.81, C.2)."""
    free = 1
    for count in code[:16]:
        free = 2 * free - count
        if free < 0 or (count and free < 1):
            return False
    return 0 < len(code) - 16 <= 256  # noqa: PLR2004


def _picture(frame: bytes, scan: bytes, tables: _Tables, restart_units: int, scan_at: int) -> Baseline | None:
    """Return the picture, or None.

    Raises:
        KeyError, struct.error, ValueError: a table is missing, or a segment is malformed.
    """
    bits, height_px, width_px, count = struct.unpack_from(">BHHB", frame)
    ids, chosen = frame[6::3], scan[2 : 2 * count + 1 : 2]
    usual = bits == 8 and count in (1, 3) and height_px in _SIDES_PX and width_px in _SIDES_PX  # noqa: PLR2004
    whole = len(frame) == 6 + 3 * count and len(scan) == 4 + 2 * count and scan[0] == count
    if not usual or not whole or scan[1 : 2 * count + 1 : 2] != ids or len(set(ids)) < count:
        return None
    if scan[-3:] != _SELECTION:
        return None
    samplings = [(each >> 4, each & 15) for each in frame[7::3]]
    if samplings[0] not in _SAMPLINGS or any(each != (1, 1) for each in samplings[1:]):
        return None
    if count == 1:
        samplings = [(1, 1)]  # a component alone is coded block by block, whatever it declares
    try:
        components = tuple(
            Component(
                *sampling,
                tables.quantisation[quantisation],
                tables.codes[_DC | codes >> 4],
                tables.codes[_AC | codes & 15],
            )
            for sampling, quantisation, codes in zip(samplings, frame[8::3], chosen, strict=True)
        )
    except KeyError:
        return None
    if any(max(component.dc[16:]) > _LONGEST_DC for component in components):
        return None
    return Baseline(height_px, width_px, components, restart_units, scan_at)
