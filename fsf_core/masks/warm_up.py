"""Compiling all that scoring needs, before it is needed."""

import numpy as np

from fsf_core.masks.class_map import make_mask, measure, softmax
from fsf_core.masks.palette import voc_palette
from fsf_core.masks.png import encode_png


def warm_up() -> None:
    """Compile or load all that scoring with up to 255 classes runs, so that the first frame does not wait for it."""
    scores_Khw = np.zeros((4, 3, 3), np.float32)
    scores_Khw[0, 0, 0] = 1
    scores_Khw[1, 1, 1] = 1
    mask = make_mask(softmax(scores_Khw), height_px=5, width_px=5)
    measure(mask.class_map_HW, num_classes=4)
    encode_png(mask.class_map_HW, voc_palette(4))
