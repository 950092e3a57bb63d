"""Procedural images and videos of navel oranges on a sorting line, with exact pixel labels.

Knows what the demo folder contains. Knows no network and no scoring. Nothing is read or downloaded: everything follows
from a seed.
"""

# H×W pixels. Colours are BGR from 0 to 255.

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.demo import noise
from fsf_core.demo.fruit import SUNBURN, ULCER, WIND_SCARRING, Blemish, Orange, cast_shadow, paint_orange
from fsf_core.demo.noise import Floats

CLASS_NAMES = ("background", "sunburn", "ulcer", "wind_scarring")
CLASS_COLOURS_RGB = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
"""The first four colours of PASCAL VOC."""

RECIPES = ((SUNBURN,), (ULCER,), (WIND_SCARRING,), (), (ULCER, WIND_SCARRING), (SUNBURN, ULCER, WIND_SCARRING))
"""Defects of an image by seed modulo six: any six consecutive seeds contain every class and a healthy orange."""

IMAGE_SIZES_HW = ((512, 512), (480, 640), (512, 512), (960, 1280))
"""Sizes that write_images cycles through."""
VIDEO_SIZE_HW = (320, 480)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backdrop:
    """Background and camera of a scene."""

    kind: Literal["table", "belt"]
    bgr: tuple[float, float, float]
    horizon: float
    """For table: where wall and table meet, as a share of the height."""
    travel: float
    """For belt: how far it has moved, in image heights."""
    exposure: float
    """Brightness factor, about 1."""
    grain: float
    """Standard deviation of the camera's noise, in grey levels."""


def draw_orange(seed: int, *, height_px: int = 512, width_px: int = 512) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image and its label. The scene depends only on the seed, its detail on the size.

    Returns:
        The image, uint8 BGR H×W×3, and the class of every pixel, uint8 H×W. Healthy peel is background.
    """
    rng = np.random.default_rng(seed)
    backdrop = _random_backdrop(rng)
    oranges = _random_oranges(rng, RECIPES[seed % len(RECIPES)])
    return _draw(oranges, backdrop, rng, height_px=height_px, width_px=width_px)


def draw_frames(
    frames: int, *, seed: int, height_px: int, width_px: int, first: int = 0
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw a conveyor on which oranges roll from left to right.

    Args:
        frames: how many.
        seed: of the scene.
        height_px: of every frame.
        width_px: of every frame.
        first: index of the first frame, which says how far the belt has moved.

    Yields:
        A frame, uint8 BGR H×W×3, and its label, uint8 H×W.
    """
    rng = np.random.default_rng(seed)
    backdrop = replace(_random_backdrop(rng), kind="belt")
    lane = [
        _random_orange(rng, y=0.5 + rng.uniform(-0.05, 0.05), radius=rng.uniform(0.32, 0.37), classes=classes)
        for classes in ((SUNBURN, ULCER), (WIND_SCARRING,), (), (ULCER, WIND_SCARRING))
    ]
    for index in range(first, first + frames):
        travel = 0.03 * index  # image heights: the fruit crosses the image in about 50 frames
        fruit = [_rolled(orange, place, travel, width_px / height_px) for place, orange in enumerate(lane)]
        yield _draw(fruit, replace(backdrop, travel=travel), rng, height_px=height_px, width_px=width_px)


def _rolled(orange: Orange, place: int, travel: float, aspect: float) -> Orange:
    """Return the orange after the belt has moved by `travel`, in a repeating lane of four."""
    spacing = 0.88
    x_heights = (place * spacing + travel + 0.5) % (4 * spacing) - 0.9
    # It slips, so that the side with its defects faces the camera in the middle of the image.
    angle = 0.5 * (x_heights - aspect / 2) / orange.radius
    cos, sin = math.cos(angle), math.sin(angle)
    roll_33 = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    return replace(orange, x=x_heights / aspect, turn_33=roll_33 @ orange.turn_33)


def _random_backdrop(rng: np.random.Generator) -> Backdrop:
    """Choose a pale laboratory table, or a belt in one of four colours."""
    belts = ((70.0, 74.0, 76.0), (86.0, 98.0, 66.0), (138.0, 104.0, 62.0), (196.0, 200.0, 202.0))
    on_table = bool(rng.choice([True, False], p=[0.4, 0.6]))
    grey = rng.uniform(192, 222)
    bgr = (grey, grey * 1.005, grey * 1.01) if on_table else belts[rng.integers(len(belts))]
    return Backdrop(
        kind="table" if on_table else "belt",
        bgr=bgr,
        horizon=rng.uniform(0.4, 0.7),
        travel=rng.uniform(0, 1),
        exposure=rng.uniform(0.92, 1.06),
        grain=rng.uniform(1.0, 2.2),
    )


def _random_oranges(rng: np.random.Generator, classes: Sequence[int]) -> list[Orange]:
    """Choose one large orange, or two or three in a row; the first has every defect, the others at most one each."""
    count = int(rng.choice([1, 1, 1, 1, 2, 2, 3]))
    oranges = []
    for place in range(count):
        chosen = list(classes)
        if place > 0:
            marked = bool(rng.choice([True, False], p=[0.7, 0.3]))
            chosen = [int(rng.choice(classes))] if classes and marked else []
        slot = 1 / count
        oranges.append(
            _random_orange(
                rng,
                x=(place + 0.5) * slot + rng.uniform(-0.02, 0.02),
                y=0.5 + rng.uniform(-0.03, 0.03) * count,
                radius=rng.uniform(0.37, 0.45) if count == 1 else rng.uniform(0.8, 0.92) * slot / 2,
                classes=chosen,
            )
        )
    return oranges


def _random_orange(
    rng: np.random.Generator, *, x: float = 0.5, y: float, radius: float, classes: Sequence[int]
) -> Orange:
    """Choose an orange whose defects face the camera, well apart from each other."""
    turn_33 = random_turn(rng)
    sizes = {SUNBURN: (0.2, 0.38), ULCER: (0.06, 0.1), WIND_SCARRING: (0.45, 0.75)}
    start = rng.uniform(0, 2 * math.pi)
    blemishes = []
    for index, class_id in enumerate(classes):
        around = start + 2 * math.pi * index / len(classes) + rng.uniform(-0.3, 0.3)
        off_axis = rng.uniform(0.1, 0.65) if len(classes) == 1 else rng.uniform(0.45, 0.7)
        view = (math.cos(around) * math.sin(off_axis), math.sin(around) * math.sin(off_axis), math.cos(off_axis))
        blemishes.append(
            Blemish(
                class_id=class_id,
                towards=np.asarray(view, np.float32) @ turn_33,
                size_rad=rng.uniform(*sizes[class_id]),
                spin_rad=rng.uniform(0, 2 * math.pi),
                seed=int(rng.integers(2**31)),
            )
        )
    return Orange(
        x=x,
        y=y,
        radius=radius,
        squash=rng.uniform(0.86, 0.99),
        tilt_rad=rng.uniform(0, math.pi),
        turn_33=turn_33,
        ripeness=rng.uniform(0, 1),
        greenness=max(0.0, rng.uniform(-0.6, 1.0)),
        blemishes=tuple(blemishes),
        seed=int(rng.integers(2**31)),
    )


def random_turn(rng: np.random.Generator) -> Floats:
    """Return a uniformly random rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return np.asarray(q, np.float32)


def _draw(
    oranges: Sequence[Orange], backdrop: Backdrop, rng: np.random.Generator, *, height_px: int, width_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw the scene, then add slight blur and camera noise."""
    image_HWC = _draw_backdrop(backdrop, height_px, width_px)
    label_HW = np.zeros((height_px, width_px), np.uint8)
    for orange in oranges:
        cast_shadow(image_HWC, orange)
    for orange in oranges:
        paint_orange(image_HWC, label_HW, orange)
    blurred_HWC = cv2.GaussianBlur(image_HWC, (0, 0), 0.35 + min(height_px, width_px) / 1600)
    grain_HW1 = rng.standard_normal((height_px, width_px, 1), np.float32) * np.float32(backdrop.grain)
    photograph_HWC = np.clip(blurred_HWC * np.float32(backdrop.exposure) + grain_HW1, 0, 255)
    return photograph_HWC.astype(np.uint8), label_HW


def _draw_backdrop(backdrop: Backdrop, height_px: int, width_px: int) -> Floats:
    """Draw the background, float32 BGR H×W×3."""
    y_HW, x_HW = np.mgrid[0:height_px, 0:width_px].astype(np.float32) / np.float32(height_px)
    image_HWC = np.empty((height_px, width_px, 3), np.float32)
    image_HWC[:] = backdrop.bgr
    rng = np.random.default_rng(3)  # the same place in every image
    if backdrop.kind == "table":
        image_HWC *= _table_light(x_HW, y_HW, backdrop.horizon, rng)[..., None]
        return image_HWC
    image_HWC *= _belt_light(x_HW - np.float32(backdrop.travel), y_HW, rng)[..., None]
    from_edge = np.minimum(y_HW, 1 - y_HW)
    image_HWC *= (0.55 + 0.45 * noise.smooth(from_edge, 0.05, 0.13))[..., None]  # the rails' shadow
    brushed = 12 * noise.fractal(x_HW * 3, y_HW * 90, rng, octaves=2)
    steel = 118 + 70 * np.sin(np.clip(from_edge / 0.055, 0, 1) * math.pi) + brushed
    noise.mix(image_HWC, steel[..., None] * (1.02, 1.0, 0.97), 1 - noise.smooth(from_edge, 0.052, 0.058))
    return image_HWC


def _table_light(x_HW: Floats, y_HW: Floats, horizon: float, rng: np.random.Generator) -> Floats:
    """Return brightness factors of a wall, a brighter table, and the crease between them."""
    table = noise.smooth(y_HW, horizon - 0.006, horizon + 0.006)
    uneven = 0.05 * noise.fractal(x_HW * 1.5, y_HW * 1.5, rng, octaves=3)
    crease = 0.12 * np.exp(-(((y_HW - horizon) / 0.012) ** 2))
    return np.asarray((0.93 + 0.1 * table + uneven) * (1 - crease), np.float32)


def _belt_light(along_HW: Floats, across_HW: Floats, rng: np.random.Generator) -> Floats:
    """Return brightness factors of a worn, woven belt with a cleat every half image height."""
    weave = 0.025 * np.sin(along_HW * 420) * np.sin(across_HW * 420)
    worn = 0.07 * noise.fractal(along_HW * 2, across_HW * 9, rng, octaves=4)
    from_cleat = np.mod(along_HW, 0.5) - 0.25
    lit_side = 0.28 * np.exp(-(((from_cleat + 0.008) / 0.006) ** 2))
    dark_side = 0.34 * np.exp(-(((from_cleat - 0.008) / 0.01) ** 2))
    return np.asarray((1 + weave + worn) * (1 + lit_side - dark_side), np.float32)


def write_demo(folder: Path, *, count: int = 12, frames: int = 48, seed: int = 0) -> Path:
    """Write a small data set: images and a video with labels, and one file that cannot be decoded.

    Args:
        folder: created if it does not exist; files of the same names are overwritten.
        count: number of intact images; twelve contain every defect twice.
        frames: length of the video.
        seed: of the first image; the others use the following seeds.

    Returns:
        The path of `manifest.csv` in the folder; its URIs and labels are relative to the folder.
    """
    images = write_images(folder / "pictures", count=count, seed=seed)
    broken = folder / "pictures" / "interrupted_copy.jpg"
    intact = images[0].read_bytes()
    broken.write_bytes(intact[: len(intact) // 2])
    frame_labels = folder / "labels" / "conveyor"
    clip = write_video(folder / "videos" / "conveyor.mp4", frames=frames, seed=seed, labels=frame_labels)

    items = [(image, "image", f"labels/{image.stem}.png") for image in images]
    items += [(broken, "image", ""), (clip, "video", "labels/conveyor")]
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "uri", "kind", "label_uri", "line", "batch"))
        for index, (path, kind, label) in enumerate(items):
            uri = path.relative_to(folder).as_posix()
            table.writerow((path.stem, uri, kind, label, "AB"[index % 2], f"2024-11-{18 + index // 6}"))
    return manifest


def write_images(folder: Path, *, count: int, seed: int) -> list[Path]:
    """Write JPEG images, and their labels as palette PNGs of the same name into the sibling folder `labels`."""
    labels = folder.parent / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(count):
        height_px, width_px = IMAGE_SIZES_HW[index % len(IMAGE_SIZES_HW)]
        image_HWC, label_HW = draw_orange(seed + index, height_px=height_px, width_px=width_px)
        path = folder / f"orange_{seed + index:03d}.jpg"
        path.write_bytes(cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
        _write_label(labels / f"{path.stem}.png", label_HW)
        written.append(path)
    return written


def write_video(path: Path, *, frames: int, fps: int = 24, seed: int, labels: Path | None = None) -> Path:
    """Write an H.264 MP4 of oranges that roll along a conveyor, 480×320, with a key frame every half second.

    Args:
        path: of the video.
        frames: its length.
        fps: frames per second.
        seed: of the scene.
        labels: folder for a palette PNG of every frame, named after its number.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if labels is not None:
        labels.mkdir(parents=True, exist_ok=True)
    height_px, width_px = VIDEO_SIZE_HW
    with av.open(str(path), "w") as container:
        # Equal bytes on every machine: one thread, because x264 divides its work by threads, and no vector code in
        # macroblock-tree rate control, whose AVX-512 form gives other bytes on every run (see media.video.encode).
        options = {"crf": "20", "preset": "medium", "threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width_px, height_px, "yuv420p", max(1, fps // 2)
        drawn = draw_frames(frames, seed=seed, height_px=height_px, width_px=width_px)
        for index, (image_HWC, label_HW) in enumerate(drawn):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="bgr24")))
            if labels is not None:
                _write_label(labels / f"{index:06d}.png", label_HW)
        container.mux(stream.encode())
    return path


def _write_label(path: Path, label_HW: NDArray[np.uint8]) -> None:
    indexed = Image.fromarray(label_HW).convert("P")
    indexed.putpalette([level for colour in CLASS_COLOURS_RGB for level in colour])
    indexed.save(path)
