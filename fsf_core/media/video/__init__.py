"""Exact frames from videos: index a file, choose frames, decode them, and encode new ones.

Knows FFmpeg, through PyAV. Knows no image files, no stores (callers pass paths or file objects) and no model.
"""

from fsf_core.media.video.container import Source
from fsf_core.media.video.decode import BrokenVideoError, VideoFrame, decode_frames
from fsf_core.media.video.encode import SegmentWriter, timescale
from fsf_core.media.video.index import MAX_FRAME_PX, VideoIndex, estimate_frames, index_video
from fsf_core.media.video.join import JoinedVideo, concatenate
from fsf_core.media.video.labels import decode_stored, require_stored_values
from fsf_core.media.video.scan import MAX_FRAMES
from fsf_core.media.video.segments import EVERY_FRAME, Sampling, partition_segments, select_frames
from fsf_core.media.video.signatures import READABLE, sniff_container

__all__ = [
    "EVERY_FRAME",
    "MAX_FRAMES",
    "MAX_FRAME_PX",
    "READABLE",
    "BrokenVideoError",
    "JoinedVideo",
    "Sampling",
    "SegmentWriter",
    "Source",
    "VideoFrame",
    "VideoIndex",
    "concatenate",
    "decode_frames",
    "decode_stored",
    "estimate_frames",
    "index_video",
    "partition_segments",
    "require_stored_values",
    "select_frames",
    "sniff_container",
    "timescale",
]
