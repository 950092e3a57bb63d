from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core import masks
from fsf_core.errors import MaskError
from fsf_core.masks import make_mask, nearest
from fsf_core.masks.class_map import asymmetric_cells, axis

# Float32 sums of the reference round to about 1e-7. OpenCV without IPP also rounds its coordinates to float32, which
# moves its weights by up to 3e-5. Pixels within the tolerance are ties that the reference itself decides by rounding.
TIE = 1e-6 if cv2.ipp.useIPP() else 1e-4


def reference_planes(probabilities, height, width):
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in probabilities])


def reference_softmax(scores):
    shifted = np.exp(scores - scores.max(0))
    return shifted / shifted.sum(0)


def field(kind, classes, height, width, seed):
    """Make class scores that are smooth like a network's, noise, or full of exact ties."""
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
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scale=st.sampled_from([1, 1, 5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_class_map_is_the_argmax_of_the_resized_probabilities(kind, classes, grid, image, scale, seed):
    scale = 1 if classes > 6 else scale
    height, width = scale * image[0], scale * image[1]
    probabilities = reference_softmax(field(kind, classes, *grid, seed))
    mask = make_mask(probabilities, height_px=height, width_px=width)
    planes = reference_planes(probabilities, height, width)
    if kind != "ties":
        assert_equal_outside_ties(mask, planes)
    else:
        chosen = np.take_along_axis(planes, mask.class_map_HW[None].astype(np.intp), 0)[0]
        assert (planes.max(0) - chosen).max() < TIE
    assert np.array_equal(mask.pixels_K, np.bincount(mask.class_map_HW.ravel(), minlength=classes))
    second, first = np.sort(probabilities, axis=0)[-2:]
    assert mask.confidence == pytest.approx(first.mean(dtype=np.float64), abs=1e-9)
    assert mask.uncertain_share == (first - second < np.float32(0.2)).mean()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["smooth", "noise", "ties"]),
    classes=st.one_of(st.integers(1, 6), st.integers(2, 300)),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    corners=st.sampled_from(["half-pixel", "aligned"]),
    spread=st.sampled_from([1e-3, 1, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_class_map_is_the_argmax_of_other_scores_resized_as_torch_does(
    kind, classes, grid, image, corners, spread, seed
):
    scores = field(kind, classes, *grid, seed) * np.float32(spread)
    probabilities = masks.softmax(scores)
    mask = make_mask(
        probabilities, height_px=image[0], width_px=image[1], keep_grid=True, scores_Khw=scores, corners=corners
    )
    planes = torch.nn.functional.interpolate(
        torch.from_numpy(scores[None].astype(np.float64)),
        size=image,
        mode="bilinear",
        align_corners=corners == "aligned",
    )[0].numpy()
    chosen = np.take_along_axis(planes, mask.class_map_HW[None].astype(np.intp), 0)[0]
    assert (planes.max(0) - chosen).max() <= 1e-6 * np.abs(scores).max()
    winner = scores.argmax(0)
    won = np.take_along_axis(probabilities, winner[None], 0)[0]
    second = np.sort(probabilities, axis=0)[-2] if classes > 1 else np.full_like(won, -np.inf)
    assert np.array_equal(mask.pixels_K, np.bincount(mask.class_map_HW.ravel(), minlength=classes))
    assert np.array_equal(mask.grid.winner_hw, winner)
    assert np.array_equal(mask.grid.probability_hw, won)
    assert mask.confidence == pytest.approx(won.mean(dtype=np.float64), abs=1e-9)
    assert mask.uncertain_share == (won - second < np.float32(0.2)).mean()
    means = [won[winner == k].mean(dtype=np.float64) if (winner == k).any() else np.nan for k in range(classes)]
    assert mask.mean_probability_K.tolist() == pytest.approx(means, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (1080, 1921), (3000, 1), (1, 4000), (224, 224), (100, 97)])
def test_class_map_is_the_argmax_at_common_image_sizes(height, width):
    probabilities = reference_softmax(field("smooth", 4, 224, 224, 7))
    mask = make_mask(probabilities, height_px=height, width_px=width)
    assert_equal_outside_ties(mask, reference_planes(probabilities, height, width))


def test_classes_tied_at_a_sample_are_separated_right_behind_it():
    """Two of three classes are equal at a sample whose pixel has a weight of 2e-16; the loser once kept 33 pixels."""
    probabilities = reference_softmax(field("ties", 4, 3, 4, 0))
    mask = make_mask(probabilities, height_px=5, width_px=420)
    planes = reference_planes(probabilities, 5, 420)
    chosen = np.take_along_axis(planes, mask.class_map_HW[None].astype(np.intp), 0)[0]

    assert (planes.max(0) - chosen).max() < TIE


def test_a_class_can_win_between_corners_that_it_loses():
    probabilities = np.array([[[0.6, 0.0]], [[0.4, 0.4]], [[0.0, 0.6]]], np.float32)
    mask = make_mask(probabilities, height_px=1, width_px=30)
    assert mask.class_map_HW[0, [0, 15, 29]].tolist() == [0, 1, 2]
    assert np.isnan(mask.mean_probability_K[1])


def test_the_lowest_class_wins_a_tie():
    probabilities = np.full((3, 4, 4), np.float32(1 / 3))
    assert make_mask(probabilities, height_px=9, width_px=9).pixels_K.tolist() == [81, 0, 0]
    probabilities[0, :, :2] = 0  # now classes 1 and 2 tie on the left
    assert not (make_mask(probabilities, height_px=9, width_px=9).class_map_HW == 2).any()


def test_a_cropped_view_gives_the_same_mask_as_its_copy():
    whole = reference_softmax(field("smooth", 4, 224, 224, 3))
    view = whole[:, 28:196, 5:]
    ours = make_mask(view, height_px=300, width_px=401)
    copied = make_mask(view.copy(), height_px=300, width_px=401)
    assert np.array_equal(ours.class_map_HW, copied.class_map_HW)


@pytest.mark.parametrize(("classes", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (1000, np.uint16)])
def test_class_map_dtype_is_the_narrowest_that_holds_the_classes(classes, dtype):
    wanted = np.arange(classes)[None] % classes
    mask = make_mask(one_hot(wanted, classes), height_px=1, width_px=classes)
    assert mask.class_map_HW.dtype == dtype
    assert np.array_equal(mask.class_map_HW, wanted)


def test_a_thousand_classes_at_16_megapixels_need_no_resized_planes():
    probabilities = reference_softmax(field("noise", 1000, 8, 9, 5) * 3)
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
def test_a_probability_that_is_not_finite_raises_mask_error(value, place):
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
def test_invalid_probabilities_or_sizes_raise_value_error(probabilities, height):
    with pytest.raises(ValueError, match=r"expected|must"):
        make_mask(probabilities, height_px=height, width_px=5)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["smooth", "noise", "speckle"]),
    classes=st.integers(2, 5),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    image=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    seed=st.integers(0, 2**32 - 1),
)
def test_components_equal_opencvs_in_each_class(kind, classes, grid, image, seed):
    if kind == "speckle":  # one cell a pixel: combs, rings and diagonals of every kind
        image = grid
        class_map = np.random.default_rng(seed).integers(0, classes, grid)
        probabilities = one_hot(class_map, classes)
    else:
        probabilities = reference_softmax(field(kind, classes, *grid, seed))
    mask = make_mask(probabilities, height_px=image[0], width_px=image[1])
    for k in range(classes):
        region = (mask.class_map_HW == k).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
        assert mask.components_K[k] == count - 1
        assert mask.largest_component_px_K[k] == stats[1:, cv2.CC_STAT_AREA].max(initial=0)


def test_more_components_than_initially_allocated_are_all_counted():
    class_map = np.zeros((128, 128), int)
    class_map[::2, ::2] = 1
    mask = make_mask(one_hot(class_map, 2), height_px=128, width_px=128)
    assert mask.components_K.tolist() == [1, 64 * 64]
    assert mask.largest_component_px_K.tolist() == [128 * 128 - 64 * 64, 1]


def test_mean_probability_is_over_the_cells_that_a_class_wins():
    probabilities = reference_softmax(field("smooth", 4, 30, 31, 1))
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
def test_measure_gives_the_same_statistics_as_make_mask(classes, shape, block, seed):
    blocks = np.random.default_rng(seed).integers(0, classes, (shape[0], shape[1] // block + 1))
    class_map = blocks.repeat(block, 1)[:, : shape[1]].astype(masks.class_map_dtype(classes))
    drawn = make_mask(one_hot(class_map, classes), height_px=shape[0], width_px=shape[1])
    measured = masks.measure(class_map, num_classes=classes)
    for name in ("class_map_HW", "pixels_K", "components_K", "largest_component_px_K"):
        assert np.array_equal(getattr(measured, name), getattr(drawn, name))
    assert np.isnan(measured.mean_probability_K).all()


@pytest.mark.parametrize("place", [(0, 0), (3, 17), (4, 30)])
def test_a_class_beyond_the_models_raises_mask_error(place):
    class_map = np.zeros((5, 31), np.uint8)
    class_map[place] = 4
    with pytest.raises(MaskError, match="class 4, expected classes below 4"):
        masks.measure(class_map, num_classes=4)


def test_a_float_class_map_raises_value_error():
    with pytest.raises(ValueError, match="expected uint8 or uint16"):
        masks.measure(np.zeros((4, 4), np.float32), num_classes=4)


def test_softmax_propagates_nan_and_infinity_and_gives_zero_to_minus_infinity():
    scores = np.zeros((3, 1, 4), np.float32)
    scores[1, 0] = [-np.inf, np.nan, np.inf, 500]
    got = masks.softmax(scores)[:, 0]
    assert got[:, 0].tolist() == [0.5, 0, 0.5]
    assert np.isnan(got[:, 1]).all()
    assert np.isnan(got[:, 2]).any()
    assert got[:, 3].tolist() == [0, 1, 0]


def test_softmax_of_a_view_equals_softmax_of_its_copy():
    scores = field("noise", 4, 20, 30, 0)[:, 3:15, 2:]
    assert np.array_equal(masks.softmax(scores), masks.softmax(scores.copy()))


@pytest.mark.parametrize(
    ("grid", "image"), [((7, 5), (7, 5)), ((7, 5), (40, 33)), ((56, 40), (9, 100)), ((1, 1), (3, 2))]
)
def test_nearest_takes_the_cell_that_holds_the_centre_of_the_pixel(grid, image):
    """In integers: an edge between two cells that falls on a centre is the next cell's, on every processor."""
    ids_hw = np.random.default_rng(0).integers(0, 300, grid).astype(np.float32)
    found = nearest(ids_hw, height_px=image[0], width_px=image[1], num_classes=300)
    rows, columns = (
        [int(Fraction(2 * at + 1, 2) * cells / size) for at in range(size)]
        for size, cells in zip(image, grid, strict=True)
    )

    assert found.dtype == np.uint16
    assert found.tolist() == ids_hw[np.ix_(rows, columns)].tolist()


def test_asymmetric_cells_are_those_of_torch_for_sizes_that_are_no_fractions_of_each_other():
    sizes = np.random.default_rng(3).integers(1, 2000, (300, 2)).tolist()
    for size, cells in [*sizes, (100, 70), (1, 9), (9, 1), (1999, 667)]:
        rows = np.arange(cells, dtype=np.float32)
        expected = torch.nn.functional.interpolate(torch.from_numpy(rows)[None, None], size=size)[0, 0]
        assert asymmetric_cells(size, cells).tolist() == expected.int().tolist()


FIELDS = {
    "kind": st.sampled_from(["smooth", "noise", "ties"]),
    "grid": st.tuples(st.integers(1, 40), st.integers(1, 40)),
    "image": st.tuples(st.integers(1, 150), st.integers(1, 150)),
    "seed": st.integers(0, 10_000),
}


@settings(max_examples=100, deadline=None)
@given(classes=st.integers(1, 12), scale=st.sampled_from([0.1, 1, 30]), **FIELDS)
def test_logits_give_the_mask_of_their_softmax_to_the_last_bit(kind, classes, grid, image, scale, seed):
    logits = field(kind, classes, *grid, seed) * np.float32(scale)
    size = {"height_px": image[0], "width_px": image[1], "keep_grid": True}
    expected = make_mask(masks.softmax(logits), **size)
    found = make_mask(logits, **size, logits=True)
    for name in ("class_map_HW", "pixels_K", "components_K", "largest_component_px_K", "mean_probability_K"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    assert (found.confidence, found.uncertain_share) == (expected.confidence, expected.uncertain_share)
    assert found.grid.winner_hw.tobytes() == expected.grid.winner_hw.tobytes()
    assert found.grid.probability_hw.tobytes() == expected.grid.probability_hw.tobytes()


@settings(max_examples=100, deadline=None)
@given(**FIELDS)
def test_of_two_classes_the_sign_of_their_interpolated_difference_decides_every_pixel(kind, grid, image, seed):
    p = masks.softmax(field(kind, 2, *grid, seed)).astype(np.float64)
    rows, columns = (axis(*sizes, "half-pixel") for sizes in zip(image, grid, strict=True))
    top, bottom = np.maximum(rows.band - 1, 0), np.minimum(rows.band, grid[0] - 1)
    left, right = np.maximum(columns.band - 1, 0), np.minimum(columns.band, grid[1] - 1)
    down, across = rows.weight.astype(np.float64)[:, None], columns.weight.astype(np.float64)

    def differences(column):
        upper, lower = p[:, top][:, :, column], p[:, bottom][:, :, column]
        return (upper[0] - upper[1]) + ((lower[0] - upper[0]) - (lower[1] - upper[1])) * down

    at_left = differences(left)
    expected = at_left + (differences(right) - at_left) * across < 0
    found = make_mask(p.astype(np.float32), height_px=image[0], width_px=image[1])
    np.testing.assert_array_equal(found.class_map_HW, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_raises_mask_error(value):
    logits = field("smooth", 4, 7, 9, seed=0)
    logits[2, 3, 4] = value
    with pytest.raises(MaskError):
        make_mask(logits, height_px=20, width_px=30, logits=True)


def test_the_mean_probability_is_exact_where_a_class_wins_all_cells():
    probabilities = masks.softmax(np.stack([np.ones((40, 50)), np.random.default_rng(0).random((40, 50))]).astype("f4"))
    expected = sum(Fraction(float(value)) for value in probabilities[0].flat) / 2000
    logits = np.stack([np.ones((40, 50)), np.random.default_rng(0).random((40, 50))]).astype("f4")
    assert make_mask(logits, height_px=8, width_px=8, logits=True).mean_probability_K[0] == float(expected)
