"""What a file lacks of the frames that its headers promise. Compares a scan with declarations; decodes nothing."""

from typing import TYPE_CHECKING

import av

from fsf_core.media.video.completeness import avi_entries, missing_bytes
from fsf_core.media.video.container import DECLARE_COUNT, Source, open_video
from fsf_core.media.video.scan import PacketScan

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Header durations are rounded, and audio may end a little later than the last frame.
_DURATION_SLACK_S = 1.0


def shortfall_of(
    source: Source, scan: PacketScan, stream: "VideoStream", name: str, declared_s: float | None
) -> str | None:
    """Return what the file lacks, as text; None if nothing is missing."""
    missing = missing_bytes(source, name)
    if name in DECLARE_COUNT and stream.frames:  # a cut behind the last frame loses none
        listed = scan.entries
        if name == "avi":
            listed = _avi_length(source, scan, stream, missing)
        elif stream.frames > listed and not missing:
            listed = _stored_samples(source, stream.index)
        short = stream.frames > listed
        return f"the header declares {stream.frames} frames, the file ends after {listed}" if short else None
    if scan.gaps or scan.read_error:
        return scan.read_error or "the demuxer skipped damaged bytes inside the file"
    if declared_s is not None and declared_s > scan.end_s + _DURATION_SLACK_S:
        return f"the header declares {declared_s:.3f} s, the file ends after {scan.end_s:.3f} s"
    if scan.packets - 1 in scan.incomplete:
        return f"frame {scan.packets - 1} in storage order, the last one, is incomplete"
    if missing:
        return f"the file lacks at least its last {missing} bytes"
    return None


def _stored_samples(source: Source, stream_index: int) -> int:
    """Return the number of samples that an MP4 stream holds, those behind the end of its edit list included."""
    with open_video(source, stream_index=stream_index, ignore_edits=True) as (container, stream, _):
        try:
            return sum(1 for packet in container.demux(stream) if packet.size or packet.dts is not None)
        except av.FFmpegError:
            return 0


def _avi_length(source: Source, scan: PacketScan, stream: "VideoStream", missing: int) -> int:
    """Return the length of an AVI stream in chunks: those of frames, and the empty ones that repeat a frame.

    A chunk takes one tick. Empty chunks at the end are only in the index.
    """
    last = max(scan.dts, default=-1)
    entries = None if missing else avi_entries(source, stream.index)
    if entries is None:
        return last + 1
    listed, filled = entries
    return max(listed, last + 1) if filled <= scan.packets else scan.packets
