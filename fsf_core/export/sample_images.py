"""Images for the parity check: drawn ones that resemble photographs, drawn ones that resemble none, and the user's own.

Knows sizes and pixels, and no model. On random noise a network predicts noise or a single class, which proves little;
but an export may have lost a branch that only an unusual image takes.
"""

# H rows, W columns, C channels

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import ConfigError, FSFError

DRAWN_SIZES_HW = ((512, 512), (480, 640), (900, 1200), (333, 251), (512, 512), (224, 224))
"""512x512 as orchard photographs, 4:3 as video, one larger, one odd and upright, one that needs no resize."""

UNUSUAL_SIZE_HW = (240, 320)
"""Small: these images are for the network, which resizes them."""

ODD_SIZES_HW = ((31, 33), (20, 300), (97, 401))
"""Tiny, narrow and of odd sides: for networks whose input has the size that the image gives it."""

MAX_SAMPLES = 32
"""Most images of the user; more cost minutes and prove little more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleImage:
    """One image of the parity check."""

    name: str
    image_HWC: NDArray[np.uint8]
    """uint8 BGR."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.image_HWC.shape[0], self.image_HWC.shape[1]


@functools.cache
def drawn_images() -> tuple[SampleImage, ...]:
    """Draw the same images on every call: discs of several colours over soft backgrounds, with shade and grain."""
    rng = np.random.default_rng(2024)
    return tuple(
        _unchangeable(f"drawn-{index}-{width}x{height}", _draw(rng, height, width))
        for index, (height, width) in enumerate(DRAWN_SIZES_HW)
    )


@functools.cache
def unusual_images() -> tuple[SampleImage, ...]:
    """Draw what drawn_images leaves out: casts of one colour, darkness, glare, noise, and nothing but 0 and 255.

    For float32 variants, which must equal the network on any image; a small precision need not on these.
    """
    rng = np.random.default_rng(2025)
    height_px, width_px = UNUSUAL_SIZE_HW
    scene_HWC = _draw(rng, height_px, width_px).astype(np.float32)
    noise_HWC = rng.integers(0, 256, scene_HWC.shape, np.uint8)
    grain_HWC = rng.uniform(0, 4, scene_HWC.shape).astype(np.float32)
    scenes_BGR = {
        "red": scene_HWC * (0.15, 0.2, 0.5) + (0, 5, 127),
        "green": scene_HWC * (0.2, 0.5, 0.15) + (5, 127, 0),
        "blue": scene_HWC * (0.5, 0.2, 0.15) + (127, 5, 0),
        "dark": scene_HWC * 0.05 + grain_HWC,
        "bright": 255 - scene_HWC * 0.05 - grain_HWC,
        "noise": noise_HWC,
        "dim noise": noise_HWC // 8 + 112,
        "black and white": np.where(scene_HWC.mean(axis=2, keepdims=True) > np.median(scene_HWC), 255, 0) + np.zeros(3),
    }
    return tuple(
        _unchangeable(f"drawn {name}", np.asarray(np.clip(image_HWC, 0, 255), np.uint8))
        for name, image_HWC in scenes_BGR.items()
    )


@functools.cache
def odd_sized_images() -> tuple[SampleImage, ...]:
    """Draw images of sizes at which a graph fails that holds a size as a number."""
    rng = np.random.default_rng(2026)
    return tuple(_unchangeable(f"drawn-{width}x{height}", _draw(rng, height, width)) for height, width in ODD_SIZES_HW)


def _unchangeable(name: str, image_HWC: NDArray[np.uint8]) -> SampleImage:
    image_HWC.flags.writeable = False
    return SampleImage(name=name, image_HWC=image_HWC)


def read_samples(folder: str) -> tuple[SampleImage, ...]:
    """Read the images of a folder, in name order.

    Raises:
        ConfigError: the folder has none or too many files, or one cannot be read: none is skipped.
    """
    entries = list(storage.list_files(folder)) if storage.is_folder(folder) else []
    if not entries or len(entries) > MAX_SAMPLES:
        raise ConfigError(f"{folder} holds {len(entries)} files, expected a folder of 1 to {MAX_SAMPLES} images")
    return tuple(SampleImage(name=entry.relative, image_HWC=_read(entry.uri)) for entry in entries)


def _read(uri: str) -> NDArray[np.uint8]:
    try:
        data = np.frombuffer(storage.read_bytes(uri), np.uint8)
        image_HWC = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (FSFError, cv2.error) as error:
        raise ConfigError(f"sample {uri} cannot be read: {error}; leave it out of the folder") from error
    if image_HWC is None:
        raise ConfigError(f"sample {uri} is not an image that OpenCV reads; leave it out of the folder")
    return np.asarray(image_HWC, np.uint8)


def _draw(rng: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.uint8]:
    image_HWC = _clouds(rng, height_px, width_px, cells=4) * 110 + rng.uniform(30, 120, 3).astype(np.float32)
    blemishes_HWC = _clouds(rng, height_px, width_px, cells=12)
    for index in range(int(rng.integers(5, 9))):
        _add_fruit(rng, image_HWC, blemishes_HWC[..., index % 3])
    light_HW = _clouds(rng, height_px, width_px, cells=2)[..., :1] * 0.5 + 0.7
    grain_HWC = rng.standard_normal(image_HWC.shape, np.float32) * 4
    return np.asarray(np.clip(image_HWC * light_HW + grain_HWC, 0, 255), np.uint8)


def _clouds(rng: np.random.Generator, height_px: int, width_px: int, *, cells: int) -> NDArray[np.float32]:
    """Return smooth values in about 0..1, one plane per channel: coarse noise, and finer noise at half the weight."""
    total = np.zeros((height_px, width_px, 3), np.float32)
    for octave in range(4):
        coarse = rng.random((cells << octave, cells << octave, 3), np.float32)
        total += cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC) / 2 ** (octave + 1)
    return total


def _add_fruit(rng: np.random.Generator, image_HWC: NDArray[np.float32], blemish_HW: NDArray[np.float32]) -> None:
    """Draw a shaded disc with blemishes and a soft edge, in place."""
    height_px, width_px = image_HWC.shape[:2]
    radius_px = float(rng.uniform(0.08, 0.3)) * min(height_px, width_px)
    centre = rng.uniform((0, 0), (height_px, width_px))
    rows, columns = np.ogrid[:height_px, :width_px]
    distance_HW = (np.hypot(rows - centre[0], columns - centre[1]) / radius_px).astype(np.float32)
    skin_HWC = rng.uniform(40, 255, 3).astype(np.float32) * (1.15 - 0.5 * np.minimum(distance_HW, 1))[..., None]
    skin_HWC[blemish_HW > rng.uniform(0.5, 0.7)] *= rng.uniform(0.3, 0.8)
    cover_HWC = np.clip((1 - distance_HW) * radius_px / 2, 0, 1)[..., None]
    image_HWC += (skin_HWC - image_HWC) * cover_HWC
