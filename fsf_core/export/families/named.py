"""Networks that a library builds by name: `--net smp:Unet`, `--net torchvision:fcn_resnet50`. Knows no library."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsf_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from fsf_core.export.contents import Contents

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "smp": ("segmentation-models-pytorch", "timm"),
    "torchvision": ("torchvision",),
}
"""What precedes the colon, which is a module of this package, to the distributions that compute its networks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedNetwork:
    """A network of a library, before its weights are loaded, and what the library tells of it."""

    network: "nn.Module"
    document: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The keys of --model-config, below `input` and `output`."""
    classes: tuple[str, ...] = ()
    """Names of the classes where the checkpoint is known to have them."""
    notes: tuple[str, ...] = ()
    advice: str = ""
    """What fits the network, for what the document leaves open."""
    allow_unexpected: tuple[str, ...] = ()
    """Weights of parts that no mask depends on, and that were not built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedRequest:
    """A network that is asked for by name."""

    name: str
    """Without the library."""
    options: Mapping[str, object]
    """Of --net-option, typed."""
    classes: tuple[str, ...]
    """Names of the classes; none where the checkpoint may hold them."""
    contents: "Contents"
    """Of the checkpoint, which tell how many classes there are."""
    checkpoint_sha256: str
    """Digest of the file, by which published weights are known."""


def build_named(library: str, request: NamedRequest) -> NamedNetwork:
    """Build the network of a library, without weights.

    Raises:
        ConfigError: the library is missing, or does not know the name or an option; or classes have no names.
    """
    module = importlib.import_module(f"{__package__}.{library}")
    built: NamedNetwork = module.named(request)
    return built


def require_count(named: int, channels: int | None) -> None:
    """Refuse names of another number than the checkpoint's head has channels.

    Raises:
        ConfigError: they differ.
    """
    if channels is not None and channels != named:
        raise ConfigError(
            f"the head of the checkpoint has {channels} channels, but {named} classes are named; expected one name per "
            "channel, the background too where it has one; correct --classes"
        )
