"""Settings of the decode stage, and the network's input within them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import LimitError
from fsf_core.media import images, video
from fsf_core.model import preprocess
from fsf_core.options import Pages

TASK_SEGMENTS = 8
"""Default segments per decode task of a long video: with 64 frames each, 4 s of work at 1080p."""

TABLE_UNITS = 64
"""Default images and one-segment videos per output table; at 224×224, 64 images are 10 MB."""

MAX_INPUT_PX = 1 << 24
"""Default limit of the network's input where its size depends on the image: 4096×4096. A network with 64 channels at
that size has 4 GiB per layer."""


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
    pages: Pages = "first"
    """Which pages of a TIFF to score."""
    max_input_px: int = MAX_INPUT_PX
    """Largest input of the network, in pixels, where its size depends on the image."""
    table_units: int = TABLE_UNITS
    """Maximum images and one-segment videos per output table."""


def fit_within(image_HWC: NDArray[np.uint8], settings: DecodeSettings) -> NDArray[np.uint8]:
    """Fit an image into the network's input, as preprocess.fit.

    Raises:
        LimitError: the size of the input depends on the image and exceeds the limit, or the image would be enlarged
            beyond all use.
    """
    try:
        if not settings.profile.is_fixed:
            _require_size(image_HWC.shape[0], image_HWC.shape[1], settings)
        return preprocess.fit(image_HWC, settings.profile)
    except ValueError as error:
        raise LimitError(f"{error}; leave the image out") from error


@lru_cache(maxsize=64)
def looked_at(height_px: int, width_px: int, profile: preprocess.Profile) -> images.Grid | None:
    """Return the pixels of an image of this size that `fit_within` looks at; None if it may be at all."""
    try:
        found = preprocess.read_by_fit(height_px, width_px, profile)
    except ValueError:
        return None  # which fit_within says
    return None if found is None else images.Grid(*found)


def _require_size(height_px: int, width_px: int, settings: DecodeSettings) -> None:
    """Refuse an image whose input is larger than the memory is meant for, before it is made.

    Raises:
        LimitError: it is.
        ValueError: the image would be enlarged beyond all use.
    """
    rows, columns = preprocess.input_hw(height_px, width_px, settings.profile)
    if rows * columns > settings.max_input_px:
        raise LimitError(
            f"the network's input for this image of {width_px}×{height_px} is {columns}×{rows}, expected at most "
            f"{settings.max_input_px} pixels; raise --max-input-px if the memory of every actor holds the network's "
            "layers at that size, scale the image down, or leave it out"
        )
