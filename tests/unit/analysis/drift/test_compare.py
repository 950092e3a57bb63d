"""`compare_runs`: the drift document of two runs, from their tables."""

import numpy as np
import pytest

from fsf_core import runs
from fsf_core.analysis.drift import Rescored, changed_pixels, compare_runs
from fsf_core.analysis.drift.pixels import Changes
from fsf_core.analysis.items import item_features
from fsf_core.errors import OutputError
from tests.support.made_runs import make_run

NAMES = ("background", "sunburn", "ulcer")
KEYS = {
    "verdict", "alarms", "classes", "inputs", "pixels_changed_share", "items", "failures",
}  # fmt: skip


def night(folder, name, seed, *, items=300, ulcer=1.0, light=120.0, prefix=None, **options):
    """A run of a night: oranges of one distribution, unless an argument says otherwise."""
    generator = np.random.default_rng(seed)
    sunburn = generator.beta(2, 30, items)
    ulcers = np.minimum(0.4, ulcer * np.where(generator.random(items) < 0.6, generator.beta(2, 40, items), 0))
    ratios = np.column_stack([1 - sunburn - ulcers, sunburn, ulcers])
    figures = {
        "brightness": generator.normal(light, 8, items),
        "contrast": generator.normal(40, 4, items),
        "sharpness": generator.gamma(5, 100, items),
        "confidence": generator.beta(40, 3, items),
        "uncertain_share": generator.beta(2, 40, items),
    }
    ids = [f"{prefix or name}/{at}" for at in range(items)]
    options = {"figures": figures, "item_ids": ids, "class_names": NAMES, **options}
    return make_run(str(folder / name), ratios, **options)


def diff(a, b, **options):
    return compare_runs(runs.open_run(a), runs.open_run(b), **options)


def names_of(document, group):
    return {alarm["name"] for alarm in document["alarms"] if alarm["of"] == group}


@pytest.mark.parametrize("seed", range(2))
def test_two_nights_of_one_orchard_are_the_same(tmp_path, seed):
    found = diff(night(tmp_path, "a", seed), night(tmp_path, "b", seed + 100))

    assert (found["verdict"], found["attributed"], found["alarms"]) == ("same", True, [])
    assert found.keys() >= KEYS
    assert [set(row) >= {"name", "psi", "js", "share_a", "share_b"} for row in found["classes"]] == [True] * 3
    assert [row["name"] for row in found["inputs"]] == ["brightness", "contrast", "sharpness", "size"]
    assert found["items"] == {"both": 0, "only_a": 300, "only_b": 300, "scored_a": 300, "scored_b": 300}
    assert (found["failures"], found["pixels_changed_share"]) == ({"new": 0, "gone": 0}, None)
    assert found["model"]["by"] == "bundle"


@pytest.mark.parametrize("seed", range(2))
def test_a_doubled_class_is_an_alarm_of_the_data(tmp_path, seed):
    found = diff(night(tmp_path, "a", seed), night(tmp_path, "b", seed + 100, ulcer=2))

    assert found["verdict"] == "data"
    assert "ulcer" in names_of(found, "classes")
    assert names_of(found, "inputs") == set()
    ulcer = found["classes"][2]
    assert ulcer["share_b"] > 1.5 * ulcer["share_a"]
    assert all(alarm["value"] > alarm["limit"] for alarm in found["alarms"])


@pytest.mark.parametrize("seed", range(2))
def test_a_dark_camera_is_found_by_its_inputs(tmp_path, seed):
    found = diff(night(tmp_path, "a", seed), night(tmp_path, "b", seed + 100, light=100))

    assert (found["verdict"], names_of(found, "inputs")) == ("data", {"brightness"})
    assert names_of(found, "classes") == set()


def test_the_document_does_not_depend_on_parts_or_a_second_call(tmp_path):
    a, b = night(tmp_path, "a", 1), night(tmp_path, "b", 2, ulcer=2)
    c = night(tmp_path, "c", 2, ulcer=2, part_rows=7, prefix="b")

    first, second = ({key: value for key, value in each.items() if key != "runs"} for each in (diff(a, b), diff(a, c)))
    assert first == second == {key: value for key, value in diff(a, b).items() if key != "runs"}


def maps(seed, items=20):
    return np.random.default_rng(seed).integers(0, 3, (items, 8, 10), dtype=np.uint8)


def test_masks_of_shared_items_are_compared_pixel_by_pixel(tmp_path):
    old = maps(0)
    new = old.copy()
    new[3, :2] = (new[3, :2] + 1) % 3
    new[5, 0, 0] = (new[5, 0, 0] + 2) % 3
    a = night(tmp_path, "a", 1, items=20, prefix="x", class_maps=old)
    b = night(tmp_path, "b", 1, items=20, prefix="x", class_maps=new, bundle="cd" * 32, part_rows=3)

    found = diff(a, b)

    assert found["pixels_changed_share"] == 21 / (20 * 80)
    assert (found["pixels"]["frames"], found["pixels"]["frames_of_same_source"]) == (20, 20)
    assert sum(row["pixels"] for row in found["pixels"]["transitions"]) == 21
    assert (found["verdict"], found["model"]["changed"], found["model"]["by"]) == ("model", True, "shared items")
    expected = {}
    for first, second in zip(old[old != new], new[old != new], strict=True):
        expected[NAMES[first], NAMES[second]] = expected.get((NAMES[first], NAMES[second]), 0) + 1
    assert {(row["from"], row["to"]): row["pixels"] for row in found["pixels"]["transitions"]} == expected

    changes = changed_pixels(runs.open_run(a), runs.open_run(b))
    by_item = {row["item_id"]: row for row in changes.item_table().to_pylist()}
    assert (by_item["x/3"]["changed_share"], by_item["x/5"]["changed"], by_item["x/0"]["changed"]) == (0.25, 1, 0)


def test_equal_masks_of_shared_items_are_the_same_model_whatever_the_bundle(tmp_path):
    a = night(tmp_path, "a", 1, items=20, prefix="x", class_maps=maps(0))
    b = night(tmp_path, "b", 1, items=20, prefix="x", class_maps=maps(0), bundle="cd" * 32)

    found = diff(a, b)

    assert (found["verdict"], found["pixels_changed_share"], found["model"]["changed"]) == ("same", 0.0, False)


def test_items_of_one_name_and_other_bytes_say_nothing_about_the_model(tmp_path):
    a = night(tmp_path, "a", 1, items=20, prefix="x", class_maps=maps(0))
    b = night(tmp_path, "b", 2, items=20, prefix="x", class_maps=maps(1), sources=[f"new {k}" for k in range(20)])

    found = diff(a, b)

    assert found["pixels_changed_share"] > 0.5
    assert found["pixels"]["changed_share_of_same_source"] is None
    assert (found["model"]["by"], found["model"]["changed"]) == ("bundle", False)


def test_classes_are_matched_by_name(tmp_path):
    old = maps(0)
    swapped = np.array([0, 2, 1], np.uint8)[old]
    ratios = np.random.default_rng(0).dirichlet([5, 2, 1], 20)
    ids = [str(k) for k in range(20)]
    a = make_run(str(tmp_path / "a"), ratios, class_names=NAMES, class_maps=old, item_ids=ids)
    b = make_run(
        str(tmp_path / "b"), ratios[:, [0, 2, 1]], class_names=("background", "ulcer", "sunburn"), class_maps=swapped,
        item_ids=ids, bundle="cd" * 32,
    )  # fmt: skip
    c = make_run(
        str(tmp_path / "c"), ratios, class_names=("background", "sunburn", "rot"), class_maps=old, item_ids=ids,
        bundle="cd" * 32,
    )  # fmt: skip
    d = make_run(str(tmp_path / "d"), ratios, class_names=("x", "y", "z"), item_ids=ids)

    assert (diff(a, b)["verdict"], diff(a, b)["pixels_changed_share"]) == ("same", 0.0)
    found = diff(a, c)
    assert [row["name"] for row in found["classes"]] == ["background", "sunburn"]
    assert found["classes_only"] == {"a": ["ulcer"], "b": ["rot"]}
    assert found["pixels_changed_share"] == (old == 2).mean()
    with pytest.raises(OutputError, match="at least one name in both"):
        diff(a, d)


def test_masks_of_two_sizes_are_counted_and_not_compared(tmp_path):
    a = night(tmp_path, "a", 1, items=20, prefix="x", class_maps=maps(0))
    b = night(tmp_path, "b", 1, items=20, prefix="x", class_maps=maps(0)[:, :4], bundle="cd" * 32)

    found = diff(a, b)

    assert (found["pixels_changed_share"], found["pixels"]["frames_of_other_size"]) == (None, 20)
    assert found["model"]["changed"] is None


def test_failures_are_new_or_gone_by_item(tmp_path):
    a = night(tmp_path, "a", 1, items=10, prefix="x", failed=["bad/1", "bad/2"])
    b = night(tmp_path, "b", 1, items=10, prefix="x", failed=["bad/2", "bad/3", "bad/4"])

    found = diff(a, b)

    assert found["failures"] == {"new": 2, "gone": 1}
    assert [row["item_id"] for row in found["failures_listed"]["new"]] == ["bad/3", "bad/4"]
    assert (found["items"]["both"], found["items"]["only_a"], found["items"]["only_b"]) == (11, 1, 2)


def test_runs_without_scored_items_have_null_figures(tmp_path):
    empty = make_run(str(tmp_path / "empty"), np.empty((0, 3)), item_ids=[], class_names=NAMES, failed=["x"])
    a = night(tmp_path, "a", 1)

    for first, second in ((a, empty), (empty, a), (empty, empty)):
        found = diff(first, second)
        assert (found["verdict"], found["alarms"]) == ("same", [])
        assert {row["psi"] for row in (*found["classes"], *found["inputs"])} == {None}


@pytest.mark.parametrize("items", [1, 4])
def test_a_handful_of_items_is_no_alarm(tmp_path, items):
    found = diff(night(tmp_path, "a", 1), night(tmp_path, "b", 2, items=items, light=50))

    assert (found["verdict"], found["alarms"]) == ("same", [])
    assert found["inputs"][0]["limits"] == {"psi": None, "js": None}


def test_a_run_of_an_older_version_is_compared_by_its_classes_alone(tmp_path):
    found = diff(night(tmp_path, "a", 1, older=True), night(tmp_path, "b", 2, ulcer=2))

    assert [row["psi"] for row in found["inputs"]] == [None, None, None, 0.0]
    assert found["verdict"] == "data"


def test_another_bundle_without_shared_items_is_not_attributed(tmp_path):
    found = diff(night(tmp_path, "a", 1), night(tmp_path, "b", 2, ulcer=2, bundle="cd" * 32))

    assert (found["verdict"], found["attributed"], found["model"]["changed"]) == ("data", False, None)
    assert "--bundle-b" in found["model"]["reason"]


def rescored(folder, *, changed, seed, ulcer=1.0, items=150):
    """A sample of A's items, as the bundle of B scored it."""
    run = night(folder, f"rescored-{seed}", seed, items=items, ulcer=ulcer)
    return Rescored(
        items_of="a",
        changes=Changes(frames=items, pixels=items * 100, changed=changed),
        features=item_features(runs.open_run(run)),
        items=items,
        unreadable=0,
        replaced=0,
    )


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(
    ("of_b", "of_sample", "verdict"),
    [
        ({"ulcer": 2}, {"changed": 900, "ulcer": 2}, "model"),
        ({}, {"changed": 900}, "model"),
        ({"ulcer": 2}, {"changed": 0}, "data"),
        ({}, {"changed": 0}, "same"),
        ({"ulcer": 2, "light": 90}, {"changed": 900, "ulcer": 2}, "both"),
        ({"ulcer": 2}, {"changed": 900, "ulcer": 0.7}, "both"),
    ],
)
def test_re_scored_items_tell_model_from_data(tmp_path, seed, of_b, of_sample, verdict):
    a = night(tmp_path, "a", seed)
    b = night(tmp_path, "b", seed + 100, bundle="cd" * 32, **of_b)

    found = diff(a, b, rescored=[rescored(tmp_path, seed=seed + 200, **of_sample)])

    assert (found["verdict"], found["model"]["by"]) == (verdict, "re-scoring")
    assert found["rescored"][0]["items"] == 150


def test_figures_of_networks_with_other_inputs_are_not_compared(tmp_path):
    """A picture has another sharpness at another size: the model changed, the camera did not."""
    a = night(tmp_path, "a", 1, prefix="x", class_maps=maps(0, 300))
    b = night(
        tmp_path, "b", 1, prefix="x", bundle="cd" * 32, class_maps=maps(1, 300), figures={"sharpness": 9.0}
    )  # fmt: skip

    found = diff(a, b)

    assert found["verdict"] == "model"
    assert {row["name"]: row["comparable"] for row in found["inputs"]}["sharpness"] is False
