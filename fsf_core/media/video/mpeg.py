"""Pictures of MPEG-1, MPEG-2 and MPEG-4: B pictures are shown at once, others when the next of them is decoded.

ISO/IEC 13818-2 §6.2 and ISO/IEC 14496-2 §6.2.5.
"""

from fsf_core.media.video.pictures import DROPPED, FRAME, UNCLEAR, UNKNOWN, Picture

_GROUP, _EXTENSION, _PICTURE, _VOP = 0xB8, 0xB5, 0x00, 0xB6
_PICTURE_CODING, _WHOLE_FRAME = 8, 3
_B, _B_VOP = 3, 2
_LAST = 1 << 40  # behind all B pictures that follow it
_NOT_CODED_BYTES = 8
"""A VOP that is not coded has a few bytes; so may one of a tiny picture in which nothing moves."""


def intra_picture(packet: memoryview, codec: str) -> bool:
    """Return whether the first picture of a packet refers to no other."""
    data, is_mpeg4 = bytes(packet), codec == "mpeg4"
    at = data.find(b"\x00\x00\x01\xb6" if is_mpeg4 else b"\x00\x00\x01\x00")
    if at < 0 or at + 5 >= len(data):
        return False
    return data[at + 4] >> 6 == 0 if is_mpeg4 else data[at + 5] >> 3 & 7 == 1


class _Anchors:
    """The order in which pictures are shown."""

    def __init__(self) -> None:
        self._anchors = self._followers = 0

    def picture(self, *, is_b: bool, needs_two: bool) -> Picture:
        """Return the next picture.

        Args:
            is_b: whether it is a B picture.
            needs_two: whether it is only decodable after two others.
        """
        if is_b:
            if self._anchors < (2 if needs_two else 1):
                return DROPPED
            self._followers += 1
            return Picture(FRAME, (self._anchors, self._followers))
        self._anchors += 1
        self._followers = 0
        return Picture(FRAME, (self._anchors, _LAST))


class MpegPictures:
    """The pictures of MPEG-1 and MPEG-2, packet by packet."""

    def __init__(self) -> None:
        self._order = _Anchors()
        self._closed = False

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds, in decoding order."""
        data = bytes(packet)
        at = data.find(b"\x00\x00\x01")
        kind: int | None = None
        while at >= 0 and at + 8 < len(data):
            code = data[at + 3]
            if code == _GROUP:
                self._closed = bool(data[at + 7] >> 6 & 1)
            elif code == _PICTURE:
                kind = data[at + 5] >> 3 & 7
            elif code == _EXTENSION and data[at + 4] >> 4 == _PICTURE_CODING:
                whole = data[at + 6] & 3 == _WHOLE_FRAME or b"\x00\x00\x01\x00" in data[at + 8 :]
                if not whole:
                    return UNCLEAR
            elif 0 < code < 0xB0:  # noqa: PLR2004 - slices
                break
            at = data.find(b"\x00\x00\x01", at + 3)
        if not kind:
            return UNKNOWN
        return self._order.picture(is_b=kind == _B, needs_two=not self._closed)


class Mpeg4Pictures:
    """The pictures of MPEG-4 part 2, packet by packet."""

    def __init__(self) -> None:
        self._order = _Anchors()

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds, in decoding order."""
        data = bytes(packet)
        at = data.find(b"\x00\x00\x01\xb6")
        if at < 0 or at + 4 >= len(data):
            return UNKNOWN
        if len(data) - at <= 4 + _NOT_CODED_BYTES or data.find(b"\x00\x00\x01\xb6", at + 4) >= 0:
            return UNCLEAR  # perhaps not coded; two pictures in one packet ("packed")
        return self._order.picture(is_b=data[at + 4] >> 6 == _B_VOP, needs_two=True)
