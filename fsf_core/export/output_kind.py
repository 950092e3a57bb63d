"""What a model's output means: what was given, checked by its numbers, or what its numbers prove.

Knows arrays and class names. Knows no graph and no images.
"""

# N images, K classes, H rows, W columns

from collections.abc import Iterable
from dataclasses import dataclass
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
RANGE_TOLERANCE = 1e-3
"""How far outside of 0 to 1 a probability may be: a cubic resize overshoots, float16 rounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """Facts about the outputs for several images."""

    lowest: float
    highest: float
    whole: bool
    """Whether every number is a whole one."""
    sums_to_1: bool
    """Whether the channels sum to 1 everywhere."""
    constant: bool
    """Whether all numbers are equal: then they show nothing."""

    @property
    def within_0_and_1(self) -> bool:
        """Return whether every number may be a probability."""
        return self.lowest >= -RANGE_TOLERANCE and self.highest <= 1 + RANGE_TOLERANCE


def read_output(raws: Iterable[NDArray[Any]], given: Given, *, names: int) -> tuple[Output, str]:
    """Return what the output means, and how that is known; "" where it was given.

    Args:
        raws: the model's outputs, of one image each; at least one.
        given: what was given about the output.
        names: number of class names.

    Raises:
        ConfigError: the numbers contradict what was given, or do not show what they mean.
    """
    outputs = list(raws)
    layout = _layout(outputs[0], given, names)
    channel_axis = {"NKHW": 1, "N1HW": 1, "NHWK": 3, "NHW": None}[layout]
    channels = 1 if channel_axis is None else outputs[0].shape[channel_axis]
    numbers = _numbers(outputs, channel_axis)
    names = max(names, 2) if channels == 1 else names  # the one name of a foreground has a background beside it
    dtype = str(outputs[0].dtype)
    if given.kind is not None:
        if reason := contradiction(given.kind, numbers, channels=channels, names=names):
            raise ConfigError(
                f"the output is given as {given.kind}, but {reason}; pass another --output-kind, or leave it out"
            )
        return _treated(given.kind, layout, dtype, given), ""
    kind, reason = _proven(numbers, channels=channels, names=names, integers=outputs[0].dtype.kind in "iub")
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


def _numbers(outputs: list[NDArray[Any]], channel_axis: int | None) -> Numbers:
    """Return the facts.

    Raises:
        ConfigError: a number is NaN or infinite.
    """
    lowest, highest, off, whole = np.inf, -np.inf, 0.0, True
    half = outputs[0].dtype == np.float16
    for raw in outputs:
        values = raw.astype(np.float32)
        if not np.isfinite(values).all():
            raise ConfigError("the output holds NaN or infinity for a drawn image, expected numbers; check the weights")
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        whole = whole and bool((values == np.trunc(values)).all())
        total = values if channel_axis is None else values.sum(axis=channel_axis)
        off = max(off, float(np.abs(total - 1).max()))
    tolerance = HALF_SUM_TOLERANCE if half else SUM_TOLERANCE
    return Numbers(lowest=lowest, highest=highest, whole=whole, sums_to_1=off <= tolerance, constant=lowest == highest)


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
            kind in {"probabilities", "binary_probability"} and not numbers.within_0_and_1,
            f"{found}, and probabilities are from 0 to 1",
        ),
        (
            kind == "logits" and _are_probabilities(numbers, channels),
            "its numbers are from 0 to 1 and sum to 1: they are probabilities, and softmax would be applied again",
        ),
    )
    return next((reason for applies, reason in reasons if applies), "")


def _are_probabilities(numbers: Numbers, channels: int) -> bool:
    return channels > 1 and numbers.within_0_and_1 and numbers.sums_to_1 and not numbers.constant


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
    return "binary_logit", "it has one channel, beyond 0 to 1"


def _proven_scores(numbers: Numbers, *, channels: int, names: int, integers: bool) -> tuple[OutputKind, str]:
    """Return what the numbers of several channels prove, and how."""
    if channels != names:
        raise ConfigError(
            f"the output has {channels} channels, but {names} {'class is' if names == 1 else 'classes are'} named; "
            "pass --classes with one name for each class"
        )
    if _are_probabilities(numbers, channels):
        return "probabilities", "its numbers are from 0 to 1 and sum to 1"
    if (numbers.within_0_and_1 and not numbers.constant) or integers:
        raise ConfigError(
            f"the output has {channels} channels of numbers from {numbers.lowest:.4g} to {numbers.highest:.4g} that "
            "do not sum to 1: probabilities of a sigmoid per class, or logits, to which softmax must still be applied; "
            "pass --output-kind probabilities or --output-kind logits"
        )
    return "logits", "its numbers are not limited to 0 to 1"
