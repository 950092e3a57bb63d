"""Random views of an example at the network's input size, image and label alike.

Knows geometry, light and cameras. Knows no network and no files.
"""

# H×W pixels of the example, S = INPUT_PX. Colours are BGR from 0 to 255.

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.demo import noise
from fsf_core.demo.noise import Floats

INPUT_PX = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Variety:
    """How far views depart from the drawings as scoring shows them."""

    whole: float
    """Share of the views that show the whole example, as scoring does."""
    plain: float
    """Share of the views in which the light stays nearly as drawn."""
    nearest: float
    """Share of the views that are resized without interpolation."""


WIDE = Variety(whole=0.6, plain=0.45, nearest=0.12)
NEAR = Variety(whole=0.85, plain=0.8, nearest=0.05)


def random_view(
    example_HWC: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    classes: int,
    towards: int = 0,
    variety: Variety = WIDE,
) -> tuple[Floats, Floats]:
    """Cut, turn and light an example anew.

    Args:
        example_HWC: BGR and class, uint8 [H, W, 4].
        rng: the only source of chance.
        classes: number of classes K, background included.
        towards: class that the view contains, where the example does.
        variety: how different views may be.

    Returns:
        The image, float32 RGB [3, S, S] from 0 to 1, and the share of every class in each pixel, float32 [K, S, S].
    """
    window = example_HWC if noise.chance(rng, variety.whole) else _window(example_HWC, rng, towards)
    # As scoring does. Without neighbours' help the grain of a larger picture appears.
    sampled = cv2.INTER_NEAREST if noise.chance(rng, variety.nearest) else cv2.INTER_LINEAR
    image_SSC = cv2.resize(np.ascontiguousarray(window[..., :3]), (INPUT_PX, INPUT_PX), interpolation=sampled)
    shares_SSK = class_shares(window[..., 3], classes)
    quarter_turns, flipped = int(rng.integers(4)), bool(rng.integers(2))
    if flipped:
        image_SSC, shares_SSK = image_SSC[:, ::-1], shares_SSK[:, ::-1]
    image_SSC, shares_SSK = np.rot90(image_SSC, quarter_turns), np.rot90(shares_SSK, quarter_turns)
    lit_SSC = _relit(image_SSC.astype(np.float32), rng, variety.plain)
    image_CSS = np.ascontiguousarray(lit_SSC[..., ::-1].transpose(2, 0, 1)) / np.float32(255)
    return image_CSS, np.ascontiguousarray(shares_SSK.transpose(2, 0, 1))


def class_shares(label_HW: NDArray[np.uint8], classes: int) -> Floats:
    """Return the share of every class in each pixel of the network's input, float32 [S, S, K]."""
    height_px, width_px = label_HW.shape
    shares_SSK = np.zeros((INPUT_PX, INPUT_PX, classes), np.float32)
    averaged = cv2.INTER_AREA if min(height_px, width_px) >= INPUT_PX else cv2.INTER_LINEAR
    for class_id in range(1, classes):
        is_class_HW = (label_HW == class_id).astype(np.uint8) * 255
        if is_class_HW.any():
            shares_SSK[..., class_id] = cv2.resize(is_class_HW, (INPUT_PX, INPUT_PX), interpolation=averaged)
    shares_SSK /= np.float32(255)
    shares_SSK[..., 0] = np.maximum(0, 1 - shares_SSK[..., 1:].sum(axis=-1))
    return shares_SSK


def _window(example_HWC: NDArray[np.uint8], rng: np.random.Generator, towards: int) -> NDArray[np.uint8]:
    """Cut a random rectangle, around a pixel of the class if there is one; its sides are as in the whole, or near."""
    height_px, width_px = example_HWC.shape[:2]
    side, ratio = rng.uniform(0.45, 1.0), math.exp(rng.uniform(-0.25, 0.25))
    height = int(np.clip(round(height_px * side * ratio), 64, height_px))
    width = int(np.clip(round(width_px * side / ratio), 64, width_px))
    places = np.flatnonzero(example_HWC[..., 3] == towards) if towards else np.empty(0, np.int64)
    row, column = (
        divmod(int(rng.choice(places)), width_px)
        if len(places)
        else (int(rng.integers(height_px)), int(rng.integers(width_px)))
    )
    top = int(np.clip(row - rng.integers(height), 0, height_px - height))
    left = int(np.clip(column - rng.integers(width), 0, width_px - width))
    return example_HWC[top : top + height, left : left + width]


def _relit(image_SSC: Floats, rng: np.random.Generator, plain_share: float) -> Floats:
    """Change light, colours, sharpness and grain as another camera and another lamp would."""
    plain = noise.chance(rng, plain_share)
    strength = 0.25 if plain else 1.0
    image_SSC = _recoloured(np.ascontiguousarray(image_SSC), rng, strength)
    if not plain and noise.chance(rng, 0.35):
        image_SSC *= _shade(rng)[..., None]
    if noise.chance(rng, 0.25 * strength):
        image_SSC = np.asarray(cv2.GaussianBlur(image_SSC, (0, 0), rng.uniform(0.3, 1.1)), np.float32)
    if noise.chance(rng, 0.1 * strength):
        image_SSC += 0.6 * (image_SSC - cv2.GaussianBlur(image_SSC, (0, 0), 1.0))
    if noise.chance(rng, 0.5 * strength):
        image_SSC += rng.standard_normal(image_SSC.shape, np.float32) * np.float32(rng.uniform(1, 8))
    image_SSC = np.clip(image_SSC, 0, 255)
    if noise.chance(rng, 0.25 * strength):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        coded = cv2.imencode(".jpg", image_SSC.astype(np.uint8), quality)[1]
        image_SSC = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32)
    return image_SSC


def _recoloured(image_SSC: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Change brightness, contrast, gamma, colour temperature, hue and saturation."""
    brightness = math.exp(rng.uniform(-0.3, 0.3) * strength)
    warmth = 1 + rng.uniform(-0.14, 0.14) * strength
    tint = 1 + rng.uniform(-0.06, 0.06) * strength
    balance = np.diag([brightness / warmth, brightness * tint, brightness * warmth])
    angle = rng.uniform(-0.16, 0.16) * strength
    saturation = 1 + rng.uniform(-0.35, 0.35) * strength
    cos, sin, root = math.cos(angle), math.sin(angle), math.sqrt(1 / 3)
    turn = cos * np.eye(3) + (1 - cos) / 3 + sin * root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    grey = np.full((3, 3), 1 / 3)
    mixed = (grey + saturation * (np.eye(3) - grey)) @ turn @ balance
    contrast = 1 + rng.uniform(-0.25, 0.25) * strength
    offset = (1 - contrast) * float(image_SSC.mean()) + rng.uniform(-12, 12) * strength
    changed = cv2.transform(image_SSC, np.hstack([contrast * mixed, np.full((3, 1), offset)]))
    gamma = math.exp(rng.uniform(-0.25, 0.25) * strength)
    return np.asarray(255 * np.clip(changed / 255, 0, 1) ** np.float32(gamma), np.float32)


def _shade(rng: np.random.Generator) -> Floats:
    """Return brightness factors [S, S] of a lamp at one side, and of a shadow with a soft or a sharp edge."""
    y_SS, x_SS = np.mgrid[0:INPUT_PX, 0:INPUT_PX].astype(np.float32) / np.float32(INPUT_PX) - np.float32(0.5)
    angle = rng.uniform(0, 2 * math.pi)
    along_SS = x_SS * np.float32(math.cos(angle)) + y_SS * np.float32(math.sin(angle))
    lamp_SS = 1 + np.float32(rng.uniform(0, 0.5)) * along_SS
    if noise.chance(rng, 0.5):
        edge, soft = rng.uniform(-0.4, 0.4), rng.uniform(0.01, 0.3)
        lamp_SS *= 1 - np.float32(rng.uniform(0, 0.5)) * noise.smooth(along_SS, edge - soft, edge + soft)
    return np.asarray(lamp_SS, np.float32)
