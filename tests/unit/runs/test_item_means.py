"""The figures of frames as means over items, from the receipts alone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.runs.compaction import compact
from fsf_core.runs.item_means import ItemMeans, with_means
from fsf_core.runs.records import receipt_from_arrow, receipt_to_arrow
from fsf_core.schema import FRAME_FIGURES, MASKS, UNITS
from tests.support.ledger import begin, broken, image, rows_of, tables_of, video


def masks_with(units, values):
    """Masks whose confidence is given per frame, and whose other figures are multiples of it."""
    masks = tables_of(units)["masks"]
    for factor, name in enumerate(FRAME_FIGURES, start=1):
        column = pa.array([None if value is None else value * factor for value in values], pa.float64())
        masks = masks.set_column(masks.column_names.index(name), MASKS.field(name), column)
    return masks


def test_a_unit_has_the_mean_of_its_frames_that_have_a_value():
    units = [image("a"), *video("v", 3, 2), image("bad", failed=True), broken(image("cut"), frames=1), image("odd")]
    masks = masks_with(units, [0.5, 0.1, 0.2, 0.6, None, 0.4, float("nan"), None])
    found = with_means(rows_of(units), masks)

    assert found.schema.equals(UNITS)
    assert found.column("confidence").to_pylist() == pytest.approx([0.5, 0.3, 0.4, None, None, None])
    assert found.column("sharpness").to_pylist() == pytest.approx([2.5, 1.5, 2.0, None, None, None])


def test_frames_of_other_units_are_refused():
    with pytest.raises(ValueError, match="expected the 3 frames of the units"):
        with_means(rows_of(video("v", 1, 2)), masks_with([image("a")], [0.5]))


def test_quantiles_are_over_items_and_a_video_is_one_item_by_its_frames():
    images = [image(name) for name in "abc"]
    clip = video("v", 3, 1)
    means = ItemMeans()
    means.add(with_means(rows_of([*images, clip[0]]), masks_with([*images, clip[0]], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4])))
    means.add(with_means(rows_of([clip[1]]), masks_with([clip[1]], [0.8])))
    found = means.describe()["confidence"]

    items = np.float32([0.1, 0.2, 0.3, 0.5])
    assert found == pytest.approx(
        {
            "items": 4,
            "mean": items.mean(),
            "min": 0.1,
            "p05": np.quantile(items, 0.05),
            "p50": 0.25,
            "p95": np.quantile(items, 0.95),
            "max": 0.5,
        }
    )


def test_a_figure_that_no_item_has_is_null():
    means = ItemMeans()
    assert means.describe() == dict.fromkeys(FRAME_FIGURES)
    means.add(with_means(rows_of([image("a")]), masks_with([image("a")], [None])))
    assert means.describe() == dict.fromkeys(FRAME_FIGURES)


def test_receipts_keep_the_means_and_those_of_older_versions_have_none(tmp_path):
    attempt, units = begin(str(tmp_path / "run")), [image("a"), image("b")]
    tables = tables_of(units) | {"masks": masks_with(units, [0.25, 0.75])}
    receipt = runs.commit(attempt.staging, tables, rows_of(units))
    [read] = runs.load_ledger(attempt.uri).receipts()
    older = replace(receipt, units=receipt.units.drop_columns([*FRAME_FIGURES, "row_digest"]))

    assert read.units.column("confidence").to_pylist() == [0.25, 0.75]
    parsed = receipt_from_arrow(receipt_to_arrow(older)).units
    assert parsed.schema.equals(UNITS)
    assert parsed.column("confidence").null_count == 2


def test_merged_and_cut_parts_keep_the_means(tmp_path):
    attempt = begin(str(tmp_path / "run"))
    for number, names in enumerate(("ab", "bc")):
        units = [image(name) for name in names]
        tables = tables_of(units) | {"masks": masks_with(units, [0.25 + number / 4] * 2)}
        runs.commit(attempt.staging, tables, rows_of(units))
    ledger = runs.load_ledger(attempt.uri)
    runs.reconcile(attempt.staging, ledger)
    before = means_of(ledger)
    assert before["confidence"]["items"] == 3
    assert compact(attempt.staging, ledger, target_bytes=1 << 30) == 2

    assert means_of(ledger) == before


def means_of(ledger):
    means = ItemMeans()
    for receipt in ledger.receipts():
        means.add(receipt.units)
    return means.describe()
