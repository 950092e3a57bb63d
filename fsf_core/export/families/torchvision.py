"""torchvision's segmentation networks by name, with weights from a checkpoint. Nothing is downloaded.

Checkpoints are state dicts, torchvision's own or those of its reference training script.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.export.families.named import NamedNetwork, NamedRequest, require_count
from fsf_core.export.families.optional import load
from fsf_core.export.net_options import require_known

if TYPE_CHECKING:
    from fsf_core.export.contents import Contents

EXTRA = "torchvision"

_AUXILIARY = ("aux_classifier.*",)
"""Weights of the head that helps in training; no mask depends on them."""
_HEADS = ("classifier.4.weight", "classifier.high_classifier.weight", "classifier.low_classifier.weight")
"""Weights whose first side is the number of classes."""
_OWN = {"weights", "weights_backbone", "num_classes", "progress", "kwargs"}
"""Arguments of torchvision's functions that this module sets, or that do not matter."""
_FILTERS = {("bilinear", True): "torchvision-float-bilinear", ("bicubic", True): "torchvision-float-bicubic"}
"""Interpolation and antialiasing of a preset to the name of the filter."""


def named(request: NamedRequest) -> NamedNetwork:
    """Build a network by name, as `--net torchvision:NAME` asks for.

    Raises:
        ConfigError: torchvision is missing, or does not know the name or an option; or classes have no names.
    """
    name = request.name
    models = load("torchvision.models", EXTRA)
    load("torchvision.models.segmentation", EXTRA)
    names = models.list_models(module=models.segmentation)
    if name not in names:
        raise ConfigError(
            f"torchvision has no segmentation network {name!r}{did_you_mean(name, names)}, expected one of "
            f"{', '.join(names)}; correct --net torchvision:NAME"
        )
    weights = models.get_model_weights(name).DEFAULT
    known = _published(weights, request.checkpoint_sha256)
    count = _count(request.contents)
    classes = request.classes or _names(name, weights, known=known, count=count)
    require_count(len(classes), count)
    network = _build(models.get_model_builder(name), name, request.options, len(classes))
    document, note = _document(weights, name)
    return NamedNetwork(network=network, document=document, classes=classes, notes=(note,), allow_unexpected=_AUXILIARY)


def _build(builder: Callable[..., Any], name: str, options: Mapping[str, object], count: int) -> Any:
    """Build the network without weights.

    Raises:
        ConfigError: it has no such option.
    """
    net = f"torchvision:{name}"
    keywords = {key for key in inspect.signature(builder).parameters if key not in _OWN}
    require_known(net, options, sorted(keywords))
    for option, value in options.items():  # aux_loss alone today
        if not isinstance(value, bool):
            raise ConfigError(f"{net}: the option {option} is {value!r}, expected true or false; correct --net-option")
    network = builder(weights=None, weights_backbone=None, num_classes=count, **options)
    return network.float().eval()


def _published(weights: Any, sha256: str) -> bool:
    """Return whether a file is torchvision's own: the address of its weights ends with the start of their digest."""
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    return digest is not None and sha256.startswith(digest[1])


def _count(contents: "Contents") -> int | None:
    """Return the number of classes of a checkpoint, or None where it is none of these networks'."""
    found = {tensor.shape[0] for name, tensor in contents.tensors.items() if name.endswith(_HEADS) and tensor.ndim}
    return found.pop() if len(found) == 1 else None


def _names(name: str, weights: Any, *, known: bool, count: int | None) -> tuple[str, ...]:
    """Return the names of published weights.

    Raises:
        ConfigError: the checkpoint is another one.
    """
    categories = tuple(map(str, weights.meta["categories"]))
    if known:
        return categories
    proposal = ""
    if count == len(categories):
        proposal = f"; if they are those of torchvision's weights for {name}, pass --classes {','.join(categories)}"
    raise ConfigError(
        f"no class names are given, and a checkpoint of torchvision:{name} holds none, expected one for each of "
        f"{count or 'its'} classes; pass --classes background,first,second{proposal}"
    )


def _document(weights: Any, name: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the preprocessing of torchvision's preset for the network, and a note that it was taken."""
    preset = weights.transforms()
    (short_side,) = preset.resize_size
    interpolation = _FILTERS.get((preset.interpolation.value, bool(preset.antialias)))
    document = {
        "input": {
            "resize": "short-side",
            "short_side": short_side,
            "rounding": "truncate",
            **({"interpolation": interpolation} if interpolation else {}),
            "channel_order": "rgb",
            "scale": 255.0,
            "mean": list(preset.mean),
            "std": list(preset.std),
        },
        "output": {"kind": "logits", "resized": "logits"},
    }
    note = (
        f"preprocessing of torchvision's preset for {name}, which its training script uses too: shorter side "
        f"{short_side}, mean {preset.mean}, std {preset.std}, resized as it resizes tensors (as it resizes PIL images: "
        "--interpolation pil-bilinear); options replace it where yours differs"
    )
    return document, note
