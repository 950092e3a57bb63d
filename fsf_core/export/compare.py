"""One image of the parity check: the original's output and a model's, compared pixels first, scores second.

Where a limit is violated, the original's own float32 error counts: the difference between its outputs in float32 and in
float64, for the same image. Knows the limits. Knows no sessions and writes nothing.
"""

# N images, K classes, C channels, H rows, W columns

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import ConfigError
from fsf_core.export.parity import Float32Variant, ImageParity, ParityLimits
from fsf_core.export.reference import Scores, tie_margin
from fsf_core.export.sample_images import SampleImage
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile

Reference = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The original network: float32 NCHW of one image to its output as float32, scores NKHW or class ids N1HW."""


class Original:
    """A network that can compute in float64 too, which tells its own float32 error."""

    def __init__(self, outputs: Reference, *, exact: Reference) -> None:
        """Take the network.

        Args:
            outputs: in float32.
            exact: in float64; raises ConfigError where the network cannot.
        """
        self._outputs = outputs
        self.exact = exact

    def __call__(self, batch_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output for a batch, in float32."""
        return self._outputs(batch_NCHW)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
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
class OwnError:
    """Difference between the original's outputs in float32 and in float64, for one image."""

    largest: float
    mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What every comparison needs to know."""

    profile: Profile
    output: Output
    num_classes: int
    limits: ParityLimits
    exact: Reference | None = None
    """The original in float64, if it has one."""
    own_errors: dict[str, OwnError | None] = field(default_factory=dict)
    """What `own_error` has measured, by the name of the image."""

    def own_error(self, case: Case) -> OwnError | None:
        """Return the error of the original's own float32 arithmetic for an image; None where it is unknown."""
        if case.sample.name not in self.own_errors:
            self.own_errors[case.sample.name] = self._own_error(case)
        return self.own_errors[case.sample.name]

    def _own_error(self, case: Case) -> OwnError | None:
        if self.exact is None:
            return None
        try:
            apart_KHW = np.abs(self.exact(case.input_CHW[None])[0] - case.output_KHW)
        except ConfigError:  # it computes in float32, whatever it is given
            return None
        own = OwnError(largest=float(apart_KHW.max()), mean=float(apart_KHW.mean()))
        return own if np.isfinite(own.largest) else None

    def scores(self, output_KHW: NDArray[np.float32], size_hw: tuple[int, int]) -> Scores:
        """Return the scores of an image's pixels, from a model's output for it."""
        return Scores(
            output_KHW=output_KHW,
            height_px=size_hw[0],
            width_px=size_hw[1],
            profile=self.profile,
            output=self.output,
            num_classes=self.num_classes,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """What a model computed for one image, or why that cannot be compared."""

    class_map_HW: NDArray[Any] | None = None
    difference: float | None = None
    """Largest between the outputs; a fused model has none."""
    mean_difference: float = 0.0
    """Mean between the outputs."""
    absmax: float = 0.0
    """Largest absolute value of the output."""
    failure: str = ""


def from_output(case: Case, outputs_NKHW: NDArray[np.float32], row: int, batch: int, check: Check) -> Result:
    """Return what a plain model computed for one image of a batch."""
    expected = (batch, *case.output_KHW.shape)
    if outputs_NKHW.shape != expected:
        return Result(failure=f"the logits are {list(outputs_NKHW.shape)}, expected {list(expected)}")
    output_KHW = outputs_NKHW[row]
    if not np.isfinite(output_KHW).all():
        return Result(failure="the logits hold NaN or infinity")
    apart_KHW = np.abs(output_KHW - case.output_KHW)
    equal = not apart_KHW.any()  # then the class map is too
    return Result(
        class_map_HW=(case.expected if equal else check.scores(output_KHW, case.size_hw)).class_map,
        difference=float(apart_KHW.max()),
        mean_difference=float(apart_KHW.mean()),
        absmax=float(np.abs(output_KHW).max()),
    )


def from_maps(
    class_maps_NHW: NDArray[Any], counts_NK: NDArray[Any], row: int, expected: tuple[int, int, int, int]
) -> Result:
    """Return what a fused model computed for one image of a batch.

    Args:
        class_maps_NHW: its first output.
        counts_NK: its second.
        row: of the image.
        expected: images of the batch, classes, rows and columns.
    """
    batch, num_classes, height_px, width_px = expected
    if class_maps_NHW.shape != (batch, height_px, width_px) or counts_NK.shape != (batch, num_classes):
        return Result(failure=f"class maps are {list(class_maps_NHW.shape)} and counts {list(counts_NK.shape)}")
    counted = np.bincount(class_maps_NHW[row].ravel(), minlength=num_classes)
    if not np.array_equal(counted, counts_NK[row]):
        return Result(failure=f"the counts {counts_NK[row].tolist()} differ from the class map's")
    return Result(class_map_HW=class_maps_NHW[row])


def compare(
    case: Case, variant: Float32Variant, batch: int, expected: Scores, result: Result, check: Check
) -> ImageParity:
    """Compare pixels first, outputs second; where a limit is violated, by the original's own error instead."""
    margins = None if result.class_map_HW is None else expected.margins(result.class_map_HW)
    absmax = float(np.abs(case.output_KHW).max())
    compared = _Compared(
        failure=result.failure,
        margins=margins,
        pixels=expected.height_px * expected.width_px,
        difference=result.difference,
        mean_difference=result.mean_difference,
        absmax=max(absmax, result.absmax),
        original_absmax=absmax,
    )
    limits, own = check.limits, None
    reason = _violation(compared, check, limits)
    if reason and not result.failure and (own := check.own_error(case)) and _proves(own, absmax, limits):
        limits = _widened(check.limits, own, absmax)
        reason = _violation(compared, check, limits) or _of_everywhere(compared, own, check.limits)
    tie = compared.tie(check, limits)
    differing_px = compared.pixels if margins is None else len(margins)
    tied_px = 0 if margins is None else int((margins <= tie).sum())
    return ImageParity(
        name=case.sample.name,
        variant=variant,
        batch=batch,
        height_px=expected.height_px,
        width_px=expected.width_px,
        agreeing_share=1 - (differing_px - tied_px) / compared.pixels,
        differing_px=differing_px,
        tied_px=tied_px,
        tie_margin=tie,
        differing_margin=None if margins is None or not len(margins) else float(margins.max()),
        logit_difference=result.difference,
        logit_absmax=absmax,
        own_error=None if own is None else own.largest,
        violation=reason and f"{case.sample.name}, {variant}, batch of {batch}: {reason}{_own(own, absmax, check)}",
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Compared:
    """What was measured of one image."""

    failure: str
    margins: NDArray[np.float32] | None
    """Of the pixels that differ; see Scores.margins."""
    pixels: int
    difference: float | None
    mean_difference: float
    absmax: float
    """Of both outputs."""
    original_absmax: float

    def tie(self, check: Check, limits: ParityLimits) -> float:
        """Return the difference of two probabilities up to which rounding decides between their classes."""
        return tie_margin(self.absmax, check.output, limits.noise_share)


def _violation(found: _Compared, check: Check, limits: ParityLimits) -> str:
    """Return which limit is violated, or an empty string."""
    if found.failure or found.margins is None:
        return found.failure
    tie = found.tie(check, limits)
    apart_px = int((found.margins > tie).sum())
    margin = float(found.margins.max(initial=0))
    if apart_px > limits.max_differing_share * found.pixels:
        return f"{apart_px} of {found.pixels} pixels differ, expected at most a share of {limits.max_differing_share:g}"
    if margin > max(limits.max_margin, tie):
        return f"a pixel differs that the original decided by {margin:.2g}, expected at most {limits.max_margin:g}"
    allowed = limits.max_logit_share * found.original_absmax
    if found.difference is not None and found.difference > allowed:
        return f"a logit differs by {found.difference:.2g}, expected at most {allowed:.2g}"
    return ""


def _proves(own: OwnError, absmax: float, limits: ParityLimits) -> bool:
    """Return whether the original's own error is small enough to compare by it."""
    return 0 < own.largest <= limits.max_own_share * absmax


def _widened(limits: ParityLimits, own: OwnError, absmax: float) -> ParityLimits:
    """Return the limits of an image for which the original's own error counts."""
    share = limits.max_own_errors * own.largest / absmax
    return replace(
        limits,
        max_logit_share=max(limits.max_logit_share, share),
        noise_share=max(limits.noise_share, share),
    )


def _of_everywhere(found: _Compared, own: OwnError, limits: ParityLimits) -> str:
    """Return that the outputs differ everywhere, or an empty string: rounding makes steps at few pixels alone."""
    allowed = max(limits.noise_share * found.original_absmax, limits.max_own_errors * own.mean)
    if found.mean_difference <= allowed:
        return ""
    return f"the logits differ by {found.mean_difference:.2g} on average, expected at most {allowed:.2g}"


def _own(own: OwnError | None, absmax: float, check: Check) -> str:
    """Return the end of a sentence about an image that violates a limit: what the original itself is off by."""
    if own is None or own.largest <= check.limits.max_logit_share * absmax:
        return ""
    found = f"the original's own float32 is off by {own.largest:.2g}"
    return f" ({found})" if _proves(own, absmax, check.limits) else f" ({found}, by which nothing can be proved)"
