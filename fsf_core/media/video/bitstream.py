"""The header bits of a packet that mark hidden frames, and keyframes at which decoding may begin.

Knows H.264, H.265, VP8 and VP9. Decodes nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet
    from av.stream import Stream


_SUPERFRAME, _PROFILE_3 = 0xC0, 0x30

_H264_IDR, _H264_SLICES = frozenset({5}), frozenset(range(1, 6))

# IDR, BLA and CRA. CRA is clean too: frames after it in both orders refer to nothing before it.
_H265_IRAP, _H265_SLICES = frozenset(range(16, 22)), frozenset(range(32))


def is_hidden(packet: "Packet[Stream]", codec: str) -> bool:
    """Return whether a VP8 or VP9 packet holds only a frame that is never shown (RFC 6386 §9.1; VP9 §6.2)."""
    if codec not in ("vp8", "vp9"):
        return False
    head, last = memoryview(packet)[0], memoryview(packet)[packet.size - 1]
    if codec == "vp8":
        return not head & 0x10
    if last & 0xE0 == _SUPERFRAME:  # hidden frames and one that is shown
        return False
    shift = 1 if head & _PROFILE_3 == _PROFILE_3 else 2  # that profile has a reserved bit
    show_existing, show = head >> (shift + 1) & 1, head >> (shift - 1) & 1
    return not (show_existing or show)


def is_clean(packet: "Packet[Stream]", codec: str, extradata: bytes | None) -> bool:
    """Return whether decoding may begin at a keyframe: every frame shown from it on is exact.

    FFmpeg also marks H.264 recovery points as keyframes; only an IDR picture is clean.
    """
    if codec == "h264":
        return _first_slice(bytes(packet), extradata, _H264_SLICES, codec) in _H264_IDR
    if codec == "hevc":
        return _first_slice(bytes(packet), extradata, _H265_SLICES, codec) in _H265_IRAP
    return True


def _first_slice(packet: bytes, extradata: bytes | None, slices: frozenset[int], codec: str) -> int | None:
    """Return the type of the first NAL unit in a packet that is a slice; None if there is none."""
    for first_byte in _nal_heads(packet, _length_bytes(extradata, codec)):
        kind = first_byte & 0x1F if codec == "h264" else first_byte >> 1 & 0x3F
        if kind in slices:
            return kind
    return None


def _length_bytes(extradata: bytes | None, codec: str) -> int:
    """Return the size of the length field before each NAL unit (ISO/IEC 14496-15); 0 if start codes separate them."""
    position = 4 if codec == "h264" else 21
    if not extradata or extradata[0] != 1 or len(extradata) <= position:
        return 0
    return (extradata[position] & 3) + 1


def _nal_heads(packet: bytes, length_bytes: int) -> "Iterator[int]":
    """Yield the first byte of every NAL unit."""
    if length_bytes:
        at = 0
        while at + length_bytes < len(packet):
            yield packet[at + length_bytes]
            at += length_bytes + int.from_bytes(packet[at : at + length_bytes], "big")
        return
    at = packet.find(b"\x00\x00\x01")
    while at >= 0 and at + 3 < len(packet):
        yield packet[at + 3]
        at = packet.find(b"\x00\x00\x01", at + 3)
