"""Runs and bundles of an earlier version are read, resumed, reused and published like those of this version."""

import importlib.metadata
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fsf_core import render, runs
from fsf_core.config import ExportConfig, ScoreConfig
from fsf_core.errors import OutputError
from fsf_core.export import request as requests
from fsf_core.export.job import export
from fsf_core.export.request import RECIPE_VERSION
from fsf_core.model.bundle_files import load_bundle
from fsf_core.publish.delta import publish_delta
from fsf_core.report.inspect import draw, item_table, run_table
from fsf_core.runs import video_stats
from fsf_core.runs.compaction import compact
from fsf_core.schema import FRAME_FIGURES
from fsf_core.score.job import score
from fsf_core.score.render import render_run
from tests.support import ledger

pytestmark = pytest.mark.usefixtures("ray_here")

HOME = Path("/tmp/fsf-layout-1")  # noqa: S108 - its tables hold absolute addresses
CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
LOOK = {"style": "blend", "legend": True, "clear": False}

FILES_OF_RECIPE = {
    3: {
        "onnx": {"fused": "96f2496b3bb3c382", "plain": "7256120062d74e6c"},
        "dynamo": {
            "fp16-fused": "d6a6a4ba02e3a27a",
            "fp16-plain": "46fbc10a3af51130",
            "fused": "2c64322b947b2207",
            "plain": "430921b02c92a54c",
        },
        "torchscript": {
            "fp16-fused": "0b0eaa887f97e0e8",
            "fp16-plain": "6b8807027b7db624",
            "fused": "b08e2a6967e45c19",
            "plain": "d06ec1bea55a5169",
        },
    }
}
"""First 16 digits of the SHA-256 of the model files that each recipe version makes of tiny.onnx and tiny_net.py."""


@pytest.fixture
def home() -> Iterator[Path]:
    """The folder as version b57449c wrote it; see tests/golden/README.md."""
    shutil.rmtree(HOME, ignore_errors=True)
    with tarfile.open(Path(__file__).parents[1] / "golden" / "layout_1.tar.gz") as archive:
        archive.extractall(HOME.parent, filter="data")
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)


SUMMARY_ADDED = {"drift", "failure_reasons", "figures", "gates", "lineage", "metrics", "regions", "work"}
"""Keys of summary.json that older versions did not write."""


def _rows(out: Path) -> dict[str, list[dict]]:
    return {
        "masks": ledger.sorted_rows(str(out), "masks", but=("run_id", "item_version")),
        "class_stats": ledger.sorted_rows(str(out), "class_stats"),
        # A message is text for people and may be reworded; type and stage are compared.
        "failures": ledger.sorted_rows(str(out), "failures", but=("attempts", "error_message")),
    }


def _config(home: Path, out: str, **options) -> ScoreConfig:
    return ScoreConfig(
        bundle=str(home / "bundle"), manifest="manifest.csv", out=str(home / out), provider="cpu", segment_frames=8,
        part_units=2, overlays=True, **options,
    )  # fmt: skip


def test_an_older_run_passes_verify(home: Path) -> None:
    out = str(home / "run")

    assert runs.verify(out) + video_stats.verify(out) + render.verify(out) == []


def test_an_older_run_is_inspected(home: Path) -> None:
    table = run_table(str(home / "run"))
    drawing = draw(str(home / "run"), "clip", frame_index=3, clear_background=False)

    assert "4 items with 27 frames, 1 items with failures" in table
    assert "clip: 24 frames" in item_table(str(home / "run"), "clip")
    assert (drawing.height_px, drawing.width_px, drawing.frame_index) == (48, 64, 3)


def test_a_rendered_video_of_an_older_run_is_kept_and_another_style_renders_it_again(home: Path) -> None:
    rendered = next((home / "run" / "videos").glob("*.mp4"))
    before = rendered.stat().st_mtime_ns
    kept = render_run(str(home / "run"), None, address=None, **LOOK)
    assert (len(kept.videos), kept.failed, rendered.stat().st_mtime_ns) == (1, {}, before)
    again = render_run(str(home / "run"), None, address=None, **LOOK | {"style": "mask"})

    assert (again.videos[0].frames, again.failed) == (24, {})
    assert rendered.stat().st_mtime_ns != before
    assert render.verify(str(home / "run")) == []


def test_an_older_run_is_resumed_and_its_failures_are_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    before = _rows(home / "run")
    good = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    (home / "sources" / "broken.jpg").write_bytes(good)
    summary = score(_config(home, "run"))

    assert summary["resumed_items"] == 4
    assert summary["items"] == {"total": 5, "scored": 5, "failed": 0, "not_in_manifest": 0}
    assert summary["run_id"] == json.loads((home / "run" / "run.json").read_text())["run_id"]
    after = _rows(home / "run")
    assert [row for row in after["masks"] if row["item_id"] != "broken"] == before["masks"]
    assert runs.verify(str(home / "run")) == []


def test_an_older_run_of_a_relative_path_is_not_taken_for_the_same_path_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list was recorded as it was written; the addresses of its items tell the two apart."""
    shutil.copy(home / "manifest.csv", tmp_path)
    shutil.copytree(home / "sources", tmp_path / "sources")
    before = ledger.snapshot(str(home / "run"))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OutputError, match=rf"is another run \(manifest: 'manifest.csv' -> '{tmp_path}/manifest.csv'\)"):
        score(_config(home, "run"))
    assert ledger.snapshot(str(home / "run")) == before


def test_a_new_run_reuses_the_results_of_an_older_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    summary = score(_config(home, "next", reuse=str(home / "run")))

    assert summary["reused_items"] == 4
    assert _rows(home / "next") == _rows(home / "run")


def test_a_new_run_has_the_results_of_the_older_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    score(_config(home, "anew"))

    new, older = _rows(home / "anew"), _rows(home / "run")
    for row in new["masks"]:
        assert None not in [row[name] for name in FRAME_FIGURES]
        row.update(dict.fromkeys(FRAME_FIGURES))  # the older version did not measure them
    assert new == older


def test_an_older_run_is_compacted(home: Path) -> None:
    before = _rows(home / "run")
    out = str(home / "run")
    attempt, parts = runs.begin_change(out, ledger.HeldLease()), runs.load_ledger(out)
    joined = compact(attempt.staging, parts, target_bytes=1 << 20)
    runs.publish(attempt, parts, runs.read_document(out, "summary.json"))

    assert joined == 5
    assert _rows(home / "run") == before
    assert runs.verify(out) == []
    ledger.assert_folders_are_the_manifest(out)


def test_an_older_run_has_the_newer_layout_once_it_is_published_again(home: Path) -> None:
    out, before = str(home / "run"), _rows(home / "run")
    masks = ledger.visible_files(out, "masks")
    assert runs.read_document(out, "run.json")["layout"] == 1
    attempt = runs.begin_change(out, ledger.HeldLease())
    assert runs.read_document(out, "run.json")["layout"] == 1
    ledger.publish(attempt, runs.read_document(out, "summary.json"))

    assert [runs.read_document(out, name)["layout"] for name in ("run.json", "manifest.json")] == [2, 2]
    assert ledger.visible_files(out, "masks") == masks
    assert _rows(home / "run") == before
    assert runs.verify(out) + video_stats.verify(out) == []
    ledger.assert_folders_are_the_manifest(out)


def test_an_unfinished_older_run_keeps_its_parts(home: Path) -> None:
    """Every receipt there counted; what is committed now is staged, and both are one run."""
    out, before = str(home / "run"), _rows(home / "run")
    (home / "run" / "_SUCCESS").unlink()
    (home / "run" / "manifest.json").unlink()
    attempt = runs.begin_change(out, ledger.HeldLease())
    ledger.commit(attempt, ledger.image("late"))

    assert len(runs.load_ledger(out).parts) == len(ledger.visible_files(out, "receipts")) + 1
    late = _rows(home / "run")["masks"]
    assert [row for row in late if row["item_id"] != "late"] == before["masks"]
    assert {row["notes"] for row in late} == {None}
    assert len(late) == len(before["masks"]) + 1
    ledger.publish(attempt, runs.read_document(out, "summary.json") | {"frames": len(late)})
    assert _rows(home / "run")["masks"] == late
    ledger.assert_folders_are_the_manifest(out)


def test_an_older_run_becomes_rows_of_delta_tables(home: Path) -> None:
    from deltalake import DeltaTable

    publish_delta(str(home / "run"), str(home / "delta"))

    assert DeltaTable(str(home / "delta" / "masks")).to_pyarrow_table().num_rows == 27


def _request(home: Path, out: str) -> ExportConfig:
    return ExportConfig(onnx=str(home / "tiny.onnx"), classes=CLASSES, profile="fastsegformer", out=str(home / out))


def test_an_older_bundle_of_the_same_request_is_not_exported_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = load_bundle(str(home / "bundle")).origin.tools
    monkeypatch.setattr(requests, "tools_of", lambda *_: dict(tools))  # versions of libraries are part of the request
    monkeypatch.setattr(requests, "RECIPE_VERSION", 1)  # what bundles without a version are of

    assert export(_request(home, "bundle")).reused


def test_an_older_bundle_of_a_network_by_import_path_is_exported_again(home: Path) -> None:
    """Its code was hashed together with that of this project, so it is unknown whether it changed."""
    identity = {"network": "tests.support.tiny_net:build", "recipe": RECIPE_VERSION, "network_code": "abc"}

    assert requests.differences(identity, {"network": "tests.support.tiny_net:build", "code": "def"}) == [
        "network_code",
        "recipe",
    ]


def test_a_bundle_of_another_recipe_is_refused_with_that_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(_request(home, "mine"))
    monkeypatch.setattr(requests, "RECIPE_VERSION", RECIPE_VERSION + 1)
    with pytest.raises(OutputError, match="differs in recipe"):
        export(_request(home, "mine"))


@pytest.mark.parametrize("source", ["onnx", "dynamo", "torchscript"])
def test_the_model_files_are_those_of_this_recipe_version(source: str, home: Path) -> None:
    """Where this fails and the libraries are those of constraints.txt, raise RECIPE_VERSION and add its lines here."""
    network = {
        "net": "tests.support.tiny_net:build",
        "classes": CLASSES,
        "profile": "fastsegformer",
        "exporter": source,
        "precisions": ("fp16",),
        "out": str(home / "mine"),
    }  # int8 holds ranges that a processor computed
    bundle = export(_request(home, "mine") if source == "onnx" else ExportConfig(**network)).bundle
    found = {name: file.sha256[:16] for name, file in sorted(bundle.variants.items())}

    assert found == FILES_OF_RECIPE[RECIPE_VERSION][source], importlib.metadata.version("onnx")


def test_names_on_disk_are_those_of_the_older_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs outside this project read the fields of receipts, rendered videos' receipts and documents."""
    monkeypatch.chdir(home)
    score(_config(home, "mine", render="blend", legend=True))
    export(_request(home, "bundle of mine"))

    for name in ("run.json", "manifest.json", "summary.json"):
        mine, theirs = (_shape(json.loads((home / each / name).read_text())) for each in ("mine", "run"))
        if name == "run.json":
            assert mine["attempts"][0].pop("number") == "int"
        if name == "summary.json":
            assert (mine.pop("changed_items"), mine.pop("left_out")) == ("int", [])
            assert (mine.pop("reused_run"), mine.pop("night")) == ("NoneType", "NoneType")
            added = {key for key in {*mine} - {*theirs} if mine.pop(key)}
            assert added == SUMMARY_ADDED
        if name == "manifest.json":
            added = {key: mine.pop(key) for key in {*mine} - {*theirs}}
            assert {*added} == {"attempt", "decided", "summary", "receipts"}
            assert {*added["receipts"][0]} == {*mine["files"][0]}
            assert added["summary"] == _shape(json.loads((home / "mine" / "summary.json").read_text()))
        assert mine == theirs, name
    for name in ("bundle.json", "parity.json"):
        mine, theirs = (_shape(json.loads((home / each / name).read_text())) for each in ("bundle of mine", "bundle"))
        theirs.get("origin", {}).get("request", {}).pop("code", None)
        for added in ("recipe", "network_code"):
            mine.get("origin", {}).get("request", {}).pop(added, None)
        if name == "parity.json":
            assert mine["limits"].pop("noise_share") == "float"
            assert [mine["pictures"][0].pop(added) for added in ("tied_px", "tie_margin")] == ["int", "float"]
            assert mine.pop("rewrites") == {"batch_named": "int"}
        assert mine == theirs, name
    rendered = [json.loads(next((home / each / "videos").glob("*.json")).read_text()) for each in ("mine", "run")]
    assert _shape(rendered[0]) == _shape(rendered[1])
    receipts = [_receipt_keys(home / each) for each in ("mine", "run")]
    assert [name for name in receipts[0] if name not in {"attempt", "token"}] == [
        *receipts[1],
        "row_digest",
        *FRAME_FIGURES,
    ]


def _shape(document: object) -> object:
    """Return names and types of a document, without its values."""
    if isinstance(document, dict):
        return {name: _shape(value) for name, value in document.items()}
    return [_shape(value) for value in document[:1]] if isinstance(document, list) else type(document).__name__


def _receipt_keys(out: Path) -> list[str]:
    import pyarrow as pa

    schema = pa.ipc.open_file(next((out / "receipts").glob("*.arrow"))).schema
    return [*json.loads(schema.metadata[b"fsf_receipt"]), *schema.names]
