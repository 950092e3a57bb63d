"""Images to the network's input, and scores back to the image's part of the grid.

Knows the steps; their sizes are in `geometry`, the filters in `filters`. Knows no files, models or meaning of pixels.
"""

# H×W pixels, C channels, K classes

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.model.filters import read_by_resize, resize
from fsf_core.model.geometry import Box, input_hw, place, shown
from fsf_core.model.profile import PROFILES, STRETCHED, Profile
from fsf_core.options import PaddingMode

__all__ = [
    "PROFILES",
    "STRETCHED",
    "Box",
    "Profile",
    "crop",
    "fit",
    "input_hw",
    "normalise",
    "place",
    "read_by_fit",
    "shown",
    "uncrop",
]

_BORDERS: Mapping[PaddingMode, int] = {
    "constant": cv2.BORDER_CONSTANT,
    "reflect": cv2.BORDER_REFLECT_101,
    "edge": cv2.BORDER_REPLICATE,
}


def fit(image_HWC: NDArray[np.uint8], profile: Profile) -> NDArray[np.uint8]:
    """Bring an image into the form of the network's input: resize, pad, crop.

    Args:
        image_HWC: uint8 BGR, as OpenCV decodes.
        profile: what the network was trained on.

    Returns:
        uint8, rows and columns of `input_hw` × 3, contiguous, channels in the network's order.

    Raises:
        ValueError: the image would be enlarged beyond all use.
    """
    box = place(image_HWC.shape[0], image_HWC.shape[1], profile)
    resized = resize(image_HWC, *box.resized_hw, profile.interpolation)
    if box.hides:
        top_px, left_px = box.hidden_top_px, box.hidden_left_px
        resized = resized[top_px : top_px + box.height_px, left_px : left_px + box.width_px]
    ordered = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB) if profile.channel_order == "rgb" else resized
    if (box.height_px, box.width_px) == box.input_hw:
        return np.ascontiguousarray(ordered)
    bottom_px = box.input_hw[0] - box.top_px - box.height_px
    right_px = box.input_hw[1] - box.left_px - box.width_px
    border = _BORDERS[profile.padding_mode]
    framed = cv2.copyMakeBorder(ordered, box.top_px, bottom_px, box.left_px, right_px, border, value=profile.padding)
    return np.asarray(framed, np.uint8)


def read_by_fit(height_px: int, width_px: int, profile: Profile) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the rows and columns of an image of this size at whose crossings `fit` looks; None if it may be at all.

    Raises:
        ValueError: the image would be enlarged beyond all use.
    """
    box = place(height_px, width_px, profile)
    if box.resized_hw == (height_px, width_px):
        return None
    rows = read_by_resize(height_px, box.resized_hw[0], profile.interpolation)
    columns = read_by_resize(width_px, box.resized_hw[1], profile.interpolation)
    return None if rows is None or columns is None else (rows, columns)


def normalise(frames_NHWC: NDArray[np.uint8], levels_C256: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale, normalise and transpose by table: out[n, c, y, x] = levels[c, frames[n, y, x, c]].

    With OpenCV rather than a compiled kernel: 0.07 ms per frame of 224×224 instead of 0.05, but an actor that only
    infers starts without numba, which takes 2 s of CPU (2-core EPYC, 2026-11-28). The channels are split in one pass;
    extracted one by one they take 0.09 ms.

    Args:
        frames_NHWC: uint8 pixels as returned by `fit`.
        levels_C256: the table from `Profile.levels`.

    Returns:
        float32 NCHW, the network's input.
    """
    count, height, width, channels = frames_NHWC.shape
    batch_NCHW = np.empty((count, channels, height, width), np.float32)
    for frame_HWC, planes_CHW in zip(frames_NHWC, batch_NCHW, strict=True):
        channels_CHW = cv2.split(np.ascontiguousarray(frame_HWC))
        for channel_HW, levels_256, plane_HW in zip(channels_CHW, levels_C256, planes_CHW, strict=True):
            cv2.LUT(channel_HW, levels_256[None], dst=plane_HW)
    return batch_NCHW


def crop(scores_KHW: NDArray[np.float32], box: Box, profile: Profile) -> NDArray[np.float32]:
    """Crop the padding off scores on the network's output grid.

    Scores of a crop that are stretched over the image are returned as they are, padding of a small image included.

    Raises:
        ValueError: there is padding, and the grid is not the input's.
    """
    if (box.height_px, box.width_px) == box.input_hw or (profile.cropped and profile.uncovered == STRETCHED):
        return scores_KHW
    if scores_KHW.shape[1:] != box.input_hw:
        grid = "{}x{}".format(*scores_KHW.shape[1:])
        raise ValueError(
            f"found scores on a {grid} grid for an input of {box.input_hw[0]}x{box.input_hw[1]}; "
            "a letterbox can be undone only on a grid of the input's size"
        )
    return scores_KHW[:, box.top_px : box.top_px + box.height_px, box.left_px : box.left_px + box.width_px]


def uncrop(scores_KHW: NDArray[np.float32], box: Box, profile: Profile) -> NDArray[np.float32]:
    """Extend scores of `crop` by those at the edge to the whole resized image, if a crop hides a part of it.

    The image's pixels outside of `shown` have no scores of their own: they get the class `profile.uncovered`.
    """
    if not box.hides or profile.uncovered == STRETCHED:
        return scores_KHW
    top_px, left_px = box.hidden_top_px, box.hidden_left_px
    bottom_px = box.resized_hw[0] - top_px - box.height_px
    right_px = box.resized_hw[1] - left_px - box.width_px
    return np.pad(scores_KHW, ((0, 0), (top_px, bottom_px), (left_px, right_px)), mode="edge")
