"""A fused model outputs what the mask stage computes of a plain one: every form has the same columns."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import masks
from fsf_core.export.adapters import with_plain_output
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import model_bytes
from fsf_core.export.precisions import to_fp16
from fsf_core.media.images import ImageLimits
from fsf_core.model.bundle import Output
from fsf_core.model.fused_figures import figure_outputs
from fsf_core.model.preprocess import PROFILES, normalise
from fsf_core.model.session import Session
from fsf_core.stages import fused_outputs, units
from fsf_core.stages.mask import MaskSettings, mask
from fsf_core.stages.units import Frame, Unit
from tests.support.halves import assert_equal_halves
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]
SIZES = ((130, 117), (31, 12), (224, 224))
FRAMES = np.random.default_rng(3).integers(0, 256, (len(SIZES), 224, 224, 3), np.uint8)
TOLERANCE = 1e-5


LOGITS = Output()


def plain_model(output=LOGITS, *, last="Softmax", **options):
    """A plain model of the kind."""
    if output.is_binary:
        last = "Sigmoid" if output.kind == "binary_probability" else "Identity"
        file = tiny_onnx(num_classes=1, last=last, **options)
        output = dataclasses.replace(output, layout="N1HW")
    else:
        file = tiny_onnx(**({} if output.kind == "logits" else {"last": last}), **options)
    adopted = from_onnx(read_onnx(file.SerializeToString()), PROFILE)
    return adopted if output == Output() else with_plain_output(adopted, output)


def head_of(model):
    """The weights of the last convolution."""
    return next(one for one in model.graph.initializer if list(one.dims) == [4, 8, 1, 1])


def table_of(columns):
    rows = [
        Unit(item_id=str(at), uri="", frames=[Frame(frame_index=0, pts_s=None, height_px=size[0], width_px=size[1])])
        for at, size in enumerate(SIZES)
    ]
    table = units.to_table(rows, extra=pa.schema([])).drop_columns(["inputs"])
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def settings_of(num_classes, output, grid_hw):
    return MaskSettings(
        profile=PROFILE,
        num_classes=num_classes,
        palette_K3=np.asarray(masks.voc_colours(num_classes), np.uint8),
        grid_hw=grid_hw,
        output=output,
        mask_size="original",
        limits=ImageLimits(max_bytes=1, max_pixels=1, max_side_px=1),
        clear_background=False,
        min_region_px=1,
    )


def masked_plain(model, output, frames_NHWC=FRAMES):
    scores_NKHW = Session(model_bytes(model)).run(normalise(frames_NHWC, PROFILE.levels()))
    outputs = pa.array([scores_KHW.tobytes() for scores_KHW in scores_NKHW], pa.large_binary())
    settings = settings_of(scores_NKHW.shape[1], output, scores_NKHW.shape[2:])
    return mask(table_of({"outputs": outputs}), settings), settings


def masked_fused(model, settings, frames_NHWC=FRAMES):
    fused = model_bytes(fuse(model, PROFILE, output=settings.output, num_classes=settings.num_classes))
    session = Session(fused)
    found = [
        session.run_figures(frame_HWC[None], height_px=height_px, width_px=width_px, planes=True)
        for frame_HWC, (height_px, width_px) in zip(frames_NHWC, SIZES, strict=True)
    ]
    if settings.num_classes < 256:  # one frame of these is compared in test_fuse
        assert_equal_halves(fused, Session(model_bytes(model)), PROFILE, frames_NHWC, SIZES, found)
    outputs = pa.array([class_maps_NHW.tobytes() for class_maps_NHW, _ in found], pa.large_binary())
    figures = {name: np.concatenate([each[name] for _, each in found]) for name in found[0][1]}
    columns = fused_outputs.to_columns(figures, [1] * len(SIZES), planes=True)
    return mask(table_of({"class_maps": outputs, **columns}), settings)


def assert_equal_columns(plain, fused):
    """Class maps may differ in near ties, and regions then; the others do not feel them."""
    names = ["frames", "mean_probability"]
    for one, other in zip(plain.select(names).to_pylist(), fused.select(names).to_pylist(), strict=True):
        for name in ("confidence", "uncertain_share"):
            assert other["frames"][0][name] == pytest.approx(one["frames"][0][name], abs=TOLERANCE)
        assert np.allclose(other["mean_probability"], one["mean_probability"], rtol=0, atol=TOLERANCE, equal_nan=True)
    pixels = zip(plain["pixels"].to_pylist(), fused["pixels"].to_pylist(), strict=True)
    equal = pa.array([one == other for one, other in pixels])
    assert any(equal.to_pylist())
    regions = [
        pa.Table.from_struct_array(one["regions"].filter(equal).combine_chunks().flatten()) for one in (plain, fused)
    ]
    ours, theirs = (one.drop_columns(["mean_probability"]) for one in regions)
    assert ours.equals(theirs)
    probabilities = [one["mean_probability"].fill_null(-1).to_numpy() for one in regions]
    assert np.abs(probabilities[0] - probabilities[1]).max(initial=0) < TOLERANCE


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 20])
def test_every_opset_has_the_columns_of_the_plain_model(opset):
    model = plain_model(opset=opset)
    plain, settings = masked_plain(model, LOGITS)

    assert_equal_columns(plain, masked_fused(model, settings))


@pytest.mark.parametrize(
    ("output", "options"),
    [
        (Output(kind="probabilities"), {}),
        (Output(kind="probabilities"), {"last": "Sigmoid"}),
        (Output(kind="binary_logit"), {}),
        (Output(kind="binary_probability"), {}),
        (Output(kind="logits"), {"num_classes": 1}),
        (Output(kind="logits"), {"num_classes": 256}),
        (Output(resized="logits"), {}),
        (Output(resized="logits"), {"opset": 12}),
        (Output(resized="logits", corners="aligned"), {"opset": 18}),
        (Output(corners="aligned", grid="input"), {}),
        (Output(kind="binary_logit", resized="logits"), {}),
        (Output(kind="binary_logit", resized="logits", threshold=0.45), {}),
        (Output(kind="binary_logit", threshold=0.45), {"opset": 11}),
        (Output(kind="binary_probability", threshold=0.55), {}),
    ],
    ids=str,
)
def test_every_kind_of_output_has_the_columns_of_the_plain_model(output, options):
    model = plain_model(output, **options)
    plain, settings = masked_plain(model, output)

    assert_equal_columns(plain, masked_fused(model, settings))


def test_a_model_in_half_precision_has_its_own_columns():
    full = plain_model(opset=17)
    model = to_fp16(full, [normalise(FRAMES[:1], PROFILE.levels())])
    plain, settings = masked_plain(model, LOGITS)

    assert_equal_columns(plain, masked_fused(model, settings))


def test_means_over_a_uniform_grid_do_not_drift_as_float32_sums_do():
    model = plain_model()
    for one in model.graph.initializer:
        if list(one.dims) == [8, 3, 5, 5]:
            one.raw_data = bytes(len(one.raw_data))  # every cell is as the bias says
        elif list(one.dims) == [8]:
            one.raw_data = np.ones(8, np.float32).tobytes()
    head = np.zeros((4, 8), np.float32)
    head[2] = np.log(27) / 8  # softmax gives class 2 a probability of 0.9
    head_of(model).raw_data = head.tobytes()
    plain, settings = masked_plain(model, LOGITS)

    fused = masked_fused(model, settings)

    for table in (plain, fused):
        for row in table.to_pylist():
            assert row["frames"][0]["confidence"] == pytest.approx(0.9, abs=1e-6)
            assert row["mean_probability"][2] == pytest.approx(0.9, abs=1e-6)


def test_the_file_of_a_fused_model_has_no_figures_so_bundles_of_every_version_are_alike():
    model = plain_model()
    fused = fuse(model, PROFILE)

    assert [output.name for output in fused.graph.output] == ["class_maps", "counts"]
    assert Session(model_bytes(fused)).has_figures
    assert figure_outputs(model_bytes(model)) == b""
    assert not Session(model_bytes(model)).has_figures


def test_equal_probabilities_are_won_by_the_lowest_class_and_are_uncertain():
    model = plain_model(Output(kind="probabilities"))
    weights = head_of(model)
    weights.raw_data = bytes(len(weights.raw_data))
    plain, settings = masked_plain(model, Output(kind="probabilities"))

    fused = masked_fused(model, settings)

    assert_equal_columns(plain, fused)
    assert fused["frames"].to_pylist()[0][0]["uncertain_share"] == 1


@pytest.mark.parametrize(("kind", "value"), [("logits", np.nan), ("logits", np.inf), ("probabilities", np.nan)])
def test_a_probability_that_is_not_finite_fails_its_frame_on_both_forms(kind, value):
    model = plain_model(Output(kind=kind), last="Sigmoid")  # which leaves the other classes finite
    weights = head_of(model)
    weights.raw_data = np.concatenate([np.full(8, value, np.float32), np.ones(24, np.float32)]).tobytes()
    plain, settings = masked_plain(model, Output(kind=kind))

    fused = masked_fused(model, settings)

    for table in (plain, fused):
        assert {*table["error_message"].to_pylist()} == {masks.NOT_FINITE}
        assert {*table["error_type"].to_pylist()} == {"MaskError"}
