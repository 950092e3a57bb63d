"""JPEG 2000: its size, colour space and alpha, read from its boxes and the first segment of its codestream."""

import struct

from fsf_core.errors import DecodeError
from fsf_core.media.images import by_pillow, opencv
from fsf_core.media.images.stored import Stored, transparency

_CODESTREAM = b"\xff\x4f\xff\x51"
"""Its start, followed by the segment of the size."""
_COLOUR_BOX = b"colr\x01"
_SYCC = 18
_COMPONENTS_AT = 40
_SIGNED = 0x80


def size(data: bytes) -> tuple[int, int]:
    """Return height and width."""
    right, bottom, left, top = struct.unpack_from(">IIII", data, _codestream(data) + 8)
    return bottom - top, right - left


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR.

    Raises:
        DecodeError: the file is cut off, damaged, or has signed components.
    """
    at = _codestream(data) + _COMPONENTS_AT
    (components,) = struct.unpack_from(">H", data, at)
    depths = data[at + 2 : at + 2 + 3 * components : 3]
    if any(depth & _SIGNED for depth in depths):
        raise DecodeError(
            "the jp2 cannot be decoded: its components are signed, which have no standard conversion to 8 bits; save "
            "it again as JPEG or PNG"
        )
    if _is_sycc(data):
        return Stored(by_pillow.decode(data, "jp2"))
    reason = f"it is cut off, damaged, or of a kind that OpenCV does not read ({components} components of {{}} bits)"
    image_HWC = opencv.decode(data, "jp2", reason=reason.format(", ".join(str((d & 0x7F) + 1) for d in depths[:8])))
    if components not in (2, 4):
        return Stored(image_HWC)
    alpha_HW = by_pillow.alpha(data, "jp2")
    return Stored(image_HWC, notes=() if alpha_HW is None else transparency(alpha_HW))


def _codestream(data: bytes) -> int:
    """Return where the codestream begins; the end of the file if it has none."""
    found = data.find(_CODESTREAM)
    return found if found >= 0 else len(data)


def _is_sycc(data: bytes) -> bool:
    """Return whether the colours are luma and chroma, which OpenCV takes for RGB of another brightness."""
    at = data.find(_COLOUR_BOX, 0, _codestream(data))
    return at >= 0 and int.from_bytes(data[at + 7 : at + 11], "big") == _SYCC
