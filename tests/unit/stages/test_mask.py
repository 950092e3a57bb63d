"""The mask stage makes of each kind of output what it means: softmax for logits alone, nearest cells for class ids."""

import sys

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fsf_core import masks
from fsf_core.media.images import ImageLimits
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES, Profile, place, shown
from fsf_core.stages import units
from fsf_core.stages.mask import MaskSettings, mask
from fsf_core.stages.units import Frame, Unit

RNG = np.random.default_rng(5)
GRID = (20, 24)
SIZE = (52, 64)
"""No centre of a pixel is between two cells, where Pillow's nearest, the reference, depends on its float rounding."""
LOGITS = cv2.resize(RNG.normal(0, 4, (4, 5, 3)).astype(np.float32), GRID[::-1]).transpose(2, 0, 1)
LOGITS = np.ascontiguousarray(np.concatenate([LOGITS, LOGITS[:1] + 0.5]))
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(0)).astype(np.float32)
IDS = LOGITS.argmax(0).astype(np.float32)[None]


def row_of(
    output,
    kind,
    *,
    mask_size="original",
    profile=PROFILES["fastsegformer"],
    min_region_px=None,
    uncovered_id=None,
    **meaning,
):
    frame = Frame(frame_index=0, pts_s=None, height_px=SIZE[0], width_px=SIZE[1])
    unit = Unit(item_id="a", uri="a", frames=[frame], inputs_HWC=[np.zeros((224, 224, 3), np.uint8)])
    table = units.to_table([unit], extra=pa.schema([])).drop_columns(["inputs"])
    table = table.append_column("outputs", pa.array([output.tobytes()], pa.large_binary()))
    settings = MaskSettings(
        profile=profile,
        num_classes=len(LOGITS) if kind == "class_map" else len(output),
        palette_K3=np.asarray(masks.voc_colours(max(len(LOGITS), len(output))), np.uint8),
        grid_hw=output.shape[1:],
        output=Output(kind=kind, **meaning),
        mask_size=mask_size,
        limits=ImageLimits(max_bytes=1, max_pixels=1, max_side_px=1),
        clear_background=False,
        min_region_px=min_region_px,
        uncovered_id=uncovered_id,
    )
    [row] = mask(table, settings).to_pylist()
    return row


def class_map(row):
    return masks.decode_png(row["masks"][0])


def by_hand(probabilities_KHW, size=SIZE):
    planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in probabilities_KHW]
    return np.argmax(planes, axis=0)


def test_probabilities_take_no_second_softmax():
    """Twice applied, it moves borders and halves `mean_probability`."""
    row = row_of(PROBABILITIES, "probabilities")
    won = PROBABILITIES.argmax(0)
    means = [PROBABILITIES[k][won == k].mean() for k in range(len(LOGITS)) if (won == k).any()]

    assert (class_map(row) != by_hand(PROBABILITIES)).mean() < 1e-3  # ties
    assert [mean for mean in row["mean_probability"] if not np.isnan(mean)] == pytest.approx(means)
    assert row["pixels"] == np.bincount(class_map(row).ravel(), minlength=len(LOGITS)).tolist()


def test_a_sigmoid_per_class_is_compared_as_it_is():
    sigmoids = (1 / (1 + np.exp(-LOGITS))).astype(np.float32)

    assert (class_map(row_of(sigmoids, "probabilities")) != by_hand(sigmoids)).mean() < 1e-3


def test_logits_take_one_softmax():
    assert class_map(row_of(LOGITS, "logits")).tolist() == class_map(row_of(PROBABILITIES, "probabilities")).tolist()


@pytest.mark.parametrize("mask_size", ["original", "model"])
def test_a_class_map_goes_to_the_nearest_cell_and_has_no_probability(mask_size):
    row = row_of(IDS, "class_map", mask_size=mask_size)
    size = SIZE if mask_size == "original" else GRID
    expected = np.asarray(Image.fromarray(IDS[0].astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST))

    assert class_map(row).tolist() == expected.tolist()
    assert np.isnan(row["mean_probability"]).all()
    assert row["pixels"] == np.bincount(expected.ravel(), minlength=len(LOGITS)).tolist()


def test_asymmetric_cells_are_those_of_torch():
    expected = torch.nn.functional.interpolate(torch.from_numpy(IDS[None]), size=SIZE)[0, 0]

    assert class_map(row_of(IDS, "class_map", corners="asymmetric")).tolist() == expected.tolist()


def test_the_padding_of_a_letterbox_is_cropped_from_a_class_map_too():
    grid = np.full((1, 224, 224), 3, np.float32)
    grid[0, 21:203, :] = 1  # 64x52 pixels become 224x182, 21 rows below the top

    assert np.unique(class_map(row_of(grid, "class_map", profile=PROFILES["fastsegformer-train"]))).tolist() == [1]


@pytest.mark.parametrize("value", [4, -1, 0.5, np.nan, 255, np.inf])
def test_a_number_that_is_no_class_is_a_failure_of_its_frame(value):
    ids = IDS.copy()
    ids[0, 3, 4] = value
    row = row_of(ids, "class_map")

    assert (row["failed_stage"], row["error_type"], row["masks"]) == ("mask", "MaskError", [])
    assert f"found {value:g} in the class map, expected whole numbers from 0 to 3" in row["error_message"]


def figures_by_hand(probabilities_KHW):
    first, second = np.sort(probabilities_KHW, axis=0)[[-1, -2]]
    return first.mean(dtype=np.float64), (first - second < np.float32(0.2)).mean()


def figures(row):
    return row["frames"][0]["confidence"], row["frames"][0]["uncertain_share"]


@pytest.mark.parametrize("mask_size", ["original", "model"])
def test_confidence_and_uncertain_share_equal_those_of_numpy_and_do_not_depend_on_the_size_of_the_mask(mask_size):
    assert figures(row_of(LOGITS, "logits", mask_size=mask_size)) == pytest.approx(
        figures_by_hand(PROBABILITIES), abs=1e-6
    )
    binary = np.stack([np.float32(1 - 2.0**-24) - PROBABILITIES[1], PROBABILITIES[1]])
    for kind in ("binary_logit", "binary_probability"):
        found = row_of(binary, kind, mask_size=mask_size)
        assert figures(found) == pytest.approx(figures_by_hand(binary), abs=1e-6)


def test_a_letterbox_counts_the_cells_of_the_image_alone():
    padded = np.zeros((4, 224, 224), np.float32)  # all classes equal: a probability of 0.25, and as uncertain as can be
    padded[2, 21:203, :] = 10  # 64x52 pixels become 224x182, 21 rows below the top

    found = figures(row_of(padded, "logits", profile=PROFILES["fastsegformer-train"]))

    assert found == pytest.approx((1 / (1 + 3 * np.exp(-10)), 0), abs=1e-6)


def test_a_class_map_has_no_confidence():
    assert figures(row_of(IDS, "class_map")) == (None, None)


def test_one_class_is_certain():
    assert figures(row_of(np.zeros((1, *GRID), np.float32), "logits")) == (1, 0)


@pytest.mark.parametrize("mask_size", ["original", "model"])
@pytest.mark.parametrize("kind", ["logits", "class_map"])
def test_regions_add_up_to_the_statistics_of_their_classes(kind, mask_size):
    row = row_of(LOGITS if kind == "logits" else IDS, kind, mask_size=mask_size, min_region_px=1)
    regions = row["regions"]

    for class_id in range(1, len(LOGITS)):
        chosen = [region for region in regions if region["class_id"] == class_id]
        assert sum(region["pixels"] for region in chosen) == row["pixels"][class_id]
        assert len(chosen) == row["components"][class_id]
    assert [region["region"] for region in regions] == [*range(len(regions))]
    assert {region["frame_index"] for region in regions} == {0}
    assert {region["class_id"] for region in regions} == {k for k in range(1, 4) if row["pixels"][k]}
    assert {region["mean_probability"] is None for region in regions} == {kind == "class_map"}
    assert all(0.25 < region["mean_probability"] <= 1 for region in regions if kind == "logits")


def test_regions_are_numbered_without_those_that_are_too_small():
    everything = row_of(LOGITS, "logits", min_region_px=1)["regions"]
    smallest = sorted(region["pixels"] for region in everything)[1]

    found = row_of(LOGITS, "logits", min_region_px=smallest)["regions"]

    expected = [region for region in everything if region["pixels"] >= smallest]
    assert len(found) == len(everything) - 1
    assert found == [region | {"region": number} for number, region in enumerate(expected)]
    assert "regions" not in row_of(LOGITS, "logits")


def by_torch(scores_KHW, size=SIZE, *, aligned=False):
    planes = torch.nn.functional.interpolate(
        torch.from_numpy(scores_KHW[None]), size=size, mode="bilinear", align_corners=aligned
    )
    return planes[0].numpy()


@pytest.mark.parametrize("corners", ["half-pixel", "aligned"])
@pytest.mark.parametrize("size", [SIZE, (20, 24), (7, 9), (211, 30)], ids=str)
def test_resized_logits_decide_the_class_map_and_the_probabilities_on_the_grid_its_figures(size, corners, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SIZE", size)
    planes = by_torch(LOGITS, size, aligned=corners == "aligned")
    row = row_of(LOGITS, "logits", resized="logits", corners=corners, min_region_px=1)
    usual = row_of(LOGITS, "logits", min_region_px=1)
    found = class_map(row)
    chosen = np.take_along_axis(planes, found[None].astype(np.intp), axis=0)[0]

    assert (planes.max(0) - chosen).max() < 1e-4  # ties
    assert (found != planes.argmax(0)).mean() < 1e-3
    assert figures(row) == pytest.approx(figures(usual), abs=1e-12)
    assert row["mean_probability"] == pytest.approx(usual["mean_probability"], nan_ok=True)


def test_resized_logits_are_others_than_resized_probabilities():
    assert (class_map(row_of(LOGITS, "logits", resized="logits")) != class_map(row_of(LOGITS, "logits"))).mean() > 0.003


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.73])
@pytest.mark.parametrize("resized", ["logits", "probabilities"])
def test_the_threshold_of_one_channel_holds_for_what_is_resized(resized, threshold):
    """Of a resized logit it is the threshold's own logit: 0 for one half."""
    logit = (LOGITS[1] - LOGITS[0] / 2).astype(np.float32)
    foreground = (1 / (1 + np.exp(-logit))).astype(np.float32)
    output = np.stack([np.full_like(logit, -(2.0**-24)), logit])
    limit = np.log(threshold / (1 - threshold))
    if resized == "probabilities":
        output, limit = np.stack([np.float32(1 - 2.0**-24) - foreground, foreground]), threshold
    plane = by_torch(output)[1]
    row = row_of(output, "binary_logit", resized=resized, threshold=threshold, min_region_px=1)
    cells = output[1] >= limit

    assert ((class_map(row) == 1) == (plane >= limit))[np.abs(plane - limit) > 1e-5].all()
    assert row["mean_probability"][1] == pytest.approx(foreground[cells].mean(), abs=1e-6)
    assert row["mean_probability"][0] == pytest.approx((1 - foreground[~cells]).mean(), abs=1e-6)
    assert figures(row)[0] == pytest.approx(np.where(cells, foreground, 1 - foreground).mean(), abs=1e-6)
    assert figures(row)[1] == pytest.approx((np.abs(2 * foreground - 1) < 0.2).mean(), abs=2e-3)
    assert sum(region["pixels"] for region in row["regions"]) == row["pixels"][1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("resized", ["logits", "probabilities"])
def test_logits_that_are_no_numbers_are_a_failure_of_their_frame(resized, value):
    logits = LOGITS.copy()
    logits[2, 3, 4] = value
    row = row_of(logits, "logits", resized=resized)
    expected = (None, []) if (resized, value) == ("probabilities", -np.inf) else ("mask", [])

    assert row["failed_stage"] == expected[0]  # minus infinity is a probability of 0, and no logit to interpolate
    assert (row["masks"] == []) == (expected[0] == "mask")


CROP = Profile(
    name="custom",
    height_px=14,
    width_px=14,
    mode="short-side",
    short_side_px=16,
    interpolation="linear",
    honour_exif=True,
    cropped=True,
    uncovered="rest",
)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "class_map"])
def test_pixels_outside_of_the_crop_have_the_class_that_was_named(kind):
    """The crop's scores stay in their place, and the figures are those of the crop."""
    output = {"logits": LOGITS, "probabilities": PROBABILITIES, "class_map": IDS}[kind][:, :14, :14]
    box = place(*SIZE, CROP)
    row = row_of(output, kind, profile=CROP, uncovered_id=3, min_region_px=1)

    cells = PROBABILITIES[:, :14, :14] if kind == "logits" else output
    below, right = box.resized_hw[0] - 14 - box.hidden_top_px, box.resized_hw[1] - 14 - box.hidden_left_px
    whole = np.pad(cells, ((0, 0), (box.hidden_top_px, below), (box.hidden_left_px, right)), mode="edge")
    expected = np.full(SIZE, 3)
    inside = shown(box, *SIZE, CROP)
    if kind == "class_map":
        expected[inside] = masks.nearest(whole[0], height_px=SIZE[0], width_px=SIZE[1], num_classes=len(LOGITS))[inside]
    else:
        expected[inside] = by_hand(whole)[inside]
    assert 0 < expected[inside].size < expected.size
    np.testing.assert_array_equal(class_map(row), expected)
    assert row["pixels"] == np.bincount(expected.ravel(), minlength=len(LOGITS)).tolist()
    if kind != "class_map":
        assert row["frames"][0]["confidence"] == pytest.approx(cells.max(0).mean(), rel=1e-5)
    assert class_map(row_of(output, kind, profile=CROP, uncovered_id=3, mask_size="model")).shape == (14, 14)
