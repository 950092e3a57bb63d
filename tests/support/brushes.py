"""Label Studio's brush strokes, decoded bit by bit by the definition of their format."""

import numpy as np

CHANNELS = 4


def decode_brush(data, shape):
    """Return the alpha of every pixel of a stroke, checking that its red, green and blue are the same."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    size = read(32)
    word_bits = read(5) + 1
    length_bits = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < size:
        is_run = read(1)
        length = read(length_bits[read(2)]) + 1
        values += [read(word_bits)] * length if is_run else [read(word_bits) for _ in range(length)]
    assert len(values) == size == shape[0] * shape[1] * CHANNELS
    assert len(bits) - at < 8
    channels = np.array(values, np.uint8).reshape(*shape, CHANNELS)
    assert (channels == channels[..., :1]).all()
    return channels[..., 3]
