"""Bits and NAL units of coded video. Knows ITU-T H.264 §7.2 and §9.1 and ISO/IEC 14496-15; knows no pictures."""

from collections.abc import Iterator

_HEAD_BYTES = 1 << 16
"""Searched for start codes: everything before the first slice, and the head of that."""


class BitReader:
    """Fixed-length and Exp-Golomb numbers, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def u(self, bits: int) -> int:
        """Read an unsigned number of this many bits.

        Raises:
            EOFError: the data ends.
        """
        self._left -= bits
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & ((1 << bits) - 1)

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def unescaped(payload: bytes) -> bytes:
    """Remove the emulation prevention bytes of a NAL unit."""
    return payload.replace(b"\x00\x00\x03", b"\x00\x00") if b"\x00\x00\x03" in payload else payload


def length_bytes(extradata: bytes | None, position: int) -> int:
    """Return the size of the length field before each NAL unit; 0 if start codes separate them.

    Args:
        extradata: the stream's configuration record, if it has one.
        position: offset of the byte that holds the size.
    """
    if not extradata or extradata[0] != 1 or len(extradata) <= position:
        return 0
    return (extradata[position] & 3) + 1


def nal_units(packet: memoryview, width: int) -> Iterator[memoryview]:
    """Yield the NAL units of a packet; with start codes, only those that begin in its head.

    Args:
        packet: the packet's data.
        width: from length_bytes.
    """
    if width:
        at = 0
        while at + width < len(packet):
            begin = at + width
            at = begin + int.from_bytes(packet[at:begin])
            if at > begin:
                yield packet[begin:at]
        return
    head = bytes(packet[:_HEAD_BYTES])
    begin = head.find(b"\x00\x00\x01") + 3
    while begin > 2:  # noqa: PLR2004 - find returned -1
        end = head.find(b"\x00\x00\x01", begin)
        if begin < len(head):
            yield packet[begin : end if end >= 0 else len(packet)]
        begin = end + 3


def configured_units(extradata: bytes | None, codec: str) -> Iterator[bytes]:
    """Yield the parameter sets in a stream's configuration (avcC, hvcC, or start codes)."""
    if not extradata:
        return
    if extradata[0] != 1:
        yield from (bytes(unit) for unit in nal_units(memoryview(extradata), 0))
        return
    at = 5 if codec == "h264" else 22
    arrays = 2 if codec == "h264" else extradata[at] if len(extradata) > at else 0
    at += codec != "h264"
    for _ in range(arrays):
        if codec == "h264":
            count, at = extradata[at] & 0x1F if at < len(extradata) else 0, at + 1
        else:
            count, at = int.from_bytes(extradata[at + 1 : at + 3]), at + 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2])
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size
