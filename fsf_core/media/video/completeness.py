"""Whether a file is as long as its container declares, and whether the demuxer skipped part of it.

FFmpeg's demuxers skip damaged bytes without an error. Knows the outermost layer of MP4, Matroska, MPEG-TS and ASF and
the lengths that they declare; knows no packets' contents.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from fsf_core.media.video.container import Source, opened
from fsf_core.media.video.lengths import missing_dv_bytes, missing_mxf_bytes, missing_y4m_bytes

_TS_PACKET_BYTES = 188
_BOX_HEAD_BYTES = 8
# ASF specification §3.2, the object that states the file's size.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT_ID = b"\x18\x53\x80\x67"  # RFC 8794 and RFC 9559: the element that holds all of a Matroska file
# Between two Matroska blocks there are a few bytes of headers. A longer gap begins with one of these elements (Cues,
# Tags, SeekHead, Chapters, Attachments, BlockAdditions), or it is data that the demuxer could not read.
_USUAL_GAP_BYTES = 256
_ELEMENT_WITHIN_BYTES = 64
_ELEMENTS = tuple(
    bytes.fromhex(element) for element in ("1c53bb6b", "1254c367", "114d9b74", "1043a770", "1941a469", "75a1")
)


_MISSING = {"mxf": missing_mxf_bytes, "dv": missing_dv_bytes, "yuv4mpegpipe": missing_y4m_bytes}


class BlockGaps:
    """Unusual distances between the packets of a Matroska file, recorded as they are read."""

    def __init__(self) -> None:
        self._end = 0
        self._gaps: list[tuple[int, int]] = []

    def add(self, position: int, size: int, frames: int) -> None:
        """Record the next packet of any stream.

        Args:
            position: offset in the file.
            size: bytes.
            frames: frames read before it.
        """
        if self._end and position - self._end > _USUAL_GAP_BYTES:
            self._gaps.append((self._end, frames))
        self._end = max(self._end, position + size)

    def unexplained(self, source: Source) -> list[int]:
        """Return the number of frames before each place where the demuxer skipped bytes."""
        found = []
        with opened(source) as file:
            for begin, frames in self._gaps:
                file.seek(begin)
                head = file.read(_ELEMENT_WITHIN_BYTES)
                if not any(element in head for element in _ELEMENTS):
                    found.append(frames)
        return found


def missing_bytes(source: Source, container: str) -> int:
    """Return the number of bytes that the container declares beyond the end of the file.

    0 for a recording that was still running, which declares no lengths, and for a file cut exactly between two boxes,
    chunks or packets.

    Args:
        source: local path or seekable binary file object; the position of a file object afterwards is undefined.
        container: the container's name, from sniff_container.
    """
    with opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        if container == "mov":
            return max(0, _boxes_end(file, size) - size)
        if container == "avi":
            return max(0, _chunks_end(file, size) - size)
        if container == "matroska":
            return max(0, _segment_end(file) - size)
        if container == "mpegts":
            file.seek(0)
            return -size % _TS_PACKET_BYTES if file.read(_TS_PACKET_BYTES + 1)[::_TS_PACKET_BYTES] == b"GG" else 0
        if container == "asf":
            return max(0, _asf_end(file) - size)
        return _MISSING[container](file, size) if container in _MISSING else 0


def avi_entries(source: Source, stream: int) -> tuple[int, int] | None:
    """Return how many chunks of a stream the index of an AVI file lists, and how many of these hold data.

    None without an index (idx1). An empty chunk marks a frame that the recorder lost.
    """
    with opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        for at, name, length in _chunks(file, 12, size):
            if name != b"idx1":
                continue
            file.seek(at + 8)
            entries = file.read(length)
            sizes = [
                int.from_bytes(entries[entry + 12 : entry + 16], "little")
                for entry in range(0, len(entries) - 15, 16)
                if entries[entry : entry + 2] == b"%02d" % stream
            ]
            return len(sizes), sum(size > 0 for size in sizes)
    return None


def _chunks(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield offset, name and length of consecutive RIFF chunks, as far as their heads are there."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        yield at, head[:4], length
        at += 8 + length + length % 2


def _chunks_end(file: BinaryIO, size: int) -> int:
    """Return the offset at which the last RIFF chunk of an AVI file ends; one of no length was never finished."""
    end = 0
    for at, name, length in _chunks(file, 0, size):
        if name != b"RIFF":
            break
        end = at + 8 + length if length else 0
    return end


def _asf_end(file: BinaryIO) -> int:
    """Return the file size that an ASF header declares; 0 if it declares none."""
    file.seek(0)
    head = file.read(65536)
    at = head.find(_ASF_PROPERTIES)
    return int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return the offset at which the last box of an MP4 file ends (ISO/IEC 14496-12 §4.2)."""
    at = 0
    while at + _BOX_HEAD_BYTES <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # "To the end of the file", or padding behind the last box.
        if length < _BOX_HEAD_BYTES or not head[4:8].isalnum():
            return at
        at += length
    return at


def _segment_end(file: BinaryIO) -> int:
    """Return the offset at which the Matroska segment ends; 0 if it declares no length."""
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
    """Return an EBML variable-length number and its size in bytes (RFC 8794 §4)."""
    width = 9 - data[at].bit_length() if at < len(data) and data[at] else 8
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), width
