"""The pixels of a picture that are wanted. Knows no formats."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """The wanted pixels of an upright picture: those where these rows and columns cross."""

    rows: Indices
    """Different ones, ascending."""
    columns: Indices
    """Different ones, ascending."""


Wanted = Callable[[int, int], Grid | None]
"""Height and width of an upright picture to its wanted pixels; None if all are."""
