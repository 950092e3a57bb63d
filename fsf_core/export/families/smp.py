"""segmentation_models.pytorch: folders of save_pretrained, and its networks by name.

Everything is read from the folder and from the library's source; nothing is downloaded.
"""

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsf_core.errors import CheckpointError, ConfigError, InterruptedRunError, did_you_mean
from fsf_core.export.families.albumentations import NAME as TRANSFORM
from fsf_core.export.families.albumentations import input_of_transform
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.named import NamedNetwork, NamedRequest, require_count
from fsf_core.export.families.optional import load
from fsf_core.export.families.smp_encoders import input_of_encoder
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.export.net_options import require_known

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

    from fsf_core.export.contents import Contents

EXTRA = "smp"
_LIBRARY = "segmentation_models_pytorch"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the file with the weights, in the order in which the library looks for them."""
_CLASS = "_model_class"
"""Key of config.json that names the architecture, which the library adds."""

_LEVELS = ("scale", "mean", "std")
"""Keys of the input that a saved transform decides."""

_AUXILIARY = ("classification_head.*",)
"""Weights of the head that classifies the whole image; no mask depends on them."""

_OWN = {"classes", "in_channels", "aux_params", "kwargs"}
"""Arguments of an architecture that --net-option does not set."""

_KINDS = {
    (None, False): "logits",
    (None, True): "binary_logit",
    ("identity", False): "logits",
    ("identity", True): "binary_logit",
    ("softmax", False): "probabilities",
    ("softmax2d", False): "probabilities",
    ("sigmoid", True): "binary_probability",
    ("logsoftmax", False): "logits",
    ("argmax2d", False): "class_map",
}
"""Activation of the network and whether it has one channel, to the kind of its output; others leave it open."""


def recognises(path: Path) -> bool:
    """Return whether the folder holds what save_pretrained of this library writes."""
    config = _config_of(path)
    return config is not None and isinstance(config.get(_CLASS), str)


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read a folder of save_pretrained.

    Raises:
        ConfigError: the architecture, an encoder or an option is unknown, or the library is missing.
        CheckpointError: the weights are missing, damaged or those of another network.
    """
    config = _config_of(path) or {}
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    described = f"{CONFIG} of {request.source}"
    library = load(_LIBRARY, EXTRA)
    network = _build(library, str(config[_CLASS]), options, described)
    note = _load_weights(network, path, request.source, described)
    found, transform_note = input_of_transform(path)
    document, advice = _document(network, options, library)
    levels = {key: document["input"].pop(key) for key in _LEVELS if found is None and key in document["input"]}
    advice += f"; the weights of its encoder were trained with {_as_options(levels)}" if levels else ""
    document["input"] |= found or {}
    sources = {"input": f"{CONFIG} and {TRANSFORM}" if found else CONFIG, "output": CONFIG}
    return FoundModel(
        family="smp",
        network=network,
        document=document,
        notes=tuple(sentence for sentence in (note, transform_note) if sentence),
        advice=advice,
        sources=sources,
    )


def _as_options(levels: Mapping[str, Any]) -> str:
    return " ".join(
        f"--{key} {','.join(map(str, value)) if isinstance(value, list) else f'{value:g}'}"
        for key, value in levels.items()
    )


def named(request: NamedRequest) -> NamedNetwork:
    """Build a network by the name of its architecture, as `--net smp:NAME` asks for.

    Its option encoder_weights only tells what the training began with.

    Raises:
        ConfigError: the architecture, the encoder or an option is unknown, or the library is missing.
    """
    name, options = request.name, request.options
    library = load(_LIBRARY, EXTRA)
    kind = _architecture(library, name, f"--net smp:{name}")
    parameters = inspect.signature(kind).parameters
    encoder = str(options.get("encoder_name", parameters["encoder_name"].default))
    if not encoder.startswith("tu-"):  # whose options are passed on to timm
        require_known(f"smp:{name}", options, sorted(key for key in parameters if key not in _OWN))
    count = _class_count(request.classes, _channels(request.contents), f"smp:{name}")
    options = {"classes": count, "encoder_name": encoder, **options}
    network = _build(library, name, options, f"--net smp:{name}")
    document, advice = _document(network, options, library)
    return NamedNetwork(network=network, document=document, advice=advice, allow_unexpected=_AUXILIARY)


def _class_count(classes: tuple[str, ...], channels: int | None, net: str) -> int:
    """Return how many channels the head has: one per name, or one for a background and a foreground.

    Raises:
        ConfigError: the checkpoint has another number, or there are no names.
    """
    if not classes:
        raise ConfigError(
            f"no class names are given, and a checkpoint of {net} holds none, expected one for each of its "
            f"{channels or ''} classes; pass --classes background,first,second".replace("  ", " ")
        )
    if channels == 1 and len(classes) <= 2:  # noqa: PLR2004 - background and foreground
        return 1
    require_count(len(classes), channels)
    return len(classes)


# --------------------------------------------------------------------------------------------------- the network


def _config_of(path: Path) -> dict[str, Any] | None:
    """Return the settings of a folder, or None where there are none."""
    try:
        content = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _build(library: "ModuleType", architecture: str, options: Mapping[str, Any], described: str) -> "nn.Module":
    """Build the network without the weights of its encoder, which would be downloaded, and without its auxiliary head.

    Raises:
        ConfigError: the library does not know the architecture, the encoder or an option.
    """
    kind = _architecture(library, architecture, described)
    _require_encoder(library, options.get("encoder_name"), described)
    channels = options.get("in_channels", 3)
    if channels != 3:  # noqa: PLR2004 - colour images
        raise ConfigError(
            f"{described}: the network takes {channels} channels (in_channels), expected the 3 of a colour image"
        )
    arguments = {**options, "encoder_weights": None, "aux_params": None}
    try:
        network: nn.Module = kind(**arguments)
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise ConfigError(
            f"{described}: segmentation_models.pytorch {library.__version__} cannot build {architecture} with "
            f"{_shown(options)}: {in_one_line(error)}; correct these options, or install the release that saved it"
        ) from error
    return network.float().eval()


def _architecture(library: "ModuleType", name: str, described: str) -> Any:
    """Return the class of an architecture.

    Raises:
        ConfigError: the library has none of this name.
    """
    known = {kind.__name__.lower(): kind for kind in library.MODEL_ARCHITECTURES_MAPPING.values()}
    if name.lower() not in known:
        names = [kind.__name__ for kind in known.values()]
        raise ConfigError(
            f"{described} names the architecture {name!r}{did_you_mean(name, names)}, expected one of those of "
            f"segmentation_models.pytorch {library.__version__}: {', '.join(names)}; correct it, or install the "
            "release that has it"
        )
    return known[name.lower()]


def _require_encoder(library: "ModuleType", name: object, described: str) -> None:
    """Refuse an encoder that is unknown, or that would be fetched from a hub.

    Raises:
        ConfigError: it is one of these.
    """
    if name is None:  # the library's default
        return
    names = library.encoders.get_encoder_names()
    of_timm = str(name).startswith("tu-") or library.encoders.is_equivalent_to_timm_universal(str(name))
    if ":" in str(name) or not (of_timm or name in names):
        raise ConfigError(
            f"{described} names the encoder {name!r}{did_you_mean(str(name), names)}, expected one of "
            f"segmentation_models.pytorch {library.__version__}, or tu- and the name of a model of timm; nothing is "
            "downloaded; correct it, or install the release that saved it"
        )


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(options.items()) if value is not None)


def _load_weights(network: "nn.Module", folder: Path, source: str, described: str) -> str:
    """Load the weights of a folder; returns what a user should know of them.

    Raises:
        CheckpointError: there are none, or they are damaged or another network's.
    """
    from fsf_core.export.checkpoint_file import read_checkpoint
    from fsf_core.export.contents import contents_of
    from fsf_core.export.fitting import load_weights
    from fsf_core.export.weights import WeightOptions

    name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        raise CheckpointError(
            f"{source} has {CONFIG} and no weights, expected {' or '.join(WEIGHTS)}; save the model again with "
            "model.save_pretrained(folder)"
        )
    where = f"{name} of {source}"
    contents = contents_of(read_checkpoint(folder / name, source=where), where)
    options = WeightOptions(allow_unexpected=_AUXILIARY)
    with warnings.catch_warnings(action="ignore"):  # about shapes, which end in an error here
        return load_weights(
            network, contents, options, described=f"the network of {described}", source=where, suggest=lambda _: None
        )


def _channels(contents: "Contents") -> int | None:
    """Return how many channels the head of a checkpoint has, or None where there is no such head."""
    shapes = {
        tensor.shape[0]
        for name, tensor in contents.tensors.items()
        if name.endswith(("segmentation_head.0.weight", "segmentation_head.head.2.weight")) and tensor.ndim
    }
    return shapes.pop() if len(shapes) == 1 else None


# --------------------------------------------------------------------------------------------------- input and output


def _document(
    network: "nn.Module", options: Mapping[str, Any], library: "ModuleType"
) -> tuple[dict[str, dict[str, Any]], str]:
    """Return what the options tell of input and output, and advice for what they leave open."""
    name = str(options.get("encoder_name", "resnet34"))
    known = input_of_encoder(name, options.get("encoder_weights"), library.encoders.encoders)
    size = _fixed_size(network)
    document = {"input": {**(known or {}), **({"size": size} if size else {})}, "output": _output(options)}
    return document, "; ".join([_size_advice(network, size), *([] if known else [_level_advice(name, options)])])


def _fixed_size(network: "nn.Module") -> list[int] | None:
    """Return the only size that an encoder of timm takes, where it has one."""
    sizes = {
        tuple(map(int, img_size))
        for module in network.modules()
        if getattr(module, "strict_img_size", False) and (img_size := getattr(module, "img_size", None))
    }
    return list(sizes.pop()) if len(sizes) == 1 else None


def _size_advice(network: Any, size: list[int] | None) -> str:
    """Return what fits the network, which does not tell how images come to a size that it takes."""
    if size:
        return f"the encoder takes {size[0]}x{size[1]} alone, for example --resize stretch --interpolation linear"
    if not getattr(network, "requires_divisible_input_shape", True):
        return "the network takes any size: --resize own keeps the image's, --input-size HxW --resize stretch scales it"
    multiple = int(network.encoder.output_stride)
    return (
        f"the network takes sides that are multiples of {multiple}: --resize own --multiple-of {multiple} "
        "--to-multiple pad pads the image, --input-size HxW --resize stretch scales it"
    )


def _level_advice(name: str, options: Mapping[str, Any]) -> str:
    weights = options.get("encoder_weights")
    why = "are not named (encoder_weights)" if weights is None else f"{weights!r} have no known statistics"
    return (
        f"the weights that the training of encoder {name} began with {why}, so that its normalisation is not known; "
        "with those of ImageNet it mostly is --channel-order rgb --scale 255 --mean 0.485,0.456,0.406 "
        "--std 0.229,0.224,0.225"
    )


def _output(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the activation tells of the output; logits are resized before the largest is taken.

    The library's own examples resize what the network returns (bilinear, half-pixel centres), then take the largest.
    """
    kind = _KINDS.get((options.get("activation"), options.get("classes", 1) == 1))
    if kind is None:
        return {}
    return {"kind": kind, **({"resized": "logits"} if kind == "logits" else {})}
