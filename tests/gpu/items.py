"""Lists of everything that a job meets: pictures of many sizes, labelled and not, damaged and empty ones, videos; large
ones for windows; and pages.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.support import clips, labelled

SIZES = [(40, 60), (300, 200), (512, 512), (512, 512), (224, 224), (90, 120), (33, 500)]
LARGE = [(1080, 1920), (2100, 2048)]
"""Rows and columns of pictures; the last is above what a card makes class maps of."""
SMALL = [(64, 80 + 4 * (number % 3)) for number in range(60)]


def write_items(folder: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """Write pictures of these sizes and the rest; return the list."""
    rows = []
    for number, (height_px, width_px) in enumerate(sizes):
        name = f"{number:03}.png" if number % 2 else f"{number:03}.jpg"
        picture = clips.picture(number, height_px=height_px, width_px=width_px, seed=number)
        (folder / name).write_bytes(cv2.imencode(name[-4:], picture)[1].tobytes())
        label = ""
        if number % 3 == 0:
            label = f"{number:03}_label.png"
            (folder / label).write_bytes(labelled.encode(labelled.label(height_px, width_px, seed=number)))
        rows.append((name, name, label))
    (folder / "cut.jpg").write_bytes((folder / "002.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "clip.mp4").write_bytes(clips.clip(frames=30, width_px=160, height_px=120))
    grey = np.zeros((50, 50, 3), np.uint8)
    (folder / "black.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    rows += [(name, name, "") for name in ("cut.jpg", "empty.png", "missing.jpg", "clip.mp4", "black.png")]
    return labelled.write_list(folder, rows)


WINDOWS_MAX_PIXELS = 250_000
"""Limit above which a TIFF of `write_scenes` has its mask as TIFF alone."""


def write_scenes(folder: Path) -> Path:
    """Write pictures smaller than a window, of its size and larger, TIFFs up to above the limit; return the list."""
    rows = []
    for number, (height_px, width_px) in enumerate([(64, 80), (224, 224), (300, 410), (460, 500), (700, 500)]):
        picture = clips.picture(number, height_px=height_px, width_px=width_px, seed=number)
        name = f"{number}.tif" if height_px > 400 else f"{number}.png"
        Image.fromarray(picture).save(folder / name)
        label = ""
        if number in (1, 2):
            label = f"{number}_label.png"
            (folder / label).write_bytes(labelled.encode(labelled.label(height_px, width_px, seed=number)))
        rows.append((name, name, label))
    (folder / "cut.tif").write_bytes((folder / "3.tif").read_bytes()[:3000])
    (folder / "clip.mp4").write_bytes(clips.clip(frames=5))
    return labelled.write_list(folder, [*rows, ("cut.tif", "cut.tif", ""), ("clip.mp4", "clip.mp4", "")])


def write_pages(folder: Path) -> Path:
    """Write a TIFF of more pages than a segment has, of three sizes, one of a page, and a PNG; return the list."""
    pages = [
        Image.fromarray(clips.picture(number, height_px=90 + 60 * (number % 3), width_px=120, seed=number))
        for number in range(21)
    ]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    pages[1].save(folder / "page.tif")
    pages[2].save(folder / "picture.png")
    return labelled.write_list(folder, [(name, name, "") for name in ("pages.tif", "page.tif", "picture.png")])
