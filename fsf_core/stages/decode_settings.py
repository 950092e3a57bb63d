"""Settings of the decode stage."""

from dataclasses import dataclass

import pyarrow as pa

from fsf_core import storage
from fsf_core.media import images, video
from fsf_core.model import preprocess

TASK_SEGMENTS = 8
"""Default segments per decode task of a long video: with 64 frames each, 4 s of work at 1080p."""


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """Settings of a decode task; plain values, so that they can be sent to any worker."""

    profile: preprocess.Profile
    limits: images.ImageLimits
    extra: pa.Schema
    """Pass-through columns of the manifest."""
    segment_frames: int
    """Maximum frames per unit."""
    overlays: bool
    """Whether source images travel with their units, to draw overlays on."""
    access: storage.Access
    """Which addresses may be opened."""
    labelled: bool = False
    """Whether the manifest names labels."""
    sampling: video.Sampling = video.EVERY_FRAME
    """Which frames of a video to score."""
    max_frames: int = video.MAX_FRAMES
    """Maximum frames per video, scored or not."""
    task_segments: int = TASK_SEGMENTS
    """Segments per decode task of a long video."""
