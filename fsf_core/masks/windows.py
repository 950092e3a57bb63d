"""Windows of one size along the sides of a picture: where they are, and how much each counts where they overlap.

Knows numbers; knows no pixels, no model and no files.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTER_SHARE = 0.25
"""Share of an overlap, at the border of a window, in which it counts nothing: a network sees padding beyond its border.
In the middle of the overlap the weights change linearly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Pixels along a side that the same windows decide."""

    start: int
    stop: int
    """One past the last pixel."""
    first: int
    """The first window that counts here."""
    last: int
    """The last window that counts here; the first one if it alone does."""

    @property
    def is_shared(self) -> bool:
        """Whether several windows count."""
        return self.last > self.first


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Side:
    """The windows along one side of a picture."""

    size_px: int
    """Pixels of the side; at least one window."""
    window_px: int
    starts: tuple[int, ...]
    """First pixel of every window, ascending."""
    weights: tuple[NDArray[np.float32], ...]
    """How much each pixel of every window counts: float32 [window_px]; those of a pixel of the picture add up to 1."""
    spans: tuple[Span, ...]
    """The side from its first pixel to its last."""
    places: tuple[tuple[int, ...], ...]
    """For every window the places of the spans in which it counts."""

    def spans_of(self, window: int) -> Iterator[tuple[int, Span]]:
        """Yield the spans in which a window counts, with their places among all."""
        return ((place, self.spans[place]) for place in self.places[window])


def plan_side(size_px: int, *, window_px: int, overlap_px: int) -> Side:
    """Place windows along a side, neighbours with at least this overlap; the last one ends with the side.

    Args:
        size_px: pixels of the side; of a shorter side than a window, the window's.
        window_px: pixels of a window.
        overlap_px: at most half a window.
    """
    assert 0 <= overlap_px <= window_px / 2, "checked with the bundle"
    size_px = max(size_px, window_px)
    step_px = window_px - overlap_px
    starts = (*range(0, size_px - window_px, step_px), size_px - window_px)
    shapes = [_shape(starts, at, window_px) for at in range(len(starts))]
    total = np.zeros(size_px)
    for start, shape in zip(starts, shapes, strict=True):
        total[start : start + window_px] += shape
    weights = tuple(
        (shape / total[start : start + window_px]).astype(np.float32)
        for start, shape in zip(starts, shapes, strict=True)
    )
    spans = tuple(_spans(starts, weights))
    places: list[list[int]] = [[] for _ in starts]
    for place, span in enumerate(spans):
        for window in range(span.first, span.last + 1):
            start, stop = _counting(starts[window], weights[window])
            if start <= span.start and span.stop <= stop:
                places[window].append(place)
    return Side(
        size_px=size_px,
        window_px=window_px,
        starts=starts,
        weights=weights,
        spans=spans,
        places=tuple(map(tuple, places)),
    )


def _shape(starts: tuple[int, ...], at: int, window_px: int) -> NDArray[np.float64]:
    """Return a window's weights before they are made to add up to 1: 1, with a ramp where a neighbour overlaps."""
    shape = np.ones(window_px)
    centres = np.arange(window_px) + 0.5
    if at > 0:
        shape = np.minimum(shape, _ramp(centres, starts[at - 1] + window_px - starts[at]))
    if at + 1 < len(starts):
        shape = np.minimum(shape, _ramp(window_px - centres, starts[at] + window_px - starts[at + 1]))
    return shape


def _ramp(from_border: NDArray[np.floating[Any]], overlap_px: int) -> NDArray[np.floating[Any]]:
    """Return 0 in the outer quarter of an overlap, 1 in the inner one and beyond, and a line between them."""
    if overlap_px <= 0:
        return np.ones_like(from_border)
    outer_px = OUTER_SHARE * overlap_px
    ramp: NDArray[np.floating[Any]] = np.clip((from_border - outer_px) / (overlap_px - 2 * outer_px), 0, 1)
    return ramp


def _counting(start: int, weight: NDArray[np.float32]) -> tuple[int, int]:
    """Return the first pixel of the picture for which a window counts, and one past the last."""
    above = np.flatnonzero(weight)
    return start + int(above[0]), start + int(above[-1]) + 1


def _spans(starts: tuple[int, ...], weights: tuple[NDArray[np.float32], ...]) -> Iterator[Span]:
    """Yield the spans of a side."""
    counting = [_counting(start, weight) for start, weight in zip(starts, weights, strict=True)]
    edges = sorted({edge for each in counting for edge in each})
    window = 0
    for start, stop in itertools.pairwise(edges):
        while counting[window][1] <= start:
            window += 1
        # At most three windows overlap: the last one is moved back, the others by at least half a window.
        near = range(window, min(window + 3, len(starts)))
        here = [each for each in near if counting[each][0] <= start and stop <= counting[each][1]]
        yield Span(start=start, stop=stop, first=here[0], last=here[-1])
