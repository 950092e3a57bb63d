"""GIF: the number of its frames and transparency, read from its blocks."""

from collections.abc import Iterator

from fsf_core.media.images import by_pillow, opencv
from fsf_core.media.images.stored import Stored, first_of, transparency

_SCREEN_BYTES = 13
_TABLE = 0x80
_IMAGE, _EXTENSION, _GRAPHIC_CONTROL = 0x2C, 0x21, 0xF9
_TRANSPARENT = 1


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR: the first frame on its canvas.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    frames, transparent = 0, False
    for kind, start in _blocks(data):
        if kind == _IMAGE:
            frames += 1
        elif kind == _GRAPHIC_CONTROL and not frames:
            transparent = bool(data[start] & _TRANSPARENT)
    notes = first_of(frames, "frames")
    if not transparent:
        return Stored(opencv.decode(data, "gif"), notes=notes)
    # OpenCV shows the background's colour through transparent pixels; their own is in the palette.
    alpha_HW = by_pillow.alpha(data, "gif")
    return Stored(by_pillow.decode(data, "gif"), notes=notes + (() if alpha_HW is None else transparency(alpha_HW)))


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind and the begin of the payload of every image and extension, as far as the file goes."""
    at = _SCREEN_BYTES + _table_bytes(data[10:11])
    while at + 1 < len(data):
        kind = data[at]
        if kind == _IMAGE:
            yield kind, at + 1
            at += 10 + _table_bytes(data[at + 9 : at + 10]) + 1
        elif kind == _EXTENSION:
            yield data[at + 1], at + 3  # after the size of its first part
            at += 2
        else:
            return
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _table_bytes(flags: bytes) -> int:
    """Return the size of the colour table that these flags declare."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & _TABLE else 0
