"""Exact frames from videos: what is in the file, how to cut it, and the pictures themselves.

Knows FFmpeg, through PyAV. Knows no image files, no stores (they hand over paths or file objects), no model.
"""

from fsf_core.media.video.container import SNIFF_BYTES, Source, sniff_container
from fsf_core.media.video.decode import BrokenVideoError, VideoFrame, decode_frames
from fsf_core.media.video.encode import Joined, SegmentWriter, concatenate, timescale
from fsf_core.media.video.index import MAX_FRAME_PX, MAX_FRAMES, VideoIndex, index_video, likely_frames
from fsf_core.media.video.segments import (
    EVERY_FRAME,
    FrameRange,
    Sampling,
    partition_segments,
    plan_segments,
    select_frames,
)

__all__ = [
    "EVERY_FRAME",
    "MAX_FRAMES",
    "MAX_FRAME_PX",
    "SNIFF_BYTES",
    "BrokenVideoError",
    "FrameRange",
    "Joined",
    "Sampling",
    "SegmentWriter",
    "Source",
    "VideoFrame",
    "VideoIndex",
    "concatenate",
    "decode_frames",
    "index_video",
    "likely_frames",
    "partition_segments",
    "plan_segments",
    "select_frames",
    "sniff_container",
    "timescale",
]
