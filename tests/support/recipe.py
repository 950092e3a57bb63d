"""Weights and images that follow from names alone, for tests that need a network with non-trivial masks.

The recipe never changes: `tests/golden` holds what the authors' code computes from it. Knows NumPy only, no torch.

A tensor is drawn from its state_dict name: PCG64, seeded with the name's crc32, gives raw 64-bit integers (which
NumPy keeps stable), whose upper 53 bits become a uniform float64 in [0, 1), scaled to the range that `_range` gives.
Every step is exact, so the float32 values are the same on every platform.
"""

# H×W pixels, C channels

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32] | NDArray[np.int64]

# Centres the four logits, so that every class wins some pixels.
_FIXED = {
    ("p", "cnn_up.1.bias"): (1.341, -0.578, -0.613, -1.757),
    ("e", "cnn_up.1.bias"): (2.988, -1.505, 8.041, 0.995),
}

# By the last component of the name; convolutions and a few others have their own ranges.
_RANGES = {
    "weight": (0.8, 1.2),
    "bias": (-0.2, 0.2),
    "running_mean": (-0.2, 0.2),
    "running_var": (0.5, 1.5),
    "attention_biases": (-1.0, 1.0),
    "layer_scale_1": (0.1, 0.5),  # not the initial 1e-5, with which the blocks would not matter
    "layer_scale_2": (0.1, 0.5),
}


def state(model: str, entries: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Array]:
    """Return a state_dict from its names and shapes; model is the letter of the variant, p or e."""
    return {name: tensor(model, name, shape) for name, shape in entries}


def tensor(model: str, name: str, shape: tuple[int, ...]) -> Array:
    """Return one entry of a state_dict: int64 for counters and index tables, else float32."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("attention_bias_idxs"):
        return _distances(*shape)
    if (model, name) in _FIXED:
        return np.array(_FIXED[model, name], np.float32).reshape(shape)
    low, high = _range(model, name, shape)
    uniform = (_random_bits(name, int(np.prod(shape))) >> np.uint64(11)) * 2.0**-53
    return (low + (high - low) * uniform).astype(np.float32).reshape(shape)


def rings(side_px: int = 224) -> NDArray[np.uint8]:
    """Return a disc on stripes with hard and soft edges, uint8 RGB H×W×3, by integer arithmetic only."""
    row, col = np.indices((side_px, side_px))
    distance2 = (col - 112) ** 2 + (row - 100) ** 2
    red = col * 255 // (side_px - 1)
    green = np.where(distance2 < 4900, 200 - distance2 // 40, row * 255 // (side_px - 1))
    blue = (col // 16 + row // 16) % 2 * 160 + distance2 // 256
    return np.dstack([red, green, blue]).clip(0, 255).astype(np.uint8)


def noise(side_px: int = 224) -> NDArray[np.uint8]:
    """Return white noise, uint8 RGB H×W×3."""
    return (_random_bits("image_noise", side_px**2 * 3) >> np.uint64(56)).astype(np.uint8).reshape(side_px, side_px, 3)


def to_input(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the network input as the authors' tools make it after the resize: float32 [1, 3, H, W] in [0, 1]."""
    return np.ascontiguousarray((rgb_HWC.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])


def _random_bits(seed: str, count: int) -> NDArray[np.uint64]:
    """Return raw 64-bit integers of PCG64, seeded with the crc32 of a name."""
    return np.random.PCG64(zlib.crc32(seed.encode())).random_raw(count)


def _distances(queries: int, keys: int) -> NDArray[np.int64]:
    """Return the index of the distance of every pair of cells of two square grids, in order of appearance."""
    query_side, key_side = round(queries**0.5), round(keys**0.5)
    step, numbers = key_side // query_side, {}
    table = np.empty((queries, keys), np.int64)
    for query, key in np.ndindex(queries, keys):
        rows = abs(query // query_side * step - key // key_side)
        cols = abs(query % query_side * step - key % key_side)
        table[query, key] = numbers.setdefault((rows, cols), len(numbers))
    return table


def _range(model: str, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return a range that keeps activations from vanishing with depth, and attention from being one-hot."""
    leaf = name.rpartition(".")[2]
    if (model, name) == ("e", "convert_channel.conv.1.running_var"):
        return 50.0, 150.0
    if leaf == "bias" and "talking_head" in name:
        return -0.01, 0.01
    if leaf == "weight" and len(shape) == 4:
        reach = _convolution_reach(name, shape)
        return -reach, reach
    return _RANGES[leaf]


def _convolution_reach(name: str, shape: tuple[int, ...]) -> float:
    """Return He's uniform bound, reduced at the end of residual branches and for queries and keys."""
    reach = (6.0 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if name.endswith(("block.2.weight", "token_mixer.proj.1.weight", "attn.proj.1.weight")):
        reach *= 0.5
    if ".q." in name or ".k." in name:
        reach *= 0.3
    return reach
