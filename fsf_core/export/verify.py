"""The export gate: does the model in the bundle answer as the network did?

Knows the seed's path from picture to class map, written out plainly, and the limits of agreement. Judges first in what
users keep, pixels of the final class map at the picture's own size, then in logits. Knows no torch and writes nothing.
"""

# N images, K classes, C channels, H rows, W columns

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.export.parity import PARITY_LIMITS, ImageParity, ParityLimits, ParityMissError, ParityReport
from fsf_core.export.pictures import Picture
from fsf_core.model.preprocess import Profile, crop, fit, place
from fsf_core.model.session import Session

Reference = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The original: float32 NCHW with one picture to float32 logits NKHW."""

BATCH = 4
"""How many pictures are given at once to prove that a batch does not mix them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Case:
    """A picture, what the network is fed, and what the original makes of it."""

    picture: Picture
    frame_HWC: NDArray[np.uint8]
    input_CHW: NDArray[np.float32]
    logits_KHW: NDArray[np.float32]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the picture itself."""
        height_px, width_px = self.picture.image_HWC.shape[:2]
        return height_px, width_px


Answer = TypeVar("Answer")


def verify(
    reference: Reference,
    plain: Session,
    fused: Session | None = None,
    *,
    profile: Profile,
    num_classes: int,
    pictures: Sequence[Picture],
    limits: ParityLimits = PARITY_LIMITS,
) -> ParityReport:
    """Compare the exported forms of a network with the original, picture by picture and in batches.

    Args:
        reference: the original, asked for one picture at a time, so that it cannot mix them.
        plain: the exported network.
        fused: its fused form, if it has one.
        profile: how a picture becomes the network's input.
        num_classes: how many classes the bundle will name.
        pictures: the evidence, at least one.
        limits: how far the two may stray.

    Returns:
        The report of a passed gate.

    Raises:
        ParityMissError: any picture exceeds any limit, a number is not finite, or a shape is not what it must be.
    """
    assert pictures, "no evidence, no verdict"
    cases = [_case(reference, picture, profile) for picture in pictures]
    wrong = _wrong_form(cases, num_classes)
    judged: list[ImageParity] = []
    if not wrong:
        judged += _judge_plain(plain, cases, profile, limits)
        judged += [] if fused is None else _judge_fused(fused, cases, profile, limits)
    report = _report(tuple(judged), wrong, _weaknesses(cases), limits)
    if not report.passed:
        raise ParityMissError(report)
    return report


def class_probabilities(
    logits_KHW: NDArray[np.float32], *, height_px: int, width_px: int, profile: Profile
) -> NDArray[np.float32]:
    """The seed's tail up to the argmax: softmax, cut the padding away, resize every class to the picture's size.

    Written plainly on purpose: it is the yardstick for the fast kernels, so it shares no code with them.
    """
    shifted = np.exp(logits_KHW - logits_KHW.max(axis=0, keepdims=True))
    probabilities_KHW = shifted / shifted.sum(axis=0, keepdims=True)
    inner_KHW = crop(probabilities_KHW, place(height_px, width_px, profile), profile)
    planes = [cv2.resize(plane, (width_px, height_px), interpolation=cv2.INTER_LINEAR) for plane in inner_KHW]
    return np.stack(planes).astype(np.float32, copy=False)


def _case(reference: Reference, picture: Picture, profile: Profile) -> _Case:
    frame_HWC = fit(picture.image_HWC, profile)
    levels = profile.levels()
    input_CHW = np.stack([levels[channel][frame_HWC[..., channel]] for channel in range(3)])
    logits_KHW = reference(input_CHW[None])[0]
    return _Case(picture=picture, frame_HWC=frame_HWC, input_CHW=input_CHW, logits_KHW=logits_KHW)


def _wrong_form(cases: Iterable[_Case], num_classes: int) -> str:
    """What makes the original itself unfit as a yardstick; empty if nothing does."""
    for case in cases:
        if len(case.logits_KHW) != num_classes:
            return f"the network tells {len(case.logits_KHW)} classes apart, but {num_classes} are named"
        if not np.isfinite(case.logits_KHW).all():
            return f"the network itself answers NaN or infinity for {case.picture.name}"
    return ""


def _judge_plain(
    session: Session, cases: Sequence[_Case], profile: Profile, limits: ParityLimits
) -> Iterator[ImageParity]:
    """Every picture alone and in a batch, at its own size."""
    for batch in (1, BATCH):
        for group in _groups(cases, batch):
            logits_NKHW, refusal = _ask(session.run, np.stack([case.input_CHW for case in group]))
            for row, case in enumerate(group):
                expected_KHW = _expected(case, case.size_hw, profile)
                found = _Found(refusal=refusal)
                if logits_NKHW is not None:
                    found = _from_logits(case, logits_NKHW, row, batch, profile)
                yield _compare(case, "plain", batch, expected_KHW, found, limits)


def _judge_fused(
    session: Session, cases: Sequence[_Case], profile: Profile, limits: ParityLimits
) -> Iterator[ImageParity]:
    """Every picture alone at its own size, and in batches that share the size of their first picture."""
    for batch in (1, BATCH):
        for group in _groups(cases, batch):
            height_px, width_px = group[0].size_hw
            run = functools.partial(session.run_fused, height_px=height_px, width_px=width_px)
            answer, refusal = _ask(run, np.stack([case.frame_HWC for case in group]))
            for row, case in enumerate(group):
                expected_KHW = _expected(case, (height_px, width_px), profile)
                found = _Found(refusal=refusal)
                if answer is not None:
                    found = _from_maps(answer[0], answer[1], row, (batch, *expected_KHW.shape))
                yield _compare(case, "fused", batch, expected_KHW, found, limits)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Found:
    """What a model made of one picture, or why that is nothing to compare."""

    class_map_HW: NDArray[Any] | None = None
    logit_difference: float | None = None
    refusal: str = ""


def _from_logits(case: _Case, logits_NKHW: NDArray[np.float32], row: int, batch: int, profile: Profile) -> _Found:
    expected = (batch, *case.logits_KHW.shape)
    if logits_NKHW.shape != expected:
        return _Found(refusal=f"the logits are {list(logits_NKHW.shape)}, expected {list(expected)}")
    logits_KHW = logits_NKHW[row]
    if not np.isfinite(logits_KHW).all():
        return _Found(refusal="the logits hold NaN or infinity")
    height_px, width_px = case.size_hw
    scores_KHW = class_probabilities(logits_KHW, height_px=height_px, width_px=width_px, profile=profile)
    return _Found(
        class_map_HW=scores_KHW.argmax(axis=0),
        logit_difference=float(np.abs(logits_KHW - case.logits_KHW).max()),
    )


def _from_maps(
    class_maps_NHW: NDArray[Any], counts_NK: NDArray[Any], row: int, expected: tuple[int, int, int, int]
) -> _Found:
    batch, num_classes, height_px, width_px = expected
    if class_maps_NHW.shape != (batch, height_px, width_px) or counts_NK.shape != (batch, num_classes):
        return _Found(refusal=f"class maps are {list(class_maps_NHW.shape)} and counts {list(counts_NK.shape)}")
    counted = np.bincount(class_maps_NHW[row].ravel(), minlength=num_classes)
    if not np.array_equal(counted, counts_NK[row]):
        return _Found(refusal=f"the counts {counts_NK[row].tolist()} are not those of the class map")
    return _Found(class_map_HW=class_maps_NHW[row])


def _compare(
    case: _Case,
    variant: Literal["plain", "fused"],
    batch: int,
    expected_KHW: NDArray[np.float32],
    found: _Found,
    limits: ParityLimits,
) -> ImageParity:
    """Pixels first, logits second."""
    height_px, width_px = expected_KHW.shape[1:]
    pixels = height_px * width_px
    differing_px, margin = pixels, None
    if found.class_map_HW is not None:
        differing_px, margin = _difference(expected_KHW, found.class_map_HW)
    absmax = float(np.abs(case.logits_KHW).max())
    reason = found.refusal
    if not reason and differing_px > limits.max_differing_share * pixels:
        reason = f"{differing_px} of {pixels} pixels differ, allowed is a share of {limits.max_differing_share:g}"
    if not reason and margin is not None and margin > limits.max_margin:
        reason = f"a pixel differs that the original decided by {margin:.2g}, allowed is {limits.max_margin:g}"
    if not reason and found.logit_difference is not None and found.logit_difference > limits.max_logit_share * absmax:
        allowed = limits.max_logit_share * absmax
        reason = f"a logit differs by {found.logit_difference:.2g}, allowed is {allowed:.2g}"
    return ImageParity(
        name=case.picture.name,
        variant=variant,
        batch=batch,
        height_px=height_px,
        width_px=width_px,
        agreeing_share=1 - differing_px / pixels,
        differing_px=differing_px,
        differing_margin=margin,
        logit_difference=found.logit_difference,
        logit_absmax=absmax,
        miss=reason and f"{case.picture.name}, {variant}, batch of {batch}: {reason}",
    )


def _difference(expected_KHW: NDArray[np.float32], class_map_HW: NDArray[Any]) -> tuple[int, float | None]:
    """How many pixels differ, and the largest probability that the original's class had over the one found."""
    expected_HW = expected_KHW.argmax(axis=0)
    rows, columns = np.nonzero(expected_HW != class_map_HW)
    if not len(rows):
        return 0, None
    preferred = expected_KHW[expected_HW[rows, columns], rows, columns]
    chosen = expected_KHW[class_map_HW[rows, columns], rows, columns]
    return len(rows), float((preferred - chosen).max())


def _expected(case: _Case, size_hw: tuple[int, int], profile: Profile) -> NDArray[np.float32]:
    return class_probabilities(case.logits_KHW, height_px=size_hw[0], width_px=size_hw[1], profile=profile)


def _ask(run: Callable[[NDArray[Any]], Answer], batch: NDArray[Any]) -> tuple[Answer | None, str]:
    """The answer, or the refusal: a model that takes no batch misses the gate like one that answers wrongly."""
    try:
        return run(batch), ""
    except RuntimeError as error:
        return None, str(error)


def _groups(cases: Sequence[_Case], size: int) -> Iterator[list[_Case]]:
    """Full batches of consecutive pictures; the last one is filled up from the beginning."""
    for start in range(0, len(cases), size):
        yield [cases[index % len(cases)] for index in range(start, start + size)]


def _weaknesses(cases: Sequence[_Case]) -> tuple[str, ...]:
    seen = {int(index) for case in cases for index in np.unique(case.logits_KHW.argmax(axis=0))}
    if len(seen) > 1:
        return ()
    everywhere = f"the network sees class {seen.pop()} everywhere in all {len(cases)} pictures"
    return (f"{everywhere}: give pictures of your own with --samples for a stronger proof",)


def _report(
    pictures: tuple[ImageParity, ...], wrong: str, warnings: tuple[str, ...], limits: ParityLimits
) -> ParityReport:
    misses = ((wrong,) if wrong else ()) + tuple(picture.miss for picture in pictures if picture.miss)
    return ParityReport(passed=not misses, misses=misses, warnings=warnings, limits=limits, pictures=pictures)
