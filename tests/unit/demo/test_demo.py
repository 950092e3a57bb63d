"""The demo's drawn images, video and manifest."""

import csv
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from fsf_core.demo.fruit import SUNBURN, ULCER, WIND_SCARRING
from fsf_core.demo.oranges import (
    CLASS_COLOURS_RGB,
    RECIPES,
    VIDEO_SIZE_HW,
    draw_frames,
    draw_orange,
    write_demo,
    write_images,
    write_video,
)
from fsf_core.manifest import open_manifest

SMALL = {"height_px": 160, "width_px": 192}
HEALTHY_SEED = RECIPES.index(())


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_image_depends_only_on_its_seed():
    image_HWC, label_HW = draw_orange(4, **SMALL)
    again_HWC, again_HW = draw_orange(4, **SMALL)
    assert np.array_equal(image_HWC, again_HWC)
    assert np.array_equal(label_HW, again_HW)
    assert not np.array_equal(image_HWC, draw_orange(10, **SMALL)[0])


def test_image_and_label_have_the_requested_size():
    image_HWC, label_HW = draw_orange(0, height_px=97, width_px=131)
    assert (image_HWC.shape, image_HWC.dtype) == ((97, 131, 3), np.uint8)
    assert (label_HW.shape, label_HW.dtype) == ((97, 131), np.uint8)


@pytest.mark.parametrize("seed", range(24))
def test_an_image_contains_exactly_the_defects_of_its_recipe(seed):
    _, label_HW = draw_orange(seed, **SMALL)
    assert set(np.unique(label_HW)) == {0, *RECIPES[seed % len(RECIPES)]}
    assert (label_HW > 0).mean() < 0.2


def test_twelve_images_contain_every_class_and_a_healthy_orange():
    labels = [draw_orange(seed, **SMALL)[1] for seed in range(1000, 1012)]
    assert set().union(*(np.unique(label_HW).tolist() for label_HW in labels)) == {0, 1, 2, 3}
    assert any(not label_HW.any() for label_HW in labels)


def test_labels_are_where_defects_were_drawn():
    # Dark brown spots are darker than the peel around them.
    image_HWC, label_HW = draw_orange(RECIPES.index((ULCER,)), height_px=384, width_px=384)
    spots = (label_HW == ULCER).astype(np.uint8)
    beside = cv2.dilate(spots, np.ones((25, 25))) - cv2.dilate(spots, np.ones((9, 9)))
    red_HW = image_HWC[..., 2].astype(float)
    assert red_HW[spots > 0].mean() < 0.6 * red_HW[beside > 0].mean()


def test_the_scene_does_not_depend_on_the_size():
    _, small_HW = draw_orange(5, height_px=200, width_px=200)
    _, large_HW = draw_orange(5, height_px=400, width_px=400)
    for class_id in (SUNBURN, ULCER, WIND_SCARRING):
        assert (small_HW == class_id).mean() == pytest.approx((large_HW == class_id).mean(), rel=0.25)


def test_healthy_peel_is_orange_and_labelled_background():
    image_HWC, label_HW = draw_orange(HEALTHY_SEED, **SMALL)
    assert not label_HW.any()
    blue_HW, red_HW = image_HWC[..., 0].astype(int), image_HWC[..., 2].astype(int)
    assert (red_HW - blue_HW > 100).mean() > 0.1


def test_labels_are_palette_pngs_of_class_ids(tmp_path):
    [path] = write_images(tmp_path / "pictures", count=1, seed=2)
    label = Image.open(tmp_path / "labels" / f"{path.stem}.png")
    assert label.mode == "P"
    assert tuple(label.getpalette()[:12]) == sum(CLASS_COLOURS_RGB, ())
    assert np.array_equal(np.asarray(label), draw_orange(2)[1])
    assert cv2.imread(str(path)).shape == (512, 512, 3)


def test_a_video_has_the_documented_frames_size_and_codec(tmp_path):
    with av.open(str(write_video(tmp_path / "clip.mp4", frames=7, fps=12, seed=1))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 12)
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
    assert [frame.shape[:2] for frame in frames] == [VIDEO_SIZE_HW] * 7


def test_oranges_move_in_a_video_and_their_labels_with_them():
    frames = [*draw_frames(9, seed=0, height_px=96, width_px=144)]
    (first_HWC, first_HW), (last_HWC, last_HW) = frames[0], frames[-1]
    assert np.abs(first_HWC.astype(int) - last_HWC).mean() > 5
    assert first_HW.any()
    assert (first_HW != last_HW).any()


def test_a_video_can_be_drawn_from_any_frame():
    *_, (_, expected_HW) = draw_frames(4, seed=2, height_px=96, width_px=144)
    [(_, label_HW)] = draw_frames(1, seed=2, height_px=96, width_px=144, first=3)
    assert np.array_equal(label_HW, expected_HW)


def test_every_frame_of_a_video_has_its_label(tmp_path):
    write_video(tmp_path / "clip.mp4", frames=3, seed=1, labels=tmp_path / "clip")
    drawn = draw_frames(3, seed=1, height_px=VIDEO_SIZE_HW[0], width_px=VIDEO_SIZE_HW[1])
    for index, (_, label_HW) in enumerate(drawn):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "clip" / f"{index:06d}.png")), label_HW)
    assert len([*(tmp_path / "clip").iterdir()]) == 3


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, count=2, frames=3)
    return folder


def test_the_demo_manifest_lists_every_file_by_relative_path(demo):
    with (demo / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["image", "image", "image", "video"]
    assert all((demo / row["uri"]).is_file() for row in rows)
    assert [(demo / row["label_uri"]).exists() for row in rows if row["label_uri"]] == [True, True, True]
    assert [row["id"] for row in rows if not row["label_uri"]] == ["interrupted_copy"]
    media = {name for name in files_of(demo) if name.startswith(("pictures/", "videos/"))}
    assert media == {row["uri"] for row in rows}


def test_the_demo_manifest_can_be_opened_with_its_extra_columns(demo):
    manifest = open_manifest(str(demo / "manifest.csv"))
    assert manifest.items == 4
    assert manifest.extra.names == ["label_uri", "line", "batch"]


def test_exactly_one_file_of_the_demo_is_broken(demo):
    Image.open(demo / "pictures" / "orange_000.jpg").load()
    with pytest.raises(OSError, match="truncated"):
        Image.open(demo / "pictures" / "interrupted_copy.jpg").load()


def test_the_demo_is_byte_for_byte_reproducible(demo, tmp_path):
    write_demo(tmp_path, count=2, frames=3)
    assert files_of(tmp_path) == files_of(demo)


def test_drawing_oranges_does_not_import_torch():
    script = "import sys, fsf_core.demo.oranges; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
