"""The parity check of the float32 variants: does the exported model equal the original network?

Knows the reference path from image to class map, without optimisations, and the limits. Compares pixels of the final
class map at the image's own size first, then logits. Knows no torch and writes nothing.
"""

# N images, K classes, C channels, H rows, W columns

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.export.parity import (
    PARITY_LIMITS,
    Float32Variant,
    ImageParity,
    ParityLimitError,
    ParityLimits,
    ParityReport,
)
from fsf_core.export.sample_images import SampleImage
from fsf_core.model.preprocess import Profile, crop, fit, place
from fsf_core.model.session import Session
from fsf_core.options import OutputKind

Reference = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The original network: float32 NCHW of one image to its output as float32, scores NKHW or class ids N1HW."""

BATCH = 4
"""Images per call in the check that a batch does not mix them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ReferenceCase:
    """An image, the network's input for it, and the original's logits."""

    sample: SampleImage
    frame_HWC: NDArray[np.uint8]
    input_CHW: NDArray[np.float32]
    logits_KHW: NDArray[np.float32]
    kind: OutputKind
    num_classes: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        height_px, width_px = self.sample.image_HWC.shape[:2]
        return height_px, width_px


Output = TypeVar("Output")


def verify(
    reference: Reference,
    plain: Session,
    fused: Session | None = None,
    *,
    profile: Profile,
    num_classes: int,
    images: Sequence[SampleImage],
    kind: OutputKind = "logits",
    limits: ParityLimits = PARITY_LIMITS,
) -> ParityReport:
    """Compare the float32 variants with the original, image by image and in batches.

    Args:
        reference: the original, called with one image at a time, so that it cannot mix them.
        plain: the exported network.
        fused: the fused variant, if there is one.
        profile: preprocessing.
        num_classes: classes that the bundle will name.
        images: at least one.
        kind: what the output means.
        limits: largest differences allowed.

    Returns:
        The report of a passed check.

    Raises:
        ParityLimitError: an image violates a limit, a number is not finite, or a shape is not the expected one.
    """
    assert images, "a check needs images"
    cases = [_reference_case(reference, sample, profile, kind, num_classes) for sample in images]
    unusable = _unusable_reference(cases, num_classes)
    compared: list[ImageParity] = []
    if not unusable:
        compared += _compare_plain(plain, cases, profile, limits)
        compared += [] if fused is None else _compare_fused(fused, cases, profile, limits)
    report = _report(tuple(compared), unusable, _weaknesses(cases), limits)
    if not report.passed:
        raise ParityLimitError(report)
    return report


def class_probabilities(
    logits_KHW: NDArray[np.float32],
    *,
    height_px: int,
    width_px: int,
    profile: Profile,
    kind: OutputKind = "logits",
    num_classes: int = 0,
) -> NDArray[np.float32]:
    """Return the probabilities before the argmax: softmax, crop the padding, resize every class to the image's size.

    Softmax of logits only; class ids, whose number of classes must be given, become 0 and 1 at the nearest cell.
    Shares no code with the kernels that it is the reference for.
    """
    inner_KHW = crop(logits_KHW, place(height_px, width_px, profile), profile)
    if kind == "class_map":
        rows, columns = (
            np.floor((np.arange(size) + 0.5) * (cells / size) + 1e-9).astype(int)
            for size, cells in zip((height_px, width_px), inner_KHW.shape[1:], strict=True)
        )
        ids_1HW = inner_KHW[:, rows][..., columns]
        return np.asarray(ids_1HW == np.arange(num_classes)[:, None, None], np.float32)
    if kind == "logits":
        shifted = np.exp(inner_KHW - inner_KHW.max(axis=0, keepdims=True))
        inner_KHW = shifted / shifted.sum(axis=0, keepdims=True)
    planes = [cv2.resize(plane, (width_px, height_px), interpolation=cv2.INTER_LINEAR) for plane in inner_KHW]
    return np.stack(planes).astype(np.float32, copy=False)


def _reference_case(
    reference: Reference, sample: SampleImage, profile: Profile, kind: OutputKind, num_classes: int
) -> _ReferenceCase:
    frame_HWC = fit(sample.image_HWC, profile)
    levels = profile.levels()
    input_CHW = np.stack([levels[channel][frame_HWC[..., channel]] for channel in range(3)])
    logits_KHW = reference(input_CHW[None])[0]
    return _ReferenceCase(
        sample=sample,
        frame_HWC=frame_HWC,
        input_CHW=input_CHW,
        logits_KHW=logits_KHW,
        kind=kind,
        num_classes=num_classes,
    )


def _unusable_reference(cases: Iterable[_ReferenceCase], num_classes: int) -> str:
    """Return why the original cannot be compared with, or ""."""
    for case in cases:
        if case.kind == "class_map" and not np.isin(case.logits_KHW, range(num_classes)).all():
            return f"the network outputs numbers that are no ids of {num_classes} classes for {case.sample.name}"
        if len(case.logits_KHW) != num_classes and case.kind != "class_map":
            return f"the network outputs {len(case.logits_KHW)} classes, but {num_classes} are named"
        if not np.isfinite(case.logits_KHW).all():
            return f"the network itself outputs NaN or infinity for {case.sample.name}"
    return ""


def _compare_plain(
    session: Session, cases: Sequence[_ReferenceCase], profile: Profile, limits: ParityLimits
) -> Iterator[ImageParity]:
    """Compare every image alone and in a batch, at its own size."""
    for batch in (1, BATCH):
        for group in _batches(cases, batch):
            logits_NKHW, failure = _try_run(session.run, np.stack([case.input_CHW for case in group]))
            for row, case in enumerate(group):
                expected_KHW = _expected(case, case.size_hw, profile)
                result = _ModelResult(failure=failure)
                if logits_NKHW is not None:
                    result = _from_logits(case, logits_NKHW, row, batch, profile)
                yield _compare(case, "plain", batch, expected_KHW, result, limits)


def _compare_fused(
    session: Session, cases: Sequence[_ReferenceCase], profile: Profile, limits: ParityLimits
) -> Iterator[ImageParity]:
    """Compare every image alone at its own size, and in batches that share the size of their first image."""
    for batch in (1, BATCH):
        for group in _batches(cases, batch):
            height_px, width_px = group[0].size_hw
            run = functools.partial(session.run_fused, height_px=height_px, width_px=width_px)
            outputs, failure = _try_run(run, np.stack([case.frame_HWC for case in group]))
            for row, case in enumerate(group):
                expected_KHW = _expected(case, (height_px, width_px), profile)
                result = _ModelResult(failure=failure)
                if outputs is not None:
                    result = _from_maps(outputs[0], outputs[1], row, (batch, *expected_KHW.shape))
                yield _compare(case, "fused", batch, expected_KHW, result, limits)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ModelResult:
    """What a model computed for one image, or why that cannot be compared."""

    class_map_HW: NDArray[Any] | None = None
    logit_difference: float | None = None
    failure: str = ""


def _from_logits(
    case: _ReferenceCase, logits_NKHW: NDArray[np.float32], row: int, batch: int, profile: Profile
) -> _ModelResult:
    expected = (batch, *case.logits_KHW.shape)
    if logits_NKHW.shape != expected:
        return _ModelResult(failure=f"the logits are {list(logits_NKHW.shape)}, expected {list(expected)}")
    logits_KHW = logits_NKHW[row]
    if not np.isfinite(logits_KHW).all():
        return _ModelResult(failure="the logits hold NaN or infinity")
    height_px, width_px = case.size_hw
    scores_KHW = _probabilities(case, logits_KHW, (height_px, width_px), profile)
    return _ModelResult(
        class_map_HW=scores_KHW.argmax(axis=0),
        logit_difference=float(np.abs(logits_KHW - case.logits_KHW).max()),
    )


def _from_maps(
    class_maps_NHW: NDArray[Any], counts_NK: NDArray[Any], row: int, expected: tuple[int, int, int, int]
) -> _ModelResult:
    batch, num_classes, height_px, width_px = expected
    if class_maps_NHW.shape != (batch, height_px, width_px) or counts_NK.shape != (batch, num_classes):
        return _ModelResult(failure=f"class maps are {list(class_maps_NHW.shape)} and counts {list(counts_NK.shape)}")
    counted = np.bincount(class_maps_NHW[row].ravel(), minlength=num_classes)
    if not np.array_equal(counted, counts_NK[row]):
        return _ModelResult(failure=f"the counts {counts_NK[row].tolist()} differ from the class map's")
    return _ModelResult(class_map_HW=class_maps_NHW[row])


def _compare(
    case: _ReferenceCase,
    variant: Float32Variant,
    batch: int,
    expected_KHW: NDArray[np.float32],
    result: _ModelResult,
    limits: ParityLimits,
) -> ImageParity:
    """Compare pixels first, logits second."""
    height_px, width_px = expected_KHW.shape[1:]
    pixels = height_px * width_px
    differing_px, margin = pixels, None
    if result.class_map_HW is not None:
        differing_px, margin = _difference(expected_KHW, result.class_map_HW)
    absmax = float(np.abs(case.logits_KHW).max())
    reason = result.failure
    if not reason and differing_px > limits.max_differing_share * pixels:
        reason = f"{differing_px} of {pixels} pixels differ, expected at most a share of {limits.max_differing_share:g}"
    if not reason and margin is not None and margin > limits.max_margin:
        reason = f"a pixel differs that the original decided by {margin:.2g}, expected at most {limits.max_margin:g}"
    if not reason and result.logit_difference is not None and result.logit_difference > limits.max_logit_share * absmax:
        allowed = limits.max_logit_share * absmax
        reason = f"a logit differs by {result.logit_difference:.2g}, expected at most {allowed:.2g}"
    return ImageParity(
        name=case.sample.name,
        variant=variant,
        batch=batch,
        height_px=height_px,
        width_px=width_px,
        agreeing_share=1 - differing_px / pixels,
        differing_px=differing_px,
        differing_margin=margin,
        logit_difference=result.logit_difference,
        logit_absmax=absmax,
        violation=reason and f"{case.sample.name}, {variant}, batch of {batch}: {reason}",
    )


def _difference(expected_KHW: NDArray[np.float32], class_map_HW: NDArray[Any]) -> tuple[int, float | None]:
    """Return how many pixels differ, and the largest margin of the original's class over the model's there."""
    expected_HW = expected_KHW.argmax(axis=0)
    rows, columns = np.nonzero(expected_HW != class_map_HW)
    if not len(rows):
        return 0, None
    preferred = expected_KHW[expected_HW[rows, columns], rows, columns]
    chosen = expected_KHW[class_map_HW[rows, columns], rows, columns]
    return len(rows), float((preferred - chosen).max())


def _expected(case: _ReferenceCase, size_hw: tuple[int, int], profile: Profile) -> NDArray[np.float32]:
    return _probabilities(case, case.logits_KHW, size_hw, profile)


def _probabilities(
    case: _ReferenceCase, logits_KHW: NDArray[np.float32], size_hw: tuple[int, int], profile: Profile
) -> NDArray[np.float32]:
    return class_probabilities(
        logits_KHW,
        height_px=size_hw[0],
        width_px=size_hw[1],
        profile=profile,
        kind=case.kind,
        num_classes=case.num_classes,
    )


def _try_run(run: Callable[[NDArray[Any]], Output], batch: NDArray[Any]) -> tuple[Output | None, str]:
    """Return the outputs, or the error: a model that takes no batch fails the check."""
    try:
        return run(batch), ""
    except RuntimeError as error:
        return None, str(error)


def _batches(cases: Sequence[_ReferenceCase], size: int) -> Iterator[list[_ReferenceCase]]:
    """Yield full batches of consecutive images; the last one is filled up from the beginning."""
    for start in range(0, len(cases), size):
        yield [cases[index % len(cases)] for index in range(start, start + size)]


def _weaknesses(cases: Sequence[_ReferenceCase]) -> tuple[str, ...]:
    """Return why a passed check would prove little."""
    predicted = {
        int(index)
        for case in cases
        for index in np.unique(case.logits_KHW if case.kind == "class_map" else case.logits_KHW.argmax(axis=0))
    }
    if len(predicted) > 1:
        return ()
    found = f"the network predicts class {predicted.pop()} for every pixel of all {len(cases)} images"
    return (f"{found}: give images of your own with --samples for a stronger check",)


def _report(
    images: tuple[ImageParity, ...], unusable: str, warnings: tuple[str, ...], limits: ParityLimits
) -> ParityReport:
    violations = ((unusable,) if unusable else ()) + tuple(image.violation for image in images if image.violation)
    return ParityReport(passed=not violations, violations=violations, warnings=warnings, limits=limits, images=images)
