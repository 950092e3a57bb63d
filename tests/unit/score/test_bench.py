"""Rates that `fsf bench` and the comparison with other tools measure."""

import json
from pathlib import Path

import pytest

import fsf_core.bench
from fsf_core.bench import Measured, has_steady_rate, sessions_of_a_longer_list, steady_rate, sufficient_frames
from fsf_core.cli import bench as command
from fsf_core.config import BenchConfig
from tests.bench import meter


def test_the_steady_rate_is_the_slope_of_the_commits():
    assert steady_rate([(100.0 + second, 30) for second in range(10)]) == pytest.approx(30)


def test_bursts_of_commits_do_not_count_one_burst_too_many():
    bursts = [(100.0 + 2 * burst + late, 32) for burst in range(20) for late in (0.0, 0.01)]
    assert steady_rate(bursts) == pytest.approx(32, rel=0.02)


@pytest.mark.parametrize(
    ("commits", "seconds", "sessions", "enough"),
    [(1, 0.0, 1, False), (40, 4.9, 1, False), (3, 20.0, 1, False), (4, 5.0, 1, True), (7, 20.0, 2, False)],
)
def test_few_commits_or_little_time_have_no_steady_rate(commits, seconds, sessions, enough):
    done = [(100.0 + seconds * at / max(1, commits - 1), 16) for at in range(commits)]
    assert has_steady_rate(done, sessions) is enough


@pytest.mark.parametrize(("bare", "sessions"), [(0.1, 1), (34.0, 2), (3000.0, 1), (80.0, 16)])
def test_the_frames_that_are_asked_for_have_a_steady_rate(bare, sessions):
    frames = sufficient_frames(bare, sessions)
    done = [(100.0 + at / bare, 16) for at in range(0, frames, 16)]
    assert has_steady_rate(done, sessions)


@pytest.mark.parametrize(
    ("options", "summary", "sessions"),
    [
        ({}, {"provider": "cpu", "frames": 12, "actors": 1}, 16),  # a longer list has an actor for each CPU
        ({}, {"provider": "cpu", "frames": 200, "actors": 16}, 16),
        ({"actors": 2}, {"provider": "cpu", "frames": 12, "actors": 2}, 2),
        ({}, {"provider": "cuda", "frames": 12, "actors": 1}, 1),
    ],
)
def test_the_frames_that_are_asked_for_are_those_of_the_sessions_that_will_score_them(
    options, summary, sessions, monkeypatch
):
    monkeypatch.setattr(fsf_core.bench.os, "cpu_count", lambda: 16)
    assert sessions_of_a_longer_list(BenchConfig(bundle="b", manifest="m", **options), summary) == sessions


def _measured(steady: float | None, sufficient: int) -> Measured:
    return Measured(
        frames=12, provider="cpu", sessions=2, bare_frames_per_s=30.0, steady_frames_per_s=steady,
        total_frames_per_s=1.2, sufficient_frames=sufficient,
    )  # fmt: skip


def test_too_few_frames_are_compared_with_nothing(monkeypatch, capsys):
    monkeypatch.setattr(fsf_core.bench, "measure", lambda _: _measured(None, 300))
    assert command.run(BenchConfig(bundle="b", manifest="m")) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert "0.04" not in " ".join(lines)
    assert "12 frames are too few" in lines[-1]
    assert "--frames 300" in lines[-1]
    assert {name: json.loads(last)[name] for name in ("efficiency", "steady_frames_per_s", "total_frames_per_s")} == {
        "efficiency": None,
        "steady_frames_per_s": None,
        "total_frames_per_s": 1.2,
    }


def test_a_steady_rate_is_a_share_of_the_bare_one(monkeypatch, capsys):
    monkeypatch.setattr(fsf_core.bench, "measure", lambda _: _measured(27.0, 0))
    command.run(BenchConfig(bundle="b", manifest="m"))
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["job,", "in", "steady", "state", "27.00", "frames/s", "0.90"]
    assert json.loads(last)["efficiency"] == 0.9


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
