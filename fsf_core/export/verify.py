"""The parity check of the float32 variants: does the exported model equal the original network?

Compares pixels of the final class map at the image's own size first, then logits, image by image and in batches. Names
the cause where the measurements show it. Knows the limits. Knows no torch and writes nothing.
"""

# N images, K classes, C channels, H rows, W columns

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fsf_core.export.batches import difference_of_calls
from fsf_core.export.parity import (
    PARITY_LIMITS,
    Float32Variant,
    ImageParity,
    ParityLimitError,
    ParityLimits,
    ParityReport,
)
from fsf_core.export.reference import Scores, tie_margin
from fsf_core.export.sample_images import SampleImage
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile, fit, input_hw
from fsf_core.model.session import Session

Reference = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The original network: float32 NCHW of one image to its output as float32, scores NKHW or class ids N1HW."""

BATCH = 4
"""Images per call in the check that a batch does not mix them."""

OUTPUT_BYTES = 256 << 20
"""Output of one batch beyond which batches of two are compared."""

PLANES_BYTES = 256 << 20
"""Class probabilities at the size of the class maps, which a fused model holds at once; beyond, its class maps are
compared at a smaller size."""

EVALUATION_MODE = (
    "the network must not depend on the batch or on chance in evaluation mode: give batch norm its running statistics, "
    "let dropout follow self.training, and use operations on whole batches instead of a loop over their pictures"
)
"""Advice on a network that mixes pictures or responds by chance."""

OTHER_SIZES = (
    "take sizes from the shape of tensors in the network's forward, without int() and without numbers, try another "
    "--exporter, or give one size for all images with --resize stretch and --input-size"
)
"""Advice on a graph that is right at one size of its input."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Case:
    """An image, the network's input for it, and the original's output."""

    sample: SampleImage
    frame_HWC: NDArray[np.uint8]
    input_CHW: NDArray[np.float32]
    output_KHW: NDArray[np.float32]
    expected: Scores
    """At the image's own size."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        height_px, width_px = self.sample.image_HWC.shape[:2]
        return height_px, width_px


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    """What every comparison needs to know."""

    profile: Profile
    output: Output
    num_classes: int
    limits: ParityLimits

    def scores(self, output_KHW: NDArray[np.float32], size_hw: tuple[int, int]) -> Scores:
        return Scores(
            output_KHW=output_KHW,
            height_px=size_hw[0],
            width_px=size_hw[1],
            profile=self.profile,
            output=self.output,
            num_classes=self.num_classes,
        )


Returned = TypeVar("Returned")


def verify(
    reference: Reference,
    plain: Session,
    fused: Session | None = None,
    *,
    profile: Profile,
    num_classes: int,
    images: Sequence[SampleImage],
    output: Output | None = None,
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
        output: what the output means; None for logits.
        limits: largest differences allowed.

    Returns:
        The report of a passed check.

    Raises:
        ParityLimitError: an image violates a limit, a number is not finite, or a shape is not the expected one.
    """
    assert images, "a check needs images"
    check = _Check(profile=profile, output=output or Output(), num_classes=num_classes, limits=limits)
    compared: list[ImageParity] = []
    predicted: set[int] = set()
    groups = _groups if profile.is_fixed else _groups_of_one_size
    if not profile.is_fixed:
        images = sorted(images, key=functools.partial(_input_hw, profile=profile))
    for group, count in groups(_cases(reference, images, check), len(images)):
        compared += _compare_plain(plain, group, count, check)
        compared += [] if fused is None else _compare_fused(fused, group, count, check)
        for case in group[:count]:
            predicted |= {*np.unique(case.expected.class_map).tolist()}
    violations = tuple(image.violation for image in compared if image.violation)
    report = ParityReport(
        passed=not violations,
        violations=violations,
        warnings=(*_one_class(predicted, len(images)), *_undecided(compared)),
        limits=limits,
        images=tuple(compared),
    )
    if not report.passed:
        raise ParityLimitError(report, *(_one_size_alone(compared, profile) or _dependence_on_the_batch(compared)))
    return report


def _input_hw(sample: SampleImage, profile: Profile) -> tuple[int, int]:
    return input_hw(*sample.size_hw, profile)


# ----------------------------------------------------------------------------------------------------- the original


def _cases(reference: Reference, images: Sequence[SampleImage], check: _Check) -> Iterator[_Case]:
    """Yield the images with the original's output, over and over.

    Raises:
        ParityLimitError: the original's output cannot be compared with.
    """
    levels, first = check.profile.levels(), True
    while True:
        for sample in images:
            frame_HWC = fit(sample.image_HWC, check.profile)
            input_CHW = np.stack([levels[channel][frame_HWC[..., channel]] for channel in range(3)])
            if first and (apart := difference_of_calls(reference, input_CHW[None])):
                _refuse(
                    check,
                    f"two calls of the network with the same picture differ by up to {apart:.2g}: dropout or another "
                    "random operator is active",
                    EVALUATION_MODE,
                )
            first = False
            output_KHW = reference(input_CHW[None])[0]
            _require_usable(output_KHW, sample.name, check)
            yield _Case(
                sample=sample,
                frame_HWC=frame_HWC,
                input_CHW=input_CHW,
                output_KHW=output_KHW,
                expected=check.scores(output_KHW, (sample.image_HWC.shape[0], sample.image_HWC.shape[1])),
            )


def _require_usable(output_KHW: NDArray[np.float32], name: str, check: _Check) -> None:
    """Refuse an output that cannot be compared with.

    Raises:
        ParityLimitError: it is for another number of classes, or holds NaN or infinity.
    """
    if not np.isfinite(output_KHW).all():
        _refuse(
            check,
            f"the network itself outputs NaN or infinity for {name}",
            "check its weights, and mean, std and scale of its input",
        )
    if check.output.kind == "class_map":
        if not np.isin(output_KHW, range(check.num_classes)).all():
            _refuse(
                check,
                f"{check.num_classes} class names are given, and the network outputs the class id "
                f"{output_KHW.max():g} for {name}",
                "give a name for every id from 0 on with --classes",
            )
    elif len(output_KHW) != check.num_classes:
        _refuse(
            check,
            f"found {check.num_classes} class names for the {len(output_KHW)} classes that the network tells apart",
            f"give {len(output_KHW)} names with --classes, in the order of the class ids; a background counts",
        )


def _refuse(check: _Check, finding: str, advice: str) -> None:
    report = ParityReport(passed=False, violations=(finding,), warnings=(), limits=check.limits, images=())
    raise ParityLimitError(report, finding, advice)


def _groups(cases: Iterator[_Case], total: int) -> Iterator[tuple[list[_Case], int]]:
    """Yield full batches of consecutive images, and how many of each are new: the last is filled from the beginning.

    Few are in memory at a time: the output of a network with many classes is large.
    """
    done = 0
    while done < total:
        group = [next(cases)]
        size = BATCH if group[0].output_KHW.nbytes * BATCH <= OUTPUT_BYTES else 2
        group += [next(cases) for _ in range(size - 1)]
        yield group, min(size, total - done)
        done += size


def _groups_of_one_size(cases: Iterator[_Case], total: int) -> Iterator[tuple[list[_Case], int]]:
    """Yield batches of images whose inputs have one size, which follow one another; a batch may be of one image."""
    for _, same_size in itertools.groupby(itertools.islice(cases, total), lambda case: case.input_CHW.shape):
        group: list[_Case] = []
        for case in same_size:
            group.append(case)
            if len(group) == BATCH or (len(group) > 1 and case.output_KHW.nbytes * BATCH > OUTPUT_BYTES):
                yield group, len(group)
                group = []
        if group:
            yield group, len(group)


# ------------------------------------------------------------------------------------------------------- the variants


def _compare_plain(session: Session, group: list[_Case], count: int, check: _Check) -> Iterator[ImageParity]:
    """Compare every image alone and in the batch, at its own size."""
    for cases in _calls(group, count):
        outputs_NKHW, failure = _try_run(session.run, np.stack([case.input_CHW for case in cases]))
        for row, case in enumerate(cases):
            result = _ModelResult(failure=failure)
            if outputs_NKHW is not None:
                result = _from_output(case, outputs_NKHW, row, len(cases), check)
            yield _compare(case, "plain", len(cases), case.expected, result, check)


def _calls(group: list[_Case], count: int) -> list[list[_Case]]:
    """Return every new image alone, and the batch."""
    return [*([case] for case in group[:count]), *([group] if len(group) > 1 else [])]


def _compare_fused(session: Session, group: list[_Case], count: int, check: _Check) -> Iterator[ImageParity]:
    """Compare every image alone at its own size, and in a batch that shares the size of its first image."""
    for cases in _calls(group, count):
        height_px, width_px = affordable(cases[0].size_hw, check.num_classes * len(cases))
        run = functools.partial(session.run_fused, height_px=height_px, width_px=width_px)
        outputs, failure = _try_run(run, np.stack([case.frame_HWC for case in cases]))
        for row, case in enumerate(cases):
            expected = case.expected
            if (height_px, width_px) != case.size_hw:
                expected = check.scores(case.output_KHW, (height_px, width_px))
            result = _ModelResult(failure=failure)
            if outputs is not None:
                wanted = (len(cases), check.num_classes, height_px, width_px)
                result = _from_maps(outputs[0], outputs[1], row, wanted)
            yield _compare(case, "fused", len(cases), expected, result, check)


def affordable(size_hw: tuple[int, int], planes: int) -> tuple[int, int]:
    """Return the size of class maps whose probabilities are within PLANES_BYTES, of the same shape."""
    scale = min(1.0, (PLANES_BYTES / (planes * size_hw[0] * size_hw[1] * 4)) ** 0.5)
    return max(1, int(size_hw[0] * scale)), max(1, int(size_hw[1] * scale))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ModelResult:
    """What a model computed for one image, or why that cannot be compared."""

    class_map_HW: NDArray[Any] | None = None
    difference: float | None = None
    """Largest between the outputs; a fused model has none."""
    absmax: float = 0.0
    """Largest absolute value of the output."""
    failure: str = ""


def _from_output(case: _Case, outputs_NKHW: NDArray[np.float32], row: int, batch: int, check: _Check) -> _ModelResult:
    expected = (batch, *case.output_KHW.shape)
    if outputs_NKHW.shape != expected:
        return _ModelResult(failure=f"the logits are {list(outputs_NKHW.shape)}, expected {list(expected)}")
    output_KHW = outputs_NKHW[row]
    if not np.isfinite(output_KHW).all():
        return _ModelResult(failure="the logits hold NaN or infinity")
    equal = np.array_equal(output_KHW, case.output_KHW)  # then the class map is too
    return _ModelResult(
        class_map_HW=(case.expected if equal else check.scores(output_KHW, case.size_hw)).class_map,
        difference=0.0 if equal else float(np.abs(output_KHW - case.output_KHW).max()),
        absmax=float(np.abs(output_KHW).max()),
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
    case: _Case, variant: Float32Variant, batch: int, expected: Scores, result: _ModelResult, check: _Check
) -> ImageParity:
    """Compare pixels first, outputs second."""
    limits, pixels = check.limits, expected.height_px * expected.width_px
    absmax = float(np.abs(case.output_KHW).max())
    tie = tie_margin(max(absmax, result.absmax), check.output, limits.noise_share)
    margins = None if result.class_map_HW is None else expected.margins(result.class_map_HW)
    differing_px, tied_px, margin = pixels, 0, None
    if margins is not None:
        differing_px, tied_px = len(margins), int((margins <= tie).sum())
        margin = float(margins.max()) if differing_px else None
    apart_px = differing_px - tied_px
    reason = result.failure
    if not reason and apart_px > limits.max_differing_share * pixels:
        reason = f"{apart_px} of {pixels} pixels differ, expected at most a share of {limits.max_differing_share:g}"
    if not reason and margin is not None and margin > max(limits.max_margin, tie):
        reason = f"a pixel differs that the original decided by {margin:.2g}, expected at most {limits.max_margin:g}"
    if not reason and result.difference is not None and result.difference > limits.max_logit_share * absmax:
        allowed = limits.max_logit_share * absmax
        reason = f"a logit differs by {result.difference:.2g}, expected at most {allowed:.2g}"
    return ImageParity(
        name=case.sample.name,
        variant=variant,
        batch=batch,
        height_px=expected.height_px,
        width_px=expected.width_px,
        agreeing_share=1 - apart_px / pixels,
        differing_px=differing_px,
        tied_px=tied_px,
        tie_margin=tie,
        differing_margin=margin,
        logit_difference=result.difference,
        logit_absmax=absmax,
        violation=reason and f"{case.sample.name}, {variant}, batch of {batch}: {reason}",
    )


def _try_run(run: Callable[[NDArray[Any]], Returned], batch: NDArray[Any]) -> tuple[Returned | None, str]:
    """Return the outputs, or the error: a model that takes no batch fails the check."""
    try:
        return run(batch), ""
    except RuntimeError as error:
        return None, str(error)


# ------------------------------------------------------------------------------------------------------ the findings


def _one_size_alone(images: Sequence[ImageParity], profile: Profile) -> tuple[str, str] | tuple[()]:
    """Return that the model is right at some sizes of its input and wrong at all others, with advice, or nothing."""
    verdicts: dict[tuple[int, int], list[bool]] = {}
    for image in images:
        if image.variant == "plain" and image.batch == 1:
            verdicts.setdefault(input_hw(image.height_px, image.width_px, profile), []).append(not image.violation)
    right = [f"{rows}x{columns}" for (rows, columns), passed in verdicts.items() if all(passed)]
    wrong = [f"{rows}x{columns}" for (rows, columns), passed in verdicts.items() if not any(passed)]
    if not right or not wrong or len(right) + len(wrong) < len(verdicts):
        return ()
    first = next(image.violation for image in images if image.violation)
    finding = (
        f"the exported model equals the original for inputs of {', '.join(right)}, and for no other size (not for "
        f"{', '.join(wrong)}): a size was written into the graph as a number; {first}"
    )
    return finding, OTHER_SIZES


def _dependence_on_the_batch(images: Sequence[ImageParity]) -> tuple[str, str] | tuple[()]:
    """Return that the model is right for single images and wrong for batches, with advice, or nothing."""
    wrong = [image for image in images if image.violation]
    if any(image.batch == 1 for image in wrong):
        return ()
    finding = (
        "the output for a picture depends on the other pictures of its batch (batch norm in training mode or without "
        f"statistics, or a loop over the pictures): alone every picture equals the original; {wrong[0].violation}"
    )
    return finding, EVALUATION_MODE


def _one_class(predicted: set[int], count: int) -> tuple[str, ...]:
    """Return that a passed check would prove little, if the network predicts one class."""
    if len(predicted) > 1:
        return ()
    found = f"the network predicts class {min(predicted)} for every pixel of all {count} images"
    return (f"{found}: give images of your own with --samples for a stronger check",)


MANY_TIES = 0.01
"""Share of an image's pixels from which ties are reported."""


def _undecided(images: Sequence[ImageParity]) -> tuple[str, ...]:
    """Return which image has many pixels that the network does not decide."""
    shares = {image.name: image.tied_px / (image.height_px * image.width_px) for image in images}
    worst = max(shares, key=shares.__getitem__)
    if shares[worst] <= MANY_TIES:
        return ()
    found = f"{shares[worst]:.1%} of the pixels of {worst} changed their class by float rounding alone"
    return (f"{found}: the network gives two classes the same probability there",)
