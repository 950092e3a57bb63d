"""The filters that resize images, each with the pixels of the library that defines it. Knows uint8 images alone."""

# H×W pixels, C channels

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.model.torch_filters import (
    resize_fixed_point,
    resize_float,
    resize_float_antialiased,
    resize_nearest,
)
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


_TORCH_FILTERS: Mapping[Interpolation, Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]] = {
    "torch-nearest": partial(resize_nearest, exact=False),
    "torch-nearest-exact": partial(resize_nearest, exact=True),
    "torch-bilinear": partial(resize_float, name="bilinear"),
    "torch-bicubic": partial(resize_float, name="bicubic"),
    "torch-uint8-bilinear": partial(resize_fixed_point, name="bilinear", antialias=False),
    "torch-uint8-bicubic": partial(resize_fixed_point, name="bicubic", antialias=False),
    "torchvision-bilinear": partial(resize_fixed_point, name="bilinear", antialias=True),
    "torchvision-bicubic": partial(resize_fixed_point, name="bicubic", antialias=True),
    "torchvision-lanczos": partial(resize_fixed_point, name="lanczos", antialias=True),
    "torchvision-float-bilinear": partial(resize_float_antialiased, name="bilinear"),
    "torchvision-float-bicubic": partial(resize_float_antialiased, name="bicubic"),
}


_UNSURE_PX = 1 / 64
"""More than OpenCV's rounding of a place in a row of 65,535 pixels can amount to."""


def read_by_resize(size_px: int, resized_px: int, interpolation: Interpolation) -> NDArray[np.int64] | None:
    """Return the rows, or columns, of an image of this size that `resize` looks at; None if it may be all of them.

    Only OpenCV's linear filter looks at few: at the two beside each sample, however much the image shrinks.
    """
    if interpolation != "linear":
        return None
    places = (np.arange(resized_px) + 0.5) * (size_px / resized_px) - 0.5
    before = np.floor(np.concatenate([places - _UNSURE_PX, places + _UNSURE_PX])).astype(np.int64)
    return np.unique(np.clip(np.concatenate([before, before + 1]), 0, size_px - 1))


def resize(
    image_HWC: NDArray[np.uint8], height_px: int, width_px: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize with the named filter. Filters act per channel, so the order of the channels does not matter."""
    if image_HWC.shape[:2] == (height_px, width_px):
        return image_HWC
    if interpolation in _CV2_FILTERS:
        filtered = cv2.resize(image_HWC, (width_px, height_px), interpolation=_CV2_FILTERS[interpolation])
        return np.asarray(filtered, np.uint8)
    if interpolation in _TORCH_FILTERS:
        return _TORCH_FILTERS[interpolation](image_HWC, height_px, width_px)
    image = Image.fromarray(image_HWC)
    return np.asarray(image.resize((width_px, height_px), _PIL_FILTERS[interpolation]))
