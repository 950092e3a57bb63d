"""Bins, distances and limits of drift, against formulas written out here."""

import math

import numpy as np
import pytest

from fsf_core.analysis.drift.limits import MIN_PSI, Comparison, alarm_limits, compare
from fsf_core.analysis.drift.statistics import jensen_shannon, presence, psi, reference_bins

STATISTICS = ("psi", "js", "presence")


def test_a_continuous_figure_has_ten_equal_bins_and_one_for_zero():
    values = np.concatenate([np.zeros(40), np.random.default_rng(0).random(400)])

    assert reference_bins(values).of(values).tolist() == [40, *[40] * 10]


def test_values_beyond_the_reference_are_in_its_outer_bins():
    bins = reference_bins(np.linspace(0.4, 0.6, 100))

    assert bins.of(np.array([0.0, 0.1, 0.2, 0.9])).tolist() == [1, 2, *[0] * 8, 1]


@pytest.mark.parametrize("value", [1.0, 0.25, 262144.0, 1e-9])
def test_a_constant_figure_has_a_bin_of_its_own_that_float_noise_does_not_leave(value):
    bins = reference_bins(np.full(300, value))

    assert bins.of(value * np.array([0, 0.5, 1, 1 + 1e-7, 1 - 1e-7, 2])).tolist() == [1, 1, 3, 1]


def test_a_value_that_two_deciles_share_has_a_bin_of_its_own():
    values = np.concatenate([np.full(200, 0.5), np.random.default_rng(0).random(200)])
    counts = reference_bins(values).of(values)

    assert counts.max() == 200
    assert counts.sum() == 400


@pytest.mark.parametrize(("count", "bins"), [(1, 1), (9, 1), (10, 2), (24, 4), (50, 10), (1000, 10)])
def test_a_small_reference_has_fewer_bins(count, bins):
    values = np.random.default_rng(0).random(count) + 0.1

    counts = reference_bins(values).of(values)
    assert len(counts) == 1 + bins
    assert counts[1:].min() >= min(5, count)


def test_psi_and_jensen_shannon_follow_their_definitions():
    a, b = [12, 0, 88], [40, 10, 150]
    p, q = [(n + 0.5) / 101.5 for n in a], [(n + 0.5) / 201.5 for n in b]
    expected = sum((y - x) * math.log(y / x) for x, y in zip(p, q, strict=True))
    assert float(psi(np.array(a), np.array(b))) == pytest.approx(expected, rel=1e-12)

    p, q = [n / 100 for n in a], [n / 200 for n in b]
    m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]

    def entropy(shares):
        return -sum(x * math.log2(x) for x in shares if x)

    expected = entropy(m) - (entropy(p) + entropy(q)) / 2
    assert float(jensen_shannon(np.array(a), np.array(b))) == pytest.approx(expected, rel=1e-9)
    assert float(jensen_shannon(np.array([5, 0]), np.array([0, 7]))) == 1.0
    assert float(presence(np.array(a), np.array(b))) == pytest.approx(0.08)


def test_equal_counts_have_no_distance():
    counts = np.array([3, 0, 7])

    assert [float(each(counts, counts)) for each in (psi, jensen_shannon, presence)] == [0, 0, 0]


def _false_alarm(draw, first: int, second: int, seed: int, classes: int) -> bool:
    generator = np.random.default_rng(seed)
    a, b = draw(generator, (first, classes)), draw(generator, (second, classes))
    found = [compare(f"class {k}", a[:, k], b[:, k], statistics=STATISTICS, draws=1000, seed=0) for k in range(classes)]
    return any(_alarms(found))


def _alarms(found: list[Comparison]) -> list[str]:
    return [
        one.name
        for one, limits in zip(found, alarm_limits(found), strict=True)
        for each, limit in limits.items()
        if one.values[each] > limit
    ]


def _mostly_zero(generator, shape):
    return np.where(generator.random(shape) < 0.1, generator.beta(2, 20, shape), 0)


@pytest.mark.parametrize(("first", "second"), [(300, 300), (5, 300)])
@pytest.mark.parametrize("draw", [lambda g, shape: g.beta(2, 20, shape), _mostly_zero])
def test_two_samples_of_one_distribution_are_seldom_an_alarm(draw, first, second):
    """The long version, over 200 seeds and more distributions, is `python -m tests.bench.bench_drift`."""
    seeds = 20
    false = sum(_false_alarm(draw, first, second, seed, 4) for seed in range(seeds))

    assert false <= 3  # of 20: more than this has a chance below 2 % where 5 % are expected


@pytest.mark.parametrize("seed", range(3))
def test_a_doubled_ratio_is_an_alarm_with_300_items_a_side(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.beta(2, 40, 300), 2 * generator.beta(2, 40, 300)

    assert _alarms([compare("ulcer", a, b, statistics=STATISTICS, draws=1000, seed=0)])


@pytest.mark.parametrize(("first", "second"), [(0, 300), (300, 0), (0, 0)])
def test_without_values_nothing_is_compared(first, second):
    one = compare("x", np.ones(first), np.ones(second), statistics=STATISTICS, draws=10, seed=0)

    assert (one.values, one.draws, alarm_limits([one])) == ({}, {}, [{}])


@pytest.mark.parametrize(("first", "second"), [(1, 300), (4, 300), (300, 1), (300, 4)])
def test_fewer_than_five_items_are_never_an_alarm(first, second):
    one = compare("x", np.ones(first), np.zeros(second), statistics=STATISTICS, draws=1000, seed=0)

    assert one.values["psi"] > MIN_PSI
    assert alarm_limits([one]) == [{}]


def test_a_limit_depends_on_its_name_and_seed_alone():
    values = np.random.default_rng(0).random((3, 100))

    def limits(names, seed):
        found = [compare(name, values[0], values[1], statistics=STATISTICS, draws=200, seed=seed) for name in names]
        return {one.name: one.draws["psi"].tolist() for one in found}

    assert limits(["a", "b"], 0)["b"] == limits(["b"], 0)["b"]
    assert limits(["a"], 0) != limits(["a"], 1)
    assert limits(["a"], 0)["a"] != limits(["b"], 0)["b"]


def test_values_that_are_missing_are_left_out():
    values = np.random.default_rng(0).random(100)
    with_gaps = np.concatenate([values, np.full(50, np.nan)])

    one, other = (compare("x", each, each, statistics=STATISTICS, draws=50, seed=0) for each in (values, with_gaps))
    assert one.values == other.values
    assert one.draws["psi"].tolist() == other.draws["psi"].tolist()
