"""PNG: its own checksums, verified before libpng decodes, which prints and gives no reason; EXIF and alpha."""

# H×W pixels

import re
import zlib
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib  # CRC-32 several times as fast as zlib's

from fsf_core.errors import DecodeError
from fsf_core.media.images import exif, opencv
from fsf_core.media.images.stored import Stored, first_of, transparency

_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"))
_ANIMATION = frozenset((b"acTL", b"fcTL", b"fdAT"))
_ANCILLARY = 0x20  # bit in the first letter of a chunk's name: not needed to decode the image (PNG §5.4)
_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords under which ImageMagick and others wrote EXIF before PNG had a chunk for it, as hexadecimal text."""
_PROFILE_BYTES = 1 << 20
_PROFILE = re.compile(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]+)")
_COLOUR_TYPE_AT = 25
_GREY, _WITH_ALPHA = 0, 4
_BITS_AT = 24


@dataclass(slots=True)
class _Facts:
    """What the chunks beside the image data hold."""

    exif: bytes = b""
    profile: bytes = b""
    """EXIF in a chunk of text; counts where there is no chunk of its own."""
    transparent: bytes | None = None
    """Payload of tRNS."""
    frames: int = 0
    """Of an animation, and the image that is shown instead of it, if it has one."""
    has_first_frame: bool = False
    """Whether the image data are the first frame."""


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR.

    Raises:
        DecodeError: the file ends early, a chunk fails its checksum, or OpenCV refuses it.
    """
    facts = _check(data)
    notes = first_of(facts.frames, "frames")
    block = facts.exif or facts.profile
    orientation = exif.orientation_of(block, "png") if block else 1
    colour_type = data[_COLOUR_TYPE_AT]
    if facts.frames > 1:
        data = _without_animation(data)  # of which OpenCV shows what is left when it ends, or nothing
    if not colour_type & _WITH_ALPHA and facts.transparent is None:
        return Stored(opencv.decode(data, "png"), orientation, notes)
    image_HWC, alpha_HW = opencv.decode_with_alpha(data, "png")
    if alpha_HW is None and colour_type == _GREY and facts.transparent is not None:
        bits = data[_BITS_AT]
        key = int.from_bytes(facts.transparent[:2], "big") & ((1 << bits) - 1)
        shown = key >> bits - 8 if bits > 8 else key * 255 // ((1 << bits) - 1)  # noqa: PLR2004
        alpha_HW = np.where(image_HWC[..., 0] == shown, 0, 255).astype(np.uint8)
    return Stored(image_HWC, orientation, notes + (() if alpha_HW is None else transparency(alpha_HW)))


def _check(data: bytes) -> _Facts:
    """Refuse a PNG that is cut off or damaged; return what its chunks hold.

    Damage to an ancillary chunk (text, time, colour profile) is ignored, as OpenCV ignores it.

    Raises:
        DecodeError: the file ends early, or a chunk fails its checksum.
    """
    facts = _Facts()
    at, kind, view = 8, b"", memoryview(data)
    while kind != b"IEND":
        payload_bytes, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        end = at + 8 + payload_bytes
        if end + 4 > len(data):
            raise DecodeError(
                f"the png is cut off: {len(data)} bytes found, at least {max(end, at + 8) + 4} expected; copy it again"
            )
        needed = not kind[0] & _ANCILLARY or kind == b"eXIf"
        if needed and isal_zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            name = f"{kind.decode()!r} " if kind in _CHUNKS else ""  # another name would quote the file
            raise DecodeError(f"the png is damaged: its chunk {name}at byte {at} fails its checksum; copy it again")
        if kind != b"IDAT":
            _note(facts, kind, data[at + 8 : end])
        elif facts.frames and not facts.has_first_frame:  # an image that is shown where nothing moves
            facts.frames += 1
            facts.has_first_frame = True
        at = end + 4
    return facts


def _without_animation(data: bytes) -> bytes:
    """Return the PNG without the chunks of an animation: its first frame or default image."""
    kept, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _ANIMATION:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _note(facts: _Facts, kind: bytes, payload: bytes) -> None:
    """Record what a chunk holds."""
    match kind:
        case b"eXIf":
            facts.exif = payload
        case b"tRNS":
            facts.transparent = payload
        case b"acTL":
            facts.frames = int.from_bytes(payload[:4], "big")
        case b"fcTL":
            facts.has_first_frame = True
        case b"tEXt" | b"zTXt" if payload.startswith(_PROFILES):
            facts.profile = _profile(payload.partition(b"\0")[2], compressed=kind == b"zTXt")


def _profile(text: bytes, *, compressed: bool) -> bytes:
    """Return the bytes of a profile that is written as hexadecimal text; none if it is damaged."""
    try:
        if compressed:
            text = zlib.decompressobj().decompress(text[1:], _PROFILE_BYTES)
        found = _PROFILE.fullmatch(text.rstrip(b"\0"))
        return bytes.fromhex(found[1].decode()) if found else b""
    except (zlib.error, ValueError):
        return b""
