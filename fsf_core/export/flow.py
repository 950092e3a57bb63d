"""The export job from end to end: build, convert, fuse, verify, save. A miss at any step leaves nothing behind.

Knows the order of the steps; cheap checks come first. An equal request that lies in the folder already is not exported
again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.bundle import (
    DOCUMENT,
    FUSED,
    PLAIN,
    Bundle,
    Origin,
    Precision,
    load_bundle,
    read_model,
    require_free,
    save_bundle,
    variant_of,
)
from fsf_core.errors import CheckpointError, ConfigError, FetchError, OutputError
from fsf_core.export.pictures import Picture, drawn, read_samples
from fsf_core.export.request import Request, differences, identity_of, sha256_of, tools_of
from fsf_core.geometry import PROFILES, Profile, fit, normalise
from fsf_core.session import Session

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from fsf_core.export.verify import ParityReport, Reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export leaves."""

    bundle: Bundle
    reused: bool
    """Whether the folder held the bundle of this request already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Material:
    """What the request points at, read once."""

    weights_sha256: str
    """Digest of the checkpoint or ONNX file; of the weights themselves where a network brings its own."""
    weights: bytes | None = None
    original: "ModelProto | None" = None
    network: "nn.Module | None" = None
    """Built already, where there was no other way to know its weights."""
    samples: tuple[Picture, ...] = ()


def export(request: Request, *, out: str, show_graph: Callable[[str], object] | None = None) -> Exported:
    """Make a bundle, prove it, save it; or find that it lies there already.

    Args:
        request: what is to be exported.
        out: folder of the bundle: new, empty, or holding the bundle of the same request.
        show_graph: is given the graph as text, before the gate judges it.

    Raises:
        RunError: the weights do not fit, the graph cannot be written, the gate misses (ParityMissError, with the
            report), or the folder is taken. Nothing is left behind.
    """
    tools_of(request)  # first: the next step imports them
    material = _gather(request)
    identity = identity_of(
        request,
        weights_sha256=material.weights_sha256,
        samples_sha256=[sha256_of(picture.image_HWC.tobytes()) for picture in material.samples],
    )
    standing = _standing(out, identity)
    if standing is not None:
        if show_graph is not None:
            show_graph(_stored_graph(standing))
        return Exported(bundle=standing, reused=True)

    from fsf_core.export.fuse import fuse, why_not
    from fsf_core.export.graph import model_bytes, printable, signature_of

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
    report = _prove(reference, models, profile, request, material.samples)
    bundle = save_bundle(
        out,
        classes=request.classes,
        palette=request.palette[: len(request.classes)],
        profile=profile,
        signature=signature,
        origin=_origin(request, material, plain, identity),
        models=models,
        parity=report.to_json(),
    )
    return Exported(bundle=bundle, reused=False)


def _gather(request: Request) -> _Material:
    """Read what the request points at; no exporter runs yet."""
    samples = () if request.samples is None else read_samples(request.samples)
    if request.onnx is not None:
        from fsf_core.export.adopt import read_onnx
        from fsf_core.export.graph import model_bytes

        original = read_onnx(request.onnx, output_name=request.output_name)
        return _Material(weights_sha256=sha256_of(model_bytes(original)), original=original, samples=samples)
    if request.checkpoint is not None:
        try:
            weights = storage.read_bytes(request.checkpoint)
        except FetchError as error:
            reason = error if storage.exists(request.checkpoint) else f"{request.checkpoint} does not exist"
            raise CheckpointError(f"the checkpoint cannot be read: {reason}; check --checkpoint") from error
        return _Material(weights_sha256=sha256_of(weights), weights=weights, samples=samples)
    network = _network(request, None)
    return _Material(weights_sha256=_state_sha256(network), network=network, samples=samples)


def _network(request: Request, weights: bytes | None) -> "nn.Module":
    from fsf_core.export.build import load_network

    assert request.net is not None, "Request refuses to be without a model"
    return load_network(
        request.net,
        num_classes=len(request.classes),
        pyramid=request.pyramid,
        cnn_branch=request.cnn_branch,
        checkpoint=weights,
    )


def _plain_model(request: Request, material: _Material, profile: Profile) -> "tuple[ModelProto, Reference]":
    """The model to be proved, and the original that it must equal."""
    if material.original is not None:
        from fsf_core.export.adopt import from_onnx
        from fsf_core.export.graph import model_bytes

        plain = from_onnx(material.original, profile)
        return plain, Session(model_bytes(material.original)).run
    from fsf_core.export.convert import to_onnx

    network = material.network or _network(request, material.weights)
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
    plain: "ModelProto", request: Request, material: _Material, profile: Profile
) -> "Iterator[tuple[Precision, ModelProto]]":
    """The plain model, and what it becomes in the precisions asked for."""
    from fsf_core.export.precisions import to_fp16, to_int8

    yield "fp32", plain
    if "fp16" in request.precisions:
        yield "fp16", to_fp16(plain)
    if "int8" in request.precisions:
        frames = [fit(picture.image_HWC, profile) for picture in material.samples or drawn()]
        yield "int8", to_int8(plain, [normalise(frame_HWC[None], profile.levels()) for frame_HWC in frames])


def _asking(network: "nn.Module") -> "Reference":
    """The network as a function of arrays."""
    import torch

    def logits(batch_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answer: NDArray[np.float32] = network(torch.from_numpy(batch_NCHW)).numpy()
        return answer

    return logits


def _prove(
    reference: "Reference",
    models: Mapping[str, bytes],
    profile: Profile,
    request: Request,
    samples: tuple[Picture, ...],
) -> "ParityReport":
    from fsf_core.export.agreement import PRECISION_LIMITS, judge
    from fsf_core.export.verify import ParityMissError, verify

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


def _standing(out: str, identity: Mapping[str, Any]) -> Bundle | None:
    """The bundle of the same request, if it lies in the folder; another one is refused with what differs."""
    if not storage.exists(storage.join(out, DOCUMENT)):
        require_free(out)
        return None
    bundle = load_bundle(out)
    if differing := differences(identity, bundle.origin.request):
        raise OutputError(
            f"{out} holds the bundle of another request, which differs in {', '.join(differing)}; "
            "choose another --out, or remove that folder"
        )
    return bundle


def _stored_graph(bundle: Bundle) -> str:
    import onnx

    from fsf_core.export.graph import printable

    return printable(onnx.load_model_from_string(read_model(bundle)))


def _origin(request: Request, material: _Material, plain: "ModelProto", identity: Mapping[str, Any]) -> Origin:
    from fsf_core.export.graph import opset_of

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


def _state_sha256(network: "nn.Module") -> str:
    parts = (
        f"{name}{list(value.shape)}".encode() + value.numpy().tobytes() for name, value in network.state_dict().items()
    )
    return sha256_of(*parts)
