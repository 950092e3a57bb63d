"""PNG's own checksums, verified before libpng decodes, which prints to stderr and gives no reason. Knows no pixels."""

from isal import isal_zlib  # CRC-32 several times as fast as zlib's

from fsf_core.errors import DecodeError

_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"))
_ANCILLARY = 0x20  # bit in the first letter of a chunk's name: not needed to decode the image (PNG §5.4)


def check(data: bytes) -> None:
    """Refuse a PNG that is cut off or damaged.

    Damage to an ancillary chunk (text, time, colour profile) is ignored, as OpenCV ignores it.

    Raises:
        DecodeError: the file ends early, or a chunk fails its checksum.
    """
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
        at = end + 4
