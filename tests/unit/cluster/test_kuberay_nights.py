"""The nights of cluster/kuberay submit the run of their own date, and repeat what is worth it."""

import datetime as dt
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fsf_core.config import ScoreConfig
from tests.support import cluster_rules
from tests.support.commands import parsed, takes
from tests.support.kubernetes import (
    SETTINGS,
    Document,
    by_kind,
    expanded,
    job_spec,
)


@pytest.fixture
def dashboard() -> Iterator[str]:
    """An address at which something listens, like the dashboard of a head."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _night_words(built: dict[str, list[Document]], folder: Path, name: str, **environment: str) -> list[str]:
    """Return the words that the container of a CronJob gives to `fsf`, with the settings in its environment."""
    [night] = [each for each in built["nights"] if each["metadata"]["name"] == name]
    [container] = night["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (folder / "fsf").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (folder / "fsf").chmod(0o755)
    environment = {**SETTINGS, "PATH": f"{folder}:/usr/bin:/bin", **environment}
    words = [expanded(word, environment) for word in container["args"]]
    done = subprocess.run(words, env=environment, capture_output=True, check=True, timeout=20)
    return done.stdout.decode().rstrip("\0").split("\0")


@pytest.mark.parametrize(
    ("job", "zone", "night"),
    [
        ("fsf-night-29387580", "Etc/UTC", dt.date(2025, 11, 16)),  # as Kubernetes names them: minutes since 1970
        ("fsf-night-29387580", "America/Los_Angeles", dt.date(2025, 11, 15)),
        ("fsf-night-2026-11-20", "Etc/UTC", dt.date(2026, 11, 20)),
        ("fsf-first", "Pacific/Kiritimati", dt.datetime.now(ZoneInfo("Pacific/Kiritimati")).date()),
    ],
)
def test_a_night_submits_a_run_of_its_own_date(
    job: str, zone: str, night: dt.date, built: dict[str, list[Document]], tmp_path: Path, dashboard: str
) -> None:
    words = _night_words(built, tmp_path, "fsf-night", JOB_NAME=job, TIMEZONE=zone, DASHBOARD=dashboard)
    assert takes(["fsf", *words])
    assert words[:4] == ["submit", "--address", f"http://{dashboard}", "--"]
    score = parsed(words[4:])

    assert isinstance(score, ScoreConfig)
    assert (score.bundle, score.manifest, score.provider, score.out) == (
        *(SETTINGS[key] for key in ("BUNDLE", "MANIFEST", "PROVIDER")), "gs://scores/a b/date={date}",
    )  # fmt: skip
    assert (score.date, score.reuse) == (night.isoformat(), "latest")


def test_old_runs_are_removed_by_a_command_of_fsf(built: dict[str, list[Document]], tmp_path: Path) -> None:
    words = _night_words(built, tmp_path, "fsf-retention")

    assert words == ["prune", SETTINGS["RUNS"], "--keep", "30d"]
    assert takes(["fsf", *words])


def test_a_night_whose_head_stays_away_is_an_attempt_and_no_wrong_command(
    built: dict[str, list[Document]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(subprocess.CalledProcessError) as ended:
        _night_words(built, tmp_path, "fsf-night", JOB_NAME="a", DASHBOARD=closed, SECONDS="1801")

    assert ended.value.returncode == cluster_rules.TRY_AGAIN[0]


def test_a_raycronjob_scores_the_date_of_its_tick(
    built: dict[str, list[Document]], entrypoint_words: Callable[[Document], list[str]]
) -> None:
    score = parsed(entrypoint_words(job_spec(by_kind(built["site/raycronjob"], "RayCronJob")) or {}))

    assert (score.bundle, score.out) == (SETTINGS["BUNDLE"], "gs://scores/a b/date={date}")
    assert (score.date, score.reuse) == ("2025-11-16", "latest")
