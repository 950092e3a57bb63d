import cv2
import numpy as np
import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.sample_images import DRAWN_SIZES_HW, drawn_images, read_samples, unusual_images


@pytest.fixture(scope="module")
def images():
    return drawn_images()


def test_drawn_images_are_the_same_every_time_and_all_different(images):
    first, second = images, drawn_images.__wrapped__()
    assert [image.image_HWC.shape[:2] for image in first] == list(DRAWN_SIZES_HW)
    assert all(np.array_equal(a.image_HWC, b.image_HWC) for a, b in zip(first, second, strict=True))
    assert len({image.image_HWC.tobytes() for image in first}) == len(first)
    assert len({image.name for image in first}) == len(first)


def test_drawn_images_have_smooth_areas_and_sharp_edges(images):
    for image in images:
        steps = np.abs(np.diff(image.image_HWC.astype(int), axis=1)).max(axis=2)
        assert np.median(steps) < 15  # noise has 85
        assert (steps > 40).mean() > 1e-4
        assert image.image_HWC.std() > 25


def test_samples_are_read_in_name_order(tmp_path):
    for name, value in (("b.png", 200), ("a.png", 100)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 9, 3), value, np.uint8))
    assert [(sample.name, sample.image_HWC[0, 0, 0]) for sample in read_samples(str(tmp_path))] == [
        ("a.png", 100),
        ("b.png", 200),
    ]


def test_a_sample_that_cannot_be_read_is_an_error(tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((8, 9, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ConfigError, match=r"notes\.txt is not an image"):
        read_samples(str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"notes\.txt is not an image"):
        read_samples(str(tmp_path))


@pytest.mark.parametrize("name", ["empty", "gone"])
def test_a_folder_without_samples_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds 0 files, expected a folder of 1 to"):
        read_samples(str(tmp_path / name))


def test_unusual_images_have_what_drawn_ones_lack():
    """A network may branch on any of these: a mean, a share, a maximum, the difference of two channels."""
    drawn = [image.image_HWC for image in drawn_images()]
    unusual = {image.name: image.image_HWC for image in unusual_images()}
    assert all(np.array_equal(image.image_HWC, unusual[image.name]) for image in unusual_images.__wrapped__())

    def casts(images):
        means = np.array([image.reshape(-1, 3).mean(axis=0) / 255 for image in images])
        return [means[:, a] - means[:, b] for a in range(3) for b in range(3) if a != b]

    assert max(cast.max() for cast in casts(drawn)) < 0.4
    assert all(cast.max() > 0.4 for cast in casts(unusual.values()))
    levels = [image.mean() / 255 for image in unusual.values()]
    assert min(levels) < 0.05
    assert max(levels) > 0.95
    assert {*np.unique(unusual["drawn black and white"]).tolist()} == {0, 255}
    assert unusual["drawn dark"].max() < 64
    assert unusual["drawn bright"].min() > 192
    assert unusual["drawn noise"].std() > 70
