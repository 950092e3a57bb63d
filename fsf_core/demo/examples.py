"""Drawings to train on, kept in a folder: drawn once, on all cores, and read again by position.

Knows which scenes are for training. Knows no network. An example is an array uint8 [H, W, 4]: BGR, then the class.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.demo.closeup import draw_closeup
from fsf_core.demo.oranges import IMAGE_SIZES_HW, VIDEO_SIZE_HW, draw_frames, draw_orange

FIRST_SEED = 1_000_000
"""Of the scenes that are trained on; far from HELD_OUT_SEED and from the demo's, which begin at 0."""
HELD_OUT_SEED = 500_000
_SIZES_HW = ((512, 512), (480, 640), (512, 512), (480, 640), (512, 512), (480, 640), (512, 512), (960, 1280))


def draw_example(index: int, *, seed: int) -> NDArray[np.uint8]:
    """Draw example `index`: half of them scenes of the demo, three in eight close-ups, one in eight a video frame."""
    scene = FIRST_SEED * (seed + 1) + index
    height_px, width_px = _SIZES_HW[index // 8 % len(_SIZES_HW)]
    match index % 8:
        case 1 | 4 | 7:
            image_HWC, label_HW = draw_closeup(scene, height_px=min(height_px, 512), width_px=min(width_px, 640))
        case 6:
            height_px, width_px = VIDEO_SIZE_HW
            first = scene * 7 % 120  # the lane of four repeats after 117 frames
            [(image_HWC, label_HW)] = draw_frames(1, seed=scene, height_px=height_px, width_px=width_px, first=first)
        case _:
            image_HWC, label_HW = draw_orange(scene, height_px=height_px, width_px=width_px)
    return np.dstack([image_HWC, label_HW])


def draw_examples(folder: Path, count: int, *, seed: int, processes: int | None = None) -> list[Path]:
    """Draw what the folder does not hold yet; returns the files of all examples in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}-{index:06d}.npy" for index in range(count)]
    absent = [index for index, path in enumerate(paths) if not path.exists()]
    if absent:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(partial(_save, folder=folder, seed=seed), absent, chunksize=8):
                pass
    return paths


def draw_held_out(count: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield drawings that are never trained on, in the sizes of the demo: image, uint8 BGR H×W×3, and label."""
    for index in range(count):
        height_px, width_px = IMAGE_SIZES_HW[index % len(IMAGE_SIZES_HW)]
        yield draw_orange(HELD_OUT_SEED + index, height_px=height_px, width_px=width_px)


def _save(index: int, *, folder: Path, seed: int) -> None:
    cv2.setNumThreads(1)
    path = folder / f"{seed}-{index:06d}.npy"
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.save(file, draw_example(index, seed=seed))
    unfinished.replace(path)
