import numpy as np
import pytest

from fsf_core.geometry import PROFILES
from fsf_core.kernels import to_network_input


@pytest.mark.parametrize("count", [1, 3])
def test_network_input_is_the_table_bit_for_bit(count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 17, 19, 3)).astype(np.uint8)
    levels = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    expected = np.stack([levels[c][frames[..., c]] for c in range(3)], axis=1)
    got = to_network_input(frames, levels)
    assert got.dtype == np.float32
    assert got.tobytes() == expected.tobytes()


def test_network_input_of_the_default_profile_is_the_pixel_over_255():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    got = to_network_input(frames, PROFILES["fastsegformer"].levels())
    assert np.array_equal(got[0, 2].ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_network_input_fills_the_array_it_is_given_and_reads_views():
    frames = np.random.default_rng(0).integers(0, 256, (2, 10, 12, 3)).astype(np.uint8)[:, 1:8, ::-1]
    levels = PROFILES["fastsegformer"].levels()
    out = np.zeros((2, 3, 7, 12), np.float32)
    assert to_network_input(frames, levels, out) is out
    assert np.array_equal(out, to_network_input(frames.copy(), levels))


@pytest.mark.parametrize(
    ("frames", "levels", "out"),
    [
        (np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 256), np.float32), None),
        (np.zeros((1, 2, 2, 3), np.uint8), np.zeros((3, 256)), None),
        (np.zeros((1, 2, 2, 3), np.float32), np.zeros((3, 256), np.float32), None),
        (np.zeros((1, 2, 2, 3), np.uint8), np.zeros((3, 256), np.float32), np.zeros((1, 2, 2, 3), np.float32)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(frames, levels, out):
    with pytest.raises(ValueError, match="expected"):
        to_network_input(frames, levels, out)
