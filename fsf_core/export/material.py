"""The inputs of an export, each read once: weights, an existing ONNX file, the user's sample images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsf_core import storage
from fsf_core.config import ExportConfig
from fsf_core.errors import CheckpointError, FetchError
from fsf_core.export.interface import FileInput, read_given
from fsf_core.export.net_options import resolve_net_options
from fsf_core.export.request import sha256_of
from fsf_core.export.sample_images import SampleImage, read_samples

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """The inputs of one export."""

    weights_sha256: str
    """Digest of the checkpoint or ONNX file, or of the weights themselves if a network brings its own."""
    weights: bytes | None = None
    onnx_model: "ModelProto | None" = None
    file_input: FileInput | None = None
    """What the ONNX file fixes about its input."""
    network: "nn.Module | None" = None
    """Set if the network had to be built to know its weights."""
    samples: tuple[SampleImage, ...] = ()


def read_material(config: ExportConfig) -> Material:
    """Read the inputs; no exporter runs yet.

    Raises:
        RunError: one is missing or unreadable.
    """
    samples = () if config.samples is None else read_samples(storage.absolute(config.samples))
    if config.onnx is not None:
        from fsf_core.export.adapters import read_input, without_bfloat16
        from fsf_core.export.from_onnx import read_onnx
        from fsf_core.export.graph import model_bytes

        model = read_onnx(storage.absolute(config.onnx), output_name=read_given(config).output_name)
        return Material(
            weights_sha256=sha256_of(model_bytes(model)),
            onnx_model=without_bfloat16(model),
            file_input=read_input(without_bfloat16(model), config.onnx),
            samples=samples,
        )
    if config.checkpoint is not None:
        weights = _read_checkpoint(storage.absolute(config.checkpoint))
        return Material(weights_sha256=sha256_of(weights), weights=weights, samples=samples)
    network = build_network(config, None)
    return Material(weights_sha256=_state_sha256(network), network=network, samples=samples)


def build_network(config: ExportConfig, weights: bytes | None) -> "nn.Module":
    """Build the network and load the weights, or keep its own if there are none."""
    from fsf_core.export.build import load_network

    assert config.net is not None, "ExportConfig requires a model"
    options = resolve_net_options(config.net, config.net_options())
    return load_network(config.net, num_classes=len(config.classes), checkpoint=weights, options=options)


def _read_checkpoint(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except FetchError as error:
        reason = error if storage.exists(uri) else f"{uri} does not exist"
        raise CheckpointError(f"the checkpoint cannot be read: {reason}; check --checkpoint") from error


def _state_sha256(network: "nn.Module") -> str:
    parts = (
        f"{name}{list(value.shape)}".encode() + value.numpy().tobytes() for name, value in network.state_dict().items()
    )
    return sha256_of(*parts)
