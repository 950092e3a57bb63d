"""Preprocessing profiles: how a decoded image becomes the network's input. Knows no pixels, no files and no models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.options import (
    Align,
    ChannelOrder,
    FitMode,
    InputLayout,
    InputType,
    Interpolation,
    PaddingMode,
    Rounding,
    ToMultiple,
)

STRETCHED = "stretch"
"""`Profile.uncovered` of a crop whose scores are stretched over the image; any other value names a class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How a decoded image becomes the network's input; part of the model's contract, and stored in the bundle."""

    name: str
    height_px: int
    """Rows of the network's input; 0 where they depend on the image."""
    width_px: int
    """Columns of the network's input; 0 where they depend on the image."""
    mode: FitMode
    """How the resize finds its size: see `geometry.resized_hw`."""
    interpolation: Interpolation
    """Filter of the resize: see `filters`."""
    honour_exif: bool
    """Whether the EXIF orientation is applied before anything else."""
    channel_order: ChannelOrder = "rgb"
    scale: float = 255.0
    """Pixel values are divided by this, then mean and std are applied."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: tuple[int, int, int] = (128, 128, 128)
    """Colour of constant padding, in the network's channel order."""
    align: Align = "centre"
    """Where the image is placed in its padding."""
    layout: InputLayout = "NCHW"
    """Axes of the model as it was given; the bundle's models take NCHW whatever it is."""
    dtype: InputType = "float32"
    """Type of the model as it was given; the bundle's models take float32 whatever it is."""
    target_hw: tuple[int, int] | None = None
    """Rows and columns that stretch, letterbox and closest-side resize to; None: those of the network's input."""
    short_side_px: int = 0
    """Length of the shorter side after the resize, for short-side."""
    max_long_side_px: int = 0
    """Upper limit of the longer side for short-side; 0: none."""
    rounding: Rounding = "truncate"
    """How the sides of letterbox and short-side become whole numbers."""
    cropped: bool = False
    """Whether the network's input is the centre of the resized image, height_px × width_px."""
    uncovered: str = STRETCHED
    """What the image's pixels outside of the crop get: the name of a class, or stretch for the crop's scores."""
    multiple_of: int = 1
    """Divisor of both sides of an input whose size depends on the image."""
    to_multiple: ToMultiple = "pad"
    """How a side becomes a multiple."""
    padding_mode: PaddingMode = "constant"
    """What the padding is filled with: its colour, the image mirrored without its edge, or the edge."""

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px) < (0 if self.mode not in _FIXED_MODES or self.multiple_of > 1 else 1):
            raise ValueError(f"found input size {self.height_px}x{self.width_px}; expected at least 1 on both sides")
        if (self.height_px == 0) != (self.width_px == 0):
            raise ValueError(f"found input size {self.height_px}x{self.width_px}; expected both sides fixed, or none")
        if not self.scale > 0 or not min(self.std) > 0:  # nan is neither
            raise ValueError(f"found scale {self.scale} and std {self.std}; expected values above 0")
        if self.mode == "short-side" and self.short_side_px < 1:
            raise ValueError("found short-side without short_side_px; expected at least 1")
        if self.mode == "closest-side" and self.target_hw is None:
            raise ValueError("found closest-side without target_hw; expected rows and columns")
        if self.multiple_of < 1 or min(self.target_hw or (1,)) < 1 or self.max_long_side_px < 0:
            raise ValueError(f"found multiple_of {self.multiple_of}, target_hw {self.target_hw}; expected at least 1")

    @property
    def is_fixed(self) -> bool:
        """Whether every image gives an input of one size."""
        return self.height_px > 0

    @property
    def resize_hw(self) -> tuple[int, int]:
        """Rows and columns that stretch, letterbox and closest-side resize to."""
        return self.target_hw or (self.height_px, self.width_px)

    @property
    def needs_input_grid(self) -> bool:
        """Whether scores are undone on a grid of the input's size: padding is cropped off, or a crop put in place."""
        if self.cropped:
            return self.uncovered != STRETCHED
        if self.mode == "letterbox" and self.multiple_of == 1:
            return True
        return self.multiple_of > 1 and self.to_multiple == "pad"

    def uncovered_id(self, classes: Sequence[str]) -> int | None:
        """Return the id of the class of pixels outside of the crop; None where the crop's scores are stretched.

        Raises:
            ValueError: no class has this name.
        """
        return classes.index(self.uncovered) if self.cropped and self.uncovered != STRETCHED else None

    def to_json(self) -> dict[str, Any]:
        """Return what bundle.json holds of a profile. The keys are names on disk.

        The fields that came later are left out where they have their defaults: a profile keeps its bytes, and a bundle
        its identity.
        """
        later = {name: getattr(self, name) for name, default in _LATER_FIELDS.items() if getattr(self, name) != default}
        return {
            "name": self.name,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "mode": self.mode,
            "interpolation": self.interpolation,
            "honour_exif": self.honour_exif,
            "channel_order": self.channel_order,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "padding": list(self.padding),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in later.items()},
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Profile":
        """Read a profile from bundle.json.

        Raises:
            KeyError, TypeError, ValueError: it is not what `to_json` writes.
        """
        later = {name: facts.get(name, default) for name, default in _LATER_FIELDS.items()}
        if later["target_hw"] is not None:
            height_px, width_px = later["target_hw"]
            later["target_hw"] = (height_px, width_px)
        known = cls(
            name=facts["name"],
            height_px=facts["height_px"],
            width_px=facts["width_px"],
            mode=facts["mode"],
            interpolation=facts["interpolation"],
            honour_exif=facts["honour_exif"],
            channel_order=facts["channel_order"],
            scale=facts["scale"],
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            padding=tuple(facts["padding"]),
            **later,
        )
        if unknown := sorted({*facts} - {*known.to_json()} - {*_LATER_FIELDS}):
            raise ValueError(f"found unknown preprocessing fields {unknown}")
        return known

    def levels(self) -> NDArray[np.float32]:
        """Return the normalised value of each of the 256 levels: float32 [3, 256], channels in the network's order.

        Normalisation depends on the level alone, so the table has exactly the floats of the formula.
        """
        grey = np.arange(256, dtype=np.float32) / np.float32(self.scale)
        mean = np.asarray(self.mean, np.float32)[:, None]
        std = np.asarray(self.std, np.float32)[:, None]
        return np.ascontiguousarray((grey[None, :] - mean) / std, dtype=np.float32)

    def describe(self) -> str:
        """Return the preprocessing as text."""
        levels = f"levels / {self.scale:g}"
        if any(self.mean) or any(part != 1 for part in self.std):
            levels = f"({levels} - {list(self.mean)}) / {list(self.std)}"
        return f"{self._describe_size()}, {self.channel_order.upper()}, {levels}"

    def _describe_size(self) -> str:
        """Return size, resize, multiples, crop and padding as text."""
        size = "{}x{}".format(*self.resize_hw)
        padding = f"padding {list(self.padding)}" if self.padding_mode == "constant" else f"{self.padding_mode} padding"
        limit = f", longer side at most {self.max_long_side_px}" if self.max_long_side_px else ""
        steps = {
            "stretch": f"{size} pixels, stretched by {self.interpolation}",
            "letterbox": f"{size} pixels, letterboxed ({self.align}, {padding}) by {self.interpolation}",
            "short-side": f"shorter side {self.short_side_px} pixels{limit}, by {self.interpolation} ({self.rounding})",
            "closest-side": f"scaled evenly to the closer side of {size} pixels by {self.interpolation}",
            "own": "the image's own size",
        }[self.mode]
        if self.multiple_of > 1:
            how = f"padded ({self.align}, {padding})" if self.to_multiple == "pad" else self.to_multiple
            steps += f", {how} to multiples of {self.multiple_of}"
        if self.cropped:
            outside = "its scores stretched" if self.uncovered == STRETCHED else f"{self.uncovered!r} outside"
            steps += f", cropped to the central {self.height_px}x{self.width_px} ({outside})"
        return steps


_FIXED_MODES = ("stretch", "letterbox")
_LATER_FIELDS: Mapping[str, Any] = {
    "align": "centre",
    "layout": "NCHW",
    "dtype": "float32",
    "target_hw": None,
    "short_side_px": 0,
    "max_long_side_px": 0,
    "rounding": "truncate",
    "cropped": False,
    "uncovered": STRETCHED,
    "multiple_of": 1,
    "to_multiple": "pad",
    "padding_mode": "constant",
}
"""Fields that bundle.json holds only where they differ from these defaults."""

PROFILES: MappingProxyType[str, Profile] = MappingProxyType(
    {
        # FastSegFormer-pyqt utils/utils.py::detect_image, the deployed tools.
        "fastsegformer": Profile(
            name="fastsegformer",
            height_px=224,
            width_px=224,
            mode="stretch",
            interpolation="linear",
            honour_exif=True,
        ),
        # FastSegFormer unet.py::detect_image, the training repository.
        "fastsegformer-train": Profile(
            name="fastsegformer-train",
            height_px=224,
            width_px=224,
            mode="letterbox",
            interpolation="pil-bicubic",
            honour_exif=False,
        ),
    }
)
