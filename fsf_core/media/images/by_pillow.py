"""Pillow, for the few kinds of image that OpenCV decodes wrongly or not at all. Knows no formats."""

# H×W pixels, C channels (blue, green, red)

import io
from types import MappingProxyType

import numpy as np
from PIL import Image

from fsf_core.errors import DecodeError
from fsf_core.media.images.stored import Pixels

_FORMATS = MappingProxyType({"gif": "GIF", "jp2": "JPEG2000", "avif": "AVIF"})
_ERRORS = (OSError, EOFError, SyntaxError, ValueError, RuntimeError)


def decode(data: bytes, name: str) -> Pixels:
    """Decode to uint8 H×W×3, BGR, as stored; arguments and errors as for `opencv.decode`."""
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[name]]) as image:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    except _ERRORS as error:
        raise DecodeError(
            f"the {name} cannot be decoded: it is cut off or damaged; copy it again, or save it again as JPEG or PNG"
        ) from error


def alpha(data: bytes, name: str) -> Pixels | None:
    """Return the alpha of an image, H×W; None if it has none, or none that Pillow reads."""
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[name]]) as image:
            return np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None
    except _ERRORS:
        return None
