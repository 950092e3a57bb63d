import dataclasses

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fsf_core.errors import ConfigError
from fsf_core.export.adapters import with_plain_output
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse, why_not_fusible
from fsf_core.export.graph import model_bytes, opset_of
from fsf_core.export.reference import Scores
from fsf_core.masks import nearest
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session
from tests.support.halves import assert_equal_halves
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]
NORMALISED = dataclasses.replace(PROFILE, name="normalised", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def plain_model(**options):
    return from_onnx(read_onnx(tiny_onnx(**options).SerializeToString()), PROFILE)


def frames(count):
    return np.random.default_rng(3).integers(0, 256, (count, 224, 224, 3), np.uint8)


def by_hand(plain, frames_NHWC, profile, height_px, width_px):
    """Class probabilities of the plain model at the wanted size, and the class maps they give."""
    levels = profile.levels()
    batch_NCHW = np.stack([[levels[c][frame[..., c]] for c in range(3)] for frame in frames_NHWC])
    size = {"height_px": height_px, "width_px": width_px}
    scores = [
        Scores(output_KHW=logits, profile=profile, output=Output(), num_classes=4, **size)
        for logits in Session(model_bytes(plain)).run(batch_NCHW)
    ]
    return np.stack([[one.plane(index) for index in range(4)] for one in scores])


def assert_equal_halves_of(fused, plain, profile=PROFILE, sizes=((31, 12), (97, 64), (97, 64))):
    session = Session(model_bytes(fused))
    frames_NHWC = frames(len(sizes))
    whole = [
        session.run_figures(frame_HWC[None], height_px=height, width_px=width, planes=True)
        for frame_HWC, (height, width) in zip(frames_NHWC, sizes, strict=True)
    ]
    assert_equal_halves(model_bytes(fused), Session(model_bytes(plain)), profile, frames_NHWC, sizes, whole)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 20])
@pytest.mark.parametrize("profile", [PROFILE, NORMALISED], ids=lambda profile: profile.name)
def test_fused_equals_plain_but_for_near_ties(opset, profile):
    plain = plain_model(opset=opset)
    session = Session(model_bytes(fuse(plain, profile)))
    scores_NKHW = by_hand(plain, frames(3), profile, 300, 517)
    expected_NHW = scores_NKHW.argmax(axis=1)
    class_maps_NHW, counts_NK = session.run_fused(frames(3), height_px=300, width_px=517)
    assert_equal_halves_of(fuse(plain, profile), plain, profile)
    assert (class_maps_NHW.dtype, class_maps_NHW.shape) == (np.uint8, (3, 300, 517))
    n, rows, columns = np.nonzero(class_maps_NHW != expected_NHW)
    assert len(n) <= 1e-4 * expected_NHW.size
    margins = (
        scores_NKHW.max(axis=1)[n, rows, columns] - scores_NKHW[n, class_maps_NHW[n, rows, columns], rows, columns]
    )
    assert (margins < 1e-5).all()
    assert len(np.unique(expected_NHW)) > 1
    assert counts_NK.dtype == np.int32
    assert np.array_equal(counts_NK, [np.bincount(one.ravel(), minlength=4) for one in class_maps_NHW])


def test_a_fused_model_describes_itself():
    session = Session(model_bytes(fuse(plain_model(), PROFILE)))
    assert (session.fused, session.num_classes, session.grid_hw) == (True, 4, None)
    assert session.input_shape == (None, 224, 224, 3)


def test_opset_and_weights_stay_and_the_plain_model_too():
    plain = plain_model(opset=12)
    before = model_bytes(plain)
    fused = fuse(plain, PROFILE)
    assert opset_of(fused) == 12
    assert model_bytes(plain) == before
    onnx.checker.check_model(fused, full_check=True)


def test_a_network_with_the_names_of_the_fused_graph_does_not_clash():
    plain = plain_model(input_name="frames", output_name="counts")
    assert_equal_halves_of(fuse(plain, PROFILE), plain)
    class_maps_NHW, _ = Session(model_bytes(fuse(plain, PROFILE))).run_fused(frames(1), height_px=64, width_px=64)
    assert class_maps_NHW.shape == (1, 64, 64)


def test_more_than_255_classes_need_16_bits():
    plain = plain_model(num_classes=300)
    assert_equal_halves_of(fuse(plain, PROFILE), plain, sizes=((31, 12),))
    class_maps_NHW, counts_NK = Session(model_bytes(fuse(plain, PROFILE))).run_fused(
        frames(1), height_px=40, width_px=50
    )
    assert class_maps_NHW.dtype == np.uint16
    assert counts_NK.shape == (1, 300)
    assert counts_NK.sum() == 40 * 50


def test_a_letterbox_has_no_fused_variant():
    letterbox = PROFILES["fastsegformer-train"]
    assert why_not_fusible(PROFILE, 11) == ""
    assert "half-pixel" in why_not_fusible(PROFILE, 10)
    assert "cropped per image" in why_not_fusible(letterbox, 17)
    with pytest.raises(ConfigError, match="no fused model"):
        fuse(plain_model(), letterbox)


@pytest.mark.parametrize("corners", ["half-pixel", "asymmetric"])
def test_a_fused_class_map_takes_the_nearest_cells_that_the_mask_stage_takes(corners):
    file = tiny_onnx(opset=17, last="ArgMax")
    file.graph.node[-1].input[0] = "c"  # on the coarse grid
    file.graph.output[0].CopyFrom(helper.make_tensor_value_info("seg/scores", TensorProto.INT64, None))
    plain = with_plain_output(
        from_onnx(read_onnx(file.SerializeToString()), PROFILE), Output(kind="class_map", layout="N1HW", dtype="int64")
    )
    ids_N1HW = Session(model_bytes(plain)).run(levels(frames(2), PROFILE))
    fused = fuse(plain, PROFILE, output=Output(kind="class_map", corners=corners), num_classes=4)
    assert_equal_halves_of(fused, plain)
    session = Session(model_bytes(fused))
    assert ids_N1HW.shape == (2, 1, 56, 56)
    for height_px, width_px in ((56, 56), (300, 517), (31, 12)):
        class_maps_NHW, counts_NK = session.run_fused(frames(2), height_px=height_px, width_px=width_px)
        size = {"height_px": height_px, "width_px": width_px, "num_classes": 4, "corners": corners}
        expected = [nearest(ids, **size) for [ids] in ids_N1HW]
        assert np.array_equal(class_maps_NHW, expected)
        assert np.array_equal(counts_NK, [np.bincount(one.ravel(), minlength=4) for one in expected])


def test_fused_probabilities_take_no_softmax():
    plain = plain_model(last="Softmax")
    session = Session(model_bytes(fuse(plain, PROFILE, output=Output(kind="probabilities"))))
    probabilities_NKHW = Session(model_bytes(plain)).run(levels(frames(1), PROFILE))
    expected_HW = np.argmax([cv2.resize(plane, (517, 300)) for plane in probabilities_NKHW[0]], axis=0)
    class_maps_NHW, _ = session.run_fused(frames(1), height_px=300, width_px=517)
    operators = [node.op_type for node in fuse(plain, PROFILE, output=Output(kind="probabilities")).graph.node]

    assert (class_maps_NHW[0] == expected_HW).mean() > 0.9999
    assert operators.count("Softmax") == 1


def levels(frames_NHWC, profile):
    """The network's input for frames, by the table of the profile."""
    table = profile.levels()
    return np.stack([[table[c][frame[..., c]] for c in range(3)] for frame in frames_NHWC])


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_is_built_in_is_that_of_the_halves_too(batch):
    plain = plain_model()
    for value in (plain.graph.input[0], plain.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    assert_equal_halves_of(fuse(plain, PROFILE), plain)
