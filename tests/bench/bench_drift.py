"""False alarms and power of the drift limits, over many seeds: `python -m tests.bench.bench_drift [SEEDS]`.

A comparison is one reference and one run, with classes and figures together; it is an alarm if any statistic is.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fsf_core.analysis.drift.limits import alarm_limits, compare

FIGURES = ("brightness", "contrast", "sharpness", "size", "confidence", "uncertain_share")
SIZES = ((5, 5), (5, 300), (20, 20), (20, 2000), (300, 300), (300, 3000))

Draw = Callable[[np.random.Generator, tuple[int, int]], Any]


def _absent(share: float, draw: Draw) -> Draw:
    """Return a distribution that is zero in most items."""
    return lambda generator, shape: np.where(generator.random(shape) < share, draw(generator, shape), 0)


def _lognormal(generator: np.random.Generator, shape: tuple[int, int]) -> Any:
    return np.minimum(0.5, 0.02 * np.exp(generator.normal(size=shape)))


def _many(generator: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Return 300 classes that share the pixels of an item, most of them absent."""
    ratios = generator.gamma(0.05, size=(shape[0], 300))
    ratios = np.where(ratios > 1e-3, ratios, 0)
    return ratios / np.maximum(ratios.sum(1, keepdims=True), 1e-9)


CLASSES: dict[str, Draw] = {
    "in every item": lambda generator, shape: generator.beta(2, 38, shape),
    "in half of the items": _absent(0.5, _lognormal),
    "in 5 % of the items": _absent(0.05, _lognormal),
    "constant": lambda _, shape: np.full(shape, 0.25),
    "four values": lambda generator, shape: generator.integers(0, 4, shape) / 10,
    "300 classes": _many,
}

CHANGES: dict[str, tuple[Draw, Draw]] = {
    "ratio doubles, in every item": (CLASSES["in every item"], lambda g, s: 2 * CLASSES["in every item"](g, s)),
    "ratio doubles, in half of the items": (
        CLASSES["in half of the items"], lambda g, s: 2 * CLASSES["in half of the items"](g, s)
    ),
    "ratio doubles, lognormal": (_lognormal, lambda g, s: 2 * _lognormal(g, s)),
    "in 20 % of the items, then in 40 %": (_absent(0.2, _lognormal), _absent(0.4, _lognormal)),
    "in 10 % of the items, then in 20 %": (_absent(0.1, _lognormal), _absent(0.2, _lognormal)),
    "in 5 % of the items, then in 10 %": (_absent(0.05, _lognormal), _absent(0.1, _lognormal)),
}  # fmt: skip


def _figures(generator: np.random.Generator, items: int) -> dict[str, Any]:
    return {
        "brightness": generator.normal(120, 10, items),
        "contrast": generator.normal(40, 5, items),
        "sharpness": generator.gamma(3, 200, items),
        "size": np.full(items, 262144.0),
        "confidence": generator.beta(40, 3, items),
        "uncertain_share": generator.beta(2, 40, items),
    }


def alarms(first: Draw, second: Draw, sizes: tuple[int, int], seed: int) -> set[str]:
    """Return the names that are alarms in one comparison."""
    generator = np.random.default_rng([seed, *sizes])
    a, b = first(generator, (sizes[0], 4)), second(generator, (sizes[1], 4))
    known = [_figures(generator, items) for items in sizes]
    found = [
        compare(str(k), a[:, k], b[:, k], statistics=("psi", "js", "presence"), draws=1000, seed=0)
        for k in range(a.shape[1])
    ]
    found += [
        compare(name, known[0][name], known[1][name], statistics=("psi", "js"), draws=1000, seed=0) for name in FIGURES
    ]
    return {
        one.name
        for one, limits in zip(found, alarm_limits(found), strict=True)
        for each, limit in limits.items()
        if one.values[each] > limit
    }


def main(seeds: int) -> None:
    """Print both tables."""
    print(f"share of {seeds} comparisons of two samples of one distribution that are an alarm")
    print("classes".ljust(36), *(f"{a} / {b}".rjust(11) for a, b in SIZES))
    for name, draw in CLASSES.items():
        tried = max(1, seeds // 4) if name == "300 classes" else seeds
        rates = [np.mean([bool(alarms(draw, draw, sizes, seed)) for seed in range(tried)]) for sizes in SIZES]
        print(name.ljust(36), *(f"{rate:.1%}".rjust(11) for rate in rates), flush=True)
    print("\nshare of comparisons that find the change, 300 items a side")
    for name, (before, after) in CHANGES.items():
        found = [bool(alarms(before, after, (300, 300), seed) & {*"0123"}) for seed in range(seeds // 2)]
        one = [bool(alarms(*_one_class(before, after), (300, 300), seed) & {"1"}) for seed in range(seeds // 2)]
        print(name.ljust(36), f"{np.mean(one):.0%}".rjust(6), f"(four such classes: {np.mean(found):.0%})", flush=True)


def _one_class(before: Draw, after: Draw) -> tuple[Draw, Draw]:
    """Return two distributions that differ in class 1 alone."""

    def changed(generator: np.random.Generator, shape: tuple[int, int]) -> Any:
        ratios = before(generator, shape)
        ratios[:, 1] = after(generator, shape)[:, 1]
        return ratios

    return before, changed


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
