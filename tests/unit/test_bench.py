"""What `fsf bench` counts."""

import pytest

from fsf_core.bench import steady_rate


def test_a_steady_rate_is_the_slope_of_what_is_there():
    assert steady_rate([(100.0 + second, 30) for second in range(10)]) == pytest.approx(30)


def test_results_that_come_in_bursts_do_not_count_one_burst_too_many():
    bursts = [(100.0 + 2 * burst + late, 32) for burst in range(20) for late in (0.0, 0.01)]
    assert steady_rate(bursts) == pytest.approx(32, rel=0.02)
