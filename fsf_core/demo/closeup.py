"""Training scenes nearer to photographs than the demo's: fruit close up on plain grounds, defects of many looks.

Knows what varies. Held-out drawings and the demo's pictures are never drawn here.
"""

# H×W pixels. Colours are BGR from 0 to 255.

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.demo import noise
from fsf_core.demo.fruit import (
    SUNBURN,
    ULCER,
    WIND_SCARRING,
    Blemish,
    Orange,
    cast_shadow,
    paint_orange,
)
from fsf_core.demo.look import Colour, Look
from fsf_core.demo.noise import Floats
from fsf_core.demo.oranges import random_turn

_SIZES_RAD = {SUNBURN: (0.12, 0.4), ULCER: (0.025, 0.1), WIND_SCARRING: (0.25, 0.8)}
_KINDS = (SUNBURN, ULCER, WIND_SCARRING)


def draw_closeup(seed: int, *, height_px: int, width_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one orange that fills most of the picture: the image, uint8 BGR H×W×3, and its label, uint8 H×W."""
    rng = np.random.default_rng(seed)
    image_HWC = _ground(rng, height_px, width_px)
    label_HW = np.zeros((height_px, width_px), np.uint8)
    orange = _orange(rng)
    if noise.chance(rng, 0.8):
        cast_shadow(image_HWC, orange)
    paint_orange(image_HWC, label_HW, orange)
    blurred_HWC = cv2.GaussianBlur(image_HWC, (0, 0), rng.uniform(0.3, 0.5 + min(height_px, width_px) / 700))
    grain_HW1 = rng.standard_normal((height_px, width_px, 1), np.float32) * np.float32(rng.uniform(0.5, 4))
    return np.clip(blurred_HWC + grain_HW1, 0, 255).astype(np.uint8), label_HW


def _ground(rng: np.random.Generator, height_px: int, width_px: int) -> Floats:
    """Draw a wall and a table, pale in most scenes and of any colour in some, unevenly lit and stained."""
    y_HW, x_HW = np.mgrid[0:height_px, 0:width_px].astype(np.float32) / np.float32(height_px)
    image_HWC = np.empty((height_px, width_px, 3), np.float32)
    pale = noise.chance(rng, 0.7)
    wall, table = (
        rng.uniform(150, 235) * rng.uniform(0.94, 1.04, 3) if pale else rng.uniform(15, 235, 3) for _ in range(2)
    )
    image_HWC[:] = wall
    horizon = rng.uniform(0.35, 1.1)
    blend = rng.uniform(0.004, 0.05)
    noise.mix(image_HWC, table, noise.smooth(y_HW, horizon - blend, horizon + blend))
    cells = rng.uniform(1, 12)
    uneven = noise.fractal(x_HW * cells, y_HW * cells * rng.uniform(0.2, 1), rng, octaves=4)
    image_HWC *= 1 + np.float32(rng.uniform(0.02, 0.2)) * uneven[..., None]
    stains = noise.fractal(x_HW * 30, y_HW * 30, rng, octaves=2)
    noise.mix(image_HWC, rng.uniform(20, 120, 3), 0.5 * noise.smooth(stains, 0.9, 1.1) * rng.uniform(0, 1))
    return image_HWC


def _orange(rng: np.random.Generator) -> Orange:
    """Choose an orange with up to five defects anywhere on its visible side."""
    turn_33 = random_turn(rng)
    classes = [int(rng.choice(_KINDS)) for _ in range(rng.integers(0, 4))]
    classes += [ULCER] * int(rng.integers(1, 6)) if noise.chance(rng, 0.4) else []
    blemishes = []
    for class_id in classes:
        around, off_axis = rng.uniform(0, 2 * math.pi), math.asin(0.95 * math.sqrt(rng.uniform()))
        view = (math.cos(around) * math.sin(off_axis), math.sin(around) * math.sin(off_axis), math.cos(off_axis))
        blemishes.append(
            Blemish(
                class_id=class_id,
                towards=np.asarray(view, np.float32) @ turn_33,
                size_rad=rng.uniform(*_SIZES_RAD[class_id]),
                spin_rad=rng.uniform(0, 2 * math.pi),
                seed=int(rng.integers(2**31)),
                look=_look(rng),
            )
        )
    return Orange(
        x=0.5 + rng.uniform(-0.07, 0.07),
        y=0.5 + rng.uniform(-0.07, 0.07),
        radius=rng.uniform(0.36, 0.52),
        squash=rng.uniform(0.82, 1.0),
        tilt_rad=rng.uniform(0, math.pi),
        turn_33=turn_33,
        ripeness=rng.uniform(-0.2, 1.1),
        greenness=max(0.0, rng.uniform(-0.6, 1.3)),
        blemishes=tuple(blemishes),
        seed=int(rng.integers(2**31)),
        look=Look(specks=int(rng.integers(0, 40))),
    )


def _look(rng: np.random.Generator) -> Look:
    """Choose the colours and the shape of one defect."""
    single = noise.chance(rng, 0.5)  # an ulcer on its own, or a dense lesion, beside the demo's loose clusters
    return Look(
        burnt=_near(rng, (40, 75, 135), 0.3),
        burnt_light=_near(rng, (60, 120, 175), 0.25),
        straw=_near(rng, (135, 185, 208), 0.15),
        rim=rng.uniform(0, 1),
        frayed=rng.uniform(0, 0.5),
        spots=(1, 3) if single else (3, 9),
        spread=rng.uniform(0.9, 2.6),
        crater=_near(rng, (42, 56, 82), 0.35),
        ring=_near(rng, (88, 108, 132), 0.3),
        rings=rng.uniform(0, 0.8),
        halo=rng.uniform(0, 0.8),
        scar=_near(rng, (44, 75, 130), 0.35),
        silver=_near(rng, (120, 150, 172), 0.25),
    )


def _near(rng: np.random.Generator, colour: Colour, by: float) -> Colour:
    """Vary a colour: mostly its brightness, its hue by a third of that."""
    blue, green, red = colour
    light = rng.uniform(1 - by, 1 + by)
    tint = rng.uniform(1 - by / 3, 1 + by / 3, 3)
    return blue * light * tint[0], green * light * tint[1], red * light * tint[2]
