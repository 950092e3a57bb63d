"""cv2.imdecode, with an error and a reason where OpenCV only returns None. Knows no formats."""

import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.images.stored import Pixels

_COLOURS = 3

if "OPENCV_LOG_LEVEL" not in os.environ:
    # Every failure is raised with its reason; OpenCV would also print it to stderr, without the file's name.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, name: str, *, reason: str | None = None) -> Pixels:
    """Decode to uint8 H×W×3, BGR, as stored.

    Args:
        data: the whole encoded image.
        name: its format, for the message.
        reason: known reason why OpenCV may refuse the image, for the message.

    Raises:
        DecodeError: OpenCV refuses the image.
        LimitError: the image exceeds OpenCV's own limit or the memory.
    """
    return np.asarray(_imdecode(data, name, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, reason), np.uint8)


def decode_with_alpha(data: bytes, name: str) -> tuple[Pixels, NDArray[Any] | None]:
    """Decode an image whose header declares alpha or a transparent colour; arguments and errors as for `decode`.

    Returns:
        The pixels as `decode` returns them, and alpha, H×W, uint8 or uint16; None if OpenCV finds none.
    """
    image = np.asarray(_imdecode(data, name, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, None))
    if image.ndim != _COLOURS or image.shape[2] != _COLOURS + 1:
        return decode(data, name), None
    colours_HWC: NDArray[Any] = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    if colours_HWC.dtype == np.uint16:
        colours_HWC = colours_HWC >> 8
    return np.asarray(colours_HWC, np.uint8), np.asarray(cv2.extractChannel(image, _COLOURS))


def as_bgr(image_HWC: Pixels) -> Pixels:
    """Return grey or RGB as BGR, contiguous."""
    code = cv2.COLOR_GRAY2BGR if image_HWC.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image_HWC), code), np.uint8)


def _imdecode(data: bytes, name: str, flags: int, reason: str | None) -> Any:
    """Call OpenCV; arguments and errors as for `decode`."""
    image_HWC: Any = None
    try:
        image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise LimitError(
                f"the {name} exceeds OpenCV's own limit; unset OPENCV_IO_MAX_IMAGE_PIXELS, _WIDTH and _HEIGHT"
            ) from error
        if error.code == cv2.Error.StsNoMem:
            raise LimitError(
                f"the {name} does not fit into memory; give the task more memory or lower max_pixels"
            ) from error
        reason = reason or f"OpenCV refuses it with error {error.code}"
    if image_HWC is None:
        reason = reason or "it is cut off, damaged, or of a kind that OpenCV does not read"
        raise DecodeError(f"the {name} cannot be decoded: {reason}; copy it again, or save it again as JPEG or PNG")
    return image_HWC
