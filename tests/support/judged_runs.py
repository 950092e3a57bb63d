"""Drawn oranges scored in this process by a quick network: a run, and how wrong each of its masks is.

The mask stage's own functions make masks and figures. Starts no Ray.
"""

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fsf_core import masks
from fsf_core.demo.oranges import CLASS_NAMES, IMAGE_SIZES_HW, draw_orange
from fsf_core.model.input_figures import input_figures
from fsf_core.runs import RunReader
from tests.support.chosen_runs import Frame, write_run

INPUT_PX = 224
PIXELS = 512 * 512
FIGURES = ("uncertain_share", "confidence", "brightness", "contrast", "sharpness")


def score_oranges(
    uri: str, network: Any, seeds: Sequence[int], *, sizes_hw: Sequence[tuple[int, int]] = IMAGE_SIZES_HW
) -> dict[str, int]:
    """Score one drawn image for each seed.

    Args:
        uri: folder of the run.
        network: torch, from images [N, 3, 224, 224] to logits.
        seeds: of the images; any six consecutive ones have every defect.
        sizes_hw: sizes that the images take in turn.

    Returns:
        Wrong pixels by item id, in images of equal size; of other sizes scaled to 512×512 pixels.
    """
    frames, wrong = [], {}
    draw = partial(_drawn, sizes_hw=sizes_hw)
    with ThreadPoolExecutor(2) as pool:  # OpenCV and NumPy release the GIL
        for seed, (image_HWC, label_HW) in zip(seeds, pool.map(draw, seeds), strict=True):
            frame = _frame(f"orange_{seed:05d}.jpg", image_HWC, network)
            frames.append(frame)
            share = float((frame.class_map_HW != label_HW).mean())
            wrong[frame.item_id] = round(share * PIXELS)
    write_run(uri, frames, classes=CLASS_NAMES)
    return wrong


def _drawn(seed: int, *, sizes_hw: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    # Defects follow from the seed modulo six, so sizes change every six images.
    height_px, width_px = sizes_hw[seed // 6 % len(sizes_hw)]
    return draw_orange(seed, height_px=height_px, width_px=width_px)


def _frame(item_id: str, image_HWC: np.ndarray, network: Any) -> Frame:
    """Score one image, BGR."""
    import torch

    small_HWC = cv2.resize(image_HWC, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    input_CHW = np.ascontiguousarray(small_HWC[..., ::-1].transpose(2, 0, 1), np.float32) / 255
    with torch.no_grad():
        logits_KHW = network(torch.from_numpy(input_CHW)[None])[0].numpy()
    height_px, width_px = image_HWC.shape[:2]
    found = masks.make_mask(masks.softmax(logits_KHW), height_px=height_px, width_px=width_px)
    return Frame(
        item_id=item_id,
        class_map_HW=found.class_map_HW,
        probability=[None if np.isnan(value) else value for value in found.mean_probability_K.tolist()],
        confidence=found.confidence,
        uncertain_share=found.uncertain_share,
        **input_figures(small_HWC, "bgr")._asdict(),
    )


def write_table(path: Path, run: RunReader, wrong: Mapping[str, int]) -> None:
    """Write a table of what `fsf select` reads of a run, and of how wrong its masks are."""
    stats = run.class_stats(columns=["item_id", "ratio"]).to_pylist()
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "wrong_share", *FIGURES, *run.classes])
        for row in run.masks(columns=["item_id", *FIGURES]).to_pylist():
            item_id = row.pop("item_id")
            ratios = [each["ratio"] for each in stats if each["item_id"] == item_id]
            numbers = [wrong[item_id] / PIXELS, *row.values(), *ratios]
            table.writerow([item_id, *(f"{number:.5g}" for number in numbers)])
