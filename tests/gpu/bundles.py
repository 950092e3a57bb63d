"""Bundles of small ONNX graphs with every kind of output, made in milliseconds: no torch, no parity check."""

from dataclasses import dataclass, field

import numpy as np
import onnx

from fsf_core import masks
from fsf_core.export.adapters import with_plain_output
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse, why_not_fusible
from fsf_core.export.graph import model_bytes, opset_of, signature_of
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.rewrite import rewrite
from fsf_core.model.bundle import FUSED, PLAIN, Bundle, Origin, Output, Signature, variant_of
from fsf_core.model.bundle_files import save_bundle
from fsf_core.model.preprocess import PROFILES, Profile
from fsf_core.options import Precision
from tests.support.deployed_onnx import deployed_onnx
from tests.support.free_bundle import OWN, free_onnx
from tests.support.rewritable import rewritable_onnx
from tests.support.tiny_onnx import tiny_onnx

ORIGIN = Origin(
    network="onnx", network_options={}, weights_sha256="", exporter="", opset=17, ir_version=8, tools={}, request={}
)
SMALL = Profile(name="custom", height_px=64, width_px=96, mode="stretch", interpolation="linear", honour_exif=True)


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a bundle is made of."""

    graph: onnx.ModelProto
    num_classes: int
    profile: Profile = PROFILES["fastsegformer"]
    output: Output = field(default_factory=Output)
    fused: bool = True
    """Whether the bundle has the fused variant too, where the profile has one."""
    rewritten: bool = False
    """Whether the graph is rewritten, as an export does it."""


MODELS = {
    "four classes": Model(graph=tiny_onnx(), num_classes=4),
    "four classes, plain alone": Model(graph=tiny_onnx(), num_classes=4, fused=False),
    "four classes, probabilities": Model(
        graph=tiny_onnx(last="Softmax"), num_classes=4, output=Output(kind="probabilities")
    ),
    "four classes, logits resized": Model(graph=tiny_onnx(), num_classes=4, output=Output(resized="logits")),
    "twenty classes": Model(graph=tiny_onnx(num_classes=20), num_classes=20),
    "300 classes": Model(
        graph=deployed_onnx(end="logits", num_classes=300, size=(64, 96)), num_classes=300, profile=SMALL
    ),
    "letterbox": Model(graph=tiny_onnx(), num_classes=4, profile=PROFILES["fastsegformer-train"]),
    "three images per call": Model(graph=tiny_onnx(batch=3), num_classes=4),
    "class map": Model(
        graph=deployed_onnx(end="int64 N1HW", num_classes=5, size=(64, 96)),
        num_classes=5,
        profile=SMALL,
        output=Output(kind="class_map", layout="N1HW", dtype="int64"),
    ),
    "binary": Model(
        graph=deployed_onnx(end="logits", num_classes=1, size=(64, 96)),
        num_classes=2,
        profile=SMALL,
        output=Output(kind="binary_logit", layout="N1HW"),
    ),
    "before rewriting": Model(graph=rewritable_onnx(), num_classes=5, profile=SMALL),
    "rewritten": Model(graph=rewritable_onnx(), num_classes=5, profile=SMALL, rewritten=True),
    "size of the image": Model(graph=free_onnx(), num_classes=4, profile=OWN),
}


def write_bundle(uri: str, model: Model, precisions: tuple[Precision, ...] = ()) -> Bundle:
    """Write the bundle of a model."""
    converted = from_onnx(read_onnx(model.graph.SerializeToString()), model.profile)
    if model.rewritten:
        converted = rewrite(converted).model
    plain = converted if model.output == Output() else with_plain_output(converted, model.output)
    models = {}
    for precision in ("fp32", *precisions):
        graph = _converted(plain, precision, model.profile)
        models[variant_of(precision, fused=False)] = model_bytes(graph)
        if model.fused and not why_not_fusible(model.profile, opset_of(plain)) and precision != "int8":
            fused = fuse(graph, model.profile, output=model.output, num_classes=model.num_classes)
            models[variant_of(precision, fused=True)] = model_bytes(fused)
    found = signature_of(plain)
    signature = Signature(
        input_name=found.input_name,
        input_shape=found.input_shape,
        output_name=found.output_name,
        output_shape=found.output_shape,
        grid_stride=None if model.profile.is_fixed else 1.0,
        output=model.output,
    )
    assert PLAIN in models
    assert (FUSED in models) == (model.fused and model.profile.mode != "letterbox")
    return save_bundle(
        uri,
        classes=tuple(f"class_{number}" for number in range(model.num_classes)),
        palette=masks.voc_colours(model.num_classes),
        profile=model.profile,
        signature=signature,
        origin=ORIGIN,
        models=models,
        parity="{}",
    )


def _converted(plain: onnx.ModelProto, precision: str, profile: Profile) -> onnx.ModelProto:
    noise = np.random.default_rng(0).random((1, 3, profile.height_px or 64, profile.width_px or 64), np.float32)
    if precision == "fp16":
        return to_fp16(plain, [noise])
    return to_int8(plain, [noise]) if precision == "int8" else plain
