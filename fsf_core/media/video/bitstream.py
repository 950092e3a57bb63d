"""What the header bits of packets tell: the pictures in them, and keyframes at which decoding may begin.

Knows which codec is read how. Decodes nothing.
"""

from typing import TYPE_CHECKING

from fsf_core.media.video.bits import length_bytes, nal_units
from fsf_core.media.video.h264 import H264Pictures
from fsf_core.media.video.hevc import HevcPictures
from fsf_core.media.video.mpeg import Mpeg4Pictures, MpegPictures, intra_picture
from fsf_core.media.video.pictures import FRAME, REFERENCE, UNKNOWN, Picture, PictureReader

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream


_SUPERFRAME, _PROFILE_3 = 0xC0, 0x30

_INTRA_CODECS = frozenset({"mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"})
"""Codecs of which every keyframe is intra-coded, which their headers say."""

_H264_IDR, _H264_SLICES = frozenset({5}), frozenset(range(1, 6))

# IDR, BLA and CRA. CRA is clean too: frames after it in both orders refer to nothing before it.
_H265_IRAP, _H265_SLICES = frozenset(range(16, 22)), frozenset(range(32))


def picture_reader(codec: str, extradata: bytes | None, *, reorders: bool) -> PictureReader:
    """Return the reader of a codec's packets.

    Args:
        codec: FFmpeg's canonical name.
        extradata: the stream's configuration.
        reorders: whether the codec may show frames in another order than it decodes them.
    """
    if codec == "h264":
        return H264Pictures(extradata)
    if codec == "hevc":
        return HevcPictures(extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return MpegPictures()
    if codec == "mpeg4":
        return Mpeg4Pictures()
    return _UnreadPictures() if reorders else _OrderedPictures(codec)


class _OrderedPictures:
    """The pictures of a codec that shows frames in the order in which it decodes them."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._decoded = 0

    def read(self, packet: memoryview) -> Picture:
        """Return what the next packet holds, in decoding order."""
        self._decoded += 1
        if is_hidden(packet, self._codec):
            return REFERENCE
        return Picture(FRAME, (0, self._decoded))


class _UnreadPictures:
    """The pictures of a codec whose headers are not read here."""

    def read(self, packet: memoryview) -> Picture:
        """Return a picture of which nothing is known."""
        del packet
        return UNKNOWN


def is_hidden(packet: memoryview, codec: str) -> bool:
    """Return whether a VP8 or VP9 packet holds only a frame that is never shown (RFC 6386 §9.1; VP9 §6.2)."""
    if codec not in ("vp8", "vp9"):
        return False
    head, last = packet[0], packet[-1]
    if codec == "vp8":
        return not head & 0x10
    if last & 0xE0 == _SUPERFRAME:  # hidden frames and one that is shown
        return False
    shift = 1 if head & _PROFILE_3 == _PROFILE_3 else 2  # that profile has a reserved bit
    show_existing, show = head >> (shift + 1) & 1, head >> (shift - 1) & 1
    return not (show_existing or show)


def is_entry(packet: "Packet[Stream]", codec: str, extradata: bytes | None) -> bool:
    """Return whether a decoder may begin with a packet: a keyframe, whose mark counts where headers are not read."""
    if codec in _INTRA_CODECS:
        return is_clean(packet, codec, extradata)
    return packet.is_keyframe or (codec in ("h264", "hevc") and is_clean(packet, codec, extradata))


def is_clean(packet: "Packet[Stream]", codec: str, extradata: bytes | None) -> bool:
    """Return whether decoding may begin at a keyframe: every frame shown from it on is exact.

    FFmpeg also marks H.264 recovery points as keyframes; only an IDR picture is clean. Some MP4 files mark every frame
    as a keyframe.
    """
    data = memoryview(packet)
    if codec == "h264":
        units = nal_units(data, length_bytes(extradata, 4))
        return next((kind for unit in units if (kind := unit[0] & 0x1F) in _H264_SLICES), None) in _H264_IDR
    if codec == "hevc":
        units = nal_units(data, length_bytes(extradata, 21))
        return next((kind for unit in units if (kind := unit[0] >> 1 & 0x3F) in _H265_SLICES), None) in _H265_IRAP
    if codec == "vp8":
        return not data[0] & 1
    if codec == "vp9":
        return not data[0] >> (1 if data[0] & _PROFILE_3 == _PROFILE_3 else 2) & 1
    return intra_picture(data, codec) if codec in _INTRA_CODECS else True
