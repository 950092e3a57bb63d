"""The gate must pass what is right and refuse every damage that a wrong export can do."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fsf_core.errors import ConfigError, ParityError
from fsf_core.export import verify as gate
from fsf_core.export.adapters import to_scores, with_plain_output
from fsf_core.export.compare import Original
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import model_bytes
from fsf_core.export.parity import PARITY_LIMITS, ParityLimitError
from fsf_core.export.reference import Scores
from fsf_core.export.sample_images import SampleImage, drawn_images
from fsf_core.export.verify import BATCH, verify
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES, fit
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]
SMALL = [SampleImage(name=p.name, image_HWC=np.ascontiguousarray(p.image_HWC[::3, ::3])) for p in drawn_images()[:3]]


@pytest.fixture(scope="module")
def plain():
    return from_onnx(read_onnx(tiny_onnx().SerializeToString()), PROFILE)


@pytest.fixture(scope="module")
def fused(plain):
    return fuse(plain, PROFILE)


@pytest.fixture(scope="module")
def reference(plain):
    """The original, as the network in torch: called with one image at a time."""
    session = Session(model_bytes(plain))

    def run(batch_NCHW):
        assert len(batch_NCHW) == 1
        return session.run(batch_NCHW)

    return run


def compare(reference, plain, fused=None, *, profile=PROFILE, images=SMALL, num_classes=4, output=None):
    return verify(
        reference,
        Session(model_bytes(plain)),
        None if fused is None else Session(model_bytes(fused)),
        profile=profile,
        num_classes=num_classes,
        images=images,
        output=output,
    )


def altered(model, change):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    return copy


def change_weight(name, change):
    def alter(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        value = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), name))

    return alter


def change_attribute(node_name, name, value):
    def alter(model):
        node = next(node for node in model.graph.node if node.name == node_name)
        kept = [entry for entry in node.attribute if entry.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return alter


def one_weight(value):
    value.flat[17] *= 1.5
    return value


def test_a_correct_export_passes_with_its_measurements(reference, plain, fused):
    report = compare(reference, plain, fused)
    assert report.passed
    assert report.violations == ()
    assert report.warnings == ()
    asked = {(image.name, image.variant, image.batch) for image in report.images}
    assert asked == {(p.name, v, b) for p in SMALL for v in ("plain", "fused") for b in (1, BATCH)}
    own = [p for p in report.images if p.batch == 1]
    assert [(p.height_px, p.width_px) for p in own[:3]] == [p.image_HWC.shape[:2] for p in SMALL]
    assert all(p.agreeing_share > 0.9999 for p in report.images)
    assert all(p.logit_difference == 0 for p in report.images if p.variant == "plain")


def test_the_report_is_complete_json(reference, plain):
    content = json.loads(compare(reference, plain).to_json())
    assert content["passed"] is True
    assert content["limits"]["max_differing_share"] == PARITY_LIMITS.max_differing_share
    assert {"name", "height_px", "width_px", "batch", "agreeing_share", "logit_difference", "differing_margin"} <= set(
        content["pictures"][0]
    )


@pytest.mark.parametrize(
    "damage",
    [
        change_weight("w1", one_weight),
        change_weight("b1", lambda value: value + 0.01),
        change_weight("w2", lambda value: value[::-1]),
        change_weight("w1", np.float16),
        change_attribute("up", "mode", "nearest"),
        change_attribute("up", "coordinate_transformation_mode", "align_corners"),
        change_attribute("up", "coordinate_transformation_mode", "asymmetric"),
        change_attribute("stem", "pads", [1, 1, 3, 3]),
    ],
    ids=["one weight", "a bias", "classes swapped", "half precision", "nearest", "corners", "asymmetric", "padding"],
)
def test_a_damaged_model_is_refused(reference, plain, damage):
    with pytest.raises(ParityLimitError, match="does not equal the original") as caught:
        compare(reference, altered(plain, damage))
    assert isinstance(caught.value, ParityError)
    assert not caught.value.report.passed
    assert caught.value.report.violations[0] in str(caught.value)
    json.loads(caught.value.report.to_json())


@pytest.mark.parametrize(
    "damage",
    [
        change_attribute("fsf/probabilities", "axis", 2),
        change_attribute("fsf/resized", "coordinate_transformation_mode", "align_corners"),
        change_weight("fsf/scale", lambda value: value * 256 / 255),
        change_weight("fsf/class1", lambda value: value + 1),
        change_weight("net/w2", lambda value: value[::-1]),
    ],
    ids=["softmax axis", "corners", "256 levels", "a class counted twice", "classes swapped"],
)
def test_a_damaged_fused_model_is_refused(reference, plain, fused, damage):
    with pytest.raises(ParityLimitError, match="fused"):
        compare(reference, plain, altered(fused, damage))


def test_logits_resized_instead_of_probabilities_are_refused(reference, plain, fused):
    def skip_softmax(model):
        for node in model.graph.node:
            if node.op_type == "Softmax":
                node.op_type = "Identity"
                del node.attribute[:]

    with pytest.raises(ParityLimitError, match="pixel"):
        compare(reference, plain, altered(fused, skip_softmax))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_a_violation(reference, plain, value):
    def spoil(weights):
        weights[0] = value
        return weights

    with pytest.raises(ParityLimitError, match="NaN or infinity"):
        compare(reference, altered(plain, change_weight("w2", spoil)))


def test_a_network_that_outputs_nan_itself_is_a_violation(plain):
    def nan(batch_NCHW):
        return np.full((len(batch_NCHW), 4, 224, 224), np.nan, np.float32)

    with pytest.raises(ParityLimitError, match="the network itself outputs NaN"):
        compare(nan, plain)


def test_another_number_of_classes_is_a_violation(reference, plain):
    with pytest.raises(ParityLimitError, match=r"found 5 class names for the 4 classes .*give 4 names with --classes"):
        compare(reference, plain, num_classes=5)
    narrow = from_onnx(read_onnx(tiny_onnx(num_classes=3).SerializeToString()), PROFILE)
    with pytest.raises(ParityLimitError, match=r"logits are \[1, 3, 224, 224\], expected \[1, 4, 224, 224\]"):
        compare(reference, narrow)


class Mixing:
    """A session whose model is right for one image and mixes up a batch."""

    def __init__(self, session, mix):
        self.session, self.mix = session, mix

    def run(self, batch_NCHW):
        logits = self.session.run(batch_NCHW)
        return logits if len(batch_NCHW) == 1 else self.mix(logits)


def refuse(_):
    raise RuntimeError("onnxruntime on cpu refused input float32 [4, 3, 224, 224]")


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (
            lambda logits: logits[::-1],
            f"depends on the other pictures of its batch.*plain, batch of {BATCH}: .* pixels differ",
        ),
        (
            lambda logits: np.repeat(logits[:1], len(logits), axis=0),
            f"depends on the other pictures of its batch.*plain, batch of {BATCH}: .* pixels differ",
        ),
        (lambda logits: logits[:1], r"logits are \[1, 4, 224, 224\], expected \[4, 4, 224, 224\]"),
        (refuse, "onnxruntime on cpu refused"),
    ],
    ids=["rows swapped", "first row repeated", "first row only", "refused"],
)
def test_a_model_that_mixes_the_images_of_a_batch_is_a_violation(reference, plain, mix, words):
    with pytest.raises(ParityLimitError, match=words):
        verify(
            reference,
            Mixing(Session(model_bytes(plain)), mix),
            profile=PROFILE,
            num_classes=4,
            images=SMALL,
        )


def test_near_ties_may_flip_but_decided_pixels_may_not(reference, plain):
    def nudged(by):
        def run(batch_NCHW):
            logits = reference(batch_NCHW).copy()
            order = np.sort(logits[0], axis=0)
            gap_HW = order[-1] - order[-2]
            row, column = np.unravel_index(np.abs(gap_HW - by).argmin(), gap_HW.shape)
            first, second = np.argsort(logits[0, :, row, column])[[-1, -2]]
            swapped = logits[0, [second, first], row, column].copy()
            logits[0, [first, second], row, column] = swapped
            return logits

        return run

    square = [SampleImage(name="square", image_HWC=fit(SMALL[0].image_HWC, PROFILE))]
    wide_limits = type(PARITY_LIMITS)(max_logit_share=1.0)  # compared here by pixels and margins alone
    options = {"profile": PROFILE, "num_classes": 4, "images": square, "limits": wide_limits}
    session = Session(model_bytes(plain))
    report = verify(nudged(1e-6), session, **options)
    assert report.images[0].differing_px == 1
    assert report.images[0].differing_margin < 1e-3
    with pytest.raises(ParityLimitError, match="a pixel differs that the original decided by"):
        verify(nudged(0.3), session, **options)


def off_by(plain, share):
    """Return a model as a function whose scores are all off by a share of the largest, up or down by turns."""
    session = Session(model_bytes(plain))

    def run(batch_NCHW):
        scores = session.run(batch_NCHW)
        signs = np.where(np.indices(scores.shape[2:]).sum(axis=0) % 2, 1.0, -1.0)
        return np.asarray(scores + signs * share * np.abs(scores).max(), scores.dtype)

    return run


@pytest.mark.parametrize(("own", "apart"), [(3e-4, 1e-3), (2e-3, 1.4e-2)])
def test_a_network_that_turns_rounding_into_more_is_compared_by_its_own_error(plain, own, apart):
    network = Original(off_by(plain, apart), exact=off_by(plain, apart + own))
    with pytest.raises(ParityLimitError, match=r"a logit differs by [\d.e-]+, expected at most [\d.e-]+ \(and"):
        compare(off_by(plain, apart), plain)
    report = compare(network, plain)
    assert report.passed
    assert all(image.own_error == pytest.approx(own * image.logit_absmax, rel=0.05) for image in report.images)
    assert "compared within 8 times that" in report.warnings[-1]
    content = json.loads(report.to_json())
    assert content["pictures"][0]["own_error"] == report.images[0].own_error
    assert content["limits"]["max_own_errors"] == 8


@pytest.mark.parametrize(
    ("exact", "words"),
    [
        (1.002, r"a logit differs by .* \(the original's own float32 is off by"),
        (1.03, r"a logit differs by .* \(the original's own float32 is off by .*, by which nothing can be proved\)"),
        (np.nan, r"a logit differs by [^(]*\(and"),
        (None, r"a logit differs by"),
    ],
    ids=["ten times its own error", "no digit is sure", "no number in float64", "no float64"],
)
def test_an_error_beyond_the_networks_own_is_refused(plain, exact, words):
    def in_float64(batch_NCHW):
        if exact is None:
            raise ConfigError("expected Float, found Double")
        return off_by(plain, 2e-2)(batch_NCHW) * exact

    with pytest.raises(ParityLimitError, match=words) as caught:
        compare(Original(off_by(plain, 2e-2), exact=in_float64), plain)
    json.loads(caught.value.report.to_json())


def test_a_model_that_is_off_everywhere_is_refused_where_rounding_makes_a_step(plain):
    """Like one weight of Mask2Former: every logit is off by less than its own float32 is at one pixel."""
    network = off_by(plain, 2e-4)

    def in_float64(batch_NCHW):
        scores = network(batch_NCHW).copy()
        scores[:, :, 5, 5] += 1e-3 * np.abs(scores).max()
        return scores

    with pytest.raises(
        ParityLimitError, match=r"the logits differ by [\d.e-]+ on average, expected at most [\d.e-]+ \("
    ):
        compare(Original(network, exact=in_float64), plain)


def test_a_network_without_float64_is_asked_once_for_every_image(plain):
    asked = []

    def in_float64(batch_NCHW):
        asked.append(batch_NCHW.sum())
        raise ConfigError("expected Float, found Double")

    with pytest.raises(ParityLimitError):
        compare(Original(off_by(plain, 2e-2), exact=in_float64), plain)
    assert len(asked) == len(SMALL), "each may be a copy of the network"


def test_an_exact_export_is_not_asked_for_its_own_error(reference, plain):
    def in_float64(_):
        raise AssertionError("it costs a second network in memory")

    report = compare(Original(reference, exact=in_float64), plain)
    assert {image.own_error for image in report.images} == {None}


def test_a_single_class_everywhere_is_reported_as_a_weak_check(plain):
    lopsided = altered(plain, change_weight("w2", lambda value: value * 0))
    report = compare(Session(model_bytes(lopsided)).run, lopsided)
    assert report.passed
    assert "predicts class 0 for every pixel of all 3 images" in report.warnings[0]
    assert "--samples" in report.warnings[0]


def test_a_letterbox_is_compared_without_its_padding(reference, plain):
    report = compare(reference, plain, profile=PROFILES["fastsegformer-train"], images=SMALL[1:])
    assert report.passed
    assert report.images[0].height_px != report.images[0].width_px


def test_the_reference_is_softmax_then_resize_on_half_pixel_centres():
    logits_KHW = np.zeros((2, 224, 224), np.float32)
    logits_KHW[0, :, 112:] = 2
    scores = Scores(output_KHW=logits_KHW, height_px=448, width_px=448, profile=PROFILE, output=Output(), num_classes=2)
    scores_KHW = np.stack([scores.plane(index) for index in range(2)])
    left, right = 0.5, 1 / (1 + np.exp(-2))
    assert np.allclose(scores_KHW[0, 0, 222:226], [left, left * 0.75 + right * 0.25, left * 0.25 + right * 0.75, right])
    assert np.allclose(scores_KHW.sum(axis=0), 1)


# ---------------------------------------------------------------------------------------------------------------- ties


def tied(scale=1.0):
    """The tiny model, with logits of another size, and a fifth class that equals the one of the widest regions."""

    def tie(weights):
        weights = np.concatenate([weights[:4], weights[1:2]])
        return weights * scale

    model = from_onnx(read_onnx(tiny_onnx(num_classes=5).SerializeToString()), PROFILE)
    first_four = numpy_helper.to_array(tiny_onnx().graph.initializer[2])
    return altered(model, change_weight("w2", lambda _: tie(first_four)))


def rounded_otherwise(run, ulps=1):
    """A network whose logits are those of `run`, off by some last digits of the largest one, in random directions."""

    def rounded(batch_NCHW):
        logits = run(batch_NCHW)
        digit = np.spacing(np.abs(logits).max())
        rng = np.random.default_rng(int(batch_NCHW.sum()) % 1000)
        return (logits + rng.integers(-ulps, ulps + 1, logits.shape) * digit).astype(np.float32)

    return rounded


@pytest.mark.parametrize("scale", [0.01, 1, 300, 3e4, 1e6])
def test_wide_ties_pass_whatever_the_size_of_the_logits(scale):
    """Two classes that are equal over wide regions, up to the last digits of float32: rounding decides between them."""
    model = tied(scale)
    report = compare(rounded_otherwise(Session(model_bytes(model)).run), model, fuse(model, PROFILE), num_classes=5)
    assert report.passed
    most = max(image.tied_px / (image.height_px * image.width_px) for image in report.images)
    assert most > (0.05 if scale >= 1 else 0)  # smaller digits do not reach the probabilities
    assert all(image.differing_px == image.tied_px for image in report.images)
    assert all(image.agreeing_share == 1 for image in report.images)
    assert ["two classes nearly the same probability" in warning for warning in report.warnings] == [True] * (
        scale >= 1
    )
    content = json.loads(report.to_json())
    assert content["limits"]["noise_share"] == PARITY_LIMITS.noise_share
    assert {"tied_px", "tie_margin"} <= {*content["pictures"][0]}


def another_class_on_a_patch(by, rows=slice(0, 40)):
    def wrong(run):
        def patched(batch_NCHW):
            logits = run(batch_NCHW).copy()
            logits[:, 0, rows] = logits[:, :, rows].max(axis=1) + by
            return logits

        return patched

    return wrong


@pytest.mark.parametrize("by", [1e-2, 1.0])
def test_a_wrong_class_with_a_margin_is_refused_beside_wide_ties(by):
    model = tied()
    right = Session(model_bytes(model))
    with pytest.raises(ParityLimitError, match=r"pixels differ|decided by|a logit differs"):
        compare(another_class_on_a_patch(by)(right.run), model, num_classes=5)


@pytest.mark.parametrize(
    "damage",
    [
        change_weight("w1", one_weight),
        change_weight("b1", lambda value: value + 0.01),
        change_attribute("up", "coordinate_transformation_mode", "asymmetric"),
        change_attribute("up", "mode", "nearest"),
    ],
    ids=["one weight", "a bias", "asymmetric", "nearest"],
)
@pytest.mark.parametrize("scale", [1, 3e4])
def test_a_damaged_model_is_refused_beside_wide_ties(damage, scale):
    model = tied(scale)
    with pytest.raises(ParityLimitError, match="does not equal the original"):
        compare(Session(model_bytes(model)).run, altered(model, damage), num_classes=5)


@pytest.mark.parametrize(
    "damage",
    [
        change_attribute("fsf/resized", "coordinate_transformation_mode", "align_corners"),
        change_weight("fsf/scale", lambda value: value * 256 / 255),
        change_weight("net/w1", one_weight),
    ],
    ids=["corners", "256 levels", "one weight"],
)
def test_a_damaged_fused_model_is_refused_beside_wide_ties(damage):
    """Fused models give no logits: only the pixels tell, and ties must hide none that is none."""
    model = tied()
    with pytest.raises(ParityLimitError, match="fused"):
        compare(Session(model_bytes(model)).run, model, altered(fuse(model, PROFILE), damage), num_classes=5)


# ---------------------------------------------------------------------------------------------------------- the reason


def test_a_network_that_responds_by_chance_is_refused_with_that_reason(reference, plain):
    rng = np.random.default_rng(0)

    def by_chance(batch_NCHW):
        logits = reference(batch_NCHW)
        return (logits * (rng.random(logits.shape) > 0.1)).astype(np.float32)

    with pytest.raises(ParityLimitError, match=r"two calls of the network .* differ by .*dropout") as caught:
        compare(by_chance, plain)
    assert "--exporter" not in str(caught.value)


def test_a_model_that_is_wrong_for_single_images_too_gets_no_other_reason(reference, plain):
    damaged = altered(plain, change_weight("w2", lambda value: value[::-1]))
    with pytest.raises(ParityLimitError, match=r"does not equal the original.*--exporter"):
        compare(reference, damaged)


# ---------------------------------------------------------------------------------------------------------- memory


def test_outputs_of_many_classes_are_compared_in_batches_of_two_at_a_size_that_fits(
    plain, fused, reference, monkeypatch
):
    monkeypatch.setattr(gate, "OUTPUT_BYTES", 4 * 224 * 224 * 4 * 4 - 1)
    monkeypatch.setattr(gate, "PLANES_BYTES", 100 * 100 * 4 * 4)
    report = compare(reference, plain, fused)
    assert report.passed
    assert {image.batch for image in report.images} == {1, 2}
    assert {image.name for image in report.images} == {image.name for image in SMALL}
    for image in report.images:
        small = image.height_px * image.width_px <= 100 * 100 // image.batch
        assert small == (image.variant == "fused")


OUTPUTS = [
    Output(resized="logits"),
    Output(resized="logits", corners="aligned"),
    Output(corners="aligned"),
    Output(kind="binary_logit", layout="N1HW", resized="logits"),
    Output(kind="binary_logit", layout="N1HW", resized="logits", threshold=0.3),
    Output(kind="binary_logit", layout="N1HW", threshold=0.3),
    Output(kind="binary_logit", layout="N1HW", threshold=0.3, grid="input"),
]


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_what_is_resized_is_the_same_in_the_reference_and_in_both_variants(output):
    """And another treatment of the same scores is no float tie: the check refuses it."""
    file = from_onnx(read_onnx(tiny_onnx(num_classes=1 if output.is_binary else 4).SerializeToString()), PROFILE)
    original = Session(model_bytes(file)).run
    model = with_plain_output(file, output)

    def reference(batch_NCHW):
        return to_scores(original(batch_NCHW), output, (224, 224))

    classes = 2 if output.is_binary else 4
    report = compare(reference, model, fuse(model, PROFILE, output=output), num_classes=classes, output=output)
    wrong = dataclasses.replace(output, corners="half-pixel" if output.corners == "aligned" else "aligned")

    assert report.passed
    assert {image.variant for image in report.images} == {"plain", "fused"}
    with pytest.raises(ParityLimitError):
        compare(reference, model, fuse(model, PROFILE, output=wrong), num_classes=classes, output=output)
