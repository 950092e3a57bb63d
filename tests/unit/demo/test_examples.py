"""What the demo's model is trained on: drawn once, and never what it is measured on."""

import numpy as np

from fsf_core.demo.closeup import draw_closeup
from fsf_core.demo.examples import FIRST_SEED, HELD_OUT_SEED, draw_example, draw_examples, draw_held_out
from fsf_core.demo.oranges import draw_orange

SMALL = {"height_px": 160, "width_px": 192}


def test_a_closeup_depends_only_on_its_seed_and_has_exact_labels():
    image_HWC, label_HW = draw_closeup(11, **SMALL)
    again_HWC, again_HW = draw_closeup(11, **SMALL)

    assert (image_HWC.shape, label_HW.shape) == ((160, 192, 3), (160, 192))
    assert np.array_equal(image_HWC, again_HWC)
    assert np.array_equal(label_HW, again_HW)
    assert not np.array_equal(image_HWC, draw_closeup(12, **SMALL)[0])


def test_closeups_have_every_defect_and_some_have_none():
    labels = [draw_closeup(seed, **SMALL)[1] for seed in range(30)]

    assert set().union(*(np.unique(label_HW).tolist() for label_HW in labels)) == {0, 1, 2, 3}
    assert any(not label_HW.any() for label_HW in labels)


def test_examples_are_of_three_kinds_and_hold_the_class_in_the_last_channel():
    drawn = [draw_example(index, seed=0) for index in (0, 1, 6)]

    assert [example_HWC.shape for example_HWC in drawn] == [(512, 512, 4), (512, 512, 4), (320, 480, 4)]
    image_HWC, label_HW = draw_orange(FIRST_SEED)
    assert np.array_equal(drawn[0], np.dstack([image_HWC, label_HW]))


def test_examples_are_drawn_once_also_after_an_interruption(tmp_path):
    (tmp_path / "0-000000.npy").write_bytes(b"kept")
    paths = draw_examples(tmp_path, 2, seed=0, processes=1)

    assert [path.name for path in paths] == ["0-000000.npy", "0-000001.npy"]
    assert paths[0].read_bytes() == b"kept"
    assert np.array_equal(np.load(paths[1])[..., 3], draw_closeup(FIRST_SEED + 1, height_px=512, width_px=512)[1])
    assert [*tmp_path.glob("*.partial")] == []


def test_held_out_drawings_are_of_no_training_and_of_no_demo():
    [(image_HWC, label_HW)] = draw_held_out(1)

    expected_HWC, expected_HW = draw_orange(HELD_OUT_SEED)
    assert np.array_equal(image_HWC, expected_HWC)
    assert np.array_equal(label_HW, expected_HW)
    assert 1000 < HELD_OUT_SEED < FIRST_SEED - 10_000
