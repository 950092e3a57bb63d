"""Choose what to look at or label next in a run: score the candidates, pick, explain.

Reads committed rows only. Deterministic: the same run and request give the same choice.
"""

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.analysis.selection import candidates as frames
from fsf_core.analysis.selection.candidates import Candidates, Floats
from fsf_core.analysis.selection.class_figures import NO_CLASSES, ClassFigures, read_class_figures
from fsf_core.analysis.selection.scores import Score, Words, mean_confidence, ordered, random_score
from fsf_core.analysis.selection.space import NOWHERE, Space, best_apart, farthest_first, isolation, space_of
from fsf_core.errors import ConfigError
from fsf_core.manifest.chosen import Chosen
from fsf_core.options import SelectBy
from fsf_core.runs import RunReader

POOL = 10
"""Candidates that a diverse choice looks at, for each one that it picks: fifty come from the best 500."""

MAX_CANDIDATES = 500_000
MAX_RATIOS = 20_000_000
"""Most candidates, and most class ratios of candidates, that are compared; of more, the best or a sample are."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for."""

    by: SelectBy
    count: int
    seed: int = 0
    """Of random choices and samples."""
    gap_s: float = 1.0
    """Least time between two frames of a video, in seconds."""
    diverse: bool = True
    """Whether near duplicates of what was picked are passed over."""
    where: str | None = None
    """Condition on the columns of masks."""
    excluded: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Item id to frames that are not wanted; to none for the whole item."""
    unlabelled: bool = False
    """Whether frames that the run has labels of are left out."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """One frame that was chosen."""

    item_id: str
    frame_index: int
    time_s: float | None
    """Presentation time of a video's frame."""
    score: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and from what."""

    picks: tuple[Pick, ...]
    """The best first."""
    measure: str | None
    """What the scores are; None where there was no candidate."""
    candidates: int
    left_out: Mapping[str, int]
    """Scored frames that were no candidates, by reason."""
    failed_items: int
    """Items with a failure: what failed of them has no mask, and is never chosen."""
    not_in_run: tuple[str, ...]
    """Excluded items and frames that the run does not have, as text."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Candidates with their scores, and what else is known of them."""

    found: Candidates
    score: Score
    classes: ClassFigures
    space: Space


ChangedShare = Callable[[Sequence[tuple[str, int]]], Floats]
"""Returns the share of pixels that changed in some frames, by id and frame index; NaN where another run has no mask."""


def select(run: RunReader, request: Request, *, changed: ChangedShare | None = None, against: str = "") -> Choice:
    """Choose frames of a run.

    Args:
        run: the run.
        request: what is asked for.
        changed: for `by="change"`.
        against: name of the run that the changes are measured against.

    Raises:
        ConfigError: the condition does not fit the run, or its model gives no probabilities and uncertainty is wanted.
        OutputError: a committed file is missing or damaged.
    """
    found = frames.read_frames(run, where=request.where)
    failed = {*run.failures(columns=["item_id"]).column("item_id").to_pylist()}
    not_in_run: list[str] = []
    if request.excluded:
        every = found if request.where is None else frames.read_frames(run)
        not_in_run = frames.absent(every, request.excluded, failed=failed)
        found = frames.without(found, request.excluded, gap_s=request.gap_s, reason="excluded")
    if request.unlabelled:
        found = frames.without(found, frames.labelled(found), gap_s=request.gap_s, reason="labelled")
    if not len(found):
        return Choice(
            picks=(),
            measure=None,
            candidates=0,
            left_out=found.left_out,
            failed_items=len(failed),
            not_in_run=tuple(not_in_run),
        )
    scored = _scored(run, found, request, changed)
    order = ordered(scored.score)
    unchanged = int((scored.score.value_N <= scored.score.least).sum())
    unknown = len(scored.found) - len(order) - unchanged
    left_out = {**scored.found.left_out, "no_score": unknown, "unchanged": unchanged}
    picks = tuple(_explained(_picked(scored, order, request), scored, request, run, against))
    return Choice(
        picks=picks,
        measure=scored.score.measure,
        candidates=len(order),
        left_out={reason: count for reason, count in left_out.items() if count},
        failed_items=len(failed),
        not_in_run=tuple(not_in_run),
    )


def as_exclusion(chosen: Iterable[Chosen]) -> dict[str, frozenset[int]]:
    """Return what a request excludes, of the rows of lists; an item that is once named without a frame is out whole."""
    found: dict[str, set[int]] = defaultdict(set)
    whole: set[str] = set()
    for item_id, frame in chosen:
        if frame is None:
            whole.add(item_id)
        else:
            found[item_id].add(frame)
    parts = {item_id: frozenset(indices) for item_id, indices in found.items()}
    return parts | dict.fromkeys(whole, frozenset[int]())


def _scored(run: RunReader, found: Candidates, request: Request, changed: ChangedShare | None) -> _Scored:
    """Thin out the videos, and score what is left.

    Raises:
        ConfigError: the model gives no probabilities, and uncertainty is wanted.
    """
    early = _early_score(found, request)
    if request.gap_s > 0:
        ranks = np.zeros(len(found)) if early is None else early.value_N
        found, early = _take(found, early, frames.one_per_window(found, ranks, gap_s=request.gap_s))
    if request.by == "random":  # the greatest number of a window is no longer a fair one
        score = random_score(found, seed=request.seed, of="candidate")
        return _Scored(found=found, score=score, classes=NO_CLASSES, space=NOWHERE)
    most = min(MAX_CANDIDATES, max(1, MAX_RATIOS // max(1, len(run.classes))))
    if len(found) > most:
        beyond = {**found.left_out, "beyond_limit": len(found) - most}
        found, early = _take(found, early, _few(len(found), early, most, seed=request.seed))
        found = replace(found, left_out=beyond)
    classes = read_class_figures(run, found)
    space = space_of(found, classes)
    score = early or _late_score(run, found, request, classes, space, changed)
    return _Scored(found=found, score=score, classes=classes, space=space)


def _take(found: Candidates, early: Score | None, chosen: NDArray[np.int64]) -> tuple[Candidates, Score | None]:
    return found.take(chosen), None if early is None else replace(early, value_N=early.value_N[chosen])


def _few(count: int, early: Score | None, most: int, *, seed: int) -> NDArray[np.int64]:
    """Return the indices of the candidates that are compared: the best, or a sample where nothing is known yet."""
    if early is None:
        return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return np.sort(ordered(early)[:most])


def _early_score(found: Candidates, request: Request) -> Score | None:
    """Return the score that follows from the table masks alone; None if more must be read."""
    if request.by == "random":
        return random_score(found, seed=request.seed, of="frame")
    shares = found.figures["uncertain_share"]
    if request.by == "uncertainty" and np.isfinite(shares).all():
        return Score(measure="uncertain_share", value_N=shares)
    return None


def _late_score(
    run: RunReader,
    found: Candidates,
    request: Request,
    classes: ClassFigures,
    space: Space,
    changed: ChangedShare | None,
) -> Score:
    """Return the score that needs the class figures, or the masks.

    Raises:
        ConfigError: the model gives no probabilities.
    """
    if request.by == "rare":
        return Score(measure="distance", value_N=isolation(space, seed=request.seed))
    if request.by == "change":
        assert changed is not None
        return Score(measure="changed_share", value_N=changed([*found.named()]), least=0)
    if request.by == "diversity":
        return Score(measure="distance", value_N=np.zeros(len(found)))
    doubt_N = 1 - mean_confidence(classes)
    if np.isnan(doubt_N).all():
        raise ConfigError(
            f"{storage.redact(run.uri)} has neither uncertain_share nor class probabilities, expected a run of a model "
            "that gives probabilities; choose by rare, random or diversity, or by change with --against"
        )
    return Score(measure="1 - mean_probability", value_N=doubt_N)


def _picked(scored: _Scored, order: NDArray[np.int64], request: Request) -> list[tuple[int, float]]:
    """Return the index and the score of every candidate that is picked, the best first."""
    value_N = scored.score.value_N
    if request.by == "diversity":
        apart = np.fromiter(_apart_in_time(order, scored.found, request.gap_s), np.int64)
        points = scored.space.points(apart)
        typical = int(np.argmin((points**2).sum(1)))
        chosen, distances = farthest_first(points, count=min(request.count, len(apart)), first=typical)
        return [*zip(apart[chosen].tolist(), distances, strict=True)]
    diverse = request.diverse and request.by != "random"
    wanted = request.count * POOL if diverse else request.count
    pool = np.fromiter(itertools.islice(_apart_in_time(order, scored.found, request.gap_s), wanted), np.int64)
    if diverse:
        pool = pool[best_apart(scored.space.points(pool), count=min(request.count, len(pool)))]
    return [*zip(pool.tolist(), value_N[pool].tolist(), strict=True)]


def _apart_in_time(order: NDArray[np.int64], found: Candidates, gap_s: float) -> Iterator[int]:
    """Yield candidates in their order, without frames of a video closer than the gap to one that was yielded."""
    taken: dict[int, list[float]] = defaultdict(list)
    for at in order.tolist():
        time_s = float(found.time_N[at])
        if gap_s > 0 and not np.isnan(time_s):
            times = taken[int(found.item_N[at])]
            place = bisect.bisect(times, time_s)
            if any(abs(time_s - other) < gap_s - frames.ROUNDING_S for other in times[max(0, place - 1) : place + 1]):
                continue
            times.insert(place, time_s)
        yield at


def _explained(
    picked: Sequence[tuple[int, float]], scored: _Scored, request: Request, run: RunReader, against: str
) -> Iterator[Pick]:
    """Yield the picks with their reasons."""
    words = Words(scored.found, scored.classes, run.classes)
    keys = [*scored.found.take(np.asarray([at for at, _ in picked], np.int64)).named()]
    for rank, ((at, value), (item_id, frame_index)) in enumerate(zip(picked, keys, strict=True)):
        time_s = float(scored.found.time_N[at])
        yield Pick(
            item_id=item_id,
            frame_index=frame_index,
            time_s=None if np.isnan(time_s) else time_s,
            score=value,
            reason=_reason(words, at, (rank, value), scored, request, against),
        )


def _reason(words: Words, at: int, place: tuple[int, float], scored: _Scored, request: Request, against: str) -> str:
    """Return why a frame was picked."""
    if request.by == "random":
        return f"drawn at random from {len(scored.found):,} candidates, seed {request.seed}"
    if request.by == "uncertainty":
        return words.uncertain(at, scored.score)
    if request.by == "rare":
        return words.rare(at, scored.score, scored.space)
    if request.by == "change":
        return words.changed(at, scored.score, against)
    return words.different(at, place, scored.space)
