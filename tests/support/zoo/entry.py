"""One model of the zoo: how its files are made, how it is exported, and what its own family computes from a picture.

Knows no family. A reference calls the family's own processor and post-processing, and no code of this project.
"""

# K classes, H×W pixels

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = ((240, 320), (251, 333), (224, 224), (96, 500))
"""Height and width of the pictures that are compared."""
NEAR_TIE = 1e-4
"""Difference of the two best probabilities below which either class is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the family's own code computes from a picture."""

    class_map_HW: NDArray[Any]
    margin_HW: NDArray[np.floating[Any]] | None = None
    """Difference of the two best probabilities; without it every pixel must be equal but for Entry.max_differing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A small model with random weights."""

    name: str
    """Of the test, such as segformer."""
    family: str
    """Of the family, such as transformers."""
    make: Callable[[Path], list[str]]
    """Writes the model's files into a new folder, and returns the arguments of fsf export without --out."""
    reference: Callable[[Path, NDArray[np.uint8]], Expected]
    """Takes the folder and a picture, image_HWC in BGR."""
    max_differing: float = 0.0
    """Largest share of pixels outside near-ties that may differ, with the reason where it is set."""


def expected_of(scores_KHW: NDArray[np.floating[Any]]) -> Expected:
    """Return what scores at the picture's size mean: their largest, and by how much it is preferred.

    Args:
        scores_KHW: probabilities, or logits, of which the softmax is taken for the margin.
    """
    scores = np.asarray(scores_KHW, np.float64)
    if scores.min() < 0 or scores.max() > 1:
        powers = np.exp(scores - scores.max(axis=0))
        scores = powers / powers.sum(axis=0)
    best = np.partition(scores, -2, axis=0)[-2:]
    return Expected(class_map_HW=np.argmax(scores_KHW, axis=0), margin_HW=best[1] - best[0])
