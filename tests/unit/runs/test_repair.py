"""Repair of damaged runs, and changes of a finished run that leave alone what a killed job has staged."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import masks, runs
from fsf_core.errors import OutputError
from fsf_core.media import rasters
from tests.support import ledger
from tests.support.ledger import commit, image, publish

FINGERPRINT = {"bundle": "ab" * 32, "classes": ["a", "b"]}


def _summary(items: int) -> dict:
    return {"items": {"total": items, "scored": items, "failed": 0, "not_in_manifest": 0}, "frames": items}


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A finished run of two parts."""
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as attempt:
        commit(attempt, image("a"))
        commit(attempt, image("b"))
        publish(attempt, _summary(2))
    return uri


def _rot(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _no_videos(_: runs.Ledger) -> list:
    return []


def test_a_rotten_part_leaves_the_run_and_its_items_are_scored_again(run: str) -> None:
    _rot(next(Path(run, "masks").glob("*.parquet")))
    assert [line.partition(":")[0] for line in runs.verify(run)] == ["torn"]
    outcome = runs.repair(run, _no_videos)

    assert (len(outcome.damaged), outcome.finished) == (1, False)
    assert not Path(run, "_SUCCESS").exists()
    assert len(list(Path(run, "masks").glob("*.parquet"))) == 1
    assert len(runs.find_completed(runs.load_ledger(run)).items) == 1
    with ledger.claim_run(run, fingerprint=FINGERPRINT, details={}) as attempt:
        commit(attempt, image("a"))
        commit(attempt, image("b"))
        publish(attempt, _summary(2))
    assert runs.verify(run) == []


def test_a_stray_file_is_deleted_and_the_run_stays_finished(run: str) -> None:
    before = ledger.sorted_rows(run, "masks")
    Path(run, "masks", "part-stray.parquet").write_bytes(next(Path(run, "masks").glob("*.parquet")).read_bytes())
    assert runs.verify(run) == ["orphan: masks/part-stray.parquet belongs to no part of the run"]
    outcome = runs.repair(run, _no_videos)

    assert (outcome.damaged, outcome.removed_files, outcome.finished) == ({}, 1, True)
    assert runs.verify(run) == []
    assert ledger.sorted_rows(run, "masks") == before


def test_a_run_that_never_began_cannot_be_repaired(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no run"):
        runs.repair(str(tmp_path), _no_videos)


def _stage_more(run: str) -> None:
    """Leave what a job leaves that was killed while it scored new items of a finished run."""
    with ledger.claim_run(run, fingerprint=FINGERPRINT, details={}) as attempt:
        commit(attempt, image("new"))


def test_a_killed_job_leaves_a_finished_run_whole(run: str) -> None:
    before = ledger.sorted_rows(run, "masks")
    _stage_more(run)

    assert runs.verify(run) == []
    assert ledger.sorted_rows(run, "masks") == before


@pytest.mark.parametrize("change", ["repair", "publish"])
def test_a_change_of_a_finished_run_keeps_what_a_killed_job_has_staged(change: str, run: str) -> None:
    before = ledger.sorted_rows(run, "masks")
    _stage_more(run)
    if change == "repair":
        Path(run, "masks", "part-stray.parquet").touch()
        assert runs.repair(run, _no_videos).finished
    else:  # as `fsf render` does
        with runs.locked_run(run, finished=True) as lease:
            attempt = runs.begin_change(run, lease)
            parts = runs.load_ledger(run, staged=False)
            runs.publish(attempt, parts, runs.read_summary(run), keep_staged=True)
    assert runs.verify(run) == []
    assert ledger.sorted_rows(run, "masks") == before

    with ledger.claim_run(run, fingerprint=FINGERPRINT, details={}) as attempt:
        assert len(runs.find_completed(runs.load_ledger(run)).items) == 3
        publish(attempt, _summary(3))
    assert [row["item_id"] for row in ledger.sorted_rows(run, "masks")] == ["a", "b", "new"]
    assert runs.verify(run) == []
    numbers = [each["number"] for each in json.loads(Path(run, "run.json").read_text())["attempts"]]
    assert numbers == [1, 2, 4]


@pytest.mark.parametrize("last", ["manifest.json", "summary.json"])
def test_a_change_completes_a_publication_that_was_interrupted(
    last: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the score command could; `fsf render` refused the run for ever."""
    really = runs.Attempt.replace

    def dying(attempt: runs.Attempt, path: str, data: bytes) -> None:
        really(attempt, path, data)
        if path == last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, ledger.claim_run(run, fingerprint=FINGERPRINT, details={}) as attempt:
        commit(attempt, image("new"))
        patch.setattr(runs.Attempt, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            publish(attempt, _summary(3))
    assert not Path(run, "_SUCCESS").exists()

    with runs.locked_run(run, finished=True) as lease:
        attempt = runs.begin_change(run, lease)
        parts = runs.load_ledger(run, strict=True, staged=False)
        runs.publish(attempt, parts, runs.read_summary(run), keep_staged=True)
    assert [row["item_id"] for row in ledger.sorted_rows(run, "masks")] == ["a", "b", "new"]
    assert runs.verify(run) == []


def test_a_lost_overlay_is_named_and_its_items_are_scored_again(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as attempt:
        for name in ("a", "b"):
            attempt.staging.replace(f"overlays/{name}.jpg", b"overlay")
            tables = ledger.tables_of([image(name)])
            at = tables["masks"].column_names.index("overlay")
            field = tables["masks"].schema.field("overlay")
            tables["masks"] = tables["masks"].set_column(at, field, pa.array([f"overlays/{name}.jpg"]))
            runs.commit(attempt.staging, tables, ledger.rows_of([image(name)]))
        publish(attempt, _summary(2))
    assert runs.verify(uri) == []
    Path(uri, "overlays", "b.jpg").unlink()

    assert [line.partition(" is named")[0] for line in runs.verify(uri)] == ["missing: overlays/b.jpg"]
    assert not runs.repair(uri, _no_videos).finished
    assert ledger.sorted_rows(uri, "masks")[0]["item_id"] == "a"
    assert len(ledger.sorted_rows(uri, "masks")) == 1


def test_a_torn_mask_outside_of_the_tables_is_named_and_its_items_are_scored_again(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details={}) as attempt:
        for name in ("a", "b"):
            tables = ledger.tables_of([image(name)])
            [row] = tables["masks"].to_pylist()
            size = {"height_px": row["height_px"], "width_px": row["width_px"]}
            with (
                attempt.staging.replacing(f"masks_tiff/{name}.tif") as local,
                rasters.MaskWriter(local, **size, num_classes=2, palette_K3=masks.voc_palette(2)) as writer,
            ):
                writer.write(0, np.zeros((row["height_px"], row["width_px"]), np.uint8))
            row["mask"] = {"bytes": None, "path": f"masks_tiff/{name}.tif"}
            tables["masks"] = pa.Table.from_pylist([row], tables["masks"].schema)
            runs.commit(attempt.staging, tables, ledger.rows_of([image(name)]))
        publish(attempt, _summary(2))
    assert runs.verify(uri) == []
    with Path(uri, "masks_tiff", "b.tif").open("r+b") as file:
        file.truncate(700)

    [problem] = runs.verify(uri)
    assert problem.startswith("torn: ")
    assert "masks_tiff/b.tif cannot be read" in problem
    assert not runs.repair(uri, _no_videos).finished
    assert [row["item_id"] for row in ledger.sorted_rows(uri, "masks")] == ["a"]
