"""The halves of a fused model, run as on a card, compared with the whole."""

# N frames, H×W pixels

import math
from itertools import accumulate

import numpy as np

from fsf_core.model.device_model import DeviceModel
from fsf_core.model.fused_figures import MEANS, WINNERS
from fsf_core.model.fused_split import split
from fsf_core.model.preprocess import normalise


def assert_equal_halves(fused, plain, profile, frames_NHWC, sizes, expected):
    """Check that the halves of a fused model return its class maps and scores, bit for bit, and its figures.

    Args:
        fused: content of the file.
        plain: session of the plain model.
        profile: of both.
        frames_NHWC: inputs, one of each size.
        sizes: rows and columns of the class maps.
        expected: for every frame class maps 1HW and figures with planes of the whole.
    """
    dtype = expected[0][0].dtype
    lengths = [math.prod(size) * dtype.itemsize for size in sizes]
    starts = [*accumulate(lengths, initial=0)]
    halves = DeviceModel(
        split(fused), profile=profile, provider="cpu", num_classes=4 if dtype == np.uint8 else 256,
        batch_frames=min(2, len(sizes)), planes=True,
    )  # fmt: skip
    outputs = np.zeros(starts[-1], np.uint8)
    figures = halves.class_maps(frames_NHWC, range(len(sizes)), sizes, outputs=outputs, starts=starts)
    scores_NKhw = np.empty((len(sizes), *halves.scores_shape), np.float32)
    halves.scores(frames_NHWC, range(len(sizes)), scores_NKhw)

    assert np.array_equal(scores_NKhw, plain.run(normalise(frames_NHWC, profile.levels())), equal_nan=True)
    for at, (class_maps_NHW, found) in enumerate(expected):
        assert bytes(outputs[starts[at] : starts[at + 1]]) == class_maps_NHW.tobytes()
        assert [*found] == [*figures]
        for name, values in found.items():
            # onnxruntime may sum in another order: it moves transpositions over sums, but not over outputs.
            tolerance = {WINNERS: 0, MEANS: 1e-3}.get(name, 1e-6)  # of MEANS it matters whether they are finite
            assert np.allclose(figures[name][at], values[0], rtol=0, atol=tolerance, equal_nan=True), name
