"""One navel orange: shape, peel, three kinds of defect, and lighting.

Paints into arrays and labels what it paints. Knows no scene, no files and no network.
"""

# H×W pixels; p_3HW is the point of the unit sphere that a pixel shows, in the orange's own axes; angles in radians.
# Colours are BGR from 0 to 255. In view axes x points right, y down, z to the camera.
# The shares and widths below were tuned by eye.

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.demo import noise
from fsf_core.demo.look import DEMO_LOOK, Look
from fsf_core.demo.noise import Floats

BACKGROUND, SUNBURN, ULCER, WIND_SCARRING = range(4)

LAMP = (-0.32, -0.48, 0.82)
PORES_PER_RAD = 27.0
HALF = 0.5  # a pixel belongs to the shape that covers half of it
HORIZON = 0.15  # cosine of the angle between a spot's centre and the farthest peel it may reach


@dataclass(frozen=True, kw_only=True, slots=True)
class Blemish:
    """One defect, fixed to the peel so that it turns with the fruit."""

    class_id: int
    towards: Floats
    """Unit vector from the centre of the orange to the defect, in the orange's own axes."""
    size_rad: float
    """Half the extent of the defect; of one spot for ulcers."""
    spin_rad: float
    """Direction of the longer axis."""
    seed: int
    look: Look = DEMO_LOOK


@dataclass(frozen=True, kw_only=True, slots=True)
class Orange:
    """One fruit: position, orientation and appearance of its peel."""

    x: float
    """Centre as a share of the image's width; outside 0 to 1 while it rolls in or out."""
    y: float
    """Centre as a share of the image's height."""
    radius: float
    """As a share of the image's shorter side."""
    squash: float
    """Shorter over longer axis of the outline."""
    tilt_rad: float
    """Direction of the longer axis."""
    turn_33: Floats
    """Rotation: a view direction (row vector) times this is the direction in the orange's own axes."""
    ripeness: float
    """0 (yellow) to 1 (deep orange)."""
    greenness: float
    """Share of the peel that is still green, 0 to 1."""
    blemishes: tuple[Blemish, ...]
    seed: int
    look: Look = DEMO_LOOK


@dataclass(kw_only=True, slots=True)  # not frozen: `spot.relief_HW += …` paints in place
class _Peel:
    """The visible side of one orange while it is drawn: arrays over its bounding box."""

    p_3HW: Floats
    radius_px: float
    albedo_HWC: Floats
    """Colour without lighting."""
    relief_HW: Floats
    """Height in radii; only the slope matters."""
    gloss_HW: Floats
    label_HW: NDArray[np.uint8]


@dataclass(kw_only=True, slots=True)
class _Spot:
    """The part of a peel around one direction: views into it, with flat coordinates."""

    s_HW: Floats
    """Coordinate along the spot's own axis, about radians near its centre."""
    t_HW: Floats
    """Coordinate across that axis."""
    albedo_HWC: Floats
    relief_HW: Floats
    gloss_HW: Floats
    label_HW: NDArray[np.uint8]
    radius_px: float


def cast_shadow(image_HWC: Floats, orange: Orange) -> None:
    """Darken the ground under and behind the orange, softly."""
    height_px, width_px = image_HWC.shape[:2]
    radius_px = orange.radius * min(height_px, width_px)
    x = (np.arange(width_px, dtype=np.float32) - (orange.x * width_px - LAMP[0] * 0.3 * radius_px)) / radius_px
    y = (np.arange(height_px, dtype=np.float32) - (orange.y * height_px - LAMP[1] * 0.3 * radius_px)) / radius_px
    distance_HW = np.hypot(x[None, :], y[:, None])
    shade_HW = 0.5 * (1 - noise.smooth(distance_HW, 0.72, 1.3))
    image_HWC *= 1 - shade_HW[..., None] * np.array([1.0, 0.97, 0.92], np.float32)


def paint_orange(image_HWC: Floats, label_HW: NDArray[np.uint8], orange: Orange) -> None:
    """Draw one orange into the image and its defects into the label, in place."""
    height_px, width_px = label_HW.shape
    radius_px = orange.radius * min(height_px, width_px)
    centre_x, centre_y = orange.x * width_px, orange.y * height_px
    left, right = max(0, int(centre_x - 1.08 * radius_px)), min(width_px, int(centre_x + 1.08 * radius_px) + 1)
    top, bottom = max(0, int(centre_y - 1.08 * radius_px)), min(height_px, int(centre_y + 1.08 * radius_px) + 1)
    if left >= right or top >= bottom:
        return
    y_HW, x_HW = np.mgrid[top:bottom, left:right].astype(np.float32)
    rng = np.random.default_rng(orange.seed)
    normal_3HW, inside_HW = _sphere((x_HW - centre_x) / radius_px, (y_HW - centre_y) / radius_px, orange, rng)
    p_3HW = np.einsum("ihw,ik->khw", normal_3HW, orange.turn_33)
    coverage_HW = np.clip(inside_HW * radius_px + 0.5, 0, 1)

    peel = _healthy_peel(np.ascontiguousarray(p_3HW, np.float32), radius_px, orange, rng)
    _paint_stem(peel, rng)
    _paint_specks(peel, rng, orange.look.specks)
    paint = {SUNBURN: _paint_sunburn, ULCER: _paint_ulcer, WIND_SCARRING: _paint_wind_scarring}
    for blemish in sorted(orange.blemishes, key=lambda blemish: -blemish.class_id):
        paint[blemish.class_id](peel, blemish)

    window = np.s_[top:bottom, left:right]
    noise.mix(image_HWC[window], _lit(peel, normal_3HW), coverage_HW)
    covered = coverage_HW >= HALF
    label_HW[window][covered] = peel.label_HW[covered]


def _sphere(x_HW: Floats, y_HW: Floats, orange: Orange, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return unit normals in view axes, 3×H×W, and the distance inside the outline in radii (negative outside)."""
    cos, sin = math.cos(orange.tilt_rad), math.sin(orange.tilt_rad)
    longer, shorter = x_HW * cos + y_HW * sin, (y_HW * cos - x_HW * sin) / orange.squash
    x_HW, y_HW = longer * cos - shorter * sin, longer * sin + shorter * cos
    around = np.arctan2(y_HW, x_HW)
    phases = rng.uniform(0, 2 * math.pi, 2)
    bulge = 1 + 0.012 * np.cos(2 * around + phases[0]) + 0.008 * np.cos(3 * around + phases[1])
    x_HW, y_HW = x_HW * bulge, y_HW * bulge
    reach_HW = np.hypot(x_HW, y_HW)
    shrink = np.minimum(1, 0.999 / np.maximum(reach_HW, 1e-6))  # pixels just outside show the rim
    x_HW, y_HW = x_HW * shrink, y_HW * shrink
    z_HW = np.sqrt(1 - x_HW**2 - y_HW**2)
    return np.stack([x_HW, y_HW, z_HW]).astype(np.float32), np.asarray(1 - reach_HW, np.float32)


def _healthy_peel(p_3HW: Floats, radius_px: float, orange: Orange, rng: np.random.Generator) -> _Peel:
    """Return peel without defects: uneven ripeness, green shoulders, pores."""
    texture = noise.TriplanarTexture(p_3HW)
    blotch = texture.noise(1.3, rng) + 0.5 * texture.noise(3.1, rng)
    fine = texture.noise(14, rng)
    albedo_HWC = np.empty((*fine.shape, 3), np.float32)
    albedo_HWC[:] = (28, 178, 242)
    noise.mix(albedo_HWC, (6, 118, 240), np.clip(orange.ripeness + 0.28 * blotch + 0.05 * fine, 0, 1))
    shoulder = texture.noise(0.9, rng) + 0.12 * fine
    green = noise.smooth(shoulder, 0.75 - 0.75 * orange.greenness, 1.35 - 0.6 * orange.greenness)
    noise.mix(albedo_HWC, (38, 140, 146), 0.8 * green)

    # Pores smaller than two pixels would alias.
    visible = min(1.0, max(0.0, radius_px / PORES_PER_RAD / 3.2 - 0.35))
    pores = visible * texture.project(noise.pore_tile(), PORES_PER_RAD * noise.PORE_PX, rng)
    albedo_HWC *= 1 - pores[..., None] * np.array([0.30, 0.17, 0.07], np.float32)
    dents = texture.noise(5, rng)
    return _Peel(
        p_3HW=p_3HW,
        radius_px=radius_px,
        albedo_HWC=albedo_HWC,
        relief_HW=np.asarray(0.006 * dents + 0.0016 * fine - 0.0042 * pores, np.float32),
        gloss_HW=np.ones_like(pores),
        label_HW=np.zeros(pores.shape, np.uint8),
    )


def _lit(peel: _Peel, normal_3HW: Floats) -> Floats:
    """Return the peel under a lamp: diffuse light, a darker rim, and a highlight broken up by the pores."""
    slope_x = cv2.Sobel(peel.relief_HW, cv2.CV_32F, 1, 0, scale=peel.radius_px / 8)
    slope_y = cv2.Sobel(peel.relief_HW, cv2.CV_32F, 0, 1, scale=peel.radius_px / 8)
    bumpy = normal_3HW - np.stack([slope_x, slope_y, np.zeros_like(slope_x)])
    bumpy /= np.sqrt((bumpy**2).sum(axis=0))
    lamp = np.asarray(LAMP, np.float32) / np.float32(math.hypot(*LAMP))
    halfway = lamp + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    towards_lamp = np.einsum("ihw,i->hw", bumpy, lamp)
    diffuse = np.clip((towards_lamp + 0.35) / 1.35, 0, 1)
    light = 0.46 + 0.62 * diffuse
    light *= 0.72 + 0.28 * noise.smooth(normal_3HW[2], 0.0, 0.6)
    # Light scattered in the peel is redder: shade removes blue first, red last.
    lit_HWC = np.asarray(peel.albedo_HWC * np.stack([light**1.35, light**1.12, light**0.85], axis=-1), np.float32)
    mirrored = np.clip(np.einsum("ihw,i->hw", bumpy, halfway), 0, 1)
    shine = peel.gloss_HW * (0.20 * mirrored**14 + 0.55 * mirrored**90)
    noise.mix(lit_HWC, (225, 240, 250), np.clip(shine, 0, 0.85))
    return lit_HWC


def _spot(peel: _Peel, towards: Floats, spin_rad: float, reach_rad: float) -> _Spot | None:
    """Return the part of the peel within an angle of a direction; None if it faces away."""
    ahead = np.einsum("khw,k->hw", peel.p_3HW, towards)
    left, top, width, height = cv2.boundingRect((ahead > math.cos(min(reach_rad, 1.4))).astype(np.uint8))
    if width == 0 or height == 0:
        return None
    window = np.s_[top : top + height, left : left + width]
    beside = np.cross(towards, np.eye(3)[np.argmin(np.abs(towards))])
    beside /= np.linalg.norm(beside)
    third = np.cross(towards, beside)
    axis_s = beside * math.cos(spin_rad) + third * math.sin(spin_rad)
    axis_t = np.cross(towards, axis_s)
    p_3HW = peel.p_3HW[:, top : top + height, left : left + width]
    # Beyond the spot's horizon the flat coordinates fold back; they are moved far away so that nothing is drawn there.
    behind = np.where(ahead[window] > HORIZON, 1, 50).astype(np.float32)
    return _Spot(
        s_HW=np.asarray(np.einsum("khw,k->hw", p_3HW, axis_s.astype(np.float32)) * behind, np.float32),
        t_HW=np.asarray(np.einsum("khw,k->hw", p_3HW, axis_t.astype(np.float32)) * behind, np.float32),
        albedo_HWC=peel.albedo_HWC[window],
        relief_HW=peel.relief_HW[window],
        gloss_HW=peel.gloss_HW[window],
        label_HW=peel.label_HW[window],
        radius_px=peel.radius_px,
    )


def _cover(spot: _Spot, inside_HW: Floats) -> Floats:
    """Return how much of each pixel a shape covers, from the distance inside its edge in radians; soft over a pixel."""
    return np.asarray(np.clip(inside_HW * spot.radius_px + 0.5, 0, 1), np.float32)


def _paint_stem(peel: _Peel, rng: np.random.Generator) -> None:
    """Draw the stem end: a green star in a puckered dimple. Healthy, so without a class."""
    spin, size = rng.uniform(0, 2 * math.pi), rng.uniform(0.065, 0.09)
    spot = _spot(peel, np.array([0, 0, 1], np.float32), spin, 0.6)
    if spot is None:
        return
    away, around = np.hypot(spot.s_HW, spot.t_HW), np.arctan2(spot.t_HW, spot.s_HW)
    spot.relief_HW -= 0.05 * np.exp(-((away / 0.2) ** 2))
    spot.relief_HW += 0.008 * np.sin(9 * around) * np.exp(-(((away - 0.17) / 0.08) ** 2))
    noise.mix(spot.albedo_HWC, (30, 120, 150), 0.5 * np.exp(-((away / 0.17) ** 2)))
    star = size * (0.95 + 0.3 * np.cos(5 * around) + 0.1 * np.cos(11 * around + 1)) - away
    noise.mix(spot.albedo_HWC, (20, 50, 60), 0.8 * _cover(spot, star + 0.018))
    noise.mix(spot.albedo_HWC, (46, 112, 84), _cover(spot, star))
    noise.mix(spot.albedo_HWC, (150, 190, 180), 0.8 * _cover(spot, 0.38 * size - away))
    spot.relief_HW += 0.03 * _cover(spot, star)
    spot.gloss_HW *= 1 - 0.9 * _cover(spot, star + 0.01)


def _paint_specks(peel: _Peel, rng: np.random.Generator, count: int) -> None:
    """Draw a few dark specks of dirt and scale, too small to count as a defect."""
    for towards in rng.normal(size=(count, 3)):
        size = rng.uniform(0.004, 0.01)
        spot = _spot(peel, np.asarray(towards / np.linalg.norm(towards), np.float32), 0.0, 0.05)
        if spot is not None:
            noise.mix(spot.albedo_HWC, (30, 50, 70), 0.75 * _cover(spot, size - np.hypot(spot.s_HW, spot.t_HW * 0.7)))


def _paint_sunburn(peel: _Peel, blemish: Blemish) -> None:
    """Draw a scorched patch: ragged, yellow-brown to bleached, dark-rimmed and pitted, in discoloured peel."""
    spot = _spot(peel, blemish.towards, blemish.spin_rad, 2.2 * blemish.size_rad)
    if spot is None:
        return
    rng, look = np.random.default_rng(blemish.seed), blemish.look
    s, t, size = spot.s_HW, spot.t_HW, blemish.size_rad
    bleached = rng.uniform(0, 1)
    mottle = noise.fractal(s * 9, t * 9, rng, octaves=3)
    ragged = noise.fractal(s * 1.6 / size, t * 1.6 / size, rng, octaves=4)
    inside = size * (0.96 + 0.42 * ragged) - np.hypot(s, t * rng.uniform(1.1, 1.7))
    if look.frayed:
        inside += look.frayed * size * noise.fractal(s * 14, t * 14, rng, octaves=3)
    cover = _cover(spot, inside)

    noise.mix(spot.albedo_HWC, (26, 105, 120), 0.55 * noise.smooth(inside, -0.55 * size, 0.02) * (0.5 + 0.5 * bleached))
    grain = noise.fractal(s * 22, t * 22, rng, octaves=3)
    colour = np.empty_like(spot.albedo_HWC)
    colour[:] = look.burnt
    noise.mix(colour, look.burnt_light, noise.smooth(grain, -0.5, 0.7))
    straw = np.array(look.straw, np.float32) + 18 * grain[..., None]
    pale = noise.smooth(mottle + 2.4 * bleached - 1.5 + 1.6 * inside / size, -0.4, 0.6)
    noise.mix(colour, straw, pale)
    noise.mix(colour, (70, 165, 205), 0.7 * noise.smooth(grain, 0.55, 0.8))
    noise.mix(colour, (26, 50, 80), look.rim * (1 - noise.smooth(inside + 0.1 * size * mottle, 0.0, 0.2 * size)))
    pits = noise.sample(noise.pore_tile(), s * 360 + np.float32(rng.uniform(0, noise.TILE_PX)), t * 360)
    noise.mix(colour, (30, 46, 68), 0.8 * noise.smooth(pits + 0.25 * mottle, 0.5, 0.75))
    noise.mix(spot.albedo_HWC, colour, cover)
    spot.relief_HW += cover * (0.006 * grain - 0.02)
    spot.gloss_HW *= 1 - 0.85 * cover
    spot.label_HW[cover >= HALF] = SUNBURN


def _paint_ulcer(peel: _Peel, blemish: Blemish) -> None:
    """Draw a cluster of canker spots: round, dark brown, ringed like craters, partly merged, in a green halo."""
    rng, look = np.random.default_rng(blemish.seed), blemish.look
    count = int(rng.integers(*look.spots))
    spread = blemish.size_rad * look.spread
    spot = _spot(peel, blemish.towards, blemish.spin_rad, 4 * spread)
    if spot is None:
        return
    s, t = spot.s_HW, spot.t_HW
    warp = 0.16 * noise.fractal(s / 0.07, t / 0.07, rng, octaves=3)
    depth = np.full_like(s, -9)  # 1 in the middle of a spot, 0 on its edge
    inside = np.full_like(s, -9)  # the same in radians
    for index in range(count):
        size = blemish.size_rad * (1.0 if index == 0 else rng.uniform(0.35, 1.05))
        at_s, at_t = (0.0, 0.0) if index == 0 else np.clip(rng.normal(size=2), -1.6, 1.6) * spread * (1.0, 0.6)
        away = np.hypot(s - np.float32(at_s), (t - np.float32(at_t)) * rng.uniform(0.85, 1.2)) / size + warp
        depth = np.maximum(depth, 1 - away)
        inside = np.maximum(inside, (1 - away) * size)
    cover = _cover(spot, inside)

    noise.mix(spot.albedo_HWC, (24, 88, 84), look.halo * noise.smooth(inside, -0.055, 0.01))
    rings = 0.5 + 0.5 * np.cos(depth * 17 + 6 * warp)
    grain = noise.fractal(s * 40, t * 40, rng, octaves=2)
    colour = np.empty_like(spot.albedo_HWC)
    colour[:] = look.crater
    noise.mix(colour, look.ring, np.clip(look.rings * rings * noise.smooth(depth, 0.06, 0.3) + 0.3 * grain, 0, 1))
    noise.mix(colour, (24, 32, 46), 0.7 * noise.smooth(depth + 0.2 * grain, 0.68, 0.85))
    noise.mix(spot.albedo_HWC, colour, cover)
    spot.relief_HW += cover * (0.014 * rings + 0.004 * grain - 0.045 * noise.smooth(depth, 0.45, 0.85))
    spot.gloss_HW *= 1 - 0.8 * cover
    spot.label_HW[cover >= HALF] = ULCER


def _paint_wind_scarring(peel: _Peel, blemish: Blemish) -> None:
    """Draw scars from leaves rubbing the young fruit: grey-brown streaks along one direction, merged inside."""
    spot = _spot(peel, blemish.towards, blemish.spin_rad, 1.6 * blemish.size_rad)
    if spot is None:
        return
    rng, look = np.random.default_rng(blemish.seed), blemish.look
    s, t, size = spot.s_HW, spot.t_HW, blemish.size_rad
    bend = rng.uniform(-0.8, 0.8) / size
    t = t - np.float32(bend) * s * s + 0.05 * noise.fractal(s * 4, t * 4, rng, octaves=2)
    reach = (
        1
        - (s / size) ** 2
        - (t / (size * rng.uniform(0.3, 0.5))) ** 2
        + 0.35 * noise.fractal(s * 7, t * 7, rng, octaves=2)
    )
    ridge = np.abs(noise.fractal(s * 5.5, t * 12, rng, octaves=3))
    blot = noise.fractal(s * 9, t * 14, rng, octaves=3)
    inside = np.maximum(0.36 * reach - ridge, 0.8 * (blot + 0.9 * reach - 0.95)) * np.float32(0.06)
    inside = np.where(reach > 0, inside, np.float32(-1))
    cover = _cover(spot, inside)

    grain = noise.fractal(s * 30, t * 60, rng, octaves=2)
    silver = rng.uniform(0, 1)
    colour = np.empty_like(spot.albedo_HWC)
    colour[:] = look.scar
    noise.mix(colour, look.silver, np.clip(silver + 0.3 * grain, 0, 1))
    noise.mix(colour, (40, 66, 100), 0.6 * (1 - noise.smooth(inside, 0.0, 0.012)))
    noise.mix(spot.albedo_HWC, colour, 0.92 * cover)
    spot.relief_HW += cover * (0.004 + 0.003 * grain)
    spot.gloss_HW *= 1 - 0.8 * cover
    spot.label_HW[cover >= HALF] = WIND_SCARRING
