"""The filters that resize images, each with the pixels of the library that defines it. Knows uint8 images alone."""

# H×W pixels, C channels

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.options import Interpolation

_PIL_FILTERS: Mapping[Interpolation, Image.Resampling] = {
    "pil-nearest": Image.Resampling.NEAREST,
    "pil-box": Image.Resampling.BOX,
    "pil-bilinear": Image.Resampling.BILINEAR,
    "pil-hamming": Image.Resampling.HAMMING,
    "pil-bicubic": Image.Resampling.BICUBIC,
    "pil-lanczos": Image.Resampling.LANCZOS,
}
_CV2_FILTERS: Mapping[Interpolation, int] = {
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def resize(
    image_HWC: NDArray[np.uint8], height_px: int, width_px: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize with the named filter. Filters act per channel, so the order of the channels does not matter."""
    if image_HWC.shape[:2] == (height_px, width_px):
        return image_HWC
    if interpolation in _CV2_FILTERS:
        filtered = cv2.resize(image_HWC, (width_px, height_px), interpolation=_CV2_FILTERS[interpolation])
        return np.asarray(filtered, np.uint8)
    image = Image.fromarray(image_HWC)
    return np.asarray(image.resize((width_px, height_px), _PIL_FILTERS[interpolation]))
