import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sklearn_metrics

from fsf_core.analysis.metrics import bootstrap, grouped_documents, item_figures, metrics_document
from fsf_core.errors import ConfigError
from fsf_core.masks.confusion import count
from fsf_core.schema import CONFUSION


def names(classes):
    return [f"class {k}" for k in range(classes)]


def rows_of(item, label, predicted, classes):
    cells = count(label, predicted, classes)
    size = len(cells.pixels)
    return pa.table({"item_id": [item] * size, "segment": np.zeros(size, np.int32), **cells.columns()}).cast(CONFUSION)


def confusion_of(pairs, classes):
    """The table of pairs of label and mask, items named item-0, item-1 …"""
    tables = [rows_of(f"item-{at}", *pair, classes) for at, pair in enumerate(pairs)]
    return pa.concat_tables([CONFUSION.empty_table(), *tables])


def random_pairs(seed, *, classes, items=6, agreement=0.6, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(items):
        label = rng.integers(0, classes, (24, 31)).astype(dtype)
        wrong = rng.integers(0, classes, label.shape).astype(dtype)
        pairs.append((label, np.where(rng.random(label.shape) < agreement, label, wrong)))
    return pairs


def from_cells(*cells):
    """A table of rows (item, label, predicted, pixels)."""
    item, label, predicted, pixels = zip(*cells, strict=True) if cells else ((), (), (), ())
    zeros = [0] * len(item)
    columns = [item, zeros, label, predicted, pixels, zeros, zeros, zeros]
    return pa.table(dict(zip(CONFUSION.names, map(list, columns), strict=True)), schema=CONFUSION)


def by_class(document, figure):
    return [each[figure] for each in document["classes"]]


@pytest.mark.parametrize("classes", [2, 4, 19, 300])
@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_those_of_scikit_learn(classes, seed):
    pairs = random_pairs(seed, classes=classes, dtype=np.uint16 if classes > 255 else np.uint8)
    document = metrics_document(confusion_of(pairs, classes), names(classes), draws=0)
    label, predicted = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    options = {"labels": range(classes), "average": None, "zero_division": np.nan}
    expected = {
        "iou": sklearn_metrics.jaccard_score(label, predicted, labels=range(classes), average=None),
        "recall": sklearn_metrics.recall_score(label, predicted, **options),
        "precision": sklearn_metrics.precision_score(label, predicted, **options),
        "dice": sklearn_metrics.f1_score(label, predicted, **options),
    }
    for figure, values in expected.items():
        assert by_class(document, figure) == pytest.approx(values.tolist(), abs=1e-12), figure
    assert document["confusion"] == sklearn_metrics.confusion_matrix(label, predicted, labels=range(classes)).tolist()
    assert document["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(label, predicted))
    assert document["miou"] == pytest.approx(np.nanmean(expected["iou"]))
    assert document["mean_recall"] == pytest.approx(np.nanmean(expected["recall"]))
    assert document["mean_precision"] == pytest.approx(np.nanmean(expected["precision"]))
    assert document["mean_dice"] == pytest.approx(np.nanmean(expected["dice"]))
    weighted = sklearn_metrics.jaccard_score(label, predicted, labels=range(classes), average="weighted")
    assert document["fwiou"] == pytest.approx(weighted)
    assert by_class(document, "support_px") == np.bincount(label, minlength=classes).tolist()


def test_ignored_pixels_count_nowhere():
    label, predicted = random_pairs(7, classes=3, items=1)[0]
    ignored = label.copy()
    ignored[:9] = 255
    document = metrics_document(confusion_of([(ignored, predicted)], 3), names(3))
    keep = ignored.ravel() < 3
    expected = sklearn_metrics.confusion_matrix(label.ravel()[keep], predicted.ravel()[keep], labels=range(3))
    assert document["confusion"] == expected.tolist()
    assert document["pixels"] == keep.sum()


class TestUndefined:
    """What no pixel defines is null and left out of the means; what is merely wrong is 0."""

    def test_a_class_that_occurs_nowhere_is_null_and_no_part_of_the_means(self):
        table = from_cells(("a", 0, 0, 90), ("a", 0, 2, 10), ("a", 2, 2, 50))
        document = metrics_document(table, names(4))
        for figure in ("iou", "recall", "precision", "dice", "boundary_iou"):
            assert by_class(document, figure)[1] is None
        assert document["miou"] == pytest.approx((0.9 + 50 / 60) / 2)
        assert document["mean_recall"] == pytest.approx((0.9 + 1) / 2)

    def test_a_class_that_is_only_predicted_has_iou_and_precision_0_and_no_recall(self):
        document = metrics_document(from_cells(("a", 0, 0, 9), ("a", 0, 1, 1)), names(2))
        found = document["classes"][1]
        assert (found["iou"], found["precision"], found["dice"], found["recall"]) == (0, 0, 0, None)
        assert document["mean_recall"] == 0.9
        assert document["mean_precision"] == 0.5
        assert document["miou"] == 0.45

    def test_a_class_that_is_never_predicted_has_iou_and_recall_0_and_no_precision(self):
        document = metrics_document(from_cells(("a", 0, 0, 9), ("a", 1, 0, 1)), names(2))
        found = document["classes"][1]
        assert (found["iou"], found["recall"], found["dice"], found["precision"]) == (0, 0, 0, None)
        assert document["mean_precision"] == 0.9

    def test_all_wrong_is_0_everywhere(self):
        document = metrics_document(from_cells(("a", 0, 1, 5), ("a", 1, 0, 5)), names(2))
        assert {document[name] for name in ("miou", "accuracy", "mean_recall", "mean_precision", "fwiou")} == {0.0}

    def test_one_class_alone_is_always_right(self):
        document = metrics_document(from_cells(("a", 0, 0, 5), ("b", 0, 0, 7)), names(1))
        assert (document["miou"], document["accuracy"]) == (1, 1)
        assert document["intervals"]["miou"] == {"low": 1, "high": 1}

    @pytest.mark.parametrize("table", [CONFUSION.empty_table(), from_cells()])
    def test_no_items_have_no_figures(self, table):
        document = metrics_document(table, names(3))
        assert [document[name] for name in ("miou", "accuracy", "fwiou", "mean_boundary_iou")] == [None] * 4
        assert document["items"] == document["pixels"] == 0
        assert document["confusion"] == [[0] * 3] * 3
        assert document["intervals"]["reason"] == "0 items with labelled pixels; an interval needs 2"


@pytest.mark.parametrize("cells", [[], [("a", 0, 0, 1)], [("a", 0, 1, 1), ("b", 2, 0, 3)]])
def test_the_document_is_strict_json_of_plain_types(cells):
    document = metrics_document(from_cells(*cells), names(3))
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_authors_count_an_absent_class_as_0():
    published = metrics_document(from_cells(("a", 0, 0, 90), ("a", 0, 1, 10)), names(4))["published"]
    assert published["miou"] == pytest.approx(0.9 / 4)
    assert published["mean_recall"] == pytest.approx(0.9 / 4)
    assert published["mean_precision"] == pytest.approx(1 / 4)
    assert published["accuracy"] == pytest.approx(0.9)
    assert published["classes"][3] == {"id": 3, "name": "class 3", "iou": 0, "recall": 0, "precision": 0}


def test_figures_of_the_published_predictions_are_those_of_their_authors():
    matrix = [[755383, 421, 370, 1362], [213, 6307, 0, 0], [696, 0, 6989, 56], [3038, 0, 59, 11538]]
    cells = [("a", row, column, matrix[row][column]) for row in range(4) for column in range(4) if matrix[row][column]]
    document = metrics_document(from_cells(*cells), names(4))
    for found in (document, document["published"]):
        assert by_class(found, "iou") == pytest.approx([0.991989, 0.908659, 0.855447, 0.718744], abs=5e-7)
        assert by_class(found, "recall") == pytest.approx([0.997158, 0.967331, 0.902855, 0.788384], abs=5e-7)
        assert by_class(found, "precision") == pytest.approx([0.994802, 0.937426, 0.942168, 0.890553], abs=5e-7)
        means = [found[name] for name in ("miou", "mean_recall", "mean_precision", "accuracy")]
        assert means == pytest.approx([0.868710, 0.913932, 0.941237, 0.992097], abs=5e-7)


def test_segments_of_a_video_and_the_order_of_rows_do_not_matter():
    rng = np.random.default_rng(0)
    table = confusion_of(random_pairs(1, classes=3), 3)
    halves = table.set_column(4, "pixels", pa.array(table.column("pixels").to_numpy() - 1))
    ones = table.set_column(4, "pixels", pa.array(np.ones(table.num_rows, np.int64)))
    zeros = pa.array(np.zeros(table.num_rows, np.int64))
    for at, name in enumerate(CONFUSION.names[5:], start=5):
        ones = ones.set_column(at, name, zeros)
    split = pa.concat_tables([halves.cast(CONFUSION), ones.cast(CONFUSION)]).take(rng.permutation(2 * table.num_rows))
    assert metrics_document(split, names(3)) == metrics_document(table, names(3))


class TestIntervals:
    def test_they_equal_resampled_items_scored_one_by_one(self):
        pairs = random_pairs(3, classes=3, items=8, agreement=0.5)
        table = confusion_of(pairs, 3)
        found = metrics_document(table, names(3), draws=200, seed=5)["intervals"]
        rng = np.random.default_rng(5)
        mious, ious = [], []
        for _ in range(200):
            chosen = rng.integers(0, 8, 8, dtype=np.int32)
            label, predicted = (np.concatenate([pairs[at][side].ravel() for at in chosen]) for side in (0, 1))
            scores = sklearn_metrics.jaccard_score(label, predicted, labels=range(3), average=None)
            mious.append(scores.mean())
            ious.append(scores[1])
        for bounds, samples in ((found["miou"], mious), (found["classes"][1]["iou"], ious)):
            assert list(bounds.values()) == pytest.approx(np.quantile(samples, [0.025, 0.975]).tolist())

    def test_the_seed_decides(self):
        table = confusion_of(random_pairs(3, classes=3), 3)
        first, again, other = (metrics_document(table, names(3), seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first["intervals"]["miou"] != other["intervals"]["miou"]
        assert (first["intervals"]["seed"], first["intervals"]["draws"], first["intervals"]["level"]) == (1, 1000, 0.95)

    def test_they_do_not_depend_on_how_many_items_are_held_at_once(self, monkeypatch):
        table = confusion_of(random_pairs(4, classes=3, items=11), 3)
        whole = metrics_document(table, names(3))
        monkeypatch.setattr(bootstrap, "WEIGHTS_BYTES", 100)
        monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 60)
        assert metrics_document(table, names(3)) == whole

    def test_one_item_has_none_and_a_reason(self):
        document = metrics_document(confusion_of(random_pairs(5, classes=2, items=1), 2), names(2))
        assert document["intervals"]["miou"] is None
        assert document["intervals"]["reason"] == "1 item with labelled pixels; an interval needs 2"
        assert document["intervals"]["classes"][1]["iou"] is None

    def test_a_figure_that_one_item_alone_defines_has_none(self):
        table = from_cells(("a", 0, 0, 9), ("b", 0, 0, 8), ("b", 1, 1, 1), ("a", 0, 1, 2))
        first, second = metrics_document(table, names(2))["intervals"]["classes"]
        assert first["recall"] is not None
        assert second["iou"] is not None
        assert second["precision"] is not None
        assert second["recall"] is None, "b alone has the class in its label"

    def test_they_hold_the_true_value_as_often_as_stated(self):
        rng = np.random.default_rng(0)
        held = 0
        for seed in range(200):
            share = rng.beta(8, 2, 60)  # accuracy of an item; 0.8 on average
            right = np.round(1000 * share).astype(int)
            cells = [
                (f"i{at}", 0, int(wrong), px)
                for at, px in enumerate(right)
                for wrong, px in ((0, px), (1, 1000 - px))
                if px
            ]
            bounds = metrics_document(from_cells(*cells), names(2), draws=300, seed=seed)["intervals"]["accuracy"]
            held += bounds["low"] <= 0.8 <= bounds["high"]
        assert 0.88 <= held / 200 <= 0.99


class TestGroups:
    table = from_cells(("a", 0, 0, 8), ("a", 1, 1, 2), ("b", 0, 1, 5), ("c", 0, 0, 3), ("d", 1, 0, 4))
    values = pa.table({
        "item_id": ["d", "c", "b", "a"],
        "camera": pa.array([None, 2, 1, 2], pa.int64()),
        "orchard": ["", "south", "north", "north"],
    })  # fmt: skip

    def test_each_value_has_its_document_and_null_is_a_group_of_its_own(self):
        found = grouped_documents(self.table, self.values, names(2), by=["camera"])
        assert [(each["by"], each["items"], each["accuracy"]) for each in found] == [
            ({"camera": 1}, 1, 0.0),
            ({"camera": 2}, 2, 1.0),
            ({"camera": None}, 1, 0.0),
        ]

    def test_several_columns_make_a_group_for_each_combination(self):
        found = grouped_documents(self.table, self.values, names(2), by=["orchard", "camera"])
        assert [tuple(each["by"].values()) for each in found] == [
            ("north", 1), ("north", 2), ("south", 2), (None, None),
        ]  # fmt: skip
        assert (
            np.sum([each["confusion"] for each in found], 0).tolist()
            == metrics_document(self.table, names(2))["confusion"]
        )

    def test_an_item_without_values_has_nulls(self):
        found = grouped_documents(self.table, self.values.slice(1), names(2), by=["orchard"])
        assert found[-1]["by"] == {"orchard": None}
        assert found[-1]["items"] == 1

    def test_an_id_is_no_property(self):
        many = from_cells(*((f"i{at}", 0, 0, 1) for at in range(1001)))
        values = pa.table({"item_id": many.column("item_id"), "name": many.column("item_id")})
        with pytest.raises(ConfigError, match="--by name makes 1001 groups, expected at most 1000"):
            grouped_documents(many, values, names(1), by=["name"])


def test_each_item_has_its_own_figures():
    pairs = random_pairs(8, classes=3)
    found = item_figures(confusion_of(pairs, 3), 3).to_pylist()
    for row, pair in zip(found, pairs, strict=True):
        alone = metrics_document(confusion_of([pair], 3), names(3), draws=0)
        assert {name: row[name] for name in ("miou", "accuracy", "mean_dice")} == pytest.approx(
            {name: alone[name] for name in ("miou", "accuracy", "mean_dice")}
        )
        assert row["pixels"] == alone["pixels"]
    assert item_figures(CONFUSION.empty_table(), 3).num_rows == 0
