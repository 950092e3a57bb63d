"""Differences of metrics, paired over the items that both runs have labels of."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from fsf_core.analysis.drift.metrics import metric_changes
from fsf_core.schema import CONFUSION


def run_of(hits, items=30, first=0):
    rows = [
        {"item_id": f"i{at}", "label_class_id": k, "predicted_class_id": p, "pixels": pixels}
        for at in range(first, first + items)
        for k in range(2)
        for p, pixels in ((k, hits + at), (1 - k, 100 - hits))
    ]
    filled = [
        {field.name: row.get(field.name, "" if pa.types.is_string(field.type) else 0) for field in CONFUSION}
        for row in rows
    ]
    return SimpleNamespace(classes=("a", "b"), confusion=lambda: pa.Table.from_pylist(filled, schema=CONFUSION))


def test_a_better_run_has_a_difference_whose_interval_leaves_zero_out():
    found = metric_changes(run_of(60), run_of(80, first=5), draws=200, seed=0)

    assert found["items"] == 25
    pixels = np.arange(5, 30)
    accuracy = [(hits + pixels).sum() / (100 + pixels).sum() for hits in (60, 80)]
    row = found["rows"][1]
    assert (row["name"], round(row["a"], 9), round(row["b"], 9)) == ("accuracy", *(round(x, 9) for x in accuracy))
    assert 0 < row["low"] < row["difference"] < row["high"]


def test_equal_runs_differ_by_nothing_and_other_items_are_not_compared():
    assert {row["difference"] for row in metric_changes(run_of(60), run_of(60), draws=50, seed=0)["rows"]} == {0.0}
    assert metric_changes(run_of(60), run_of(60, first=100), draws=50, seed=0) is None
