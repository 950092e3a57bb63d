"""The inputs of an export, each read once: weights, an existing ONNX file, the user's sample images."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fsf_core import storage
from fsf_core.config import ExportConfig
from fsf_core.errors import CheckpointError, FetchError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.file_kinds import folder_kind
from fsf_core.export.interface import FileInput, input_of_network, read_given
from fsf_core.export.model_files import ModelFiles
from fsf_core.export.net_options import resolve_net_options
from fsf_core.export.request import sha256_of
from fsf_core.export.sample_images import SampleImage, read_samples

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from fsf_core.export.build import BuiltNetwork
    from fsf_core.export.weights import WeightOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """The inputs of one export."""

    weights_sha256: str
    """Digest of the checkpoint or ONNX file, or of the weights themselves if a network brings its own."""
    weights: bytes | None = None
    onnx_model: "ModelProto | None" = None
    file_input: FileInput | None = None
    """What the ONNX file fixes about its input."""
    weights_name: str = ""
    """Name of the checkpoint in messages."""
    built: "BuiltNetwork | None" = None
    """Set if the network had to be built to know its weights, or was read from a model's own files."""
    found: FoundModel | None = None
    """What the model's own files contain."""
    samples: tuple[SampleImage, ...] = ()


def read_material(config: ExportConfig, model: ModelFiles | None = None) -> Material:
    """Read the inputs; no exporter runs yet, and no model of a family is loaded: see `load_family`.

    Args:
        config: the request.
        model: the files of --model or --onnx.

    Raises:
        RunError: one is missing or unreadable.
    """
    samples = () if config.samples is None else read_samples(storage.absolute(config.samples))
    if config.onnx is not None:
        found = _found_in_onnx(config, model)
        changed = found.onnx if found and isinstance(found.onnx, bytes) else None
        onnx = _read_onnx(changed or _file_of(config.onnx, model), config.onnx, _output_name(config, found))
        return replace(onnx, samples=samples, found=found)
    if model is not None:
        digests = (f"{name} {digest}\n".encode() for name, digest in model.sha256.items())
        return Material(weights_sha256=sha256_of(*digests), samples=samples)
    if config.checkpoint is not None:  # a library's network is built by `load_named`
        uri = storage.absolute(config.checkpoint)
        weights = _read_checkpoint(uri)
        return Material(weights_sha256=sha256_of(weights), weights=weights, weights_name=uri, samples=samples)
    built = build_network(config, None)
    return Material(weights_sha256=_state_sha256(built.network), built=built, samples=samples)


def load_family(config: ExportConfig, material: Material, model: ModelFiles) -> Material:
    """Read the model of a family.

    Raises:
        RunError: it is incomplete, damaged or not supported, or a library is missing.
    """
    assert model.family is not None, "an ONNX file is read by read_material"
    found = model.family.read(model.path, FamilyRequest(source=model.source, classes=config.classes))
    if found.onnx is not None:
        onnx = _read_onnx(found.onnx, model.source, _output_name(config, found))
        return replace(onnx, weights_sha256=material.weights_sha256, samples=material.samples, found=found)
    assert found.network is not None, "a family gives a network or an ONNX file"
    from fsf_core.export.build import BuiltNetwork

    built = BuiltNetwork(network=found.network.float().cpu().eval())
    return replace(material, built=built, found=found, file_input=input_of_network(found))


def load_named(config: ExportConfig, material: Material) -> Material:
    """Build the network of a library that --net names, and load the weights.

    Raises:
        RunError: the library does not know the network or is missing, or the weights do not fit.
    """
    from fsf_core.export.build import BuiltNetwork
    from fsf_core.export.checkpoint_file import read_checkpoint
    from fsf_core.export.contents import contents_of
    from fsf_core.export.families.named import NamedRequest, build_named
    from fsf_core.export.fitting import load_weights

    net, source = config.net, material.weights_name
    assert net is not None and material.weights is not None, "ExportConfig requires both"  # noqa: PT018
    contents = contents_of(read_checkpoint(material.weights, source=source), source)
    options = resolve_net_options(net, config.net_options())
    library, _, name = net.partition(":")
    named = build_named(
        library,
        NamedRequest(
            name=name,
            options=options,
            classes=config.classes,
            contents=contents,
            checkpoint_sha256=material.weights_sha256,
        ),
    )
    choice = replace(weight_options(config), allow_unexpected=(*config.allow_unexpected, *named.allow_unexpected))
    described = ", ".join([net, *(f"{name}={value}" for name, value in options.items())])
    note = load_weights(named.network, contents, choice, described=described, source=source, suggest=lambda _: None)
    found = FoundModel(
        family=library,
        network=named.network,
        document=named.document,
        classes=named.classes,
        notes=named.notes,
        advice=named.advice,
    )
    return replace(material, built=BuiltNetwork(network=named.network, note=note), found=found)


def _file_of(onnx: str, model: ModelFiles | None) -> str | bytes:
    """Return the path of an ONNX file; of one that was fetched from a store, its bytes."""
    uri = storage.absolute(onnx)
    return uri if model is None or storage.is_local(uri) else model.path.read_bytes()


def _read_onnx(uri: str | bytes, source: str, output_name: str | None) -> Material:
    from fsf_core.export.adapters import read_input, without_bfloat16
    from fsf_core.export.from_onnx import read_onnx
    from fsf_core.export.graph import model_bytes

    model = read_onnx(uri, output_name=output_name, name=source)
    return Material(
        weights_sha256=sha256_of(model_bytes(model)),
        onnx_model=without_bfloat16(model),
        file_input=read_input(without_bfloat16(model), source),
    )


def _output_name(config: ExportConfig, found: FoundModel | None) -> str | None:
    document = found.document if found else {}
    return read_given(config).output_name or document.get("output", {}).get("name")


def _found_in_onnx(config: ExportConfig, model: ModelFiles | None) -> FoundModel | None:
    """Return what a family reads from the metadata of its ONNX file, or from files beside it."""
    if model is None or model.family is None:
        return None
    return model.family.read(model.path, FamilyRequest(source=model.source, classes=config.classes))


def build_network(config: ExportConfig, weights: bytes | None, weights_name: str = "") -> "BuiltNetwork":
    """Build the network and load the weights, or keep its own if there are none."""
    from fsf_core.export import build

    assert config.net is not None, "ExportConfig requires a model"
    return build.build_network(
        config.net,
        num_classes=len(config.classes),
        checkpoint=weights,
        options=resolve_net_options(config.net, config.net_options()),
        weights=weight_options(config),
        source=weights_name,
    )


def weight_options(config: ExportConfig) -> "WeightOptions":
    """Return which weights of the checkpoint are wanted, and which keys may differ."""
    from fsf_core.export.weights import WeightOptions

    return WeightOptions(
        key=config.weights_key, allow_missing=config.allow_missing, allow_unexpected=config.allow_unexpected
    )


def _read_checkpoint(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except FetchError as error:
        reason = str(error) if storage.exists(uri) else f"{uri} does not exist"
        if storage.is_local(uri) and (folder := storage.local_path(uri)).is_dir():
            kind, remedy = folder_kind({path.name for path in folder.iterdir()})
            reason = f"{uri} is {kind}, expected one file; {remedy}"
        raise CheckpointError(f"the checkpoint cannot be read: {reason}; check --checkpoint") from error


def _state_sha256(network: "nn.Module") -> str:
    tensors = ((name, value) for name, value in network.state_dict().items() if hasattr(value, "numpy"))
    return sha256_of(*(f"{name}{list(value.shape)}".encode() + value.numpy().tobytes() for name, value in tensors))
