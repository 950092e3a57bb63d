"""Brightness, contrast and sharpness of the network's input: what tells a dark camera and a dirty lens without a label.

With OpenCV rather than a compiled kernel, because decode tasks start without numba.
"""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.options import ChannelOrder


class InputFigures(NamedTuple):
    """Figures of one input, of its luma (Rec. 601, 0 to 255, rounded to whole numbers as OpenCV does)."""

    brightness: float
    """Mean of the luma."""
    contrast: float
    """Standard deviation of the luma, of all pixels (not of a sample)."""
    sharpness: float
    """Variance of the Laplacian of the luma: the four neighbours minus four times the pixel, edges mirrored."""


def input_figures(input_HWC: NDArray[np.uint8], channel_order: ChannelOrder) -> InputFigures:
    """Compute the figures of an input as `preprocess.fit` returns it, the padding of a letterbox included.

    0.05 ms for 224×224 (2-core EPYC, 2026-11-27).

    Args:
        input_HWC: uint8, channels in the network's order.
        channel_order: that order.
    """
    to_luma = cv2.COLOR_RGB2GRAY if channel_order == "rgb" else cv2.COLOR_BGR2GRAY
    luma_HW = cv2.cvtColor(input_HWC, to_luma)
    brightness, variance = _mean_and_variance(luma_HW)
    # Whole numbers of at most ±1020, which int16 holds.
    _, sharpness = _mean_and_variance(cv2.Laplacian(luma_HW, cv2.CV_16S))
    return InputFigures(brightness, math.sqrt(variance), sharpness)


def _mean_and_variance(integers_HW: NDArray[Any]) -> tuple[float, float]:
    """Return mean and variance of whole numbers, exactly: their sums and those of their squares are whole too."""
    count, total = integers_HW.size, int(cv2.sumElems(integers_HW)[0])
    squares = round(cv2.norm(integers_HW, cv2.NORM_L2SQR))  # OpenCV squares a root
    return total / count, (count * squares - total * total) / (count * count)
