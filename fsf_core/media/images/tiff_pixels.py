"""TIFF's samples to 8-bit BGR. What libtiff alone knows (JPEG, CCITT, YCbCr) OpenCV decodes."""

# H×W pixels, C samples

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError
from fsf_core.media.images import opencv, tiff
from fsf_core.media.images.small_tiff import page_alone
from fsf_core.media.images.stored import Pixels, Stored, first_of, transparency
from fsf_core.media.images.tiff import Colours, Directory, Tag
from fsf_core.media.images.tiff_samples import is_read_here, read_samples

_BYTE, _WORD = 8, 16
_ALPHA_KINDS = frozenset({1, 2})  # premultiplied or not
_COLOURS, _INKS = 3, 4
_LIMITS = frozenset({Tag.MIN_SAMPLE, Tag.MAX_SAMPLE})


def decode(data: bytes, page_at: int | None = None) -> Stored:
    """Decode a page to uint8 H×W×3, BGR.

    Args:
        data: the file.
        page_at: where the page's directory is, of `tiff.pages`; None for the first page, with a note if there are more.

    Raises:
        DecodeError: the file is cut off or damaged, or of a kind that is not supported.
    """
    directory = tiff.read_directory(data, page_at)
    notes = first_of(directory.pages, "pages")
    if not is_read_here(directory):
        alone = tiff.without_orientation(data) if page_at is None else page_alone(data, directory)
        image_HWC = opencv.decode(alone, "tiff", reason=refusal(directory))
        return Stored(image_HWC, directory.orientation, notes)
    plan = plan_of(directory)
    samples_HWC = read_samples(data, directory, plan.bands, cut=plan.cut)
    limits = _declared_limits(samples_HWC[..., : plan.used], directory) if declares_limits(directory) else None
    if plan.alpha is not None:
        notes += transparency(alpha_of(samples_HWC, plan))
    notes += plan.notes
    if limits:
        shown = ", ".join(f"{low} to {high}" for low, high in dict.fromkeys(limits))
        notes += (f"samples from MinSampleValue to MaxSampleValue ({shown}) were scaled to 0 to 255",)
    return Stored(as_levels(samples_HWC, plan, directory, limits=limits), directory.orientation, notes)


class SamplePlan(NamedTuple):
    """Which samples of a page are read, and what they become."""

    used: int
    """Bands of colours."""
    alpha: int | None
    """The band of alpha, behind them; None if there is none."""
    cut: bool
    """Whether only the upper byte of 16 bits is read."""
    bits: int
    """Of a sample once it is read."""
    notes: tuple[str, ...]
    """Which bands were left out."""

    @property
    def bands(self) -> int:
        """Bands that are read."""
        return self.used if self.alpha is None else self.used + 1


def plan_of(directory: Directory) -> SamplePlan:
    """Return which samples of a page are read.

    Raises:
        DecodeError: it has too few bands.
    """
    used = _INKS if directory.colours == Colours.SEPARATED else _COLOURS if directory.colours == Colours.RGB else 1
    if directory.samples < used:
        raise DecodeError(
            f"the tiff has {directory.samples} samples in a pixel, expected at least {used} for its colour model; save "
            "it again as JPEG or PNG"
        )
    alpha = used if directory.one(Tag.EXTRA_SAMPLES, 0) in _ALPHA_KINDS and directory.samples > used else None
    cut = directory.bits == _WORD and directory.colours != Colours.PALETTE and not directory.tags.keys() & _LIMITS
    notes: tuple[str, ...] = ()
    if alpha is None and directory.samples > used:
        notes = (f"{'band 1' if used == 1 else f'bands 1 to {used}'} of {directory.samples} were scored",)
    return SamplePlan(used, alpha, cut, _BYTE if cut else directory.bits, notes)


def alpha_of(samples_HWC: NDArray[Any], plan: SamplePlan) -> Pixels:
    """Return the band of alpha, as 8 bits."""
    return _stretched(samples_HWC[..., plan.used], plan.bits)


def refusal(directory: Directory) -> str:
    """Return why OpenCV may not decode a page, or a strip or tile of it, in case that it does not."""
    return (
        f"it is cut off, damaged, or of a kind that OpenCV does not read ({directory.bits} bits, "
        f"{directory.samples} samples in a pixel, PhotometricInterpretation {directory.colours}, Compression "
        f"{directory.one(Tag.COMPRESSION, 1)})"
    )


# --- samples to colours ----------------------------------------------------------------------------------------------


def as_levels(
    samples_HWC: NDArray[Any],
    plan: SamplePlan,
    directory: Directory,
    *,
    limits: Sequence[tuple[int, int]] | None = None,
) -> Pixels:
    """Return samples as BGR levels.

    Args:
        samples_HWC: of the plan, all or some rows and columns.
        plan: of `plan_of`.
        directory: of the page.
        limits: black and white of every band, where the file declares them.

    Raises:
        DecodeError: the palette is too short.
    """
    samples_HWC, bits = samples_HWC[..., : plan.used], plan.bits
    if directory.colours == Colours.PALETTE:
        return _from_palette(samples_HWC[..., 0], directory)
    if limits is None:
        levels_HWC = _stretched(samples_HWC, bits)
    else:
        bands = [
            _between(samples_HWC[..., k], *limits[min(k, len(limits) - 1)], bits) for k in range(samples_HWC.shape[2])
        ]
        levels_HWC = np.stack(bands, axis=-1)
    if directory.colours == Colours.WHITE_IS_ZERO:
        levels_HWC = 255 - levels_HWC
    if directory.colours == Colours.SEPARATED:
        light_HW = 255 - levels_HWC[..., 3:].astype(np.uint16)
        levels_HWC = ((255 - levels_HWC[..., :3].astype(np.uint16)) * light_HW // 255).astype(np.uint8)
    return opencv.as_bgr(levels_HWC)


def _stretched(samples: NDArray[Any], bits: int) -> Pixels:
    """Return samples of a depth as 8 bits: the upper byte of 16, and from black to white for others."""
    if bits == _BYTE:
        return np.asarray(samples, np.uint8)
    if bits == _WORD:
        return np.asarray(samples >> _BYTE, np.uint8)
    return _between(samples, 0, (1 << bits) - 1, bits)


def _between(samples: NDArray[Any], low: int, high: int, bits: int) -> Pixels:
    """Return samples as 8 bits, where `low` is 0 and `high` is 255."""
    steps = np.arange(1 << bits, dtype=np.float64)
    levels = np.rint((steps - low) * 255 / (high - low)).clip(0, 255).astype(np.uint8)
    return np.asarray(levels[samples])


def declares_limits(directory: Directory) -> bool:
    """Return whether the file declares another black or white than its format has."""
    whitest = (1 << directory.bits) - 1
    highs, lows = directory.tags.get(Tag.MAX_SAMPLE, (whitest,)), directory.tags.get(Tag.MIN_SAMPLE, (0,))
    return directory.colours != Colours.PALETTE and ({*highs} != {whitest} or {*lows} != {0})


def _declared_limits(samples_HWC: NDArray[Any], directory: Directory) -> list[tuple[int, int]] | None:
    """Return MinSampleValue and MaxSampleValue of each band; None where they are the format's, or cannot be true."""
    whitest = (1 << directory.bits) - 1
    highs, lows = directory.tags.get(Tag.MAX_SAMPLE, (whitest,)), directory.tags.get(Tag.MIN_SAMPLE, (0,))
    bands = samples_HWC.shape[2]
    limits = [(low, high) for low, high in zip(_per_band(lows, bands), _per_band(highs, bands), strict=True)]
    if all(limit == (0, whitest) for limit in limits) or any(not low < high <= whitest for low, high in limits):
        return None
    greatest = samples_HWC.reshape(-1, bands).max(axis=0).tolist()
    return limits if all(value <= high for value, (_, high) in zip(greatest, limits, strict=True)) else None


def _per_band(values: tuple[int, ...], bands: int) -> tuple[int, ...]:
    """Return a value for each band; one value counts for all."""
    return values[:bands] if len(values) >= bands else values[:1] * bands


def _from_palette(indices_HW: NDArray[Any], directory: Directory) -> Pixels:
    """Return the colours of a palette's indices.

    Raises:
        DecodeError: the palette is too short.
    """
    entries = 1 << directory.bits
    values: NDArray[Any] = np.asarray(directory.tags.get(Tag.COLOUR_MAP, ()), np.uint16)
    if len(values) < _COLOURS * entries:
        raise DecodeError(
            f"the tiff is damaged: its palette has {len(values)} values of {_COLOURS * entries}; copy it again"
        )
    table = values[: _COLOURS * entries].reshape(_COLOURS, entries)[::-1].T
    if table.max() >= 1 << _BYTE:  # some writers use 8 bits for a palette
        table = table >> _BYTE
    return np.ascontiguousarray(table.astype(np.uint8)[indices_HW])
