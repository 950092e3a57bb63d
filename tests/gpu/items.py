"""A list of everything that a job meets: pictures of many sizes, labelled and not, damaged and empty ones, videos."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

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
