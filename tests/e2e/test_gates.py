"""Gates and their exit codes, and secrets, which appear nowhere."""

import shutil
from pathlib import Path

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from fsf_core.schema import TABLES
from tests.support import assets
from tests.support.processes import fsf


def _images(folder: Path, *, good: int, bad: int) -> Path:
    folder.mkdir()
    for number in range(good):
        (folder / f"good {number}.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    for number in range(bad):
        (folder / f"bad {number}.jpg").write_text("no image")
    return folder


def test_more_failures_than_allowed_end_a_finished_run_with_3(tiny_bundle: Bundle, tmp_path: Path) -> None:
    images = _images(tmp_path / "images", good=3, bad=1)
    words = ["score", "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run")]
    gates = ["--fail-if", "frames < 3", "--fail-if", "failed_share > 20% or confidence > 1"]
    refused, output = fsf(*words, "--max-failed-share", "0.2", *gates)
    summary = runs.read_summary(str(tmp_path / "run"))
    again, output_again = fsf(*words, "--max-failed-share", "0.2", *gates)
    allowed, _ = fsf(*words, "--max-failed-share", "0.25", *gates[:2])

    assert (refused, again, allowed) == (3, 3, 0)
    reasons = [line for line in output.splitlines() if line.startswith("gate: ")]
    assert reasons == [line for line in output_again.splitlines() if line.startswith("gate: ")]
    assert "1 of 4 items failed" in reasons[0]
    assert reasons[1].startswith("gate: failed_share > 20% or confidence > 1 (failed_share is 0.25, confidence is 0.")
    assert [gate["passed"] for gate in summary["gates"]] == [True, False, True, False]
    assert runs.verify(str(tmp_path / "run")) == []
    size_bytes = sum(path.stat().st_size for path in images.iterdir())
    _assert_work_is_that_of_the_first_start(summary, runs.read_summary(str(tmp_path / "run")), size_bytes)


def _assert_work_is_that_of_the_first_start(first: dict, last: dict, size_bytes: int) -> None:
    """The figures are measured on a cluster of the job's own too, and starts that score nothing change none."""
    work, stages = first["work"], {stage["stage"]: stage for stage in first["work"]["stages"]}
    assert (work["starts"], work["frames"], work["model_frames"]) == (1, 3, 3)
    assert last["work"] == work
    assert last["lineage"] == first["lineage"]
    assert 0 < work["model_busy_seconds"] < work["actor_seconds"] < 2 * work["job_seconds"] + 60
    for name in ("decode", "infer", "mask", "write"):
        assert stages[name]["seconds"] > 0, name
        assert stages[name]["cpu_seconds"] > 0, name
    assert size_bytes <= work["bytes_read_from_disks"] < size_bytes + 5_000_000
    assert work["bytes_written"] > 3_000
    assert first["figures"]["confidence"]["items"] == 3


def test_a_wrong_input_stops_the_job_early_and_the_corrected_input_resumes_it(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    images = _images(tmp_path / "images", good=0, bad=600)
    out = tmp_path / "run"
    words = ["score", "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(out)]
    code, output = fsf(*words, "--early-items", "50")

    assert code == 3, output
    assert "of the first" in output
    assert "items failed" in output
    assert "DataContext" not in output, "a hint of Ray Data that helps nobody here"
    assert not (out / "_SUCCESS").exists()
    assert runs.read_table(str(out), "failures").num_rows < 600
    for number in range(600):
        (images / f"bad {number}.jpg").write_bytes(assets.pillow(assets.picture(20, 30), "JPEG"))
    code, output = fsf(*words, "--early-items", "50")
    assert code == 0, output
    assert runs.verify(str(out)) == []


def test_a_first_part_larger_than_early_items_can_stop_the_job(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Only between N and 2 N items was the share checked."""
    images = _images(tmp_path / "images", good=1, bad=80)
    code, output = fsf(
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run"),
        "--early-items", "5", "--part-units", "64",
    )  # fmt: skip

    assert code == 3, output
    assert "of the first" in output


def test_secrets_in_a_uri_that_no_library_opens_appear_nowhere(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,uri\nfar,s3://AKIAEXAMPLE:s3cr3tKey@bucket.invalid/a.jpg\n")
    out = tmp_path / "run"
    code, output = fsf(
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(tmp_path / "items.csv"), "--out", str(out)
    )

    assert code in {2, 3}, output  # 3: the library is installed, and there is no such bucket
    assert "***" in output or code == 3
    assert "s3cr3tKey" not in output
    assert not _files_with("s3cr3tKey", [out])


def _files_with(secret: str, folders: list[Path]) -> list[Path]:
    """Regular files that hold the secret; tables are compressed, but the receipts and JSON beside them are not."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    found = [path for path in files if secret.encode() in path.read_bytes()]
    tables = [str(row) for folder in folders for name in TABLES for row in _rows(folder, name)]
    return found + [Path(secret) for row in tables if secret in row]


def _rows(folder: Path, name: str) -> list[dict]:
    return runs.read_table(str(folder), name).to_pylist() if (folder / "run.json").exists() else []


def test_secrets_in_options_appear_nowhere(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.uri, tmp_path / "bundle")
    code, output = fsf(
        "score", "--bundle", str(tmp_path / "bundle"), "--manifest", "https://user:s3cr3tPa55@127.0.0.1:9/items.csv",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip

    assert code == 2
    assert "s3cr3tPa55" not in output
    assert "***" in output
