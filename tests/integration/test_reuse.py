"""`--reuse`: results of an earlier run are copied for items whose sources have not changed."""

import os
from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.config import ScoreConfig
from fsf_core.errors import ConfigError, OutputError
from fsf_core.model.bundle import Bundle
from fsf_core.score.job import score
from fsf_core.score.reuse import why_not_reusable
from tests.support import assets, clips, ledger

pytestmark = pytest.mark.usefixtures("ray_here")

IMAGES = 6


@pytest.fixture
def earlier_run(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """The run over a folder with images, a video and a broken file."""
    media = tmp_path / "media"
    media.mkdir()
    for number in range(IMAGES):
        (media / f"{number}.jpg").write_bytes(assets.pillow(assets.picture(60 + number, 80), "JPEG"))
    (media / "clip.mp4").write_bytes(clips.clip(frames=20))
    (media / "broken.jpg").write_bytes(b"no image")
    score(_config(tiny_bundle, tmp_path, "one", overlays=True))
    return tmp_path / "one"


def _config(bundle: Bundle, home: Path, out: str, **options) -> ScoreConfig:
    options = {"regions": True} | options
    return ScoreConfig(
        bundle=bundle.uri, manifest=str(home / "media"), out=str(home / out), provider="cpu", segment_frames=8,
        part_units=4, **options,
    )  # fmt: skip


def _rows(out: Path) -> list[dict]:
    return ledger.sorted_rows(str(out), "masks", but=("run_id",))


@pytest.mark.parametrize("by", ["sha256", "version"])
def test_reuse_gives_the_tables_of_a_full_run(by: str, earlier_run: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    media = tmp_path / "media"
    (media / "0.jpg").write_bytes(assets.pillow(assets.picture(99, 80), "JPEG"))
    (media / "new.jpg").write_bytes(assets.pillow(assets.picture(98, 80), "JPEG"))
    (media / "1.jpg").unlink()
    summary = score(_config(tiny_bundle, tmp_path, "two", overlays=True, reuse=str(earlier_run), reuse_by=by))
    score(_config(tiny_bundle, tmp_path, "afresh", overlays=True))

    assert summary["reused_items"] == IMAGES - 2 + 1, "all but the changed and the deleted, and the video"
    assert summary["items"] == {"total": IMAGES + 2, "scored": IMAGES + 1, "failed": 1, "not_in_manifest": 0}
    assert _rows(tmp_path / "two") == _rows(tmp_path / "afresh")
    for name in ("class_stats", "failures", "regions"):
        assert ledger.sorted_rows(str(tmp_path / "two"), name) == ledger.sorted_rows(str(tmp_path / "afresh"), name)
    assert runs.verify(str(tmp_path / "two")) == []
    overlays = [sorted(path.name for path in (tmp_path / out / "overlays").iterdir()) for out in ("two", "afresh")]
    assert overlays[0] == overlays[1]


def test_reused_rows_have_the_new_manifests_columns(earlier_run: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [f"{number}.jpg,{tmp_path}/media/{number}.jpg,tree {number}" for number in range(IMAGES)]
    (tmp_path / "new.csv").write_text("id,uri,tree\n" + "\n".join(rows) + "\n")
    config = ScoreConfig(
        bundle=tiny_bundle.uri, manifest=str(tmp_path / "new.csv"), out=str(tmp_path / "two"), provider="cpu",
        segment_frames=8, overlays=True, regions=True, reuse=str(earlier_run),
    )  # fmt: skip
    assert score(config)["reused_items"] == IMAGES
    trees = {row["item_id"]: row["tree"] for row in _rows(tmp_path / "two")}
    assert trees == {f"{number}.jpg": f"tree {number}" for number in range(IMAGES)}


def test_a_touched_file_is_unchanged_by_sha256_and_changed_by_version(
    earlier_run: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    os.utime(tmp_path / "media" / "0.jpg", (1, 1))
    by_version = score(_config(tiny_bundle, tmp_path, "two", overlays=True, reuse=str(earlier_run), reuse_by="version"))
    by_sha256 = score(_config(tiny_bundle, tmp_path, "three", overlays=True, reuse=str(earlier_run)))
    assert (by_version["reused_items"], by_sha256["reused_items"]) == (IMAGES, IMAGES + 1)


def test_results_of_other_options_are_not_reused(earlier_run: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    summary = score(_config(tiny_bundle, tmp_path, "two", mask_size="model", reuse=str(earlier_run)))
    assert summary["reused_items"] == 0
    assert summary["items"]["scored"] == IMAGES + 1
    facts = runs.read_fingerprint(str(earlier_run))
    assert why_not_reusable(str(earlier_run), facts | {"manifest": "other"}) is None
    without = {name: value for name, value in facts.items() if name not in {"tables", "min_region_px"}}
    assert why_not_reusable(str(earlier_run), without) == "min_region_px differs; tables differs"


def test_reusing_a_missing_run_or_the_run_itself_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "0.jpg").write_bytes(assets.pillow(assets.picture(1, 80), "JPEG"))
    with pytest.raises(OutputError, match=r"holds no run"):
        score(_config(tiny_bundle, tmp_path, "two", reuse=str(tmp_path / "never")))
    with pytest.raises(ConfigError, match=r"--reuse is .* --out too"):
        score(_config(tiny_bundle, tmp_path, "three", reuse=str(tmp_path / "three")))
