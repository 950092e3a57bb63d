"""Ahead-of-time compilation of the kernels.

Without it the first frame of the first process pays: 12 s of CPU for what every job needs and 7 s for regions and
labels with an empty cache, 0.3 s from the cache (2-core EPYC, 2026-11-28).
"""

import numpy as np
from numpy.typing import NDArray

from fsf_core.masks import kernels
from fsf_core.masks.blending import WindowBlend
from fsf_core.masks.class_map import make_mask, measure, softmax
from fsf_core.masks.confusion import count
from fsf_core.masks.palette import voc_palette
from fsf_core.masks.png import encode_png
from fsf_core.masks.regions import find_regions
from fsf_core.masks.row_scan import RowScan
from fsf_core.masks.windows import plan_side


def compile_kernels() -> None:
    """Compile every kernel that scoring with up to 255 classes and labels runs, or load it from numba's cache.

    An image calls this when it is built: users who cannot write next to the source load the machine code from there.
    """
    mask = make_mask(_scores(), height_px=5, width_px=5, keep_grid=True, logits=True)
    make_mask(softmax(_scores()), height_px=5, width_px=5, scores_Khw=_scores())
    encode_png(mask.class_map_HW, voc_palette(4))
    find_regions(mask, min_px=1)
    find_regions(measure(mask.class_map_HW, num_classes=4), min_px=1)
    _compile_windows(_scores())
    count(mask.class_map_HW, mask.class_map_HW, 4)
    painted_HWC = np.zeros((1, 1, 3), np.uint8)
    colours_N, values_N = np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    kernels.look_up_colours(kernels.as_input(painted_HWC), colours_N, values_N, np.empty((1, 1), np.uint8))


def load_kernels() -> None:
    """Compile or load the kernels of a job without regions and labels: PNG first, while `stages.precompile` draws."""
    encode_png(np.zeros((5, 5), np.uint8), voc_palette(4))
    make_mask(_scores(), height_px=5, width_px=5, logits=True)


def _compile_windows(scores_Khw: NDArray[np.float32]) -> None:
    """Compile what scoring in windows runs beside: two windows that overlap."""
    sides = plan_side(8, window_px=8, overlap_px=4), plan_side(12, window_px=8, overlap_px=4)
    blend = WindowBlend(*sides, num_classes=4, corners="half-pixel")
    scan = RowScan(width_px=12, num_classes=4, min_region_px=1)
    own_HW = make_mask(scores_Khw, height_px=8, width_px=8).class_map_HW
    for column in (0, 1):
        for _, rows_HW in blend.add(0, column, own_HW, scores_Khw):
            scan.add(rows_HW)
    scan.end()


def _scores() -> NDArray[np.float32]:
    """Return logits_Khw of a map with two classes and a border."""
    scores_Khw = np.zeros((4, 3, 3), np.float32)
    scores_Khw[0, 0, 0] = 1
    scores_Khw[1, 1, 1] = 1
    return scores_Khw
