"""Pictures of every format, depth, colour model and orientation, made by hand or with Pillow, never with OpenCV."""

# H×W pixels, C channels (red, green, blue)

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import ItemError
from fsf_core.media import images
from tests.shapes.findings import Finding

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One picture and what is right for it."""

    words: str
    suffix: str
    data: bytes
    right: Pixels | None
    """Its pixels, upright RGB; None if it is refused."""
    stored: Pixels | None = None
    """Its pixels where orientation is not honoured; None if it has none."""
    refusal: str = ""
    """Part of the message of a refusal."""
    tolerance: float = 0
    """Largest mean difference, in levels; 0 for formats without loss."""


def check(seed: int, count: int, folder: Path) -> Iterator[Finding]:
    """Draw pictures, decode them, and yield every mismatch."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = MAKERS[number % len(MAKERS)](rng)
        path = folder / f"{seed}-{number:04d}.{shape.suffix}"
        path.write_bytes(shape.data)
        for honour_exif in (True, False):
            right = shape.right if honour_exif or shape.stored is None else shape.stored
            found = _compare(shape, right, honour_exif=honour_exif)
            if found:
                expected = f"a refusal with {shape.refusal!r}" if right is None else f"{right.shape} {_ends(right)}"
                words = shape.words if honour_exif else f"{shape.words}, as stored"
                yield Finding(case=f"{path.name}: {words}", expected=expected, found=found)


def _compare(shape: Shape, right: Pixels | None, *, honour_exif: bool) -> str | None:
    """Return what the product makes of a picture, if that is wrong."""
    try:
        found = images.decode_bgr(shape.data, honour_exif=honour_exif)[..., ::-1]
    except ItemError as error:
        return None if right is None and shape.refusal in str(error) else f"{type(error).__name__}: {error}"
    if right is not None and found.shape == right.shape:
        difference = np.abs(found.astype(int) - right)
        if difference.mean() <= shape.tolerance and (shape.tolerance or not difference.any()):
            return None
        return f"{difference.mean():.2f} levels off, at most {difference.max()}: {_ends(found)}"
    return f"{found.shape} {_ends(found)}"


def _ends(image: Pixels) -> str:
    """Return the first and the last pixel."""
    return f"{image[0, 0].tolist()} … {image[-1, -1].tolist()}"


# --- what is drawn ---------------------------------------------------------------------------------------------------


def picture(rng: Generator) -> Pixels:
    """Draw a picture of odd size that differs from each of its eight sides."""
    height, width = (int(side) for side in rng.integers(9, 48, 2))
    y, x = np.mgrid[0:height, 0:width]
    image = np.dstack([255 * x // (width - 1), 255 * y // (height - 1), (x * 7 + y * 13) % 256]).astype(np.uint8)
    image[: height // 3, : width // 2] = rng.integers(0, 256, 3)
    image[0, 0], image[-1, -1] = 255, 0
    return image


def grey_of(image: Pixels) -> Pixels:
    """Return one channel of a picture, H×W."""
    return image[..., 2]


def encoded(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def upright(image: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels as EXIF defines orientations 1 to 8; any other number means 1."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def exif_with(orientation: int) -> Image.Exif:
    """Return an EXIF block with an orientation."""
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


# --- the formats -----------------------------------------------------------------------------------------------------


def with_exif(rng: Generator) -> Shape:
    """PNG, WebP, TIFF or JPEG with an orientation in EXIF."""
    kind, options = [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})][rng.integers(3)]
    image, orientation = picture(rng), int(rng.integers(0, 11))
    data = encoded(image, kind, exif=exif_with(orientation), **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return Shape(
        words=f"{kind} with EXIF orientation {orientation}", suffix=kind.lower(), data=data,
        right=upright(stored, orientation), stored=stored,
    )  # fmt: skip


MAKERS: tuple[Callable[[Generator], Shape], ...] = (with_exif,)
"""Each draws a picture of one family."""
