"""Times of frames, and the running clock that sampling and rendered videos follow."""

from array import array
from fractions import Fraction

import numpy as np
import pytest

from fsf_core.media.video import timescale
from fsf_core.media.video.order import frame_times, running_clock
from fsf_core.media.video.scan import NO_TIME, PacketScan


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        ([5], [5]),
        ([0, 2, 4, 6], [0, 2, 4, 6]),
        ([0, 2, 2, 6], [0, 2, 2, 6]),
        ([0, 2, 1, 6, 8], [0, 0, 2, 6, 8]),
        ([0, 2, 4, -90, 8, 10], [0, 2, 4, 4, 8, 10]),
        ([0, 2, 900, 6, 8], [0, 2, 2, 6, 8]),
        ([100, 102, 104, 0, 2, 4], [100, 102, 104, 106, 108, 110]),
        ([100, 102, 104, 103, 105, 107], [100, 102, 102, 104, 105, 107]),
    ],
)
def test_the_running_clock_never_steps_back(pts, expected):
    clock = running_clock(np.asarray(pts, np.int64))

    assert clock.tolist() == expected
    assert (np.diff(clock) >= 0).all()


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        ([0, 10, 20, 30], [0, 10, 20, 30]),
        ([0, None, 20, None, None, 50], [0, 10, 20, 30, 40, 50]),
        ([None, 10, 20, None], [0, 10, 20, 30]),
        ([None, None, None], [0, 40, 80]),
        ([100, 110, None, 0, 10], [100, 110, 120, 0, 10]),
    ],
)
def test_a_frame_without_a_time_gets_one_between_its_neighbours(pts, expected):
    scan = PacketScan()
    scan.pts = array("q", [NO_TIME if tick is None else tick for tick in pts])
    scan.dts = array("q", [NO_TIME] * len(pts))

    times = frame_times(scan, np.arange(len(pts)), has_pts=True, usual_ticks=40)

    assert times.tolist() == expected


def test_a_rendered_video_keeps_a_frame_on_screen_for_a_day():
    assert timescale(Fraction(1, 90_000)) == 90_000
    ticks_per_s = timescale(Fraction(1, 90_000), Fraction(86_400))
    assert 10_000 < ticks_per_s < 90_000
    assert 86_400 * ticks_per_s < 1 << 31
