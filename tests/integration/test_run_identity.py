"""Which list a run belongs to, and which rows of it: scored, resumed and reused in this process."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsf_core import render, runs
from fsf_core.config import ScoreConfig
from fsf_core.errors import OutputError
from fsf_core.manifest import open_manifest
from fsf_core.model.bundle import Bundle
from fsf_core.schema import TABLES
from fsf_core.score.job import score
from tests.support import assets, clips, labelled, ledger

pytestmark = pytest.mark.usefixtures("ray_here")


def _write_media(folder: Path, *, width_px: int = 64) -> None:
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.png").write_bytes(assets.pillow(assets.picture(width_px + number, 48), "PNG"))
    (folder / "clip.mp4").write_bytes(clips.clip(frames=20))
    (folder / "broken.jpg").write_bytes(b"no image")


def _score(bundle: Bundle, manifest: object, out: Path, **options: Any) -> dict[str, Any]:
    fixed = {"bundle": bundle.uri, "provider": "cpu", "segment_frames": 8, "part_units": 2}
    return score(ScoreConfig(**fixed, manifest=str(manifest), out=str(out), **options))


def _recorded_digests(out: Path) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for receipt in runs.receipts(str(out)):
        for unit in receipt.units.to_pylist():
            found.setdefault(unit["item_id"], set()).add(unit["row_digest"])
    return found


def _listed_digests(manifest: object) -> dict[str, set[bytes]]:
    opened = open_manifest(str(manifest))
    return {
        item_id: {digest}
        for batch in opened.batches()
        for item_id, digest in zip(batch["item_id"].to_pylist(), opened.digests(batch).to_pylist(), strict=True)
    }


def test_a_run_belongs_to_the_address_of_its_list(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_media(tmp_path / "a" / "photos")
    _write_media(tmp_path / "b" / "photos", width_px=90)
    (tmp_path / "link").symlink_to("a")
    monkeypatch.chdir(tmp_path / "a")
    first = _score(tiny_bundle, "photos", tmp_path / "run")
    ways = ["./photos/", "../a/photos", tmp_path / "a/photos", f"file://{tmp_path}/link/photos", "../link/photos"]
    again = [_score(tiny_bundle, way, tmp_path / "run", keep_failures=True) for way in ways]

    assert [summary["resumed_items"] for summary in again] == [4] * len(ways)
    assert {summary["run_id"] for summary in again} == {first["run_id"]}
    monkeypatch.chdir(tmp_path / "b")
    for way in ("photos", "photos/*", "../a"):
        with pytest.raises(OutputError, match=rf"is another run \(manifest: '{tmp_path}/a/photos' -> '{tmp_path}/"):
            _score(tiny_bundle, way, tmp_path / "run")


def test_receipts_have_the_digest_of_every_row(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Of images, of every segment of a video, of failures, and of what is copied from an earlier run."""
    _write_media(tmp_path / "media")
    names = sorted(path.name for path in (tmp_path / "media").iterdir())
    for label in ("old", "new"):
        rows = [f"{name},media/{name},{label} {number}" for number, name in enumerate(names)]
        (tmp_path / f"{label}.csv").write_text("\n".join(["id,uri,label", *rows]))
    _score(tiny_bundle, tmp_path / "old.csv", tmp_path / "one")
    copied = _score(tiny_bundle, tmp_path / "new.csv", tmp_path / "two", reuse=str(tmp_path / "one"))

    assert copied["reused_items"] == 3
    assert _recorded_digests(tmp_path / "one") == _listed_digests(tmp_path / "old.csv")
    assert _recorded_digests(tmp_path / "two") == _listed_digests(tmp_path / "new.csv")
    assert _recorded_digests(tmp_path / "one").keys() == _recorded_digests(tmp_path / "two").keys() == {*names}
    labels = {row["item_id"]: row["label"] for row in runs.read_table(str(tmp_path / "two"), "masks").to_pylist()}
    assert labels == {name: f"new {number}" for number, name in enumerate(names) if name != "broken.jpg"}


def test_the_output_of_a_run_is_not_its_input(tiny_bundle: Bundle, tmp_path: Path) -> None:
    _write_media(tmp_path / "media")
    out = tmp_path / "media" / "run"
    summaries = [_score(tiny_bundle, tmp_path / "media", out, overlays=True, render="blend") for _ in range(2)]

    assert any((out / "overlays").iterdir())
    assert any((out / "videos").glob("*.mp4"))
    assert [summary["items"]["total"] for summary in summaries] == [4, 4]
    assert summaries[0]["items"] == summaries[1]["items"]


def test_rows_that_changed_in_the_list_are_scored_anew(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_media(tmp_path / "media")
    (tmp_path / "media" / "longer.mp4").write_bytes(clips.clip(frames=30))
    before = {"0.png": ("0.png", "train"), "1.png": ("1.png", "train"), "clip": ("clip.mp4", "train")}
    after = {"0.png": ("0.png", "test"), "1.png": ("1.png", "train"), "clip": ("longer.mp4", "train")}
    for content in (before, after):
        rows = [f"{item_id},media/{name},{split}" for item_id, (name, split) in content.items()]
        (tmp_path / "list.csv").write_text("\n".join(["id,uri,split", *rows, ""]))
        with caplog.at_level(logging.INFO, "fsf"):
            summary = _score(tiny_bundle, tmp_path / "list.csv", tmp_path / "run", overlays=True, render="blend")
    again = _score(tiny_bundle, tmp_path / "list.csv", tmp_path / "run", overlays=True, render="blend")
    _score(tiny_bundle, tmp_path / "list.csv", tmp_path / "fresh", overlays=True, render="blend")

    assert (summary["changed_items"], summary["resumed_items"], summary["frames"]) == (2, 1, 32)
    assert summary["removed"] == {"superseded_units": 4}, "an image, and a video of three segments"
    assert "event=items_changed items=2" in caplog.text
    assert (again["changed_items"], again["resumed_items"], again["removed"]) == (0, 3, {})
    for table in ("masks", "class_stats"):
        found, expected = (
            ledger.sorted_rows(str(tmp_path / out), table, but={"run_id"} & {*TABLES[table].names})
            for out in ("run", "fresh")
        )
        assert found == expected
    assert runs.verify(str(tmp_path / "run")) + render.verify(str(tmp_path / "run")) == []
    drawn = [next((tmp_path / out / "videos").glob("*.mp4")) for out in ("run", "fresh")]
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


def test_labels_that_changed_between_starts_are_counted_where_the_list_tells_of_it(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """Another address is another row, which is scored anew; other bytes at the same address are not looked at again.

    An item whose label could not be read is a failure, and is tried again with the label of the next start.
    """
    pixels = assets.picture(30, 40)
    names = ["moved", "given", "taken", "rewritten", "mended", "kept"]
    labels = {name: labelled.label(30, 40, seed=number, ignored=0) for number, name in enumerate(names)}
    for name, label_HW in labels.items():
        (tmp_path / f"{name}.png").write_bytes(assets.pillow(pixels, "PNG"))
        (tmp_path / f"{name}.label.png").write_bytes(labelled.encode(label_HW))
    (tmp_path / "old.label.png").write_bytes(labelled.encode(np.full((30, 40), 255, np.uint8)))
    before = dict.fromkeys(names, "") | {name: f"{name}.label.png" for name in names[2:]} | {"moved": "old.label.png"}
    (tmp_path / "mended.label.png").write_bytes(b"no label")
    rewritten = labelled.encode(labels["rewritten"])
    (tmp_path / "rewritten.label.png").write_bytes(labelled.encode(np.full((30, 40), 255, np.uint8)))

    def start(label_uris: dict[str, str]) -> dict:
        labelled.write_list(tmp_path, [(name, f"{name}.png", uri) for name, uri in label_uris.items()])
        return _score(tiny_bundle, tmp_path / "list.csv", tmp_path / "run")

    first = start(before)
    (tmp_path / "mended.label.png").write_bytes(labelled.encode(labels["mended"]))
    (tmp_path / "rewritten.label.png").write_bytes(rewritten)
    second = start({name: "" if name == "taken" else f"{name}.label.png" for name in names})

    assert (first["items"]["failed"], second["items"]["failed"]) == (1, 0)
    assert (second["changed_items"], second["resumed_items"]) == (3, 2)
    run = runs.open_run(str(tmp_path / "run"))
    for name in ("moved", "given", "mended", "kept"):
        expected = labelled.expected_pixels(run, name, {0: labels[name]})
        assert (labelled.pixels_of(run, name) == expected).all(), name
    assert run.confusion(item_id="taken").num_rows == run.confusion(item_id="rewritten").num_rows == 0
    facts = {row["item_id"]: row for row in run.masks().to_pylist()}
    assert facts["rewritten"]["label_ignored_px"] == 30 * 40
    assert facts["rewritten"]["label_sha256"] != hashlib.sha256(rewritten).hexdigest()
    assert facts["taken"]["label_sha256"] is None


def test_an_item_whose_columns_changed_takes_them_from_the_list_with_reuse(tiny_bundle: Bundle, tmp_path: Path) -> None:
    _write_media(tmp_path / "media")
    for split in ("train", "test"):
        (tmp_path / "list.csv").write_text(f"id,uri,split\n0,media/0.png,{split}\n1,media/1.png,train\n")
        options = {"reuse": str(tmp_path / "one")} if split == "test" else {}
        for out in ("one", "two") if split == "train" else ("two",):
            summary = _score(tiny_bundle, tmp_path / "list.csv", tmp_path / out, **options)

    assert (summary["changed_items"], summary["reused_items"]) == (1, 1)
    splits = {row["item_id"]: row["split"] for row in runs.read_table(str(tmp_path / "two"), "masks").to_pylist()}
    assert splits == {"0": "test", "1": "train"}
