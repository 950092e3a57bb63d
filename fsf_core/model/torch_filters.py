"""The filters of torch and torchvision on the CPU, with their pixels, without torch.

`resize_fixed_point` is what torch does with uint8 images on processors with AVX2, AVX-512 or NEON: one pass per axis
with 16-bit weights, rounded to levels after each. `resize_float` is torch.nn.functional.interpolate of float32 images
without antialias, rounded to levels; `resize_float_antialiased` is the same with it. The kernels are compiled by numba,
which only processes that use such a filter load.
"""

# H×W pixels, C channels, M outputs along an axis, T taps

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Filter = Literal["bilinear", "bicubic", "lanczos"]

_TAPS = {"bilinear": 2, "bicubic": 4, "lanczos": 6}
_SHARP_CUBIC, _SOFT_CUBIC = -0.75, -0.5
"""Coefficients of the cubic: torch's own, and Pillow's, which torch takes with antialias."""
_MAX_WEIGHT_BITS = 22
_WEIGHT_LIMIT = 1 << 15


class _Taps(NamedTuple):
    """Weights along an axis: output m is the sum of weights_MT[m, t] · input[starts_M[m] + t] / 2**bits."""

    starts_M: NDArray[np.int64]
    weights_MT: NDArray[np.int32]
    bits: int


def resize_fixed_point(
    image_HWC: NDArray[np.uint8], height_px: int, width_px: int, name: Filter, *, antialias: bool
) -> NDArray[np.uint8]:
    """Resize as torch does with uint8; with antialias, as torchvision.transforms.v2.functional.resize."""
    resized = np.ascontiguousarray(image_HWC)
    if width_px != resized.shape[1]:
        out = np.empty((resized.shape[0], width_px, resized.shape[2]), np.uint8)
        _compiled(_sum_columns)(resized, *_taps(resized.shape[1], width_px, name, antialias), out)
        resized = out
    if height_px != resized.shape[0]:
        out = np.empty((height_px, *resized.shape[1:]), np.uint8)
        taps = _taps(resized.shape[0], height_px, name, antialias)
        _compiled(_sum_rows)(resized.reshape(resized.shape[0], -1), *taps, out.reshape(height_px, -1))
        resized = out
    return resized


@lru_cache(maxsize=64)  # two per size of image; frames of a video share them
def _taps(size: int, wanted: int, name: Filter, antialias: bool) -> _Taps:  # noqa: FBT001 - lru_cache is faster so
    """Return the taps of an axis, in the arithmetic of doubles that torch has."""
    starts_M, weights_MT = (_antialiased if antialias else _unscaled)(size, wanted, name)
    largest, bits = float(weights_MT.max()), 0
    while bits < _MAX_WEIGHT_BITS and int(0.5 + largest * (1 << (bits + 1))) < _WEIGHT_LIMIT:
        bits += 1
    # Halves away from 0, as C++ truncates.
    return _Taps(starts_M, np.trunc(weights_MT * (1 << bits) + np.copysign(0.5, weights_MT)).astype(np.int32), bits)


def _antialiased(size: int, wanted: int, name: Filter) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return weights of a filter that is as wide as the pixels that become one; outside of the image is nothing."""
    scale = size / wanted
    support = _TAPS[name] * 0.5 * max(scale, 1.0)
    inverse = 1 / scale if scale >= 1 else 1.0
    centres_M = scale * (np.arange(wanted) + 0.5)
    starts_M = np.maximum((centres_M - support + 0.5).astype(np.int64), 0)
    counts_M = np.minimum((centres_M + support + 0.5).astype(np.int64), size) - starts_M
    taps_T = np.arange(counts_M.max())
    places_MT = (taps_T + starts_M[:, None] - centres_M[:, None] + 0.5) * inverse
    weights_MT = np.where(taps_T < counts_M[:, None], _kernel(name, _SOFT_CUBIC)(np.abs(places_MT)), 0.0)
    return starts_M, weights_MT / np.cumsum(weights_MT, axis=1)[:, -1:]  # summed one by one, as torch does


def _unscaled(size: int, wanted: int, name: Filter) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return weights of two or four neighbours; outside of the image are its edges."""
    taps = _TAPS[name]
    places_M = size / wanted * (np.arange(wanted) + 0.5) - 0.5
    if name == "bilinear":
        places_M = np.maximum(places_M, 0.0)
    floors_M = np.minimum(np.floor(places_M).astype(np.int64), size - 1)
    parts_M = np.clip(places_M - floors_M, 0.0, 1.0)
    offsets_T = np.arange(taps) + 1 - taps // 2
    values_MT = _kernel(name, _SHARP_CUBIC)(np.abs(offsets_T - parts_M[:, None]))
    found_MT = np.clip(floors_M[:, None] + offsets_T, 0, size - 1)
    starts_M = np.minimum(found_MT[:, 0], max(0, size - taps))
    weights_MT = np.zeros((wanted, min(taps, size)))
    for tap in range(taps):
        weights_MT[np.arange(wanted), found_MT[:, tap] - starts_M] += values_MT[:, tap]
    return starts_M, weights_MT


def _kernel(name: Filter, cubic: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the filter as a function of the distance, which is not negative."""
    if name == "bilinear":
        return lambda x: np.maximum(1 - x, 0.0)
    if name == "lanczos":
        return lambda x: np.where(x < 3, _sinc(x) * _sinc(x / 3), 0.0)  # noqa: PLR2004 - its lobes
    near: Callable[[Any], Any] = lambda x: ((cubic + 2) * x - (cubic + 3)) * x * x + 1  # noqa: E731
    far: Callable[[Any], Any] = lambda x: (((x - 5) * x + 8) * x - 4) * cubic  # noqa: E731
    return lambda x: np.where(x < 1, near(x), np.where(x < 2, far(x), 0.0))  # noqa: PLR2004 - its pieces


def _sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    turned = x * math.pi
    return np.where(x == 0, 1.0, np.sin(turned) / np.where(x == 0, 1.0, turned))


def resize_float(image_HWC: NDArray[np.uint8], height_px: int, width_px: int, name: Filter) -> NDArray[np.uint8]:
    """Resize as torch.nn.functional.interpolate does with float32 and no antialias, and round to levels.

    Positions are float32 there, which moves pixels of wide images by up to 1e-4.
    """
    rows_TM, row_weights_TM = _float_taps(image_HWC.shape[0], height_px, name)
    columns_TM, column_weights_TM = _float_taps(image_HWC.shape[1], width_px, name)
    total_HWC = np.zeros((height_px, width_px, image_HWC.shape[2]), np.float32)
    for rows_M, row_weights_M in zip(rows_TM, row_weights_TM, strict=True):
        lines_HWC = image_HWC[rows_M]
        line_HWC = np.zeros_like(total_HWC)
        for columns_M, column_weights_M in zip(columns_TM, column_weights_TM, strict=True):
            line_HWC += lines_HWC[:, columns_M] * column_weights_M[:, None]
        total_HWC += line_HWC * row_weights_M[:, None, None]
    return np.clip(np.rint(total_HWC), 0, 255).astype(np.uint8)


def resize_float_antialiased(
    image_HWC: NDArray[np.uint8], height_px: int, width_px: int, name: Filter
) -> NDArray[np.uint8]:
    """Resize as torch.nn.functional.interpolate does with float32 and antialias, and round to levels.

    So do torchvision.transforms (not v2) with tensors of any type, and therefore the presets of torchvision's weights.
    """
    resized = np.ascontiguousarray(image_HWC, np.float32)
    for axis, wanted in ((1, width_px), (0, height_px)):
        if wanted != resized.shape[axis]:
            lines = np.ascontiguousarray(np.moveaxis(resized, axis, 0))
            out = np.empty((wanted, *lines.shape[1:]), np.float32)
            taps = _float_antialiased(len(lines), wanted, name)
            _compiled(_sum_lines, contract=True)(lines.reshape(len(lines), -1), *taps, out.reshape(wanted, -1))
            resized = np.moveaxis(out, 0, axis)
    return np.ascontiguousarray(np.clip(np.rint(resized), 0, 255), np.uint8)


@lru_cache(maxsize=64)
def _float_antialiased(
    size: int, wanted: int, name: Filter
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return what `_antialiased` does, and the number of taps of each output, in the float32 arithmetic of torch."""
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(size) / np.float32(wanted)
    support = np.float32(_TAPS[name]) * half * max(scale, one)
    inverse = one / scale if scale >= 1 else one
    centres_M = scale * (np.arange(wanted, dtype=np.float32) + half)
    starts_M = np.maximum((centres_M - support + half).astype(np.int64), 0)
    counts_M = np.minimum((centres_M + support + half).astype(np.int64), size) - starts_M
    taps_T = np.arange(counts_M.max())
    x_MT = np.abs(((taps_T + starts_M[:, None]).astype(np.float32) - centres_M[:, None] + half) * inverse)
    values_MT = np.asarray(_kernel(name, _SOFT_CUBIC)(x_MT), np.float32)
    weights_MT = np.where(taps_T < counts_M[:, None], values_MT, np.float32(0))
    sums_M1 = np.cumsum(weights_MT, axis=1, dtype=np.float32)[:, -1:]
    return starts_M, np.asarray(weights_MT / sums_M1, np.float32), counts_M


@lru_cache(maxsize=64)
def _float_taps(size: int, wanted: int, name: Filter) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return indices and weights of each tap along an axis, in float32 as torch computes them."""
    one, half = np.float32(1), np.float32(0.5)
    places_M = np.float32(size) / np.float32(wanted) * (np.arange(wanted, dtype=np.float32) + half) - half
    if name == "bilinear":
        places_M = np.maximum(places_M, np.float32(0))
    floors_M = np.minimum(np.floor(places_M).astype(np.int64), size - 1)
    part = np.clip(places_M - floors_M.astype(np.float32), np.float32(0), one)
    taps = _TAPS[name]
    indices_TM = np.clip(floors_M + np.arange(1 - taps // 2, taps // 2 + 1)[:, None], 0, size - 1)
    if name == "bilinear":
        return indices_TM, np.stack([one - part, part])
    a = np.float32(_SHARP_CUBIC)

    def near(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((a + 2) * x - (a + 3)) * x * x + one

    def far(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    rest = one - part
    return indices_TM, np.stack([far(part + one), near(part), near(rest), far(rest + one)]).astype(np.float32)


def resize_nearest(image_HWC: NDArray[np.uint8], height_px: int, width_px: int, *, exact: bool) -> NDArray[np.uint8]:
    """Resize as torch's nearest, whose cells start at their corner, or as nearest-exact does."""
    return np.ascontiguousarray(
        image_HWC[_nearest(image_HWC.shape[0], height_px, exact)][:, _nearest(image_HWC.shape[1], width_px, exact)]
    )


def _nearest(size: int, wanted: int, exact: bool) -> NDArray[np.intp]:  # noqa: FBT001 - of resize_nearest
    scale, steps = np.float32(size) / np.float32(wanted), np.arange(wanted, dtype=np.float32)
    places = steps * scale
    if exact:
        # Half a cell is taken off and added again, with one rounding each. Of a centre between two cells, the rounding
        # decides, and in torch the compiler: 9 of 35,000 pairs of sizes had such a cell on AVX-512.
        exact_M = scale.astype(np.float64) * (steps + np.float32(0.5)) - 0.5
        places = exact_M.astype(np.float32) + np.float32(0.5)
    return np.asarray(np.minimum(np.floor(places), size - 1), np.intp)


# ------------------------------------------------------------------------------------------------------------ kernels


def _sum_columns(image_HWC: Any, starts_M: Any, weights_MT: Any, bits: Any, out_HMC: Any) -> None:
    half, taps = np.int32(1 << (bits - 1)), weights_MT.shape[1]
    size = image_HWC.shape[1]
    for row in range(image_HWC.shape[0]):
        for m in range(starts_M.size):
            start = starts_M[m]
            used = min(taps, size - start)
            for channel in range(image_HWC.shape[2]):
                total = half
                for tap in range(used):
                    total += weights_MT[m, tap] * np.int32(image_HWC[row, start + tap, channel])
                out_HMC[row, m, channel] = min(max(total >> bits, 0), 255)


def _sum_rows(image_HL: Any, starts_M: Any, weights_MT: Any, bits: Any, out_ML: Any) -> None:
    half, taps = np.int32(1 << (bits - 1)), weights_MT.shape[1]
    size, length = image_HL.shape
    total_L = np.empty(length, np.int32)
    for m in range(starts_M.size):
        total_L[:] = half
        start = starts_M[m]
        for tap in range(min(taps, size - start)):
            weight = weights_MT[m, tap]
            line_L = image_HL[start + tap]
            for at in range(length):
                total_L[at] += weight * np.int32(line_L[at])
        for at in range(length):
            out_ML[m, at] = min(max(total_L[at] >> bits, 0), 255)


def _sum_lines(lines_HL: Any, starts_M: Any, weights_MT: Any, counts_M: Any, out_ML: Any) -> None:
    for m in range(starts_M.size):
        start, total_L = starts_M[m], out_ML[m]
        for at in range(lines_HL.shape[1]):
            total_L[at] = weights_MT[m, 0] * lines_HL[start, at]
        for tap in range(1, counts_M[m]):
            weight = weights_MT[m, tap]
            line_L = lines_HL[start + tap]
            for at in range(lines_HL.shape[1]):
                total_L[at] += weight * line_L[at]


@cache
def _compiled(kernel: Callable[..., None], *, contract: bool = False) -> Callable[..., None]:
    """Compile on first call, and cache the machine code on disk where a folder for it is writable.

    Args:
        kernel: loops over arrays.
        contract: whether a product and a sum are rounded once, as in torch's own machine code.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"} if contract else False}
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # neither the folder of this file nor the user's cache can be written
        compiled = numba.njit(**options)(kernel)
    return compiled
