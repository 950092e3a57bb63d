"""The parity check of the float32 variants: does the exported model equal the original network?

Compares pixels of the final class map at the image's own size first, then logits, image by image and in batches. Names
the cause where the measurements show it. Knows the limits. Knows no torch and writes nothing.
"""

# N images, K classes, C channels, H rows, W columns

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fsf_core.export.batches import difference_of_calls
from fsf_core.export.compare import Case, Check, Original, Reference, Result, compare, from_maps, from_output
from fsf_core.export.parity import PARITY_LIMITS, ImageParity, ParityLimitError, ParityLimits, ParityReport
from fsf_core.export.sample_images import SampleImage
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile, fit, input_hw
from fsf_core.model.session import Session

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
        reference: the original, called with one image at a time, so that it cannot mix them. An Original is asked for
            its own error where a limit is violated.
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
    exact = reference.exact if isinstance(reference, Original) else None
    check = Check(profile=profile, output=output or Output(), num_classes=num_classes, limits=limits, exact=exact)
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
        warnings=(*_one_class(predicted, len(images)), *_undecided(compared), *_unsteady(compared, limits)),
        limits=limits,
        images=tuple(compared),
    )
    if not report.passed:
        raise ParityLimitError(report, *(_one_size_alone(compared, profile) or _dependence_on_the_batch(compared)))
    return report


def _input_hw(sample: SampleImage, profile: Profile) -> tuple[int, int]:
    return input_hw(*sample.size_hw, profile)


# ----------------------------------------------------------------------------------------------------- the original


def _cases(reference: Reference, images: Sequence[SampleImage], check: Check) -> Iterator[Case]:
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
            yield Case(
                sample=sample,
                frame_HWC=frame_HWC,
                input_CHW=input_CHW,
                output_KHW=output_KHW,
                expected=check.scores(output_KHW, (sample.image_HWC.shape[0], sample.image_HWC.shape[1])),
            )


def _require_usable(output_KHW: NDArray[np.float32], name: str, check: Check) -> None:
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


def _refuse(check: Check, finding: str, advice: str) -> None:
    report = ParityReport(passed=False, violations=(finding,), warnings=(), limits=check.limits, images=())
    raise ParityLimitError(report, finding, advice)


def _groups(cases: Iterator[Case], total: int) -> Iterator[tuple[list[Case], int]]:
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


def _groups_of_one_size(cases: Iterator[Case], total: int) -> Iterator[tuple[list[Case], int]]:
    """Yield batches of images whose inputs have one size, which follow one another; a batch may be of one image."""
    for _, same_size in itertools.groupby(itertools.islice(cases, total), lambda case: case.input_CHW.shape):
        group: list[Case] = []
        for case in same_size:
            group.append(case)
            if len(group) == BATCH or (len(group) > 1 and case.output_KHW.nbytes * BATCH > OUTPUT_BYTES):
                yield group, len(group)
                group = []
        if group:
            yield group, len(group)


# ------------------------------------------------------------------------------------------------------- the variants


def _compare_plain(session: Session, group: list[Case], count: int, check: Check) -> Iterator[ImageParity]:
    """Compare every image alone and in the batch, at its own size."""
    for cases in _calls(group, count):
        outputs_NKHW, failure = _try_run(session.run, np.stack([case.input_CHW for case in cases]))
        for row, case in enumerate(cases):
            result = Result(failure=failure)
            if outputs_NKHW is not None:
                result = from_output(case, outputs_NKHW, row, len(cases), check)
            yield compare(case, "plain", len(cases), case.expected, result, check)


def _calls(group: list[Case], count: int) -> list[list[Case]]:
    """Return every new image alone, and the batch."""
    return [*([case] for case in group[:count]), *([group] if len(group) > 1 else [])]


def _compare_fused(session: Session, group: list[Case], count: int, check: Check) -> Iterator[ImageParity]:
    """Compare every image alone at its own size, and in a batch that shares the size of its first image."""
    for cases in _calls(group, count):
        height_px, width_px = affordable(cases[0].size_hw, check.num_classes * len(cases))
        run = functools.partial(session.run_fused, height_px=height_px, width_px=width_px)
        outputs, failure = _try_run(run, np.stack([case.frame_HWC for case in cases]))
        for row, case in enumerate(cases):
            expected = case.expected
            if (height_px, width_px) != case.size_hw:
                expected = check.scores(case.output_KHW, (height_px, width_px))
            result = Result(failure=failure)
            if outputs is not None:
                wanted = (len(cases), check.num_classes, height_px, width_px)
                result = from_maps(outputs[0], outputs[1], row, wanted)
            yield compare(case, "fused", len(cases), expected, result, check)


def affordable(size_hw: tuple[int, int], planes: int) -> tuple[int, int]:
    """Return the size of class maps whose probabilities are within PLANES_BYTES, of the same shape."""
    scale = min(1.0, (PLANES_BYTES / (planes * size_hw[0] * size_hw[1] * 4)) ** 0.5)
    return max(1, int(size_hw[0] * scale)), max(1, int(size_hw[1] * scale))


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
    return (f"{found}: the network gives two classes nearly the same probability there",)


def _unsteady(images: Sequence[ImageParity], limits: ParityLimits) -> tuple[str, ...]:
    """Return that images were compared by the original's own error, if any were."""
    wide = [image for image in images if image.own_error is not None and not image.violation]
    if not wide:
        return ()
    share, name = max(((image.own_error or 0) / image.logit_absmax, image.name) for image in wide)
    count = len({image.name for image in wide})
    found = f"float32 rounding alone changes the network's own logits by up to {share:.1g} of the largest ({name})"
    return (f"{found}: for {count} images the model was compared within {limits.max_own_errors:g} times that",)
