"""`fsf score --tile`: a run of pictures scored in windows, and every command that reads its masks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from fsf_core import runs
from fsf_core.cli.app import main
from fsf_core.config import ScoreConfig
from fsf_core.errors import OutputError
from fsf_core.model.bundle import Bundle
from fsf_core.score.job import score
from tests.support import assets, clips, crashers, ledger, processes
from tests.support.processes import Job

LIMIT_PX = 250_000
"""Pictures above it have no PNG."""

TRANSFORM = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def _photo(height_px: int, width_px: int, seed: int) -> np.ndarray:
    return np.roll(assets.picture(height_px, width_px), 37 * seed, axis=(0, 1))


def _geotiff(path: Path, height_px: int, width_px: int, seed: int) -> None:
    size = {"height": height_px, "width": width_px}
    kind = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "blockxsize": 128, "blockysize": 128}
    with rasterio.open(path, "w", **kind, **size, compress="deflate", crs="EPSG:32632", transform=TRANSFORM) as file:
        file.write(_photo(height_px, width_px, seed).transpose(2, 0, 1))


def _media(folder: Path) -> Path:
    folder.mkdir(parents=True)
    _geotiff(folder / "small.tif", 460, 500, 1)
    _geotiff(folder / "large.tif", 700, 500, 2)
    Image.fromarray(_photo(300, 410, 3)).save(folder / "plain.png")
    Image.fromarray(_photo(90, 100, 4)).save(folder / "tiny.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff no image")
    (folder / "clip.mp4").write_bytes(clips.clip(frames=20))
    return folder


def _config(bundle: Bundle, media: Path, out: Path, **options: object) -> ScoreConfig:
    chosen = {"tile": True, "overlap": 40, "overlays": True, "regions": True, "max_pixels": LIMIT_PX} | options
    return ScoreConfig(bundle=bundle.uri, manifest=str(media), out=str(out), provider="cpu", segment_frames=8, **chosen)


@pytest.fixture(scope="module")
def home(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    """A folder with media, and a run of them."""
    folder = tmp_path_factory.mktemp("tiles")
    score(_config(tiny_bundle, _media(folder / "media"), folder / "run"))
    return folder


@pytest.fixture
def called(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return what calls a command on the run, and returns its exit code and its output."""

    def call(name: str, *arguments: str) -> tuple[int, str]:
        code = main([name, str(home / "run"), *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def _rows(out: Path) -> dict[str, dict]:
    return {row["item_id"]: row for row in runs.read_table(str(out), "masks").to_pylist()}


def test_a_picture_has_a_png_a_tiff_or_both(home: Path) -> None:
    rows = _rows(home / "run")
    forms = {name: (bool(row["mask"]["bytes"]), bool(row["mask"]["path"])) for name, row in rows.items()}
    assert forms == {
        "large.tif": (False, True), "small.tif": (True, True), "plain.png": (True, False), "tiny.png": (True, False),
    }  # fmt: skip
    assert all((home / "run" / row["overlay"]).is_file() for row in rows.values())
    assert rows["large.tif"]["notes"] == "scored in 12 windows of 224×224 pixels"
    assert "smaller than a window" in rows["tiny.png"]["notes"]
    failures = runs.read_table(str(home / "run"), "failures").to_pylist()
    assert {row["item_id"]: row["error_type"] for row in failures} == {
        "bad.jpg": "DecodeError",
        "clip.mp4": "LimitError",
    }
    assert runs.verify(str(home / "run")) == []
    counted = {row["item_id"] for row in runs.read_table(str(home / "run"), "regions").to_pylist()}
    assert "large.tif" in counted


def test_masks_as_tiff_are_on_the_ground_of_their_pictures(home: Path) -> None:
    rows, run = _rows(home / "run"), runs.open_run(str(home / "run"))
    for name in ("small.tif", "large.tif"):
        with (
            rasterio.open(home / "run" / rows[name]["mask"]["path"]) as file,
            rasterio.open(home / "media" / name) as of,
        ):
            assert (file.crs, file.transform, file.shape) == (of.crs, of.transform, of.shape)
            assert (file.read(1) == run.mask(name)).all()
            assert file.colormap(1)[3][:3] == tuple(run.palette[3])
        pixels = np.bincount(run.mask(name).reshape(-1), minlength=4).tolist()
        stats = runs.read_table(str(home / "run"), "class_stats", item_id=name).sort_by("class_id")
        assert stats.column("pixels").to_pylist() == pixels


def test_another_overlap_is_another_run(home: Path, tiny_bundle: Bundle) -> None:
    for options in ({"overlap": 41}, {"tile": False, "overlap": None}):
        with pytest.raises(OutputError, match=r"is another run .*tile"):
            score(_config(tiny_bundle, home / "media", home / "run", **options))
    assert runs.read_document(str(home / "run"), "run.json")["layout"] == 4
    assert score(_config(tiny_bundle, home / "media", home / "run"))["resumed_items"] == 4


def test_a_mask_that_is_gone_is_found_and_scored_again(home: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    path = tmp_path / "run" / _rows(home / "run")["large.tif"]["mask"]["path"]
    data = path.read_bytes()
    path.unlink()
    [problem] = runs.verify(str(tmp_path / "run"))
    assert problem.startswith(f"missing: masks_tiff/{path.name} is named in ")
    assert main(["verify", str(tmp_path / "run"), "--repair"]) != 0
    score(_config(tiny_bundle, home / "media", tmp_path / "run"))
    assert path.read_bytes() == data
    assert runs.verify(str(tmp_path / "run")) == []


def test_reuse_copies_masks_outside_of_the_tables(home: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    summary = score(_config(tiny_bundle, home / "media", tmp_path / "two", reuse=str(home / "run")))
    assert summary["reused_items"] == 4
    assert processes.rows_of(tmp_path / "two") == processes.rows_of(home / "run")
    names = [path.name for path in (home / "run" / "masks_tiff").iterdir()]
    assert len(names) == 2
    for name in names:
        assert (tmp_path / "two/masks_tiff" / name).read_bytes() == (home / "run/masks_tiff" / name).read_bytes()


def test_a_killed_job_resumes_to_the_same_bytes(home: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    _geotiff(media / "a.tif", 4_000, 3_000, 5)
    shutil.copy(home / "media" / "large.tif", media / "b.tif")
    words = (
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(media), "--provider", "cpu", "--actors", "1",
        "--tile", "--overlap", "40", "--max-pixels", str(LIMIT_PX),
    )  # fmt: skip
    job = Job(*words, "--out", str(tmp_path / "killed"))
    drafts = (tmp_path / "killed").glob
    processes.wait_for(lambda: [*drafts(".attempt-*/masks_tiff/*")])
    processes.kill_all(job.kill_group())
    assert not (tmp_path / "killed/_SUCCESS").exists()
    for out in ("killed", "whole"):
        code, output = processes.fsf(*words, "--out", str(tmp_path / out))
        assert code == 0, output
    assert processes.rows_of(tmp_path / "killed") == processes.rows_of(tmp_path / "whole")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / out / "masks_tiff").iterdir()}
        for out in ("killed", "whole")
    ]
    assert len(files[0]) == 2
    assert files[0] == files[1]
    assert runs.verify(str(tmp_path / "killed")) == []


def test_a_picture_that_ends_its_process_costs_one_failure(tiny_bundle: Bundle, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for number in range(3):
        Image.fromarray(_photo(300, 410, number)).save(media / f"{number}.png")
    for kind in ("kill", "hang"):
        (media / f"{kind}.png").write_bytes(crashers.picture(kind))
    code, output = processes.fsf(
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(media), "--provider", "cpu", "--tile", "--item-seconds",
        "3", "--out", str(tmp_path / "run"), PYTHONPATH=crashers.POISON,
    )  # fmt: skip
    assert code == 0, output
    failures = {row["item_id"]: row for row in ledger.sorted_rows(str(tmp_path / "run"), "failures")}
    assert {name: row["error_type"] for name, row in failures.items()} == {
        "kill.png": "CrashError", "hang.png": "CrashError",
    }  # fmt: skip
    assert "ended its process 3 times" in failures["kill.png"]["error_message"]
    assert sorted(_rows(tmp_path / "run")) == ["0.png", "1.png", "2.png"]


def test_inspect_draws_pictures_of_both_forms(called: Callable, tmp_path: Path) -> None:
    for name in ("large.tif", "small.tif"):
        code, output = called("inspect", name, "--png", str(tmp_path / "drawn.png"))
        assert code == 0, output
        assert Image.open(tmp_path / "drawn.png").size[0] == 500
        assert "note: scored in" in output


def test_a_report_shows_pictures_of_both_forms(called: Callable, home: Path, tmp_path: Path) -> None:
    code, output = called("report", "--out", str(tmp_path / "page.html"), "--against", str(home / "run"))
    assert code == 0, output
    page = (tmp_path / "page.html").read_text()
    assert "large.tif" in page
    assert "not shown" not in page


def test_evaluate_names_the_masks_that_it_cannot_compare(called: Callable, home: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    run = runs.open_run(str(home / "run"))
    for name in ("large", "small"):
        Image.fromarray(run.mask(f"{name}.tif")).save(labels / f"{name}.png")
    code, output = called("evaluate", str(labels))
    assert code in (0, 3), output
    assert "is a TIFF, masks_tiff/large_tif" in output


def test_diff_compares_what_has_a_png_and_select_what_has_a_tiff_too(called: Callable, home: Path) -> None:
    code, output = called("diff", str(home / "run"))
    assert code == 0, output
    pixels = json.loads(output.splitlines()[-1])["pixels"]
    assert (pixels["frames"], pixels["frames_too_large"]) == (3, 1)
    code, output = called("select", "--by", "change", "--against", str(home / "run"))
    assert code == 0, output
    assert json.loads(output.splitlines()[-1])["left_out"] == {"unchanged": 4}


def test_items_in_windows_are_not_scored_again_whole(called: Callable, home: Path, tiny_bundle: Bundle) -> None:
    code, output = called("diff", str(home / "run"), "--bundle-b", tiny_bundle.uri)
    assert code == 2
    assert "was scored with --tile, and items are scored again whole" in output


@pytest.mark.parametrize("form", ["png", "coco", "hf"])
def test_a_form_of_pngs_refuses_a_picture_without_one(called: Callable, tmp_path: Path, form: str) -> None:
    code, output = called("publish", "--to", form, "--out", str(tmp_path / "out"))
    assert code == 2, output
    assert "item 'large.tif': the mask of this picture is a TIFF" in output


def test_delta_tables_keep_the_path(called: Callable, tmp_path: Path) -> None:
    import deltalake

    code, output = called("publish", "--to", "delta", "--out", str(tmp_path / "out"))
    assert code == 0, output
    rows = deltalake.DeltaTable(str(tmp_path / "out/masks")).to_pyarrow_table().to_pylist()
    [large] = [row["mask"] for row in rows if row["item_id"] == "large.tif"]
    assert large["bytes"] is None
    assert large["path"].startswith("masks_tiff/large_tif-")
