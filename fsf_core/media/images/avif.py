"""AVIF: its size, how it is turned (irot, imir), alpha and frames, read from its boxes (ISO/IEC 23008-12).

EXIF inside AVIF says nothing of orientation: the boxes do.
"""

import re
import struct
from collections.abc import Iterator

from fsf_core.media.images import by_pillow, opencv
from fsf_core.media.images.stored import Stored, first_of, transparency

_HEADER_BYTES = 1 << 16
"""Part of the file in which spatial extents are searched."""
_ALPHA = b"auxiliary:alpha"
_SEQUENCE = b"avis"
_MONOCHROME = 0x10
_SAMPLE_ENTRY_BYTES = 78
_TURNED = {
    # quarter turns counterclockwise, then the mirror (None, 0: top and bottom, 1: left and right): EXIF's number
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def size(data: bytes) -> tuple[int, int]:
    """Return the largest of the spatial extents as height and width: that of the image, not of its tiles or alpha."""
    extents = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[:_HEADER_BYTES])]
    width_px, height_px = max(extents, key=lambda extent: extent[0] * extent[1], default=(0, 0))
    return height_px, width_px


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR: the first frame of a sequence.

    Raises:
        DecodeError: OpenCV refuses it.
    """
    top = dict(_boxes(data, 0, len(data)))
    sequence = data[8:12] == _SEQUENCE and b"moov" in top
    properties = _sequence_properties(data, top[b"moov"]) if sequence else _item_properties(data, top.get(b"meta"))
    with_alpha = _ALPHA in data[:_HEADER_BYTES]
    # OpenCV does not read grey with alpha.
    by = by_pillow if with_alpha and _is_grey(properties) else opencv
    image_HWC = by.decode(data, "avif")
    notes = first_of(_frames(data, top[b"moov"]), "frames") if sequence else ()
    if b"clap" in properties:
        notes += ("its clean aperture (clap) is not applied: the whole picture was scored",)
    if with_alpha:
        alpha_HW = by_pillow.alpha(data, "avif")
        if alpha_HW is not None:
            notes += transparency(alpha_HW)
    return Stored(image_HWC, _orientation(properties), notes)


def _is_grey(properties: dict[bytes, bytes]) -> bool:
    """Return whether the configuration of the codec declares luma alone."""
    configuration = properties.get(b"av1C", b"")
    return len(configuration) > 2 and bool(configuration[2] & _MONOCHROME)  # noqa: PLR2004


def _orientation(properties: dict[bytes, bytes]) -> int:
    """Return EXIF's number for the properties irot and imir."""
    turns = properties[b"irot"][0] & 3 if properties.get(b"irot") else 0
    mirror = properties[b"imir"][0] & 1 if properties.get(b"imir") else None
    return _TURNED[turns, mirror]


def _item_properties(data: bytes, meta: range | None) -> dict[bytes, bytes]:
    """Return the properties of the primary item by name; none where the boxes are damaged."""
    try:
        boxes = dict(_boxes(data, meta.start + 4, meta.stop)) if meta else {}
        inside = dict(_boxes(data, boxes[b"iprp"].start, boxes[b"iprp"].stop))
        properties = list(_boxes(data, inside[b"ipco"].start, inside[b"ipco"].stop))
        primary = boxes[b"pitm"]
        wide = data[primary.start] > 0
        (item,) = struct.unpack_from(">I" if wide else ">H", data, primary.start + 4)
        numbers = dict(_associations(data, inside[b"ipma"].start))[item]
        chosen = [properties[number - 1] for number in numbers if 0 < number <= len(properties)]
    except (KeyError, IndexError, struct.error):
        return {}
    return {name: data[place.start : place.stop] for name, place in chosen}


def _associations(data: bytes, at: int) -> Iterator[tuple[int, list[int]]]:
    """Yield every item of the box ipma with the numbers of its properties, counted from 1."""
    version, wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(entries):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        count, at = data[at], at + 1
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, at)
        at += count * (2 if wide else 1)
        yield item, [number & (0x7FFF if wide else 0x7F) for number in numbers]


def _sequence_properties(data: bytes, moov: range) -> dict[bytes, bytes]:
    """Return the properties of the first track's pictures by name."""
    for entry in _descend(data, moov, b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        for name, place in _boxes(data, entry.start + 8, entry.stop):
            if name == b"av01":
                inside = _boxes(data, place.start + _SAMPLE_ENTRY_BYTES, place.stop)
                return {name: data[each.start : each.stop] for name, each in inside}
    return {}


def _frames(data: bytes, moov: range) -> int:
    """Return the number of pictures of the first track."""
    for place in _descend(data, moov, b"trak", b"mdia", b"minf", b"stbl", b"stsz"):
        return int.from_bytes(data[place.start + 8 : place.start + 12], "big")
    return 0


def _descend(data: bytes, place: range, name: bytes, *rest: bytes) -> Iterator[range]:
    """Yield the boxes at a path below a box."""
    for found, inside in _boxes(data, place.start, place.stop):
        if found == name and rest:
            yield from _descend(data, inside, *rest)
        elif found == name:
            yield inside


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, range]]:
    """Yield the name and the payload of every box, as far as they are whole."""
    while at + 8 <= end:
        length, header = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        length = length or end - at
        if length < header or at + length > end:
            return
        yield data[at + 4 : at + 8], range(at + header, at + length)
        at += length
