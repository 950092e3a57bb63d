"""Containers of video, opened so that FFmpeg can open nothing else.

Knows FFmpeg's demuxers. Knows no frames and no codecs, and ignores file names.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

import av
from av.stream import Discard

from fsf_core.errors import DecodeError, FetchError
from fsf_core.media.video.signatures import READABLE, SNIFF_BYTES, sniff_container
from fsf_core.media.video.streams import choose_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A local path, or a seekable binary file object. A string is always a path, never a URL."""

SEEKABLE = frozenset({"mov", "matroska", "avi"})
"""Containers in which seeking to a keyframe is exact."""

DECLARE_DURATION = frozenset({"matroska", "flv", "asf"})
"""Containers whose headers state a duration. For others FFmpeg guesses it from the last packets: no proof of length."""

DECLARE_COUNT = frozenset({"mov", "avi"})
"""Containers whose headers state the number of frames."""

JOINED_MIDWAY = frozenset({"mpegts", "mpeg"})
"""Containers of broadcasts, which may begin midway; frames before their first keyframe cannot be decoded."""

UNTIMED = frozenset({"h264", "hevc", "mpegvideo", "m4v"})
"""Bare streams, which hold no times: frame k is shown at k over the stream's frame rate, 25 where it states none."""


@contextmanager
def open_video(
    source: Source, *, stream_index: int | None = None, ignore_edits: bool = False
) -> "Iterator[tuple[InputContainer, VideoStream, str]]":
    """Open a source as the container that its first bytes show.

    The demuxer is forced and the only protocol is the local file itself, so that no file named .mp4 can make FFmpeg
    read a second file or a URL.

    Args:
        source: local path or seekable binary file object.
        stream_index: the stream that an earlier call chose; chosen by streams.choose_stream if None.
        ignore_edits: whether to read what the edit list of an MP4 file hides, too.

    Yields:
        The open container, its video stream, and the container's name.

    Raises:
        FetchError: the bytes could not be read.
        DecodeError: it is no video, its headers are broken, or it holds no video stream.
    """
    name = _container_name(source)
    with _demuxer(source, name, ignore_edits=ignore_edits) as container:
        if stream_index is None:
            stream, is_read = choose_stream(container, name)
        else:
            stream, is_read = cast("VideoStream", container.streams[stream_index]), False
        if not is_read:
            yield container, stream, name
            return
        stream_index = stream.index  # a closed container has no streams
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    with _demuxer(source, name) as container:
        yield container, cast("VideoStream", container.streams[stream_index]), name


def _demuxer(source: Source, name: str, *, ignore_edits: bool = False) -> "InputContainer":
    """Open a source with the demuxer of this name.

    Raises:
        DecodeError: its headers are broken.
    """
    target, protocols = source, "none"
    if isinstance(source, str | os.PathLike):
        target, protocols = f"file:{Path(source).absolute()}", "file"
    try:
        return av.open(
            target,
            mode="r",
            format=name,
            container_options={"protocol_whitelist": protocols} | ({"ignore_editlist": "1"} if ignore_edits else {}),
            metadata_errors="replace",  # a title in an unknown encoding is no reason to refuse the frames
        )
    except av.FFmpegError as error:
        raise DecodeError(f"it begins like {name}, but FFmpeg cannot open it: {ffmpeg_message(error)}") from error


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
            f"found another kind of file, expected a video container: {READABLE}; replace the file or remove it from "
            "the manifest"
        )
    return name
