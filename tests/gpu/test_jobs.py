"""Whole jobs on the card: the tables of the CPU, whatever shares the card and whatever is killed."""

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsf_core.config import ScoreConfig
from fsf_core.model.bundle import Bundle
from fsf_core.options import ResolvedProvider
from fsf_core.score import plan
from fsf_core.score.job import score
from tests.gpu.conftest import REHEARSAL
from tests.gpu.items import WINDOWS_MAX_PIXELS
from tests.gpu.scored import differing_pixels, score_here
from tests.support import labelled
from tests.support.processes import Job, kill_all, receipts, wait_for
from tests.support.separate_stages import with_separate_stages

pytestmark = pytest.mark.gpu

MODEL = "four classes"
MAX_DIFFERING_SHARE = 1e-4


@pytest.fixture(scope="module")
def reference(bundle_of: Callable[..., Bundle], items: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run of the CPU."""
    out = tmp_path_factory.mktemp("cpu") / "run"
    return score_here(bundle_of(MODEL), items, out, runs_on="cpu", planned_for="cpu")


@pytest.fixture
def run_job(
    bundle_of: Callable[..., Bundle], items: Path, tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """What runs a job in this process, on a Ray whose workers stay; returns its summary."""
    if REHEARSAL:  # as beside a GPU
        monkeypatch.setattr(plan, "plan_pipeline", with_separate_stages(plan.plan_pipeline))

    def run(**options: Any) -> dict[str, Any]:
        config = {"bundle": bundle_of(MODEL).uri, "manifest": str(items), "out": str(tmp_path / "run")}
        config |= {"regions": True, "min_region_px": 3, "segment_frames": 8}
        return score(ScoreConfig(**config | options))

    return run


def require_equal(run: Path, reference: str) -> None:
    """Compare all tables of two runs by key."""
    differing, pixels = differing_pixels(str(run), reference)
    assert differing <= MAX_DIFFERING_SHARE * pixels


def test_a_job_on_the_card_has_the_tables_of_the_cpu(
    run_job: Callable[..., dict[str, Any]], reference: str, provider: ResolvedProvider, tmp_path: Path
) -> None:
    summary = run_job(provider=provider)

    assert summary["provider"] == provider
    assert summary["items"]["failed"] == 3
    require_equal(tmp_path / "run", reference)


def test_pictures_in_windows_have_the_tables_of_the_cpu(
    run_job: Callable[..., dict[str, Any]],
    bundle_of: Callable[..., Bundle],
    scenes: Path,
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    options = {"tile": True, "max_pixels": WINDOWS_MAX_PIXELS}
    reference = score_here(bundle_of(MODEL), scenes, tmp_path / "cpu", runs_on="cpu", planned_for="cpu", **options)
    summary = run_job(provider=provider, manifest=str(scenes), **options)

    assert summary["provider"] == provider
    assert summary["items"]["failed"] == 2
    require_equal(tmp_path / "run", reference)


def test_auto_chooses_the_card_and_two_actors_share_it(
    run_job: Callable[..., dict[str, Any]],
    reference: str,
    provider: ResolvedProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "fsf"):
        summary = run_job(provider="auto", actors=2, **({} if REHEARSAL else {"gpus_per_actor": 0.5}))

    assert (summary["provider"], summary["actors"]) == (provider, 2)
    assert f"event=provider_chosen provider={provider}" in caplog.text
    require_equal(tmp_path / "run", reference)


def test_an_actor_that_is_killed_costs_nothing_but_time(
    bundle_of: Callable[..., Bundle], items: Path, provider: ResolvedProvider, tmp_path: Path
) -> None:
    rows = [(f"{number:04}", f"{items.parent}/{10 + number % 50:03}.jpg", "") for number in range(0, 1200, 2)]
    many, out = labelled.write_list(tmp_path, rows), tmp_path / "run"
    bundle = bundle_of(MODEL)
    reference = score_here(bundle, many, tmp_path / "cpu", runs_on="cpu", planned_for="cpu")
    job = Job(
        "score", "--bundle", bundle.uri, "--manifest", str(many), "--out", str(out), "--provider", provider,
        "--regions", "--min-region-px", "3", "--segment-frames", "8", "--actors", "1", "--part-units", "8",
        module="tests.support.separate_stages" if REHEARSAL else "fsf_core.cli",
    )  # fmt: skip
    family = job.family()
    try:
        wait_for(lambda: receipts(out) or job.process.poll() is not None)
        family = job.family() or family
        killed = job.kill_worker(["MapBatches(Infer)"], random.Random(0), timeout_s=60)  # noqa: S311 - reproducible
        family = job.family() or family
        code, output = job.wait(120)
    finally:
        kill_all(family)

    assert killed, output
    assert code == 0, output
    assert json.loads(output.splitlines()[-1])["provider"] == provider
    require_equal(out, reference)
