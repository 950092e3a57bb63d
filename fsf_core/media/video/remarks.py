"""What the user of a video's masks may not expect of it, as sentences for their notes. Knows headers and one frame."""

from typing import TYPE_CHECKING, cast

from fsf_core.media.video.container import UNTIMED
from fsf_core.media.video.order import DEFAULT_RATE
from fsf_core.media.video.orientation import read_orientation
from fsf_core.media.video.streams import moving_streams

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# ITU-T H.273, transfer characteristics.
_HDR = {16: "PQ", 18: "HLG"}


def remarks(stream: "VideoStream", name: str, frame: "av.VideoFrame | None") -> tuple[str, ...]:
    """Return what was done with a video that its user may not expect, one sentence each.

    Args:
        stream: the stream that holds the frames.
        name: the container's name.
        frame: the first frame; None if none could be decoded.
    """
    found = [_chosen(stream, name)]
    if name in UNTIMED:
        rate = float(stream.guessed_rate or DEFAULT_RATE)
        found.append(f"the file holds no times, pts_s counts its frames at {rate:g} per second")
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        found.append(f"its pixels are not square ({aspect.numerator}:{aspect.denominator}), masks are in stored pixels")
    if frame is not None:
        found += _of_frame(frame)
    return tuple(sentence for sentence in found if sentence)


def _chosen(stream: "VideoStream", name: str) -> str:
    """Return which of several video streams was taken; nothing where there is one."""
    streams = moving_streams(cast("InputContainer", stream.container), name)
    if len(streams) == 1:
        return ""
    others = ", ".join(f"{each.index} ({each.width}x{each.height})" for each in streams if each.index != stream.index)
    return f"video stream {stream.index} ({stream.width}x{stream.height}) was scored, not {others}"


def _of_frame(frame: "av.VideoFrame") -> list[str]:
    """Return what a frame shows that is not carried out."""
    found = []
    _, rest_deg = read_orientation(frame)
    if rest_deg:
        found.append(f"the turn of {rest_deg:.0f}° that the file asks for is no right angle and was not made")
    if frame.color_trc in _HDR:
        found.append(f"its colours are HDR ({_HDR[frame.color_trc]}) and were not tone-mapped")
    if frame.interlaced_frame:
        found.append("it is interlaced, each frame holds two fields")
    if any(component.is_alpha for component in frame.format.components):
        found.append("its alpha channel was ignored")
    return found
