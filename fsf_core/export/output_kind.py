"""What a model's output means: what was given, checked by its numbers, or what its numbers prove.

Knows arrays and class names. Knows no graph and no images.
"""

# N images, K classes, H rows, W columns

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import ConfigError
from fsf_core.export.interface import Given
from fsf_core.export.model_document import option_of
from fsf_core.model.bundle import Output
from fsf_core.options import OutputKind, OutputLayout

BACKGROUND = "background"
"""Name of the class beside the one that a binary model names."""

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of probabilities may be. In float32 it is below 1e-5, in float16 below 1e-2."""
HALF_SUM_TOLERANCE = 1e-2
ENOUGH = 0.7
"""What the largest of probabilities reaches; small logits of untrained networks do not."""
MOST_UNEVEN = 16
"""How much finer a grid may be along one side than along the other."""
ALL_FOREGROUND = 20.0
"""A logit that is never negative and reaches this is none: every pixel would be foreground, without a doubt."""
RANGE_TOLERANCE = 1e-3
"""How far outside of 0 to 1 rounding takes a probability."""
OVERSHOOT = 0.3
"""How far outside of 0 to 1 a cubic resize takes probabilities; in one dimension it is 0.14, in two 0.3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """Facts about the outputs for several images."""

    lowest: float
    highest: float
    whole: bool
    """Whether every number is a whole one."""
    total: float | None
    """What the channels sum to, if that is the same everywhere."""
    constant: bool
    """Whether all numbers are equal: then they show nothing."""

    @property
    def sums_to_1(self) -> bool:
        """Return whether the channels sum to 1 everywhere."""
        return self.total == 1

    @property
    def factor(self) -> float | None:
        """Return what probabilities were multiplied by, such as 100 or 255, if the numbers look like that."""
        if self.total is None or self.total <= 1 or self.constant:
            return None
        return self.total if self.lowest >= -OVERSHOOT * self.total else None

    @property
    def within_0_and_1(self) -> bool:
        """Return whether every number may be a probability."""
        return self.lowest >= -RANGE_TOLERANCE and self.highest <= 1 + RANGE_TOLERANCE

    @property
    def overshoots(self) -> bool:
        """Return whether the numbers may be probabilities behind a cubic resize: about 0 to 1, and not within."""
        near = self.lowest >= -OVERSHOOT and ENOUGH <= self.highest <= 1 + OVERSHOOT
        return near and not self.within_0_and_1


def read_output(
    raws: Iterable[tuple[NDArray[Any], tuple[int, ...]]], given: Given, *, names: int
) -> tuple[Output, str]:
    """Return what the output means, and how that is known; "" where it was given.

    Args:
        raws: the model's outputs, of one image each, and rows and columns of their inputs; at least one. One is in
            memory at a time: the output of a network with many classes is large.
        given: what was given about the output.
        names: number of class names.

    Raises:
        ConfigError: the numbers contradict what was given, or do not show what they mean.
    """
    remaining = iter(raws)
    first, input_hw = next(remaining)
    dtype, integers = str(first.dtype), first.dtype.kind in "iub"
    layout = _layout(first, given, names)
    if given.layout is None:
        _require_grid_of_input(list(first.shape), layout, input_hw)
    channel_axis = {"NKHW": 1, "N1HW": 1, "NHWK": 3, "NHW": None}[layout]
    channels = 1 if channel_axis is None else first.shape[channel_axis]
    numbers = _numbers(chain([first], (raw for raw, _ in remaining)), channel_axis)
    names = max(names, 2) if channels == 1 else names  # the one name of a foreground has a background beside it
    if given.kind is not None:
        if reason := contradiction(given.kind, numbers, channels=channels, names=names):
            raise ConfigError(
                f"the output is given as {given.kind}, but {reason}; pass another --output-kind, or leave it out"
            )
        return _treated(given.kind, layout, dtype, given), ""
    kind, reason = _proven(numbers, channels=channels, names=names, integers=integers)
    return _treated(kind, layout, dtype, given), reason


def _treated(kind: OutputKind, layout: OutputLayout, dtype: str, given: Given) -> Output:
    """Return the output with what is given of its way to a class map.

    Raises:
        ConfigError: outputs of this kind take another way.
    """
    try:
        return Output(kind=kind, layout=layout, dtype=dtype, **given.treatment)
    except ValueError as error:
        options = " and ".join(option_of("output", key) for key in given.treatment if key != "grid")
        raise ConfigError(f"{error}; leave out {options}, or pass --output-kind if it is another") from error


def with_background(classes: tuple[str, ...], output: Output) -> tuple[str, ...]:
    """Return the names of a bundle's classes: the one name of a binary model is that of the foreground.

    Raises:
        ConfigError: it is that of the background.
    """
    if len(classes) > 1:
        return classes
    assert output.kind in {"binary_logit", "binary_probability", "class_map"}, "others have a name for each channel"
    if classes == (BACKGROUND,):
        raise ConfigError(
            f"classes are {list(classes)}, expected the name of the foreground; pass --classes foreground"
        )
    return (BACKGROUND, *classes)


def _layout(raw: NDArray[Any], given: Given, names: int) -> OutputLayout:
    """Return the layout of the output.

    Raises:
        ConfigError: it is no batch of maps, or its shape leaves the layout open.
    """
    shape = list(raw.shape)
    fitting: dict[int, tuple[OutputLayout, ...]] = {3: ("NHW",), 4: ("NKHW", "NHWK", "N1HW")}
    if len(shape) not in fitting or shape[0] != 1 or 0 in shape or raw.dtype.kind not in "fiub":
        raise ConfigError(
            f"the output is {raw.dtype} {shape} for one image, expected numbers on a grid: [1, K, H, W], [1, H, W, K] "
            "or [1, H, W]; name another output with --output-name, or export the model without its last step"
        )
    if given.layout is not None:
        fits = given.layout in fitting[len(shape)] and (given.layout != "N1HW" or shape[1] == 1)
        if not fits:
            raise ConfigError(
                f"the layout of the output is given as {given.layout}, but the output is {shape}; "
                "pass another --output-layout, or leave it out"
            )
        return given.layout
    if len(shape) == 3:  # noqa: PLR2004 - no axis of channels
        return "NHW"
    wanted = {names, 1}
    first, last = shape[1] in wanted, shape[3] in wanted
    if first and last and shape[1] != 1 and shape[3] != 1:
        raise ConfigError(
            f"the output is {shape} and {names} classes are named, so that its classes may be on the second or on the "
            "last axis; pass --output-layout NKHW or NHWK"
        )
    if last and not first:
        return "NHWK"
    if not first:
        raise ConfigError(
            f"the output is {shape}: {shape[1]} classes as [N, K, H, W], or {shape[3]} as [N, H, W, K], but {names} "
            f"{'is' if names == 1 else 'are'} named; pass --classes with one name for each class"
        )
    return "N1HW" if shape[1] == 1 else "NKHW"


def _require_grid_of_input(shape: list[int], layout: OutputLayout, input_hw: tuple[int, ...]) -> None:
    """Refuse an output whose axes are no rows and columns of the input.

    Raises:
        ConfigError: cells are in one row, or rows and columns have changed places.
    """
    rows, columns = shape[1:3] if layout in {"NHWK", "NHW"} else shape[2:]
    height_px, width_px = input_hw
    if not 1 / MOST_UNEVEN < (rows / height_px) / (columns / width_px) < MOST_UNEVEN:
        raise ConfigError(
            f"the output is {shape} for an input of {height_px}x{width_px}: its cells seem to be in one row, expected "
            "rows and columns; export the model with [N, K, H, W], or pass --output-layout if the shape is right"
        )
    if height_px != width_px and rows * height_px == columns * width_px:
        raise ConfigError(
            f"the output is {shape} for an input of {height_px}x{width_px}: rows and columns seem to be transposed; "
            "export the model with [N, K, H, W], or pass --output-layout if the shape is right"
        )


def _numbers(outputs: Iterable[NDArray[Any]], channel_axis: int | None) -> Numbers:
    """Return the facts.

    Raises:
        ConfigError: a number is NaN or infinite.
    """
    lowest, highest, whole, half = np.inf, -np.inf, True, False
    least, most = np.inf, -np.inf
    for raw in outputs:
        half = raw.dtype == np.float16
        values = raw.astype(np.float32, copy=False)
        total = values if channel_axis is None else values.sum(axis=channel_axis)
        if not np.isfinite(total).all():
            raise ConfigError("the output holds NaN or infinity for a drawn image, expected numbers; check the weights")
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        whole = whole and bool((values == np.trunc(values)).all())
        least, most = min(least, float(total.min())), max(most, float(total.max()))
    tolerance = (HALF_SUM_TOLERANCE if half else SUM_TOLERANCE) * max(1.0, abs(least))
    middle = (least + most) / 2
    same = max(most - middle, middle - least, 0) <= tolerance
    # 1 exactly, if it may be: a middle beside it would be a factor.
    total_everywhere = 1.0 if max(abs(most - 1), abs(least - 1)) <= tolerance else middle if same else None
    return Numbers(lowest=lowest, highest=highest, whole=whole, total=total_everywhere, constant=lowest == highest)


def contradiction(kind: OutputKind, numbers: Numbers, *, channels: int, names: int) -> str:
    """Return why the numbers cannot be of this kind, or ""."""
    found = f"its numbers are from {numbers.lowest:.4g} to {numbers.highest:.4g}"
    binary = kind in {"binary_logit", "binary_probability"}
    reasons = (
        (kind == "class_map" and channels != 1, f"it has {channels} channels, and a class map has one"),
        (kind == "class_map" and not numbers.whole, f"{found} and not whole, and a class map holds ids"),
        (kind == "class_map" and numbers.lowest < 0, f"{found}, and a class map holds ids from 0 on"),
        (kind == "class_map" and numbers.highest >= names, f"{found}, and {names} classes are named"),
        (binary and channels != 1, f"it has {channels} channels, and a binary output has one"),
        (binary and names > 2, f"{names} classes are named, and a binary output has two"),  # noqa: PLR2004 - see text
        (
            kind in {"logits", "probabilities"} and channels != names,
            f"it has {channels} channels, and {names} classes are named",
        ),
        (
            kind in {"probabilities", "binary_probability"} and not (numbers.within_0_and_1 or numbers.overshoots),
            f"{found}, and probabilities are from 0 to 1",
        ),
        (
            kind == "logits" and _are_probabilities(numbers, channels),
            "its channels sum to 1 everywhere: they are probabilities, and softmax would be applied again",
        ),
    )
    return next((reason for applies, reason in reasons if applies), "")


def _are_probabilities(numbers: Numbers, channels: int) -> bool:
    # A cubic resize keeps the sum of 1 and leaves 0 to 1; logits have no such sum.
    plausible = numbers.lowest >= -OVERSHOOT and numbers.highest <= 1 + OVERSHOOT
    return channels > 1 and numbers.sums_to_1 and plausible and not numbers.constant


def _proven(numbers: Numbers, *, channels: int, names: int, integers: bool) -> tuple[OutputKind, str]:
    """Return what the numbers prove, and how.

    Raises:
        ConfigError: they leave it open.
    """
    if channels > 1:
        return _proven_scores(numbers, channels=channels, names=names, integers=integers)
    found = f"its numbers are from {numbers.lowest:.4g} to {numbers.highest:.4g}"
    if numbers.whole and not contradiction("class_map", numbers, channels=1, names=names):
        if numbers.constant and not integers:
            raise ConfigError(
                f"the output has one channel, and is {numbers.lowest:g} everywhere on the drawn images: it may be a "
                "class map, a probability or a logit; pass --output-kind class_map, binary_probability or binary_logit"
            )
        return "class_map", "its numbers are whole and below the number of classes"
    if integers or numbers.whole:
        raise ConfigError(
            f"the output has one channel of whole numbers, and {found}, but {names} "
            "classes are named; pass --classes with one name for each id"
        )
    if names > 2:  # noqa: PLR2004 - background and foreground
        raise ConfigError(
            f"the output has one channel, and {found}: the scores of one foreground class, but {names} classes are "
            "named; pass the names of background and foreground, or another --output-name"
        )
    if numbers.within_0_and_1:
        return "binary_probability", "it has one channel, from 0 to 1"
    if numbers.overshoots:
        raise ConfigError(
            f"the output has one channel, and {found}: probabilities behind a cubic resize, or logits; "
            "pass --output-kind binary_probability or --output-kind binary_logit"
        )
    if numbers.lowest >= 0 and numbers.highest > ALL_FOREGROUND:
        raise ConfigError(
            f"the output has one channel, and {found}: a probability with a factor, or a logit by which every pixel is "
            "foreground; export the model without the factor, or pass --output-kind binary_logit"
        )
    return "binary_logit", "it has one channel, beyond 0 to 1"


def _proven_scores(numbers: Numbers, *, channels: int, names: int, integers: bool) -> tuple[OutputKind, str]:
    """Return what the numbers of several channels prove, and how."""
    if channels != names:
        raise ConfigError(
            f"the output has {channels} channels, but {names} {'class is' if names == 1 else 'classes are'} named; "
            "pass --classes with one name for each class"
        )
    if _are_probabilities(numbers, channels):
        return "probabilities", "its channels sum to 1 everywhere"
    if numbers.overshoots or (numbers.within_0_and_1 and not numbers.constant) or integers:
        raise ConfigError(
            f"the output has {channels} channels of numbers from {numbers.lowest:.4g} to {numbers.highest:.4g} that "
            "do not sum to 1: probabilities of a sigmoid per class, or logits, to which softmax must still be applied; "
            "pass --output-kind probabilities or --output-kind logits"
        )
    if numbers.factor is not None:
        raise ConfigError(
            f"the output has {channels} channels that sum to {numbers.factor:.4g} everywhere: probabilities times "
            f"{numbers.factor:.4g}, expected them from 0 to 1, or logits; export the model without the factor, or pass "
            "--output-kind logits if these are logits"
        )
    return "logits", "its numbers are not limited to 0 to 1"
