"""Ahead-of-time compilation of the loops, for image builds and benchmarks."""

import numpy as np
from simplejpeg import encode_jpeg

from fsf_core.media.images.sparse.grid import Grid
from fsf_core.media.images.sparse.header import read_baseline


def compile_loops() -> None:
    """Compile every loop that large JPEGs are decoded with, or load it from numba's cache: 4.5 s of CPU, and 0.4 s.

    Once on a 2-core EPYC, 2026-11-28; the first large pictures of the first process pay for it otherwise.
    """
    from fsf_core.media.images.sparse.decode import decode

    few = np.arange(3)
    data = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    baseline = read_baseline(data)
    assert baseline is not None
    decode(data, baseline, Grid(few, few), 1)
