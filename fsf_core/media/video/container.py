"""Containers of video: recognised by content, and opened so that FFmpeg can open nothing else.

Knows magic bytes and FFmpeg's demuxers. Knows no frames and no codecs, and ignores file names.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import av
from av.stream import Discard, Disposition

from fsf_core.errors import DecodeError, FetchError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A local path, or a seekable binary file object. A string is always a path, never a URL."""

SNIFF_BYTES = 1024
"""Bytes that sniff_container needs: a transport stream is recognised by several sync bytes."""

SEEKABLE = frozenset({"mov", "matroska", "avi"})
"""Containers in which seeking to a keyframe is exact."""

DECLARE_DURATION = frozenset({"matroska", "flv", "asf"})
"""Containers whose headers state a duration. For others FFmpeg guesses it from the last packets: no proof of length."""

DECLARE_COUNT = frozenset({"mov", "avi"})
"""Containers whose headers state the number of frames."""

JOINED_MIDWAY = frozenset({"mpegts", "mpeg"})
"""Containers of broadcasts, which may begin midway; frames before their first keyframe cannot be decoded."""

_MOV_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
# The same box structure holds still images, which FFmpeg would open as videos.
_STILL_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})
_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\x00\x00\x01\xba", "mpeg"),
)
_TS_PACKETS = (
    (188, 0),
    (192, 4),
    (204, 0),
)  # packet size, offset of the sync byte: plain, Blu-ray, with error correction


def sniff_container(head: bytes) -> str | None:
    """Recognise the container by the first bytes of a file.

    Playlists and scripts (m3u8, ffconcat) are not recognised: they are text that names other files. GIF and animated
    WebP are images.

    Args:
        head: the first SNIFF_BYTES bytes, or the whole file where it is shorter.

    Returns:
        FFmpeg's name of the demuxer (mov, matroska, avi, mpegts, mpeg, flv, ogg, asf), or None if it is no video.
    """
    box = head[4:8]
    if box == b"ftyp":
        return None if head[8:12] in _STILL_BRANDS else "mov"
    if box in _MOV_BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    return "mpegts" if _is_transport_stream(head) else None


@contextmanager
def open_video(source: Source) -> "Iterator[tuple[InputContainer, VideoStream, str]]":
    """Open a source as the container that its first bytes show.

    The demuxer is forced and the only protocol is the local file itself, so that no file named .mp4 can make FFmpeg
    read a second file or a URL.

    Yields:
        The open container, its first video stream that is not cover art, and the container's name.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: it is no video, its headers are broken, or it holds no video stream.
    """
    name = _container_name(source)
    target, protocols = source, "none"
    if isinstance(source, str | os.PathLike):
        target, protocols = f"file:{Path(source).absolute()}", "file"
    try:
        container = av.open(
            target,
            mode="r",
            format=name,
            container_options={"protocol_whitelist": protocols},
            metadata_errors="replace",  # a title in an unknown encoding is no reason to refuse the frames
        )
    except av.FFmpegError as error:
        raise DecodeError(f"it begins like {name}, but FFmpeg cannot open it: {ffmpeg_message(error)}") from error
    with container:
        yield container, _video_stream(container, name), name


def ignore_other_streams(container: "InputContainer", stream: "VideoStream") -> None:
    """Make the demuxer discard all other streams, without reading them where the container allows it."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def ffmpeg_message(error: Exception) -> str:
    """Return FFmpeg's own message of an error, without the file name and the log that PyAV adds."""
    return getattr(error, "strerror", None) or type(error).__name__


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """Yield the source as a file object, and close it if it was opened here."""
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield file
    else:
        yield source


def _container_name(source: Source) -> str:
    """Return the container's name by content.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: no video container begins like this.
    """
    try:
        with opened(source) as file:
            file.seek(0)
            head = file.read(SNIFF_BYTES)
            file.seek(0)
    except OSError as error:
        raise FetchError(f"cannot read the video: {error}") from error
    if not head:
        raise DecodeError("the file is empty; expected a video")
    name = sniff_container(head)
    if name is None:
        raise DecodeError(
            "found another kind of file, expected a video container (MP4/MOV, Matroska/WebM, AVI, MPEG-TS/PS, FLV, Ogg "
            "or ASF); replace the file or remove it from the manifest"
        )
    return name


def _is_transport_stream(head: bytes) -> bool:
    """Return whether at least two sync bytes are one transport packet apart."""
    for size, offset in _TS_PACKETS:
        syncs = head[offset::size]
        if len(syncs) > 1 and set(syncs) == {0x47}:
            return True
    return False


def _video_stream(container: "InputContainer", name: str) -> "VideoStream":
    """Return the first video stream that is not cover art.

    Raises:
        DecodeError: there is none, or FFmpeg has no decoder for it.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise DecodeError(f"FFmpeg has no decoder for the video stream of this {name} file")
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
    raise DecodeError(f"the {name} file holds no video stream (streams found: {kinds})")
