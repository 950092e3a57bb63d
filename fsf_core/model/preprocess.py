"""Images to the network's input, and scores back to the image's part of the grid.

Knows the preprocessing profiles and the resize. Knows no files, no models, no meaning of pixels.
"""

# H×W pixels, C channels, K classes

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.options import Align, ChannelOrder, FitMode, InputLayout, InputType, Interpolation

_PIL_FILTERS: Mapping[Interpolation, Image.Resampling] = {
    "pil-bilinear": Image.Resampling.BILINEAR,
    "pil-bicubic": Image.Resampling.BICUBIC,
    "pil-lanczos": Image.Resampling.LANCZOS,
}
_CV2_FILTERS: Mapping[Interpolation, int] = {
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How a decoded image becomes the network's input; part of the model's contract, and stored in the bundle."""

    name: str
    height_px: int
    """Rows of the network's input."""
    width_px: int
    """Columns of the network's input."""
    mode: FitMode
    """stretch ignores the aspect ratio; letterbox keeps it and pads."""
    interpolation: Interpolation
    """linear, nearest, cubic and area are OpenCV's on uint8; the pil ones are Pillow's, which antialias."""
    honour_exif: bool
    """Whether the EXIF orientation is applied before anything else."""
    channel_order: ChannelOrder = "rgb"
    scale: float = 255.0
    """Pixel values are divided by this, then mean and std are applied."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: tuple[int, int, int] = (128, 128, 128)
    """Colour of the letterbox border, in the network's channel order."""
    align: Align = "centre"
    """Where the image is placed in a letterbox."""
    layout: InputLayout = "NCHW"
    """Axes of the model as it was given; the bundle's models take NCHW whatever it is."""
    dtype: InputType = "float32"
    """Type of the model as it was given; the bundle's models take float32 whatever it is."""

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"found input size {self.height_px}x{self.width_px}; expected at least 1 on both sides")
        if not self.scale > 0 or not min(self.std) > 0:  # nan is neither
            raise ValueError(f"found scale {self.scale} and std {self.std}; expected values above 0")

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
            **later,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Profile":
        """Read a profile from bundle.json.

        Raises:
            KeyError, TypeError, ValueError: it is not what `to_json` writes.
        """
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
            **{name: facts.get(name, default) for name, default in _LATER_FIELDS.items()},
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
        fitted = "stretched" if self.mode == "stretch" else f"letterboxed ({self.align}, padding {list(self.padding)})"
        levels = f"levels / {self.scale:g}"
        if any(self.mean) or any(part != 1 for part in self.std):
            levels = f"({levels} - {list(self.mean)}) / {list(self.std)}"
        size = f"{self.height_px}x{self.width_px}"
        return f"{size} pixels, {fitted} by {self.interpolation}, {self.channel_order.upper()}, {levels}"


_LATER_FIELDS: Mapping[str, Any] = {"align": "centre", "layout": "NCHW", "dtype": "float32"}
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """The rectangle of the network's input that holds the image; the rest is padding."""

    top_px: int
    left_px: int
    height_px: int
    width_px: int


def place(height_px: int, width_px: int, profile: Profile) -> Box:
    """Return the rectangle of an image of this size inside the network's input."""
    if profile.mode == "stretch":
        return Box(top_px=0, left_px=0, height_px=profile.height_px, width_px=profile.width_px)
    scale = min(profile.width_px / width_px, profile.height_px / height_px)
    # Truncated, as upstream; a sliver keeps one pixel, where upstream would fail.
    inner_w, inner_h = max(1, int(width_px * scale)), max(1, int(height_px * scale))
    centred = profile.align == "centre"
    return Box(
        top_px=(profile.height_px - inner_h) // 2 if centred else 0,
        left_px=(profile.width_px - inner_w) // 2 if centred else 0,
        height_px=inner_h,
        width_px=inner_w,
    )


def fit(image_HWC: NDArray[np.uint8], profile: Profile) -> NDArray[np.uint8]:
    """Resize an image into the network's input.

    Args:
        image_HWC: uint8 BGR, as OpenCV decodes.
        profile: what the network was trained on.

    Returns:
        uint8, profile.height_px × profile.width_px × 3, contiguous, channels in the network's order.
    """
    box = place(image_HWC.shape[0], image_HWC.shape[1], profile)
    resized = _resize(image_HWC, box.height_px, box.width_px, profile.interpolation)
    ordered = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB) if profile.channel_order == "rgb" else resized
    if (box.height_px, box.width_px) == (profile.height_px, profile.width_px):
        return np.ascontiguousarray(ordered)
    framed = np.empty((profile.height_px, profile.width_px, 3), np.uint8)
    framed[:] = profile.padding
    framed[box.top_px : box.top_px + box.height_px, box.left_px : box.left_px + box.width_px] = ordered
    return framed


def normalise(frames_NHWC: NDArray[np.uint8], levels_C256: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale, normalise and transpose by table: out[n, c, y, x] = levels[c, frames[n, y, x, c]].

    With OpenCV rather than a compiled kernel: 0.1 ms per frame of 224×224 instead of 0.05, but an actor that only
    infers starts without numba, which takes 2 s of CPU (2-core EPYC, 2026-11-24).

    Args:
        frames_NHWC: uint8 pixels as returned by `fit`.
        levels_C256: the table from `Profile.levels`.

    Returns:
        float32 NCHW, the network's input.
    """
    count, height, width, channels = frames_NHWC.shape
    batch_NCHW = np.empty((count, channels, height, width), np.float32)
    for frame_HWC, planes_CHW in zip(frames_NHWC, batch_NCHW, strict=True):
        pixels_HWC = np.ascontiguousarray(frame_HWC)
        for channel in range(channels):
            cv2.LUT(cv2.extractChannel(pixels_HWC, channel), levels_C256[channel][None], dst=planes_CHW[channel])
    return batch_NCHW


def crop(scores_KHW: NDArray[np.float32], box: Box, profile: Profile) -> NDArray[np.float32]:
    """Crop the padding off scores on the network's output grid.

    Raises:
        ValueError: there is padding, and the grid is coarser than the input.
    """
    if (box.height_px, box.width_px) == (profile.height_px, profile.width_px):
        return scores_KHW
    grid_h, grid_w = scores_KHW.shape[1:]
    if (grid_h, grid_w) != (profile.height_px, profile.width_px):
        raise ValueError(
            f"found scores on a {grid_h}x{grid_w} grid for an input of {profile.height_px}x{profile.width_px}; "
            "a letterbox can be undone only on a grid of the input's size"
        )
    return scores_KHW[:, box.top_px : box.top_px + box.height_px, box.left_px : box.left_px + box.width_px]


def _resize(
    image_HWC: NDArray[np.uint8], height_px: int, width_px: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize with the named filter."""
    if image_HWC.shape[:2] == (height_px, width_px):
        return image_HWC
    if interpolation in _CV2_FILTERS:
        filtered = cv2.resize(image_HWC, (width_px, height_px), interpolation=_CV2_FILTERS[interpolation])
        return np.asarray(filtered, np.uint8)
    image = Image.fromarray(image_HWC)  # filters act per channel, so the order of the channels does not matter
    return np.asarray(image.resize((width_px, height_px), _PIL_FILTERS[interpolation]))
