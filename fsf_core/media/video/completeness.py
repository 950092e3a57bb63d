"""Whether a file holds all that its container's structure promises: FFmpeg's demuxers skip over damage in silence.

Knows the outermost layer of a few containers and the lengths they declare. Knows nothing of what lies inside.
"""

import os
from typing import BinaryIO

from fsf_core.media.video.container import Source, opened

_TS_PACKET_BYTES = 188
_BOX_HEAD_BYTES = 8
# ASF specification §3.2, the object that states the file's size.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT_ID = b"\x18\x53\x80\x67"  # RFC 8794 and RFC 9559: the element that holds all of a Matroska file
# Between two Matroska blocks stand a few bytes of headers; more is explained by one of these elements (Cues, Tags,
# SeekHead, Chapters, Attachments, BlockAdditions), or it is data that the demuxer could not read.
_USUAL_GAP_BYTES = 256
_EXPLAINED_WITHIN_BYTES = 64
_EXPLANATIONS = tuple(
    bytes.fromhex(element) for element in ("1c53bb6b", "1254c367", "114d9b74", "1043a770", "1941a469", "75a1")
)


class BlockGaps:
    """Notes unusual distances between the packets of a Matroska file as they are read."""

    def __init__(self) -> None:
        self._end = 0
        self._gaps: list[tuple[int, int]] = []

    def see(self, position: int, size: int, frames: int) -> None:
        """Take in where the next packet of any stream lies; frames is how many pictures came before it."""
        if self._end and position - self._end > _USUAL_GAP_BYTES:
            self._gaps.append((self._end, frames))
        self._end = max(self._end, position + size)

    def first_unexplained(self, source: Source) -> int | None:
        """How many pictures come before the first stretch that the demuxer skipped; None where there is none."""
        with opened(source) as file:
            for begin, frames in self._gaps:
                file.seek(begin)
                head = file.read(_EXPLAINED_WITHIN_BYTES)
                if not any(element in head for element in _EXPLANATIONS):
                    return frames
        return None


def missing_bytes(source: Source, container: str) -> int:
    """How many bytes the container promises beyond the end of the file.

    A recording that was still running declares no lengths and misses nothing; neither does a file that was cut exactly
    between two boxes or packets.

    Args:
        source: local path or seekable binary file object; a file object is left anywhere.
        container: what sniff_container says.
    """
    with opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        if container == "mov":
            return max(0, _boxes_end(file, size) - size)
        if container == "matroska":
            return max(0, _segment_end(file) - size)
        if container == "mpegts":
            file.seek(0)
            return -size % _TS_PACKET_BYTES if file.read(_TS_PACKET_BYTES + 1)[::_TS_PACKET_BYTES] == b"GG" else 0
        if container == "asf":
            return max(0, _asf_end(file) - size)
    return 0


def _asf_end(file: BinaryIO) -> int:
    """The file size that an ASF header states; 0 where it states none."""
    file.seek(0)
    head = file.read(65536)
    at = head.find(_ASF_PROPERTIES)
    return int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 file ends (ISO/IEC 14496-12 §4.2), hopping from length to length."""
    at = 0
    while at + _BOX_HEAD_BYTES <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if (
            length < _BOX_HEAD_BYTES or not head[4:8].isalnum()
        ):  # "to the end of the file", or padding behind the last box
            return at
        at += length
    return at


def _segment_end(file: BinaryIO) -> int:
    """Where the Matroska segment ends; 0 where it does not say."""
    file.seek(0)
    head = file.read(1024)
    header_bytes, width = _vint(head, 4)
    at = 4 + width + header_bytes
    if head[at : at + 4] != _SEGMENT_ID:
        return 0
    length, width = _vint(head, at + 4)
    unknown = length == (1 << 7 * width) - 1
    return 0 if unknown else at + 4 + width + length


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """An EBML variable-length number, and how many bytes it takes (RFC 8794 §4)."""
    width = 9 - data[at].bit_length() if at < len(data) and data[at] else 8
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), width
