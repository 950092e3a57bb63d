"""`item_features`: one row per item, whatever parts its frames are in."""

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.analysis import items
from fsf_core.analysis.items import item_features, ratios
from tests.support import ledger
from tests.support.made_runs import FIGURES, make_run

RATIOS = [[0.9, 0.1, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]


def rows_of(run_uri: str) -> dict[str, dict]:
    return {row["item_id"]: row for row in item_features(runs.open_run(run_uri)).to_pylist()}


def test_an_image_has_the_ratios_and_figures_of_its_frame(tmp_path):
    names = ["öst/a.jpg", "b c.png", "c"]
    figures = {"brightness": [10.0, 20.0, 30.0], "confidence": 0.5}
    run = make_run(str(tmp_path / "run"), RATIOS, item_ids=names, figures=figures)

    found = rows_of(run)

    assert sorted(found) == sorted(names)
    row = found["öst/a.jpg"]
    assert (row["kind"], row["frames"], row["height_px"], row["width_px"]) == ("image", 1, 100, 100)
    assert (row["uri"], row["pixels"]) == ("/photos/öst/a.jpg", 10_000)
    assert [row[f"ratio.{k}"] for k in range(3)] == [0.9, 0.1, 0.0]
    assert [row[f"components.{k}"] for k in range(3)] == [1, 1, 0]
    assert [found[name]["brightness"] for name in names] == [10.0, 20.0, 30.0]
    assert found["c"]["sharpness"] is None


@pytest.mark.parametrize("part_rows", [1, 2, 100])
@pytest.mark.parametrize("pending", [0, 1 << 22])
def test_a_video_is_its_frames_in_any_parts(tmp_path, monkeypatch, part_rows, pending):
    monkeypatch.setattr(items, "PENDING_ROWS", pending)
    monkeypatch.setattr(items, "PENDING_CELLS", pending)
    frames = [3, 1, 2]
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 50, (6, 3)) / 100
    brightness = np.arange(6.0)
    run = make_run(
        str(tmp_path / "run"), pixels, frames=frames, figures={"brightness": brightness}, part_rows=part_rows
    )

    found = rows_of(run)

    for name, rows in (("item_000000", [0, 1, 2]), ("item_000001", [3]), ("item_000002", [4, 5])):
        expected = pixels[rows].sum(0) / pixels[rows].sum()
        np.testing.assert_allclose([found[name][f"ratio.{k}"] for k in range(3)], expected, atol=1e-12)
        assert (found[name]["kind"], found[name]["frames"]) == ("video", len(rows))
        assert found[name]["components.0"] == (pixels[rows, 0] > 0).mean()
        assert found[name]["brightness"] == brightness[rows].mean()


def test_a_run_of_an_older_version_has_null_figures(tmp_path):
    run = make_run(str(tmp_path / "run"), RATIOS, older=True, figures={"brightness": 5.0})

    table = item_features(runs.open_run(run))

    assert [table.column(name).null_count for name in FIGURES] == [3] * len(FIGURES)


def test_parts_of_an_older_version_beside_newer_ones_count(tmp_path):
    uri = str(tmp_path / "run")
    fingerprint = {"classes": [*ledger.CLASSES], "palette": [[0, 0, 0], [9, 9, 9]]}
    with ledger.claim_run(uri, fingerprint=fingerprint, details={}) as attempt:
        ledger.commit_older(attempt, ledger.image("old"))
        ledger.commit(attempt, ledger.image("new"), *ledger.video("belt", 2, 3), ledger.image("bad", failed=True))

    table = item_features(runs.open_run(uri))

    assert sorted(table.column("item_id").to_pylist()) == ["belt", "new", "old"]
    assert dict(zip(*(table.column(name).to_pylist() for name in ("item_id", "frames")), strict=True))["belt"] == 5


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_whose_items_all_failed_has_no_rows(tmp_path, finished):
    uri = str(tmp_path / "run")
    make_run(uri, np.empty((0, 300)), item_ids=[], failed=["a", "b"], finished=finished)

    table = item_features(runs.open_run(uri))

    assert (table.num_rows, ratios(table).shape) == (0, (0, 300))
    assert table.schema.field("ratio.299").type == pa.float64()


def test_a_column_of_the_manifest_named_like_a_figure_is_not_taken_for_one(tmp_path):
    uri = str(tmp_path / "run")
    fingerprint = {"classes": [*ledger.CLASSES], "palette": [[0, 0, 0], [9, 9, 9]]}
    with ledger.claim_run(uri, fingerprint=fingerprint, details={}) as attempt:
        ledger.commit_older(attempt, ledger.image("a"), passed=[(pa.field("brightness", pa.string()), "high")])

    assert item_features(runs.open_run(uri)).column("brightness").to_pylist() == [None]
