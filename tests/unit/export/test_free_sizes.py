"""Graphs whose height and width depend on the image: free in the file, compared at several sizes, refused at one."""

from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from fsf_core import masks
from fsf_core.errors import ConfigError
from fsf_core.export.adapters import with_plain_output
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import model_bytes, signature_of
from fsf_core.export.parity import ParityLimitError
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.sample_images import SampleImage
from fsf_core.export.verify import verify
from fsf_core.model.bundle import Output, Signature
from fsf_core.model.session import Session
from fsf_core.score.plan import _segment_frames
from tests.support.free_bundle import OWN, free_onnx
from tests.support.tiny_onnx import tiny_onnx

SIZES = [(8, 8), (64, 96), (240, 320), (20, 300), (333, 251)]
RNG = np.random.default_rng(4)


def adopted(model=None):
    return from_onnx(read_onnx((model or free_onnx()).SerializeToString()), OWN)


def with_a_size_inside(rows=240, columns=320):
    """The tiny model as an exporter writes it that traced a size as a number."""
    model = free_onnx()
    model.graph.node[-1].op_type = "Reshape"
    model.graph.node[-1].input.append("target")
    target = np.array([-1, 4, rows, columns], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(target, "target"))
    return model


def free_ids():
    """A model whose output is the class map on its grid, N1HW."""
    model = tiny_onnx(last="ArgMax")
    free = free_onnx()
    model.graph.input[0].CopyFrom(free.graph.input[0])
    model.graph.output[0].CopyFrom(free.graph.output[0])
    model.graph.output[0].type.tensor_type.elem_type = 7
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    return model


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_file_of_free_size_keeps_it(count):
    model = adopted()
    signature = signature_of(model)
    original, plain = ort.InferenceSession(free_onnx().SerializeToString()), Session(model_bytes(model))

    assert signature.input_shape == (None, 3, None, None)
    assert signature.output_shape == (None, 4, None, None)
    for size in SIZES:
        batch_NCHW = RNG.random((count, 3, *size), np.float32)
        expected = original.run(None, {"images:0": batch_NCHW})[0]
        np.testing.assert_allclose(plain.run(batch_NCHW), expected, atol=1e-5)


def test_a_graph_that_holds_a_size_is_refused_in_these_words():
    with pytest.raises(ConfigError, match="does not take every size") as raised:
        adopted(with_a_size_inside())
    for words in ("with free height and width", "--multiple-of", "--resize stretch and --input-size"):
        assert words in str(raised.value)


def test_a_graph_that_is_right_at_one_size_alone_is_refused_by_that_reason():
    right, wrong = Session(free_onnx().SerializeToString()), Session(with_a_size_inside().SerializeToString())
    images = [
        SampleImage(name=f"{rows}x{columns}", image_HWC=RNG.integers(0, 256, (rows, columns, 3), np.uint8))
        for rows, columns in ((240, 320), (31, 33), (240, 320), (97, 401))
    ]
    with pytest.raises(ParityLimitError) as raised:
        verify(right.run, wrong, profile=OWN, num_classes=4, images=images)

    assert "for inputs of 240x320, and for no other size (not for 31x33, 97x401)" in str(raised.value)
    assert "a size was written into the graph as a number" in str(raised.value)
    report = verify(right.run, right, profile=OWN, num_classes=4, images=images)
    assert sorted(one.batch for one in report.images) == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("corners", ["half-pixel", "asymmetric"])
def test_a_class_map_of_free_size_goes_to_the_nearest_cell_in_the_graph_too(corners):
    model = read_onnx(free_ids().SerializeToString())
    plain = from_onnx(model, OWN)
    plain.graph.output[0].type.tensor_type.elem_type = 7
    output = Output(kind="class_map", layout="N1HW", dtype="int64", corners=corners)
    plain = with_plain_output(plain, output)
    fused = Session(model_bytes(fuse(plain, OWN, output=output, num_classes=4)))
    session = Session(model_bytes(plain))
    for rows, columns in SIZES:
        frame_HWC = RNG.integers(0, 256, (rows, columns, 3), np.uint8)
        ids = session.run((frame_HWC.astype(np.float32) / 255).transpose(2, 0, 1)[None])[0, 0]
        for size in ((rows, columns), (47, 61)):
            expected = masks.nearest(ids, height_px=size[0], width_px=size[1], num_classes=4, corners=corners)
            maps, counts = fused.run_fused(frame_HWC[None], height_px=size[0], width_px=size[1])
            np.testing.assert_array_equal(maps[0], expected)
            assert counts[0].sum() == size[0] * size[1]


def test_small_precisions_are_made_of_inputs_of_several_sizes():
    inputs = [RNG.random((1, 3, *size), np.float32) for size in SIZES]
    for small, limit in ((to_fp16(adopted(), inputs), 0.02), (to_int8(adopted(), inputs), 0.5)):
        for batch_NCHW in inputs:
            expected = Session(model_bytes(adopted())).run(batch_NCHW)
            assert np.abs(Session(model_bytes(small)).run(batch_NCHW) - expected).max() < limit


def test_segments_of_videos_are_as_long_as_frames_of_1080p_allow():
    shape = (None, 3, None, None)
    known = {"input_name": "i", "input_shape": shape, "output_name": "o", "output_shape": (None, 21, None, None)}
    found = {
        stride: _segment_frames(
            SimpleNamespace(segment_frames=64),
            SimpleNamespace(profile=OWN, signature=Signature(**known, grid_stride=stride)),
        )
        for stride in (1.0, 4.0, 32.0)
    }
    # 166 MiB of logits a frame; 10.4 MiB; 6 MiB of input, which are more than those logits.
    assert found == {1.0: 1, 4.0: 24, 32.0: 43}
