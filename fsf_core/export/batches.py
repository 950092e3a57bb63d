"""How many images a model takes per call, and whether its output for one depends on the others: measured, not believed.

What a file says of its batch axis is a label; graphs with a number built in have any label. Knows calls and arrays.
"""

# N images, C channels, H rows, W columns

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A model: float32 NCHW to its output, whose first axis is N."""

NOISE_SHARE = 1e-4
"""Difference between two outputs, as a share of the largest value, up to which they are the same: float rounding. What
another picture in the batch, or chance, changes is larger by orders of magnitude."""

LARGEST_BATCH = 64
"""Largest number of images per call that is tried; more take more memory than masks are worth."""

_TRIED = (2, 3)
"""A graph that takes these numbers takes any; one with a number built in fails at one of them at least."""


def difference_of_calls(call: Call, batch_NCHW: NDArray[np.float32]) -> float:
    """Return by how much two calls with the same images differ; 0 if they are the same up to float rounding."""
    first, second = call(batch_NCHW), call(batch_NCHW)
    return 0.0 if same(first, second) else difference(first, second)


def built_for(call: Call, alone: Sequence[NDArray[np.float32]], images_NCHW: NDArray[np.float32]) -> int | None:
    """Return whether a model that takes single images takes any number: None, or 1 if it does not.

    Args:
        call: the model.
        alone: its outputs for the images one by one, each with a first axis of 1.
        images_NCHW: at least as many images as the largest number tried.

    Raises:
        MixedError: it takes several, and the output for one depends on the others.
    """
    mixed = False
    for count in _TRIED:
        try:
            found = call(images_NCHW[:count])
        except RuntimeError:
            return 1
        if found.shape != (count, *alone[0].shape[1:]):
            return 1
        mixed = mixed or not all(same(one[0], other) for one, other in zip(alone, found, strict=False))
        del found  # before the next, larger one is made
    if mixed:
        raise MixedError
    return None


def accepted_batch(call: Call, image_1CHW: NDArray[np.float32], counts: Sequence[int]) -> int | None:
    """Return the first of these numbers, from 2 to LARGEST_BATCH, that a model takes as a batch; None if none."""
    for count in counts:
        if not 1 < count <= LARGEST_BATCH:
            continue
        try:
            found = call(np.repeat(image_1CHW, count, axis=0))
        except RuntimeError:
            continue
        if found.ndim and len(found) == count:
            return count
    return None


class MixedError(Exception):
    """The output for an image depends on the others of its batch."""


def same(expected: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
    """Return whether two outputs are equal up to float rounding, with the memory of one image; NaN equals NaN."""
    if expected.shape != found.shape:
        return False
    return all(_same(one, other) for one, other in zip(np.atleast_2d(expected), np.atleast_2d(found), strict=True))


def _same(expected: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
    if np.array_equal(expected, found):
        return True
    finite = np.isfinite(expected)
    largest = max(expected.max(initial=0, where=finite), -expected.min(initial=0, where=finite))
    return bool(np.allclose(expected, found, rtol=0, atol=NOISE_SHARE * float(largest), equal_nan=True))


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the largest difference between the values of two outputs that are numbers."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.float32) - other.astype(np.float32))
    return float(apart[np.isfinite(apart)].max(initial=0))
