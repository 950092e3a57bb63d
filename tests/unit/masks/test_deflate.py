import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.masks.kernels import deflate


def stream(data):
    padded = np.full(-(-max(len(data), 1) // 8) * 8, 7, np.uint8)  # the padding must not matter
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return deflate._compress(padded, len(data))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.one_of(st.integers(1, 12), st.integers(1, 2000))), max_size=40))
def test_zlib_decompresses_any_runs(runs):
    data = b"".join(bytes([value]) * length for value, length in runs)
    assert zlib.decompress(stream(data)) == data


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_zlib_decompresses_any_bytes(data):
    assert zlib.decompress(stream(data)) == data


@pytest.mark.parametrize("length", [*range(1, 12), *range(256, 264), 516, 517, 518, 519, 520, 100_000])
def test_runs_of_every_length_decompress(length):
    data = b"ab" + bytes(length) + b"c"
    assert zlib.decompress(stream(data)) == data


def test_codes_stay_within_15_bits_with_fibonacci_counts():
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    data = np.concatenate([np.tile(np.array([i, 255], np.uint8), n) for i, n in enumerate(counts)]).tobytes()
    assert zlib.decompress(stream(data)) == data


def test_noise_grows_by_less_than_1_percent():
    data = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.uint8).tobytes()
    assert len(stream(data)) < 1.01 * len(data)


def test_runs_take_at_most_2_percent_more_than_zlibs_rle_strategy():
    values = np.random.default_rng(0).geometric(0.2, 20_000).clip(0, 255).astype(np.uint8)
    data = np.where(np.random.default_rng(1).random(20_000) < 0.1, values, 0).astype(np.uint8).repeat(3).tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    assert len(stream(data)) < 1.02 * len(packer.compress(data) + packer.flush())


def test_the_bytes_of_a_stream_stay_those_of_earlier_versions():
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, 30_000).astype(np.uint8)
    sparse = np.where(rng.random(200_000) < 0.03, rng.integers(0, 256, 200_000), 0).astype(np.uint8)
    runs = np.repeat(rng.geometric(0.3, 3_000).clip(0, 255).astype(np.uint8), rng.integers(1, 700, 3_000))
    digests = [hashlib.sha256(stream(each.tobytes())).hexdigest()[:16] for each in (noise, sparse, runs)]
    assert digests == ["c0e4ea6807446dbe", "9e3f046e4d5c2977", "da76b39f32ac1b61"]
