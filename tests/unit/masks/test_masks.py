import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fsf_core import masks
from fsf_core.errors import DecodeError, MaskError
from fsf_core.masks import make_mask, png

# Float32 sums of the reference round to about 1e-7. OpenCV without IPP also rounds its coordinates to float32, which
# moves its weights by up to 3e-5; both kinds of pixel are ties that the reference itself decides by rounding.
TIE = 1e-6 if cv2.ipp.useIPP() else 1e-4


def reference_planes(probabilities, height, width):
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in probabilities])


def plain_softmax(scores):
    shifted = np.exp(scores - scores.max(0))
    return shifted / shifted.sum(0)


def field(kind, classes, height, width, seed):
    """Class scores like a network's, like noise, or with thousands of exact ties."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((classes, height, width)).astype(np.float32)
    if kind == "noise":
        return noise
    if kind == "ties":
        return np.round(noise)
    coarse = rng.standard_normal((classes, 4, 5)).astype(np.float32) * 4
    return (
        np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in coarse]) + noise / 50
    )


def one_hot(class_map, classes):
    return np.ascontiguousarray(np.eye(classes, dtype=np.float32)[class_map].transpose(2, 0, 1))


def assert_equal_outside_ties(mask, planes):
    expected = planes.argmax(0)
    ours = mask.class_map_HW.astype(np.intp)
    differs = expected != ours
    margin = planes.max(0) - np.take_along_axis(planes, ours[None], 0)[0]
    assert margin[differs].max(initial=0) < TIE
    assert differs.mean() < 1e-3 or differs.sum() < 3


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["smooth", "noise", "ties"]),
    classes=st.one_of(st.integers(2, 6), st.integers(2, 300)),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    picture=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scale=st.sampled_from([1, 1, 5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_class_map_is_the_argmax_of_the_resized_probabilities(kind, classes, grid, picture, scale, seed):
    scale = 1 if classes > 6 else scale
    height, width = scale * picture[0], scale * picture[1]
    probabilities = plain_softmax(field(kind, classes, *grid, seed))
    mask = make_mask(probabilities, height_px=height, width_px=width)
    planes = reference_planes(probabilities, height, width)
    if kind != "ties":
        assert_equal_outside_ties(mask, planes)
    else:
        chosen = np.take_along_axis(planes, mask.class_map_HW[None].astype(np.intp), 0)[0]
        assert (planes.max(0) - chosen).max() < TIE
    assert np.array_equal(mask.pixels_K, np.bincount(mask.class_map_HW.ravel(), minlength=classes))


@pytest.mark.parametrize(("height", "width"), [(512, 512), (1080, 1921), (3000, 1), (1, 4000), (224, 224), (100, 97)])
def test_pictures_of_real_sizes_agree_with_the_resized_probabilities(height, width):
    probabilities = plain_softmax(field("smooth", 4, 224, 224, 7))
    mask = make_mask(probabilities, height_px=height, width_px=width)
    assert_equal_outside_ties(mask, reference_planes(probabilities, height, width))


def test_classes_that_tie_at_a_sample_part_right_behind_it():
    """Two of three classes were equal at a sample whose pixel has a weight of 2e-16: the loser kept 33 pixels."""
    probabilities = plain_softmax(field("ties", 4, 3, 4, 0))
    mask = make_mask(probabilities, height_px=5, width_px=420)
    planes = reference_planes(probabilities, 5, 420)
    chosen = np.take_along_axis(planes, mask.class_map_HW[None].astype(np.intp), 0)[0]

    assert (planes.max(0) - chosen).max() < TIE


def test_a_class_that_wins_no_corner_wins_between_them():
    probabilities = np.array([[[0.6, 0.0]], [[0.4, 0.4]], [[0.0, 0.6]]], np.float32)
    mask = make_mask(probabilities, height_px=1, width_px=30)
    assert mask.class_map_HW[0, [0, 15, 29]].tolist() == [0, 1, 2]
    assert np.isnan(mask.mean_probability_K[1])


def test_a_tie_goes_to_the_lowest_class():
    probabilities = np.full((3, 4, 4), np.float32(1 / 3))
    assert make_mask(probabilities, height_px=9, width_px=9).pixels_K.tolist() == [81, 0, 0]
    probabilities[0, :, :2] = 0  # now classes 1 and 2 tie on the left
    assert not (make_mask(probabilities, height_px=9, width_px=9).class_map_HW == 2).any()


def test_a_letterbox_view_gives_the_mask_of_its_copy():
    whole = plain_softmax(field("smooth", 4, 224, 224, 3))
    view = whole[:, 28:196, 5:]
    ours = make_mask(view, height_px=300, width_px=401)
    copied = make_mask(view.copy(), height_px=300, width_px=401)
    assert np.array_equal(ours.class_map_HW, copied.class_map_HW)


@pytest.mark.parametrize(("classes", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (1000, np.uint16)])
def test_the_class_map_is_as_narrow_as_the_classes_allow(classes, dtype):
    wanted = np.arange(classes)[None] % classes
    mask = make_mask(one_hot(wanted, classes), height_px=1, width_px=classes)
    assert mask.class_map_HW.dtype == dtype
    assert np.array_equal(mask.class_map_HW, wanted)


def test_a_thousand_classes_on_sixteen_megapixels_need_no_resized_planes():
    probabilities = plain_softmax(field("noise", 1000, 8, 9, 5) * 3)
    mask = make_mask(probabilities, height_px=4000, width_px=4000)  # resized planes would take 64 GB
    assert mask.pixels_K.sum() == 16_000_000
    rows = np.array([0, 1234, 3999])
    position = np.clip((rows + 0.5) * 8 / 4000 - 0.5, 0, 7)
    before = np.minimum(position.astype(int), 6)
    weight = (position - before)[None, :, None]
    lines = probabilities[:, before] * (1 - weight) + probabilities[:, before + 1] * weight
    planes = np.stack([cv2.resize(plane.astype(np.float32), (4000, 3)) for plane in lines])
    agreement = (planes.argmax(0) == mask.class_map_HW[rows]).mean()
    assert agreement > 0.999


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 3, 1), (3, 5, 6)])
def test_a_probability_that_is_no_number_is_an_error_of_the_item(value, place):
    probabilities = np.full((4, 6, 7), np.float32(0.25))
    probabilities[place] = value
    with pytest.raises(MaskError, match="NaN or infinity"):
        make_mask(probabilities, height_px=3, width_px=3)


@pytest.mark.parametrize(
    ("probabilities", "height"),
    [
        (np.zeros((4, 4), np.float32), 5),
        (np.zeros((4, 4, 4)), 5),
        (np.zeros((4, 0, 4), np.float32), 5),
        (np.zeros((4, 4, 4), np.float32), 0),
    ],
)
def test_probabilities_of_the_wrong_kind_are_refused(probabilities, height):
    with pytest.raises(ValueError, match=r"expected|must"):
        make_mask(probabilities, height_px=height, width_px=5)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["smooth", "noise", "speckle"]),
    classes=st.integers(2, 5),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    picture=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    seed=st.integers(0, 2**32 - 1),
)
def test_components_equal_those_opencv_finds_in_each_class(kind, classes, grid, picture, seed):
    if kind == "speckle":  # one cell a pixel: combs, rings and diagonals of every kind
        picture = grid
        class_map = np.random.default_rng(seed).integers(0, classes, grid)
        probabilities = one_hot(class_map, classes)
    else:
        probabilities = plain_softmax(field(kind, classes, *grid, seed))
    mask = make_mask(probabilities, height_px=picture[0], width_px=picture[1])
    for k in range(classes):
        region = (mask.class_map_HW == k).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
        assert mask.components_K[k] == count - 1
        assert mask.largest_component_px_K[k] == stats[1:, cv2.CC_STAT_AREA].max(initial=0)


def test_more_components_than_the_first_room_holds_are_all_counted():
    class_map = np.zeros((128, 128), int)
    class_map[::2, ::2] = 1
    mask = make_mask(one_hot(class_map, 2), height_px=128, width_px=128)
    assert mask.components_K.tolist() == [1, 64 * 64]
    assert mask.largest_component_px_K.tolist() == [128 * 128 - 64 * 64, 1]


def test_mean_probability_is_taken_over_the_cells_that_a_class_wins():
    probabilities = plain_softmax(field("smooth", 4, 30, 31, 1))
    probabilities[3] = 0
    winner = probabilities.argmax(0)
    expected = [
        probabilities[k][winner == k].astype(np.float64).mean() if (winner == k).any() else np.nan for k in range(4)
    ]
    mask = make_mask(probabilities, height_px=50, width_px=50)
    np.testing.assert_allclose(mask.mean_probability_K, expected, rtol=1e-12)
    assert np.isnan(mask.mean_probability_K[3])


@pytest.mark.parametrize("classes", [1, 2, 4, 150])
def test_softmax_equals_numpys(classes):
    scores = field("noise", classes, 37, 41, 0) * 12
    exact = np.exp((scores - scores.max(0)).astype(np.float64))
    np.testing.assert_allclose(masks.softmax(scores), exact / exact.sum(0), rtol=1e-6, atol=1e-37)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 400),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    block=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_class_map_of_the_model_is_measured_like_one_that_was_drawn_here(classes, shape, block, seed):
    blocks = np.random.default_rng(seed).integers(0, classes, (shape[0], shape[1] // block + 1))
    class_map = blocks.repeat(block, 1)[:, : shape[1]].astype(masks.class_map_dtype(classes))
    drawn = make_mask(one_hot(class_map, classes), height_px=shape[0], width_px=shape[1])
    measured = masks.measure(class_map, num_classes=classes)
    for name in ("class_map_HW", "pixels_K", "components_K", "largest_component_px_K"):
        assert np.array_equal(getattr(measured, name), getattr(drawn, name))
    assert np.isnan(measured.mean_probability_K).all()


@pytest.mark.parametrize("place", [(0, 0), (3, 17), (4, 30)])
def test_a_class_map_with_a_class_too_many_is_an_error_of_the_item(place):
    class_map = np.zeros((5, 31), np.uint8)
    class_map[place] = 4
    with pytest.raises(MaskError, match="class 4, expected classes below 4"):
        masks.measure(class_map, num_classes=4)


def test_a_class_map_of_floats_is_refused():
    with pytest.raises(ValueError, match="expected uint8 or uint16"):
        masks.measure(np.zeros((4, 4), np.float32), num_classes=4)


def test_softmax_keeps_what_is_no_number_and_gives_nothing_to_minus_infinity():
    scores = np.zeros((3, 1, 4), np.float32)
    scores[1, 0] = [-np.inf, np.nan, np.inf, 500]
    got = masks.softmax(scores)[:, 0]
    assert got[:, 0].tolist() == [0.5, 0, 0.5]
    assert np.isnan(got[:, 1]).all()
    assert np.isnan(got[:, 2]).any()
    assert got[:, 3].tolist() == [0, 1, 0]


def test_softmax_of_a_view_is_the_softmax_of_its_copy():
    scores = field("noise", 4, 20, 30, 0)[:, 3:15, 2:]
    assert np.array_equal(masks.softmax(scores), masks.softmax(scores.copy()))


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1000])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 8), (33, 129)])
def test_a_mask_survives_the_png(classes, shape):
    rng = np.random.default_rng(classes)
    blocks = rng.integers(0, classes, (shape[0] // 5 + 1, shape[1] // 5 + 1)).repeat(5, 0).repeat(5, 1)
    class_map = blocks[: shape[0], : shape[1]].astype(np.uint8 if classes < 256 else np.uint16)
    palette = masks.voc_palette(classes)
    encoded = masks.encode_png(class_map, palette)
    assert np.array_equal(masks.decode_png(encoded), class_map)
    by_opencv = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    picture = Image.open(io.BytesIO(encoded))
    if classes <= 256:
        assert np.array_equal(by_opencv[..., ::-1], palette[class_map])
        assert np.array_equal(np.asarray(picture.convert("RGB")), palette[class_map])
        assert picture.mode == "P"
    else:
        assert np.array_equal(by_opencv, class_map)
        assert np.array_equal(np.asarray(picture), class_map)


def test_a_smooth_mask_is_smaller_than_opencv_and_pillow_make_it():
    class_map = make_mask(plain_softmax(field("smooth", 4, 224, 224, 7)), height_px=512, width_px=512).class_map_HW
    by_pillow = io.BytesIO()
    Image.fromarray(class_map).save(by_pillow, "PNG", compress_level=6)
    ours = len(masks.encode_png(class_map, masks.voc_palette(4)))
    assert ours < len(by_pillow.getvalue())
    assert ours < len(cv2.imencode(".png", class_map)[1])


def test_the_same_mask_gives_the_same_bytes_on_every_machine():
    y, x = np.mgrid[:60, :70]
    class_map = (((x - 30) ** 2 + (y - 25) ** 2 < 400) + (x + y > 90)).astype(np.uint8)
    encoded = masks.encode_png(class_map, masks.voc_palette(4))
    assert encoded.hex() == GOLDEN_PNG


@pytest.mark.parametrize(
    ("mode", "values", "options"),
    [
        ("P", np.arange(6, dtype=np.uint8), {}),
        ("L", np.arange(6, dtype=np.uint8), {}),
        ("L", np.array([0, 1, 2, 3, 2, 255], np.uint8), {}),
        ("1", np.array([0, 1, 0, 1, 1, 0], np.uint8), {}),
        ("I;16", np.array([0, 1, 300, 65535, 4, 5], np.uint16), {}),
    ],
)
def test_masks_of_other_programs_are_read(mode, values, options):
    values = values.reshape(2, 3)
    if mode == "1":
        picture = Image.fromarray(values * 255).convert("1")
    elif mode == "P":
        picture = Image.frombytes("P", (3, 2), values.tobytes())
        picture.putpalette([9, 9, 9] * 6)
    else:
        picture = Image.fromarray(values)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", **options)
    assert np.array_equal(masks.decode_png(encoded.getvalue()), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_keeps_its_class_numbers(bits):
    class_map = (np.arange(35).reshape(5, 7) % (1 << bits)).astype(np.uint8)
    indexed = masks.encode_png(class_map, masks.voc_palette(1 << bits))
    header = bytearray(indexed[12:29])
    header[13] = 0  # colour type: grey
    end_of_palette = indexed.index(b"IDAT") - 4
    grey = indexed[:8] + png._chunk(b"IHDR", bytes(header[4:])) + indexed[end_of_palette:]
    assert np.array_equal(masks.decode_png(grey), class_map)


@pytest.mark.parametrize("spoil", [lambda png: png[: len(png) // 2], lambda _: b"\xff\xd8\xff\xe0 jpeg", lambda _: b""])
def test_what_is_no_png_is_an_error_of_the_item(spoil):
    png = masks.encode_png(np.random.default_rng(0).integers(0, 4, (50, 50)).astype(np.uint8), masks.voc_palette(4))
    with pytest.raises(DecodeError, match="expected"):
        masks.decode_png(spoil(png))


def test_a_png_of_colours_is_not_taken_for_classes():
    encoded = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(DecodeError, match="RGB"):
        masks.decode_png(encoded)


def test_a_class_without_a_colour_is_refused():
    class_map = np.array([[0, 4]], np.uint8)
    with pytest.raises(ValueError, match="colour"):
        masks.encode_png(class_map, masks.voc_palette(4))
    with pytest.raises(ValueError, match="colour"):
        masks.colour_map(class_map, masks.voc_palette(4))


def test_the_palette_is_pascal_vocs():
    palette = masks.voc_palette(256)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128)}
    known |= {7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 21: (128, 64, 128)}
    known |= {255: (224, 224, 192)}
    assert {k: tuple(palette[k].tolist()) for k in known} == known


def test_a_thousand_classes_have_a_thousand_colours():
    palette = masks.voc_palette(1000)
    assert len(np.unique(palette, axis=0)) == 1000
    assert np.array_equal(palette[:256], masks.voc_palette(256))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_overlay_blends_six_to_four_and_can_leave_the_background(dtype):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    class_map = rng.integers(0, 4, (20, 30)).astype(dtype)
    palette = masks.voc_palette(4)
    expected = cv2.addWeighted(image, 0.6, np.ascontiguousarray(palette[class_map][..., ::-1]), 0.4, 0)
    assert np.array_equal(masks.colour_map(class_map, palette), palette[class_map])
    assert np.array_equal(masks.overlay(image, class_map, palette), expected)
    expected[class_map == 0] = image[class_map == 0]
    assert np.array_equal(masks.overlay(image, class_map, palette, clear_background=True), expected)


def test_an_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match="one size"):
        masks.overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), masks.voc_palette(2))


def test_the_count_table_is_the_one_the_authors_print():
    table = masks.count_table(["background", "Sunburn", "Ulcer", "Wind scarring"], np.array([250000, 12144, 0, 1]))
    assert table.splitlines() == [
        "---------------------------------------------------------------",
        "|                      Key |           Value |           Ratio|",
        "---------------------------------------------------------------",
        "|               background |          250000 |          95.37%|",
        "---------------------------------------------------------------",
        "|                  Sunburn |           12144 |           4.63%|",
        "---------------------------------------------------------------",
        "|            Wind scarring |               1 |           0.00%|",
        "---------------------------------------------------------------",
    ]


def test_importing_compiles_nothing_and_after_warming_up_nothing_is_left_to_compile():
    program = """
import numpy as np
from fsf_core import masks
from fsf_core.masks import kernels

loops = kernels.draw, kernels.measure, kernels.softmax_planes, kernels.grid_winners
assert not any(loop.signatures for loop in loops)
masks.warm_up()

answer = np.frombuffer(b"." + np.zeros((2, 9, 9), np.float32).tobytes(), np.uint8)[1:].view(np.float32)
scores = answer.reshape(2, 9, 9)  # read-only and at an odd address, as a slice of an Arrow buffer can be
found = masks.make_mask(masks.softmax(scores)[:, 1:8, 2:], height_px=4, width_px=4)
masks.measure(np.frombuffer(found.class_map_HW.tobytes(), np.uint8).reshape(4, 4), num_classes=2)
assert [len(loop.signatures) for loop in loops] == [1, 1, 1, 1]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


GOLDEN_PNG = (
    "89504e470d0a1a0a0000000d49484452000000460000003c0203000000a6f924b00000000c504c544500000080000000800080800038ec"
    "0480000000f7494441547801ede051922449922ccba23258fceb472c4897903fbe4affc925d882e2c3ff23003c4d4dd53cd2cdd6807111"
    "17711117711117b1bbdd6ecd14dd073e4dd1fd416986d8145d35c4e653f761884db36b76413154bbb80816c362175443b18b8ba0999a2e"
    "2e4271a8bab8888b38ab71d6e2a48893459c5471d2c4bb42bc5b88779578d7084f87878278b320584dab8a78d3103c0c4fc526f831fc58"
    "6ce27fd526781a1e9a4d6c56bbb5e862f3a5fbb6e862f3d43d545d747ff15c355d74dff852ec6277bfdf578b5dfcaa76f1abd9c54b31c4"
    "cb6288976a889766884331c56131c5a19ae2d04c31158798168798aa434ccde11fca101cc6e075a29d0000000049454e44ae426082"
)
