"""Containers and bare streams of video, recognised by the first bytes of a file. Knows no FFmpeg and no file names.

Strict, because a demuxer is forced on what is recognised here: a format without a magic number is recognised by headers
that must follow one another, never by a single one.
"""

import re
from itertools import chain

SNIFF_BYTES = 4096
"""Bytes that sniff_container needs."""

READABLE = (
    "MP4/MOV, Matroska/WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF/WMV, MXF, GXF, WTV, NUT, IVF, DV, YUV4MPEG, or a "
    "bare stream of H.264, H.265, MPEG-1, MPEG-2 or MPEG-4"
)
"""What sniff_container recognises, for messages."""

_MOV_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
# The same box structure holds still images, which FFmpeg would open as videos.
_STILL_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})


def _one_of(values: "chain[int] | list[int] | range") -> bytes:
    """Return a pattern of one byte with any of these values."""
    return b"[" + b"".join(re.escape(bytes([value])) for value in values) + b"]"


_START = rb"\x00{2,}\x01"  # of a bare stream: a start code, with zero bytes before it
_NEXT = rb"(?:(?!\x00\x00\x01).)*\x00\x00\x01"  # what is left of a unit, and the start code of the next

# ITU-T H.264, 7.3.2: delimiters and messages, the parameters of a sequence, then those of a picture, before any slice.
_H264_PROFILES = _one_of([44, 66, 77, 83, 86, 88, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244])
_H264_LEVELS = _one_of(
    chain([9], range(10, 14), range(20, 23), range(30, 33), range(40, 43), range(50, 53), range(60, 63))
)
_H264_SPS = rb"[\x27\x47\x67]" + _H264_PROFILES + _one_of(range(0, 256, 4)) + _H264_LEVELS
_H264_OTHER = rb"(?:[\x06\x09\x0d\x0f\x27\x2f\x47\x4f\x67\x6f]" + _NEXT + rb")*"
_H264 = _START + rb"(?:[\x06\x09]" + _NEXT + rb")*" + _H264_SPS + _NEXT + _H264_OTHER + rb"[\x28\x48\x68]"
# ITU-T H.265, 7.3.2: the same with the parameters of the video, which hold 16 bits of ones, and of a sequence.
_H265_OTHER = rb"(?:[\x40\x46\x4e][\x01-\x07]" + _NEXT + rb")*"
_H265_VPS = rb"\x40[\x01-\x07]..\xff\xff"
_H265 = _START + rb"(?:[\x46\x4e][\x01-\x07]" + _NEXT + rb")*" + _H265_VPS + _NEXT + _H265_OTHER + rb"\x42[\x01-\x07]"
# ISO/IEC 13818-2 §6.2.2.1, sequence header: size, ratio and rate, marker; then an extension or a picture.
_RATIO_AND_RATE = _one_of([ratio << 4 | rate for ratio in range(1, 15) for rate in range(1, 9)])
_MARKED = _one_of([value for value in range(256) if value & 0x20])
_MPEG12 = _START + rb"\xb3..." + _RATIO_AND_RATE + rb".." + _MARKED + _NEXT + rb"[\x00\xb2\xb5\xb8]"
# ISO/IEC 14496-2 §6.2.2: the sequence and its object, where there are, a video object and its layer, then a picture.
_USER_DATA = rb"(?:\xb2" + _NEXT + rb")*"
_MPEG4 = _START + rb"(?:\xb0.\x00\x00\x01)?" + _USER_DATA + rb"(?:\xb5" + _NEXT + rb")?" + _USER_DATA
_MPEG4 += rb"[\x00-\x1f]\x00\x00\x01[\x20-\x2f]" + _NEXT + rb"[\xb2\xb3\xb6]"
# IEC 61834-2: blocks of 80 bytes, with kind, sequence and number: a header, two of subcode, three of VAUX.
_DV = rb"\x1f[\x00-\x0f]\x00[\x3f\xbf].{76}" + rb".{77}".join(
    [
        rb"[\x20-\x3f][\x00-\x0f]\x00",
        rb"[\x20-\x3f][\x00-\x0f]\x01",
        rb"[\x40-\x5f][\x00-\x0f]\x00",
        rb"[\x40-\x5f][\x00-\x0f]\x01",
        rb"[\x40-\x5f][\x00-\x0f]\x02",
    ]
)

_PATTERNS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\x1aE\xdf\xa3", "matroska"),
        (rb"RIFF....AVI ", "avi"),
        (rb"RIFF....CDXA", "mpeg"),  # a Video CD's track: a program stream in sectors
        (rb"FLV\x01", "flv"),
        (rb"OggS", "ogg"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (rb"\x00\x00\x01\xba", "mpeg"),
        (rb"IMKH.{36}\x00\x00\x01\xba", "mpeg"),  # Hikvision's cameras
        (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01[\x02\x03]", "mxf"),  # SMPTE 377: a partition pack
        (rb"\x00{4}\x01\xbc.{8}\xe1\xe2", "gxf"),  # SMPTE 360M: a map packet
        (rb"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d", "wtv"),
        (rb"nut/multimedia container\x00", "nut"),
        (rb"DKIF\x00\x00\x20\x00", "ivf"),
        (rb"YUV4MPEG2 ", "yuv4mpegpipe"),
        (_DV, "dv"),
        (_MPEG12, "mpegvideo"),
        (_H264, "h264"),
        (_H265, "hevc"),
        (_MPEG4, "m4v"),
    )
)

# ISO/IEC 13818-1 §2.5.3.3 and ISO/IEC 11172-1 §2.4.3.2: a pack header with its marker bits, then a packet.
_ONE, _TWO, _FOUR = (_one_of([value for value in range(256) if value & bits == bits]) for bits in (1, 3, 4))
_MPEG2_PACK = rb"[DEFGLMNOTUVW\x5c-\x5fdefglmnotuvw\x7c-\x7f]." + _FOUR + b"." + _FOUR + _ONE
_MPEG2_PACK += b".." + _TWO + rb"[\xf8-\xff]\xff{0,7}"
_MPEG1_PACK = _one_of(range(0x21, 0x30, 2)) + b"." + _ONE + b"." + _ONE + rb"[\x80-\xff]." + _ONE
_PACK = re.compile(rb"\x00\x00\x01\xba(?:" + _MPEG2_PACK + b"|" + _MPEG1_PACK + rb")\x00\x00\x01[\xbb-\xef]", re.DOTALL)
_ARCHIVE = re.compile(rb"PK\x03\x04|.{257}ustar", re.DOTALL)  # which may store a program stream as it is

_TS_SYNC = 0x47
# Packet size and offset of the sync byte: plain, Blu-ray, with error correction.
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
_TS_SYNCS = 5  # that a stream which begins inside a packet must show

_PS_START = b"\x00\x00\x01"
_PS_PACK, _PS_PACK_BYTES, _PS_HEADER_BYTES = 0xBA, 14, 6
_PS_PACKETS = range(0xBB, 0xF0)
_PS_COUNT = 3  # packets that a program stream without its first pack header must show, if the file is that long


def sniff_container(head: bytes) -> str | None:
    """Recognise the container, or the codec of a bare stream, by the first bytes of a file.

    Playlists and scripts (m3u8, ffconcat) are not recognised: they are text that names other files. GIF and animated
    WebP are images.

    Args:
        head: the first SNIFF_BYTES bytes, or the whole file where it is shorter.

    Returns:
        FFmpeg's name of the demuxer, or None if it is no video.
    """
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _STILL_BRANDS else "mov"
    if head[4:8] in _MOV_BOXES:
        return "mov"
    for pattern, name in _PATTERNS:
        if pattern.match(head):
            return name
    if _is_transport_stream(head):
        return "mpegts"
    if _is_program_stream(head) or (_PACK.search(head) and not _ARCHIVE.match(head)):
        return "mpeg"
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Return whether sync bytes are one transport packet apart, wherever in a packet the file begins."""
    if 0 not in head:  # lines of text of one length can begin with a G
        return False
    for size, offset in _TS_PACKETS:
        syncs = head[offset::size]
        # No packet is without payload and adaptation field, but one that was damaged on its way may seem to be.
        if len(syncs) > 1 and set(syncs) == {_TS_SYNC} and any(byte & 0x30 for byte in head[offset + 3 :: size]):
            return True
    return any(
        _are_transport_packets(head, begin, size)
        for size, _ in _TS_PACKETS
        for begin in range(size)
        if head[begin : begin + 1] == b"\x47"
    )


def _are_transport_packets(head: bytes, begin: int, size: int) -> bool:
    """Return whether all packets from an offset on begin as ISO/IEC 13818-1 §2.4.3.2 demands."""
    packets = range(begin, len(head) - 3, size)
    return len(packets) >= _TS_SYNCS and all(
        head[at] == _TS_SYNC and not head[at + 1] & 0x80 and head[at + 3] & 0x30 for at in packets
    )


def _is_program_stream(head: bytes) -> bool:
    """Return whether this is a program stream without its first pack header: each packet's length leads to the next."""
    at, packets = 0, 0
    while at < len(head) - _PS_PACK_BYTES:
        kind = head[at + 3]
        if head[at : at + 3] != _PS_START or not (kind == _PS_PACK or kind in _PS_PACKETS):
            return False
        length = int.from_bytes(head[at + 4 : at + 6], "big")
        at += _PS_PACK_BYTES + (head[at + 13] & 7) if kind == _PS_PACK else _PS_HEADER_BYTES + length
        packets += 1
    return packets >= _PS_COUNT
