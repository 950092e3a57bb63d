"""The per-class table of FastSegFormer's tools."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def count_table(class_names: Sequence[str], pixels_K: NDArray[np.int64]) -> str:
    """Format pixels and share per class as FastSegFormer's tools print them; absent classes are left out."""
    rule = "-" * 63
    total_px = int(pixels_K.sum())
    lines = [rule, "|%25s | %15s | %15s|" % ("Key", "Value", "Ratio"), rule]  # noqa: UP031 # the format is the contract
    for name, pixels in zip(class_names, pixels_K.tolist(), strict=True):
        if pixels > 0:
            lines += ["|%25s | %15s | %14.2f%%|" % (name, pixels, 100 * pixels / total_px), rule]  # noqa: UP031 # as above
    return "\n".join(lines)
