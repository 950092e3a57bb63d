"""Pictures of every format, depth, colour model and orientation, made by hand or with Pillow, never with OpenCV."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fsf_core.errors import ItemError
from fsf_core.media import images
from tests.shapes.findings import Finding
from tests.shapes.pictures import MAKERS, Pixels, Shape


def check(seed: int, count: int, folder: Path) -> Iterator[Finding]:
    """Draw pictures, decode them upright and as stored, and yield every mismatch."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = MAKERS[int(rng.integers(len(MAKERS)))](rng)
        path = folder / f"{seed}-{number:04d}.{shape.suffix}"
        path.write_bytes(shape.data)
        for honour_exif in (True, False):
            right = shape.right if honour_exif or shape.stored is None else shape.stored
            found = _mismatch(shape, right, honour_exif=honour_exif)
            if found:
                expected = f"a refusal with {shape.refusal!r}" if right is None else f"{right.shape} {_ends(right)}"
                text = shape.text if honour_exif else f"{shape.text}, as stored"
                yield Finding(case=f"{path.name}: {text}", expected=f"{expected}, notes {shape.notes}", found=found)
                break


def _mismatch(shape: Shape, right: Pixels | None, *, honour_exif: bool) -> str | None:
    """Return what the product makes of a picture, if that is wrong."""
    try:
        image_HWC, notes = images.decode_image(shape.data, honour_exif=honour_exif)
    except ItemError as error:
        return None if right is None and shape.refusal in str(error) else f"{type(error).__name__}: {error}"
    found = image_HWC[..., ::-1]
    if right is None or found.shape != right.shape:
        return f"{found.shape} {_ends(found)}"
    difference = np.abs(found.astype(int) - right)
    if difference.mean() > shape.tolerance or (not shape.tolerance and difference.any()):
        return f"{difference.mean():.2f} levels off, at most {difference.max()}: {_ends(found)}"
    if bool(shape.notes) != bool(notes) or not all(part in (notes or "") for part in shape.notes):
        return f"the notes {notes!r}"
    return None


def _ends(image: Pixels) -> str:
    """Return the first and the last pixel."""
    return f"{image[0, 0].tolist()} … {image[-1, -1].tolist()}"
