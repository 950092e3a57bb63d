"""Sizes and rectangles of preprocessing: what an image is resized to, and where it is in the network's input.

The arithmetic is that of the libraries that models are trained with, in their order of operations, because another
order gives another size for some images. Knows numbers, no pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fsf_core.model.profile import STRETCHED, Profile
from fsf_core.options import Rounding, ToMultiple

MAX_ENLARGED_PX = 2**26
"""Pixels that an image may be enlarged to; an image of one row would otherwise fill the memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """The rectangle of the network's input that holds the image, or the part of it that a crop shows."""

    top_px: int
    left_px: int
    height_px: int
    width_px: int
    input_hw: tuple[int, int]
    """Rows and columns of the network's input; what the rectangle leaves is padding."""
    resized_hw: tuple[int, int]
    """Rows and columns of the whole resized image."""
    hidden_top_px: int = 0
    """Rows of the resized image above the rectangle, cut off by a crop."""
    hidden_left_px: int = 0
    """Columns of the resized image left of the rectangle, cut off by a crop."""

    @property
    def hides(self) -> bool:
        """Whether a crop hides a part of the image."""
        return (self.height_px, self.width_px) != self.resized_hw


def resized_hw(height_px: int, width_px: int, profile: Profile) -> tuple[int, int]:
    """Return the rows and columns that an image of this size is resized to, before padding and crop.

    stretch ignores the aspect ratio; letterbox scales an image into the size, short-side to a shorter side, own not at
    all. closest-side scales by that side of the size that changes the image least (DPT, keep_aspect_ratio). A side has
    at least one pixel, where the libraries fail.

    Raises:
        ValueError: the image would be enlarged to more than MAX_ENLARGED_PX.
    """
    if profile.mode == "stretch":
        return profile.resize_hw
    sides = _scaled(height_px, width_px, profile)
    if profile.multiple_of > 1 and profile.to_multiple != "pad":
        rounded = _MULTIPLES[profile.to_multiple]
        sides = (rounded(sides[0], profile.multiple_of), rounded(sides[1], profile.multiple_of))
    rows, columns = max(1, round(sides[0])), max(1, round(sides[1]))
    if rows * columns > max(MAX_ENLARGED_PX, height_px * width_px * 4):
        raise ValueError(
            f"found an image of {height_px}x{width_px} pixels, which the model's preprocessing enlarges to "
            f"{rows}x{columns}; expected at most {MAX_ENLARGED_PX} pixels"
        )
    return rows, columns


def input_hw(height_px: int, width_px: int, profile: Profile) -> tuple[int, int]:
    """Return the rows and columns of the network's input for an image of this size."""
    if profile.is_fixed:
        return profile.height_px, profile.width_px
    rows, columns = resized_hw(height_px, width_px, profile)
    step = profile.multiple_of
    return math.ceil(rows / step) * step, math.ceil(columns / step) * step


def place(height_px: int, width_px: int, profile: Profile) -> Box:
    """Return the rectangle of an image of this size inside the network's input."""
    rows, columns = resized_hw(height_px, width_px, profile)
    full = input_hw(height_px, width_px, profile)
    top_px, hidden_top_px = _offsets(full[0] - rows, profile)
    left_px, hidden_left_px = _offsets(full[1] - columns, profile)
    return Box(
        top_px=top_px,
        left_px=left_px,
        height_px=min(rows, full[0]),
        width_px=min(columns, full[1]),
        input_hw=full,
        resized_hw=(rows, columns),
        hidden_top_px=hidden_top_px,
        hidden_left_px=hidden_left_px,
    )


def shown(box: Box, height_px: int, width_px: int, profile: Profile) -> tuple[slice, slice]:
    """Return the rows and columns of an image of this size that its crop shows: pixels whose centres are inside."""
    if not profile.cropped or profile.uncovered == STRETCHED:
        return slice(0, height_px), slice(0, width_px)
    return (
        _inside(box.hidden_top_px, box.height_px, box.resized_hw[0], height_px),
        _inside(box.hidden_left_px, box.width_px, box.resized_hw[1], width_px),
    )


def _inside(start: int, length: int, resized: int, size: int) -> slice:
    """Return the pixels of a side whose centres, scaled to the resized side, are in [start, start + length)."""
    # The least y with (2y + 1) · resized / (2 · size) >= edge, in whole numbers.
    first, end = (-((resized - 2 * edge * size) // (2 * resized)) for edge in (start, start + length))
    return slice(max(0, first), min(size, end))


def _offsets(space_px: int, profile: Profile) -> tuple[int, int]:
    """Return the padding before a side, and what a crop cuts off there."""
    if space_px >= 0:
        return 0 if profile.align == "top-left" else space_px // 2, 0
    # torchvision's CenterCrop rounds halves to even, the others truncate.
    return 0, round(-space_px / 2) if profile.align == "centre-even" else -space_px // 2


def _scaled(height_px: int, width_px: int, profile: Profile) -> tuple[float, float]:
    """Return the sides of an evenly scaled image: whole numbers, or before any rounding for multiples."""
    if profile.mode == "own":
        return height_px, width_px
    if profile.mode == "short-side":
        return _SHORT_SIDES[profile.rounding](height_px, width_px, profile.short_side_px, profile.max_long_side_px)
    rows, columns = profile.resize_hw
    if profile.mode == "closest-side":
        by_rows, by_columns = rows / height_px, columns / width_px
        scale = by_columns if abs(1 - by_columns) < abs(1 - by_rows) else by_rows
        return scale * height_px, scale * width_px
    scale = min(columns / width_px, rows / height_px)
    whole = _WHOLE[profile.rounding]
    return whole(height_px * scale), whole(width_px * scale)


def _torchvision_short_side(height_px: int, width_px: int, short: int, longest: int) -> tuple[int, int]:
    """As torchvision.transforms.functional.resize and Pillow's users do: the longer side is truncated."""
    shorter, longer = sorted((height_px, width_px))
    new_short, new_long = short, int(short * longer / shorter)
    if longest and new_long > longest:
        new_short, new_long = int(longest * new_short / new_long), longest
    return (new_long, new_short) if width_px <= height_px else (new_short, new_long)


def _detr_short_side(height_px: int, width_px: int, short: int, longest: int) -> tuple[int, int]:
    """As the processors of DETR and MaskFormer do: the shorter side is rounded, the longer truncated."""
    shorter, longer = float(min(height_px, width_px)), float(max(height_px, width_px))
    exact: float = short
    if longest and longer / shorter * short > longest:
        exact = longest * shorter / longer
        short = round(exact)
    if min(height_px, width_px) == short:
        return height_px, width_px
    if width_px < height_px:
        return int(exact * height_px / width_px), short
    return short, int(exact * width_px / height_px)


def _scaled_short_side(whole: Callable[[float], int]) -> Callable[[int, int, int, int], tuple[int, int]]:
    """As mmcv.imrescale and albumentations.SmallestMaxSize do: one factor for both sides, then rounding."""

    def sides(height_px: int, width_px: int, short: int, longest: int) -> tuple[int, int]:
        """Return both sides, rounded."""
        scale = short / min(height_px, width_px)
        if longest:
            scale = min(longest / max(height_px, width_px), scale)
        return whole(height_px * scale), whole(width_px * scale)

    return sides


def _half_up(value: float) -> int:
    return int(value + 0.5)


_WHOLE: dict[Rounding, Callable[[float], int]] = {
    "truncate": int,
    "half-up": _half_up,
    "half-even": round,
    "detr": int,
}
_SHORT_SIDES: dict[Rounding, Callable[[int, int, int, int], tuple[int, int]]] = {
    "truncate": _torchvision_short_side,
    "half-up": _scaled_short_side(_half_up),
    "half-even": _scaled_short_side(round),
    "detr": _detr_short_side,
}
_MULTIPLES: dict[ToMultiple, Callable[[float, int], int]] = {
    # At least one multiple, where DPT's processor would round a sliver to 0 and fail.
    "resize": lambda side, step: max(1, round(side / step)) * step,
    "resize-up": lambda side, step: max(1, math.ceil(side / step)) * step,
    "resize-down": lambda side, step: max(1, int(side // step)) * step,
}
