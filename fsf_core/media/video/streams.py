"""Which of several video streams of a file is the video.

The rule of FFmpeg's av_find_best_stream, with the size in place of the bit rate, which many headers do not state.
"""

from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from fsf_core.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.container import InputContainer
    from av.video.stream import VideoStream

_STILLS = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails

# Where headers do not count the frames: a second frame of a video comes within these, one of a thumbnail never.
_PROBE_PACKETS = 1000
_PROBE_BYTES = 16 << 20


def moving_streams(container: "InputContainer", name: str) -> "list[VideoStream]":
    """Return the video streams that hold more than a cover, a still or thumbnails, and that FFmpeg can decode.

    Raises:
        DecodeError: there is none.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & _STILLS]
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if moving and not decodable:
        raise DecodeError(f"FFmpeg has no decoder for the video stream of this {name} file")
    if not decodable:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise DecodeError(f"the {name} file holds no video stream (streams found: {kinds})")
    return decodable


def choose_stream(container: "InputContainer", name: str) -> "tuple[VideoStream, bool]":
    """Return the video: of the streams marked as default, of those with several frames, the one with the most pixels.

    Returns:
        The stream; and whether packets had to be read to know, so that the container has to be opened again.

    Raises:
        DecodeError: no stream can be taken.
    """
    streams = moving_streams(container, name)
    marked = [stream for stream in streams if stream.disposition & Disposition.default] or streams
    if len(marked) == 1:
        return marked[0], False
    # MP4 lists its samples, where it has no fragments; other headers state a duration, and call it a number of frames.
    has_to_count = name != "mov" or not all(stream.frames for stream in marked)
    several = _with_several_frames(container, marked) if has_to_count else [s for s in marked if s.frames > 1]
    return max(several or marked, key=lambda stream: (stream.width * stream.height, -stream.index)), has_to_count


def _with_several_frames(container: "InputContainer", streams: "Sequence[VideoStream]") -> "list[VideoStream]":
    """Return the streams that have a second frame, as far as the first packets show."""
    packets = {stream.index: 0 for stream in streams}
    read_bytes = 0
    try:
        for number, packet in enumerate(container.demux(*streams)):
            packets[packet.stream_index] += bool(packet.size)
            read_bytes += packet.size
            if min(packets.values()) > 1 or number >= _PROBE_PACKETS or read_bytes >= _PROBE_BYTES:
                break
    except av.FFmpegError:
        pass  # what could be read decides; the index reports damage
    return [stream for stream in streams if packets[stream.index] > 1]
