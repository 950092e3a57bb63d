"""Finished runs that have lost files or hold rotten bytes: the same command scores what is damaged again."""

import shutil
from pathlib import Path

import pytest

from fsf_core import render, runs
from fsf_core.config import ScoreConfig
from fsf_core.model.bundle import Bundle
from fsf_core.score import job
from fsf_core.score.job import score
from tests.support import assets, clips, ledger

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def finished(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, ray_here: object) -> Path:
    """A run of images, a video and a broken file."""
    home = tmp_path_factory.mktemp("damaged")
    media = home / "media"
    media.mkdir()
    for number in range(5):
        (media / f"{number}.jpg").write_bytes(assets.pillow(assets.picture(60 + number, 80), "JPEG"))
    (media / "clip.mp4").write_bytes(clips.clip(frames=20))
    (media / "broken.jpg").write_bytes(b"no image")
    score(_config(tiny_bundle, home, home / "run"))
    return home


def _config(bundle: Bundle, home: Path, out: Path, **options) -> ScoreConfig:
    return ScoreConfig(
        bundle=bundle.uri, manifest=str(home / "media"), out=str(out), provider="cpu", segment_frames=8, part_units=3,
        **options,
    )  # fmt: skip


def _rows(out: Path, *but: str) -> list[list[dict]]:
    unlike = {"failures": ("attempts",), "masks": but}
    return [ledger.sorted_rows(str(out), name, but=unlike.get(name, ())) for name in runs_tables]


runs_tables = ("masks", "class_stats", "failures")


def _rot(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{"compact_mb": 64}, {"delta": True}], ids=["merged", "to Delta"])
def test_rotten_bytes_are_scored_again_before_they_are_copied(
    options: dict, finished: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """They got a new receipt: verify went from one problem to none."""
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    _rot(next((run / "masks").glob("*.parquet")))
    if options.get("delta"):
        options = {"delta": str(tmp_path / "tables")}
    summary = score(_config(tiny_bundle, finished, run, keep_failures=True, **options))

    assert summary["removed"]["damaged_parts"] == 1
    assert _rows(run) == _rows(finished / "run")
    assert runs.verify(str(run)) == []


def test_bytes_that_rot_before_they_are_published_are_scored_again_by_the_same_start(
    finished: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same units scored again by one attempt make a part of the same name, which was left out as damaged."""
    run, scored = tmp_path / "run", job._score_pending

    def scored_and_rotten(*given, **named):
        found = scored(*given, **named)
        if not named.get("committed"):
            _rot(next(path for path in run.glob(".attempt-*/masks/*.parquet") if path.stat().st_size > 2000))
        return found

    monkeypatch.setattr(job, "_score_pending", scored_and_rotten)

    summary = score(_config(tiny_bundle, finished, run, compact_mb=64))

    assert summary["removed"]["damaged_parts"] == 1
    assert _rows(run, "run_id") == _rows(finished / "run", "run_id")
    assert runs.verify(str(run)) == []


@pytest.mark.parametrize("table", [*runs_tables, "receipts"])
@pytest.mark.parametrize("how", ["lost", "short"])
def test_a_lost_or_short_file_is_scored_again(
    how: str, table: str, finished: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    victim = min((run / table).iterdir())
    if how == "lost":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    assert runs.verify(str(run))
    summary = score(_config(tiny_bundle, finished, run, keep_failures=True))

    assert summary["removed"]["lost_parts"] == 1
    assert _rows(run) == _rows(finished / "run")
    assert runs.verify(str(run)) + render.verify(str(run)) == []
