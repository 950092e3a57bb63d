"""What makes a frame worth looking at: one number each, higher first, and the words that explain it.

Knows arrays and class names; reads no files.
"""

# N candidates, K classes

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsf_core.analysis.selection.candidates import Candidates, Floats
from fsf_core.analysis.selection.class_figures import ClassFigures
from fsf_core.analysis.selection.space import Space

LEAST_PERCENT = 0.01
"""Shares closer to none or all are not shown as numbers."""

SHOWN = 2
"""Figures that a reason names."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score of every candidate."""

    measure: str
    """What was measured, for programs."""
    value_N: Floats
    least: float = -math.inf
    """A candidate is chosen only if its score is above."""


def random_score(found: Candidates, *, seed: int, of: str) -> Score:
    """Return a number from 0 to 1 that follows from id, frame and seed: an item keeps it as the run grows.

    Args:
        found: the candidates.
        seed: another one gives other numbers.
        of: what the numbers are for: those for different purposes are independent.
    """
    begin = f"{of}\0{seed}\0"
    values = [
        int.from_bytes(hashlib.blake2b(f"{begin}{frame}\0{item}".encode(), digest_size=8).digest(), "big") / 2**64
        for item, frame in found.named()
    ]
    return Score(measure="random", value_N=np.asarray(values, np.float64))


def mean_confidence(classes: ClassFigures) -> Floats:
    """Return the confidence of frames that have no column for it: class probabilities, weighted by the class ratios.

    NaN where no class has a probability: in runs of models that return class maps.
    """
    known = np.isfinite(classes.probability_NK)
    weight = np.where(known, classes.ratio_NK, 0).astype(np.float64)
    total = weight.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weight * np.where(known, classes.probability_NK, 0)).sum(1) / total, np.float64)


class Words:
    """The figures of candidates as phrases, each beside those of all candidates."""

    def __init__(self, found: Candidates, classes: ClassFigures, names: Sequence[str]) -> None:
        self._found, self._classes, self._names = found, classes, names

    def uncertain(self, at: int, score: Score) -> str:
        """Return why a frame is uncertain."""
        beyond = _beyond(score.value_N, at)
        confidence = self._found.figures["confidence"][at]
        if score.measure == "uncertain_share":
            phrases = [f"uncertain on {percent(float(score.value_N[at]))} of its cells, {beyond}"]
        else:
            phrases = [f"mean class probability {1 - score.value_N[at]:.2f}, a doubt {beyond}"]
        if np.isfinite(confidence):
            phrases.append(f"confidence {confidence:.2f}")
        return "; ".join([*phrases, *self._least_sure(at)])

    def rare(self, at: int, score: Score, space: Space) -> str:
        """Return what sets a frame apart from the others."""
        return f"far from other frames, {_beyond(score.value_N, at)}: {self.unusual(at, space)}"

    def changed(self, at: int, score: Score, run_id: str) -> str:
        """Return how much of a frame's mask differs from another run's."""
        return f"{percent(float(score.value_N[at]))} of its pixels changed since {run_id}, {_beyond(score.value_N, at)}"

    def different(self, at: int, place: tuple[int, float], space: Space) -> str:
        """Return how far a frame is from those chosen before it.

        Args:
            at: the frame.
            place: how many were chosen before it, and its distance to the nearest of them.
            space: the candidates.
        """
        before, distance = place
        if not before:
            return f"the most typical of {len(self._found):,} candidates: nearest to their mean"
        nearest = "the one" if before == 1 else f"the nearest of the {before:,}"
        return f"unlike those before it, {distance:.2f} from {nearest}: {self.unusual(at, space)}"

    def unusual(self, at: int, space: Space) -> str:
        """Return the figures of a frame that differ most from the median, in standard deviations."""
        order = np.argsort(-np.abs(space.z_ND[at] - space.median_D), kind="stable")[:SHOWN]
        return ", ".join(self._figure(at, space.names[dimension]) for dimension in order)

    def _least_sure(self, at: int) -> list[str]:
        probability_K = self._classes.probability_NK[at]
        if not np.isfinite(probability_K).any():
            return []
        number = int(np.nanargmin(probability_K))
        return [f"least sure of {self._names[number]} (mean probability {probability_K[number]:.2f})"]

    def _figure(self, at: int, name: str) -> str:
        kind, _, number = name.partition(".")
        if not name:
            return "no figure differs"
        if kind == "ratio":
            ratio_N = self._classes.ratio_NK[:, int(number)]
            here, median, having = (percent(float(x)) for x in (ratio_N[at], np.median(ratio_N), (ratio_N > 0).mean()))
            return f"{here} {self._names[int(number)]} (median {median}, in {having} of the candidates)"
        figures = self._found.figures
        if kind in {"area", "aspect"}:
            width, height = figures["width_px"], figures["height_px"]
            return f"{width[at]:.0f}×{height[at]:.0f} px (median {np.nanmedian(width):.0f}×{np.nanmedian(height):.0f})"
        return f"{kind} {figures[kind][at]:,.4g} (median {np.nanmedian(figures[kind]):,.4g})"


def percent(share: float) -> str:
    """Return a share as text: three digits, and never 0 % or 100 % for what is not."""
    hundredths = 100 * share
    if 0 < hundredths < LEAST_PERCENT:
        return f"less than {LEAST_PERCENT} %"
    if 100 - LEAST_PERCENT < hundredths < 100:  # noqa: PLR2004 - all
        return f"more than {100 - LEAST_PERCENT} %"
    return f"{hundredths:.4g} %" if hundredths > 99 else f"{hundredths:.3g} %"  # noqa: PLR2004 - 99.9 is not 100


def _beyond(value_N: Floats, at: int) -> str:
    """Return which share of the candidates has a lower score, rounded down."""
    known = value_N[np.isfinite(value_N)]
    lower = float((known < value_N[at]).sum())
    if not lower:
        return f"no more than any other of the {len(known):,} candidates"
    share = np.floor(1000 * lower / len(known)) / 10
    return f"more than {share:g} % of the {len(known):,} candidates"


def ordered(score: Score) -> NDArray[np.int64]:
    """Return the indices of the candidates that can be chosen, highest score first; equal ones keep their order."""
    order = np.argsort(-score.value_N, kind="stable")
    return np.asarray(order[score.value_N[order] > score.least], np.int64)  # NaN is not
