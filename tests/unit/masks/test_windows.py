"""Windows cover a side, and their weights add up to 1 at every pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.masks import plan_side


@st.composite
def sides(draw):
    window = draw(st.integers(1, 40))
    return draw(st.integers(1, 300)), window, draw(st.integers(0, window // 2))


@settings(max_examples=300, deadline=None)
@given(sides())
def test_windows_cover_a_side_and_neighbours_overlap_by_what_was_asked_for(chosen):
    size, window, overlap = chosen
    side = plan_side(size, window_px=window, overlap_px=overlap)
    assert side.size_px == max(size, window)
    assert side.starts[0] == 0
    assert side.starts[-1] + window == side.size_px
    steps = np.diff(side.starts)
    assert (steps > 0).all()
    assert (steps <= window - overlap).all()
    assert (steps[:-1] == window - overlap).all(), "only the last window is moved back"


@settings(max_examples=300, deadline=None)
@given(sides())
def test_weights_add_up_to_one_and_spans_name_the_windows_that_count(chosen):
    size, window, overlap = chosen
    side = plan_side(size, window_px=window, overlap_px=overlap)
    total = np.zeros(side.size_px)
    counting = [set() for _ in range(side.size_px)]
    for at, (start, weights) in enumerate(zip(side.starts, side.weights, strict=True)):
        total[start : start + window] += weights
        for pixel in np.flatnonzero(weights):
            counting[start + pixel].add(at)
    assert total == pytest.approx(1, abs=1e-6)
    assert [span.start for span in side.spans] == [0, *(span.stop for span in side.spans[:-1])]
    assert side.spans[-1].stop == side.size_px
    of_window = [dict(side.spans_of(at)) for at in range(len(side.starts))]
    for place, span in enumerate(side.spans):
        for pixel in range(span.start, span.stop):
            assert counting[pixel] == {at for at, spans in enumerate(of_window) if place in spans}
        assert (span.first, span.last) == (min(counting[span.start]), max(counting[span.start]))
        if not span.is_shared:
            assert side.weights[span.first][span.start - side.starts[span.first]] == 1


def test_the_outer_quarter_of_an_overlap_belongs_to_the_other_window_alone():
    side = plan_side(168, window_px=96, overlap_px=24)
    assert [(span.start, span.stop, span.first, span.last) for span in side.spans] == [
        (0, 78, 0, 0), (78, 90, 0, 1), (90, 168, 1, 1),
    ]  # fmt: skip
    assert side.weights[1][5:19] == pytest.approx([0, *((np.arange(12) + 0.5) / 12), 1])
