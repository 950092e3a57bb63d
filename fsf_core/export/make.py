"""From what was read to models that are proved: convert, fuse, other precisions, the gate.

Knows torch and onnx; `job` imports it only when there is something to make.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from fsf_core.errors import ConfigError
from fsf_core.export.convert import to_onnx
from fsf_core.export.from_onnx import from_onnx
from fsf_core.export.fuse import fuse, why_not
from fsf_core.export.graph import model_bytes, opset_of, printable, signature_of
from fsf_core.export.material import Material, network_of
from fsf_core.export.parity import PRECISION_LIMITS, ParityMissError, ParityReport
from fsf_core.export.pictures import Picture, drawn
from fsf_core.export.precision_parity import judge
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.request import Request
from fsf_core.export.verify import Reference, verify
from fsf_core.model.bundle import FUSED, PLAIN, Origin, Signature, variant_of
from fsf_core.model.preprocess import PROFILES, Profile, fit, normalise
from fsf_core.model.session import Session
from fsf_core.options import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """Models that passed the gate, and what the bundle says of them."""

    models: Mapping[str, bytes]
    """Variant to the bytes of an ONNX file."""
    signature: Signature
    origin: Origin
    report: ParityReport


def make(
    request: Request, material: Material, identity: Mapping[str, Any], show_graph: Callable[[str], object] | None
) -> Made:
    """Make every model that was asked for, and prove it.

    Raises:
        RunError: the weights do not fit, the graph cannot be written, or the gate misses.
    """
    profile = PROFILES[request.profile]
    plain, reference = _plain_model(request, material, profile)
    if show_graph is not None:
        show_graph(printable(plain))
    signature = signature_of(plain)
    _require_grid(signature.output_shape, profile)
    models: dict[str, bytes] = {}
    for precision, model in _in_every_precision(plain, request, material, profile):
        models[variant_of(precision, fused=False)] = model_bytes(model)
        if not why_not(profile):
            models[variant_of(precision, fused=True)] = model_bytes(fuse(model, profile))
    return Made(
        models=models,
        signature=signature,
        origin=_origin(request, material, plain, identity),
        report=_prove(reference, models, profile, request, material.samples),
    )


def _plain_model(request: Request, material: Material, profile: Profile) -> tuple[ModelProto, Reference]:
    """The model to be proved, and the original that it must equal."""
    if material.original is not None:
        plain = from_onnx(material.original, profile)
        return plain, Session(model_bytes(material.original)).run
    network = material.network or network_of(request, material.weights)
    plain = to_onnx(
        network,
        profile,
        opset=request.written_opset,
        exporter=request.exporter,
        input_name=request.input_name,
        output_name=request.output_name,
    )
    return plain, _asking(network)


def _in_every_precision(
    plain: ModelProto, request: Request, material: Material, profile: Profile
) -> Iterator[tuple[Precision, ModelProto]]:
    """The plain model, and what it becomes in the precisions asked for."""
    yield "fp32", plain
    if "fp16" in request.precisions:
        yield "fp16", to_fp16(plain)
    if "int8" in request.precisions:
        frames = [fit(picture.image_HWC, profile) for picture in material.samples or drawn()]
        yield "int8", to_int8(plain, [normalise(frame_HWC[None], profile.levels()) for frame_HWC in frames])


def _asking(network: nn.Module) -> Reference:
    """The network as a function of arrays."""

    def logits(batch_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answer: NDArray[np.float32] = network(torch.from_numpy(batch_NCHW)).numpy()
        return answer

    return logits


def _prove(
    reference: Reference,
    models: Mapping[str, bytes],
    profile: Profile,
    request: Request,
    samples: tuple[Picture, ...],
) -> ParityReport:
    pictures = (*drawn(), *samples)
    report = verify(
        reference,
        Session(models[PLAIN]),
        Session(models[FUSED]) if FUSED in models else None,
        profile=profile,
        num_classes=len(request.classes),
        pictures=pictures,
    )
    judged = tuple(
        judge(
            reference,
            Session(models[variant]),
            variant=variant,
            limits=PRECISION_LIMITS[precision],
            profile=profile,
            num_classes=len(request.classes),
            pictures=pictures,
        )
        for precision in request.precisions
        for variant in (variant_of(precision, fused=False), variant_of(precision, fused=True))
        if variant in models
    )
    misses = tuple(one.miss for one in judged if one.miss)
    report = dataclasses.replace(report, precisions=judged, misses=misses, passed=not misses)
    if misses:
        raise ParityMissError(report)
    return report


def _require_grid(logits_NKHW: tuple[int | None, int, int, int], profile: Profile) -> None:
    grid = logits_NKHW[2:]
    if profile.mode == "letterbox" and grid != (profile.height_px, profile.width_px):
        raise ConfigError(
            f"the network answers on a grid of {grid[0]}x{grid[1]}, and profile {profile.name!r} pads its input of "
            f"{profile.height_px}x{profile.width_px}: the padding can be cut away only on an equal grid; "
            "choose another --profile"
        )


def _origin(request: Request, material: Material, plain: ModelProto, identity: Mapping[str, Any]) -> Origin:
    return Origin(
        network=identity["network"],
        network_options=identity["options"],
        weights_sha256=material.weights_sha256,
        exporter="" if request.onnx is not None else request.exporter,
        opset=opset_of(plain),
        ir_version=plain.ir_version,
        tools=identity["tools"],
        request=identity,
    )
