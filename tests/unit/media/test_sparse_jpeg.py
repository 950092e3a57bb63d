"""Large JPEGs: the pixels of libjpeg-turbo where some are wanted, and no decision about anything unusual or damaged."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from simplejpeg import decode_jpeg

from fsf_core.errors import ItemError
from fsf_core.media import images
from fsf_core.media.images import exif
from fsf_core.media.images.sparse import choice
from fsf_core.media.images.sparse.decode import decode
from fsf_core.media.images.sparse.grid import Grid
from fsf_core.media.images.sparse.header import read_baseline
from tests.support import assets

SAMPLINGS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
}


def drawn(height_px: int, width_px: int, seed: int = 0):
    """Return BGR with gradients, edges and noise: all of a block's coefficients occur."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height_px, 0:width_px]
    smooth = np.stack([x * 255 / width_px, y * 255 / height_px, (x * 3 + y * 5) % 256], axis=-1)
    noise = rng.normal(0, 25, smooth.shape) * (x > width_px // 2)[..., None]
    return np.clip(smooth + noise + 90 * ((x // 5 + y // 7) % 9 == 0)[..., None], 0, 255).astype(np.uint8)


def by_pillow(image_HWC, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HWC[..., ::-1] if image_HWC.ndim == 3 else image_HWC).save(file, "JPEG", **options)
    return file.getvalue()


def by_opencv(image_HWC, *options: int) -> bytes:
    return cv2.imencode(".jpg", image_HWC, options)[1].tobytes()


def wanted_pixels(data: bytes, grid: Grid, orientation: int = 1):
    """Return the wanted pixels, or None."""
    baseline = read_baseline(data)
    image_HWC = None if baseline is None else decode(data, baseline, grid, orientation)
    return None if image_HWC is None else image_HWC[np.ix_(grid.rows, grid.columns)].copy()


def some(rng, size: int):
    return np.flatnonzero(rng.random(size) < rng.uniform(0.02, 1))


def assert_as_libjpeg(data: bytes, *, orientation: int = 1, seed: int = 0) -> None:
    whole_HWC = exif.upright(decode_jpeg(data, "BGR", strict=True), orientation)
    rng = np.random.default_rng(seed)
    grid = Grid(*(np.append(some(rng, size - 1), size - 1) for size in whole_HWC.shape[:2]))
    found = wanted_pixels(data, grid, orientation)
    assert found is not None
    np.testing.assert_array_equal(found, whole_HWC[np.ix_(grid.rows, grid.columns)])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("sides", [(64, 64), (61, 67), (16, 90), (143, 17)], ids=str)
def test_wanted_pixels_are_those_of_libjpeg_turbo_in_every_sampling(sampling, sides):
    assert_as_libjpeg(by_opencv(drawn(*sides), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]))


def test_grey_pictures_have_three_equal_channels():
    assert_as_libjpeg(by_opencv(drawn(70, 85)[..., 0]))


@settings(max_examples=60, deadline=None)
@given(
    height_px=st.integers(16, 90),
    width_px=st.integers(16, 90),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    optimised=st.booleans(),
    restart_blocks=st.sampled_from([0, 1, 3, 8, 1000]),
    orientation=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_wanted_pixels_are_those_of_libjpeg_turbo(
    height_px, width_px, quality, subsampling, optimised, restart_blocks, orientation, seed
):
    data = by_pillow(
        drawn(height_px, width_px, seed), quality=quality, subsampling=subsampling, optimize=optimised,
        restart_marker_blocks=restart_blocks,
    )  # fmt: skip
    assert_as_libjpeg(data, orientation=orientation, seed=seed)


def test_pillow_decodes_the_same_pixels():
    data = by_pillow(drawn(80, 120), quality=90)
    grid = Grid(np.arange(0, 80, 3), np.arange(1, 120, 7))
    with Image.open(io.BytesIO(data)) as image:
        whole_HWC = np.asarray(image)[..., ::-1]
    np.testing.assert_array_equal(wanted_pixels(data, grid), whole_HWC[np.ix_(grid.rows, grid.columns)])


def test_quantisation_tables_of_16_bits_are_read():
    table = [min(1 + 37 * n, 700) for n in range(64)]
    data = by_pillow(drawn(64, 64), qtables=[table, table])
    assert data[data.index(b"\xff\xdb") + 4] >> 4 == 1
    assert_as_libjpeg(data)


def test_black_and_white_noise_is_left_to_libjpeg_where_its_sums_might_overflow():
    noise_HW = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8) * 255
    noise_HW[:8, :8] = 255 * ((np.arange(8)[:, None] + np.arange(8)) % 2)
    found = wanted_pixels(by_opencv(noise_HW, cv2.IMWRITE_JPEG_QUALITY, 100), Grid(np.arange(64), np.arange(64)))
    assert found is None


def rgb_as_stored(data: bytes) -> bytes:
    """Return a JPEG whose Adobe segment says that its components are red, green and blue."""
    start = data.index(b"\xff\xe0")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + assets.jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\0") + data[end:]


UNUSUAL = {
    "progressive": by_pillow(drawn(64, 64), progressive=True),
    "arithmetic or lossless": by_pillow(drawn(64, 64)).replace(b"\xff\xc0", b"\xff\xc9"),
    "CMYK": assets.pillow(Image.fromarray(drawn(64, 64)).convert("CMYK"), "JPEG"),
    "RGB": rgb_as_stored(by_pillow(drawn(64, 64), subsampling=0)),
    "4:1:1": by_opencv(drawn(64, 64), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
    "four columns": by_pillow(drawn(64, 4)),
    "padded before the end": by_pillow(drawn(64, 64))[:-2] + bytes(3) + b"\xff\xd9",
    "cut off": by_pillow(drawn(64, 64))[:-40],
    "without the end": by_pillow(drawn(64, 64))[:-2],
    "a byte between segments": by_pillow(drawn(64, 64)).replace(b"\xff\xdb", b"\0\xff\xdb", 1),
    "a header alone": by_pillow(drawn(64, 64))[:300],
    "no picture": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_not_decoded(name):
    assert wanted_pixels(UNUSUAL[name], Grid(np.arange(3), np.arange(3))) is None


def damage(data: bytes, rng) -> bytes:
    """Return data with flipped bits, cut off, or with bytes too many or too few."""
    at = int(rng.integers(2 if rng.random() < 0.3 else data.rindex(b"\xff\xda"), len(data)))
    kind = rng.integers(0, 5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.bytes(2) + data[at:]
    if kind == 2:
        return data[:at] + data[at + 2 :]
    return data[:at] + bytes([data[at] ^ 1 << rng.integers(0, 8)]) + data[at + 1 :]


def test_damage_is_left_to_libjpeg_unless_it_finds_none():
    rng = np.random.default_rng(5)
    grid = Grid(np.arange(0, 57, 2), np.arange(0, 75, 3))
    left = decoded = 0
    for number in range(12):
        intact = by_pillow(
            drawn(57, 75, number), quality=20 + 6 * number, subsampling=number % 3, restart_marker_blocks=number % 2 * 4
        )
        for damaged in (damage(intact, rng) for _ in range(50)):
            baseline = read_baseline(damaged)
            if baseline and (baseline.height_px, baseline.width_px) != (57, 75):
                continue
            found = wanted_pixels(damaged, grid)
            if found is None:
                left += 1
                continue
            decoded += 1
            whole_HWC = decode_jpeg(damaged, "BGR", strict=True)  # which raises libjpeg's first warning
            np.testing.assert_array_equal(found, whole_HWC[np.ix_(grid.rows, grid.columns)])
    assert left > 200
    assert decoded > 100


@pytest.fixture
def at_once(monkeypatch):
    """Take the decoder of few pixels for pictures of any size, from the first one on."""
    monkeypatch.setattr(choice, "MIN_PIXELS", 0)
    monkeypatch.setattr(choice, "TRIAL", choice.Trial(seen_px=1 << 40))


def sparsely(height_px: int, width_px: int) -> Grid:
    return Grid(np.arange(0, height_px, 7), np.arange(0, width_px, 5))


@pytest.mark.parametrize("honour_exif", [True, False])
@pytest.mark.parametrize("name", [f"exif/orientation {number}.jpg" for number in range(1, 9)])
def test_wanted_pixels_are_upright_where_orientation_is_honoured(name, honour_exif, at_once):
    data = assets.good_images()[name]
    whole = images.decode_image(data, honour_exif=honour_exif)
    found = images.decode_image(data, honour_exif=honour_exif, wanted=sparsely)
    assert found.image_HWC.shape == whole.image_HWC.shape
    np.testing.assert_array_equal(found.image_HWC[::7, ::5], whole.image_HWC[::7, ::5])
    assert choice.TRIAL.lead == 1


@pytest.mark.parametrize("name", assets.good_images())
def test_every_good_image_has_its_pixels_and_notes(name, at_once):
    data = assets.good_images()[name]
    whole = images.decode_image(data, honour_exif=True)
    found = images.decode_image(data, honour_exif=True, wanted=sparsely)
    np.testing.assert_array_equal(found.image_HWC[::7, ::5], whole.image_HWC[::7, ::5])
    assert found.notes == whole.notes


def test_a_second_picture_is_noted(at_once):
    frames = [by_opencv(drawn(60, 70, seed)) for seed in range(2)]
    found = images.decode_image(b"".join(frames), honour_exif=True, wanted=sparsely)
    assert found.notes == "first of 2 pictures"
    assert choice.TRIAL.lead == 1


@pytest.mark.parametrize("name", [name for name in assets.broken_files() if name.endswith(".jpg")])
def test_every_broken_image_fails_with_the_same_words(name, at_once):
    data = assets.broken_files()[name].data
    words = []
    for wanted in (None, sparsely):
        with pytest.raises(ItemError) as caught:
            images.decode_image(data, honour_exif=True, wanted=wanted)
        words.append(str(caught.value))
    assert words[0] == words[1]


def test_small_pictures_and_many_wanted_pixels_take_the_ordinary_way(monkeypatch):
    grid = Grid(np.arange(448), np.arange(448))
    assert choice.is_worth(3000, 4000, grid)
    assert not choice.is_worth(1080, 1920, grid)
    assert not choice.is_worth(3000, 4000, Grid(np.arange(2048), np.arange(2048)))
    monkeypatch.setattr(choice, "MIN_PIXELS", 0)
    monkeypatch.setattr(choice, "TRIAL", choice.Trial(seen_px=1 << 40))
    data = by_opencv(drawn(60, 70))
    for grid in None, Grid(np.arange(30), np.arange(30)):
        images.decode_image(data, honour_exif=True, wanted=lambda *_, grid=grid: grid)
    assert choice.TRIAL.seen_px == 1 << 40


def first_due(program: str = "") -> int:
    """Return how many pictures of 12 megapixels a new process decodes in the ordinary way."""
    program += """
from fsf_core.media.images.sparse import choice
trial = choice.Trial()
print([trial.is_due(12_000_000) for _ in range(400)].index(True))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_numba_is_imported_when_the_pictures_before_would_have_paid_for_it():
    assert first_due() == 41


def test_a_process_with_numba_uses_compiled_loops_at_once():
    images.compile_loops()
    assert first_due("import numba") == 0


def test_loops_are_compiled_when_the_pictures_before_would_have_paid_for_it():
    empty = """
import numba
from fsf_core.media.images.sparse import bits
bits.decode_units._cache._cache_file._load_index = dict
"""
    assert first_due(empty) == 291


def test_a_camera_whose_pictures_are_all_refused_is_not_tried_for_ever():
    trial = choice.Trial(seen_px=1 << 40)
    for _ in range(16):
        assert trial.is_due(12_000_000)
        trial.count(decoded=False)
    assert not trial.is_due(12_000_000)


def test_decoding_without_large_pictures_imports_no_compiler():
    program = "import sys; from fsf_core.stages import decode; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_compile_loops_leaves_nothing_to_compile():
    program = """
import numpy as np
from simplejpeg import encode_jpeg
from fsf_core.media import images
from fsf_core.media.images.sparse import bits, decode, pixels, samples
from fsf_core.media.images.sparse.grid import Grid
from fsf_core.media.images.sparse.header import read_baseline

loops = bits.unstuff, bits._fill, bits.decode_units, bits.is_complete, samples.invert, pixels.paint
assert not any(loop.signatures for loop in loops)
images.compile_loops()
for orientation, sampling in enumerate(("444", "422", "420", "440", "Gray"), 4):
    data = encode_jpeg(np.zeros((40, 40, 1 if sampling == "Gray" else 3), np.uint8),
        colorspace="GRAY" if sampling == "Gray" else "RGB", colorsubsampling=sampling)
    grid = Grid(np.arange(9), np.flatnonzero(np.ones(7)))
    assert decode.decode(data, read_baseline(data), grid, orientation) is not None
assert [len(loop.signatures) for loop in loops] == [1] * 6
"""
    subprocess.run([sys.executable, "-c", program], check=True)
