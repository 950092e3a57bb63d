"""cv2.imdecode, with an error and a reason where OpenCV only returns None. Knows no formats."""

import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError

if "OPENCV_LOG_LEVEL" not in os.environ:
    # Every failure is raised with its reason; OpenCV would also print it to stderr, without the file's name.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, name: str, *, honour_exif: bool, reason: str | None = None) -> NDArray[np.uint8]:
    """Decode to uint8 H×W×3, BGR.

    Args:
        data: the whole encoded image.
        name: its format, for the message.
        honour_exif: apply the EXIF orientation, in the formats where OpenCV reads it.
        reason: known reason why OpenCV may refuse the image, for the message.

    Raises:
        DecodeError: OpenCV refuses the image.
        LimitError: the image exceeds OpenCV's own limit or the memory.
    """
    flags = cv2.IMREAD_COLOR if honour_exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
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
    return np.asarray(image_HWC, np.uint8)
