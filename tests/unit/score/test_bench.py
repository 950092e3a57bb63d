"""Rates that `fsf bench` and the comparison with other tools measure."""

from pathlib import Path

import pytest

from fsf_core.bench import steady_rate
from tests.bench import meter


def test_the_steady_rate_is_the_slope_of_the_commits():
    assert steady_rate([(100.0 + second, 30) for second in range(10)]) == pytest.approx(30)


def test_bursts_of_commits_do_not_count_one_burst_too_many():
    bursts = [(100.0 + 2 * burst + late, 32) for burst in range(20) for late in (0.0, 0.01)]
    assert steady_rate(bursts) == pytest.approx(32, rel=0.02)


def _write_times(folder: Path, **workers: list[float]) -> Path:
    folder.mkdir()
    for name, moments in workers.items():
        (folder / name).write_text("".join(f"{moment} 8\n" for moment in moments))
    return folder


def test_the_rate_of_several_workers_counts_the_time_in_which_all_of_them_worked(tmp_path):
    early = [float(second) for second in range(40)]  # 8 frames per second, 10 s of them alone
    late = [10.5 + second for second in range(40)]
    assert meter.steady_rate(_write_times(tmp_path / "times", one=early, two=late)) == pytest.approx(16, rel=0.02)


def test_the_common_time_is_from_the_latest_first_result_to_the_earliest_last_one(tmp_path):
    times = _write_times(tmp_path / "times", one=[0.0, 5.0, 9.0], two=[3.0, 4.0, 12.0], three=[1.0, 10.0])
    assert meter.common_span(times) == (3.0, 9.0)


def test_workers_with_little_common_time_are_measured_from_first_to_last_result(tmp_path):
    times = _write_times(tmp_path / "times", one=[0.0, 1.0, 2.0, 3.0, 4.0], two=[3.5, 4.5, 5.5])
    assert 8 < meter.steady_rate(times) < 16
