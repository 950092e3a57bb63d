"""WebP: its frames, EXIF and alpha, read from its chunks."""

from collections.abc import Iterator

from fsf_core.media.images import exif, opencv
from fsf_core.media.images.stored import Stored, first_of, transparency

_FIRST_CHUNK_AT = 12
_FLAGS_AT = 20
_ALPHA = 0x10
_LOSSLESS_ALPHA = 1 << 28


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR: the first frame of an animation.

    Raises:
        DecodeError: OpenCV refuses it.
    """
    block, frames = b"", 0
    for kind, start, end in _chunks(data):
        if kind == b"EXIF":
            block = data[start:end]
        frames += kind == b"ANMF"
    orientation = exif.orientation_of(block, "webp") if block else 1
    notes = first_of(frames, "frames")
    if not _has_alpha(data):
        return Stored(opencv.decode(data, "webp"), orientation, notes)
    image_HWC, alpha_HW = opencv.decode_with_alpha(data, "webp")
    return Stored(image_HWC, orientation, notes + (() if alpha_HW is None else transparency(alpha_HW)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of every chunk."""
    at = _FIRST_CHUNK_AT
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, at + 8 + size
        at += 8 + size + size % 2


def _has_alpha(data: bytes) -> bool:
    """Return whether the header declares alpha."""
    if data[12:16] == b"VP8X":
        return bool(data[_FLAGS_AT] & _ALPHA)
    return data[12:16] == b"VP8L" and bool(int.from_bytes(data[21:25], "little") & _LOSSLESS_ALPHA)
