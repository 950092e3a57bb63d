"""Random views: image and label stay together, and the label says what share of a pixel a class covers."""

import numpy as np
import pytest

from fsf_core.demo import augment
from fsf_core.demo.augment import INPUT_PX, class_shares, random_view

CLASSES = 4


def blocks(height_px=300, width_px=400):
    """Return an example whose colour is its class, in large blocks of different classes."""
    rng = np.random.default_rng(0)
    label_HW = np.kron(rng.integers(0, CLASSES, (6, 8)), np.ones((height_px // 6, width_px // 8))).astype(np.uint8)
    return np.dstack([label_HW * 10, label_HW * 40, label_HW * 80, label_HW])


@pytest.mark.parametrize("seed", range(20))
def test_an_image_and_its_label_are_cut_and_turned_alike(seed, monkeypatch):
    monkeypatch.setattr(augment, "_relit", lambda image_SSC, *_: image_SSC)

    image_CSS, shares_KSS = random_view(blocks(), np.random.default_rng(seed), classes=CLASSES, towards=seed % CLASSES)

    pure_SS = shares_KSS.max(axis=0) > 0.999
    expected_SS = shares_KSS.argmax(axis=0)
    assert pure_SS.mean() > 0.8
    for channel, step in enumerate((80, 40, 10)):  # RGB
        wrong_SS = np.abs(image_CSS[channel] * 255 - expected_SS * step) > 1
        # The image is sampled at points, the label by area: at borders they may differ by a pixel.
        assert (wrong_SS & pure_SS).mean() < 0.03


def test_views_are_inputs_of_the_network():
    for seed in range(10):
        image_CSS, shares_KSS = random_view(blocks(), np.random.default_rng(seed), classes=CLASSES)
        assert (image_CSS.shape, image_CSS.dtype) == ((3, INPUT_PX, INPUT_PX), np.float32)
        assert (shares_KSS.shape, shares_KSS.dtype) == ((CLASSES, INPUT_PX, INPUT_PX), np.float32)
        assert 0 <= image_CSS.min() <= image_CSS.max() <= 1
        assert np.allclose(shares_KSS.sum(axis=0), 1, atol=0.01)


def test_a_view_depends_on_its_generator_alone():
    first, again, other = (random_view(blocks(), np.random.default_rng(seed), classes=CLASSES) for seed in (1, 1, 2))

    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_a_view_towards_a_class_contains_it():
    example_HWC = np.zeros((300, 400, 4), np.uint8)
    example_HWC[250:262, 30:42, 3] = 2
    contained = [
        random_view(example_HWC, np.random.default_rng(seed), classes=CLASSES, towards=2)[1][2].max() > 0
        for seed in range(40)
    ]

    assert all(contained)


def test_light_changes_and_stays_within_range():
    changed = [
        augment._relit(np.full((224, 224, 3), 120, np.float32), np.random.default_rng(seed), 0) for seed in range(40)
    ]

    assert len({round(float(image_SSC.mean()), 3) for image_SSC in changed}) == 40
    assert max(abs(image_SSC.mean() - 120) for image_SSC in changed) > 30
    assert all(image_SSC.min() >= 0 and image_SSC.max() <= 255 for image_SSC in changed)


@pytest.mark.parametrize("size_hw", [(224, 224), (512, 512), (480, 640), (97, 131)])
def test_the_shares_of_a_class_are_its_share_of_the_label(size_hw):
    label_HW = np.zeros(size_hw, np.uint8)
    label_HW[size_hw[0] // 4 : size_hw[0] // 2, size_hw[1] // 4 :] = 3

    shares_SSK = class_shares(label_HW, CLASSES)

    assert shares_SSK[..., 3].mean() == pytest.approx((label_HW == 3).mean(), rel=0.02)
    assert shares_SSK[..., 1:3].max() == 0
    assert np.allclose(shares_SSK.sum(axis=-1), 1, atol=0.01)


def test_near_views_are_whole_and_as_drawn_more_often_than_wide_ones():
    example_HWC = blocks()
    drawn_SS = class_shares(example_HWC[..., 3], CLASSES).argmax(axis=-1)
    whole, changes = {}, {}
    for variety in (augment.WIDE, augment.NEAR):
        views = [
            random_view(example_HWC, np.random.default_rng(seed), classes=CLASSES, variety=variety)
            for seed in range(60)
        ]
        turned = [np.rot90(np.fliplr(drawn_SS) if flip else drawn_SS, k) for flip in (0, 1) for k in range(4)]
        whole[variety] = sum(any((s.argmax(axis=0) == one).all() for one in turned) for _, s in views)
        changes[variety] = np.std([image.mean() for image, _ in views])

    assert whole[augment.NEAR] > whole[augment.WIDE] > 20
    assert changes[augment.NEAR] < changes[augment.WIDE]
