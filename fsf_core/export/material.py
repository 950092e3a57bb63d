"""What a request points at, read once: weights, a foreign ONNX file, sample pictures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsf_core import storage
from fsf_core.errors import CheckpointError, FetchError
from fsf_core.export.pictures import Picture, read_samples
from fsf_core.export.request import Request, sha256_of

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the request points at, read once."""

    weights_sha256: str
    """Digest of the checkpoint or ONNX file; of the weights themselves where a network brings its own."""
    weights: bytes | None = None
    original: "ModelProto | None" = None
    network: "nn.Module | None" = None
    """Built already, where there was no other way to know its weights."""
    samples: tuple[Picture, ...] = ()


def gather(request: Request) -> Material:
    """Read what the request points at; no exporter runs yet."""
    samples = () if request.samples is None else read_samples(request.samples)
    if request.onnx is not None:
        from fsf_core.export.from_onnx import read_onnx
        from fsf_core.export.graph import model_bytes

        original = read_onnx(request.onnx, output_name=request.output_name)
        return Material(weights_sha256=sha256_of(model_bytes(original)), original=original, samples=samples)
    if request.checkpoint is not None:
        try:
            weights = storage.read_bytes(request.checkpoint)
        except FetchError as error:
            reason = error if storage.exists(request.checkpoint) else f"{request.checkpoint} does not exist"
            raise CheckpointError(f"the checkpoint cannot be read: {reason}; check --checkpoint") from error
        return Material(weights_sha256=sha256_of(weights), weights=weights, samples=samples)
    network = network_of(request, None)
    return Material(weights_sha256=_state_sha256(network), network=network, samples=samples)


def network_of(request: Request, weights: bytes | None) -> "nn.Module":
    """Build the network of a request and fill it with these weights, or with its own where there are none."""
    from fsf_core.export.build import load_network

    assert request.net is not None, "Request refuses to be without a model"
    return load_network(
        request.net,
        num_classes=len(request.classes),
        pyramid=request.pyramid,
        cnn_branch=request.cnn_branch,
        checkpoint=weights,
    )


def _state_sha256(network: "nn.Module") -> str:
    parts = (
        f"{name}{list(value.shape)}".encode() + value.numpy().tobytes() for name, value in network.state_dict().items()
    )
    return sha256_of(*parts)
