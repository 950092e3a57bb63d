"""What a family reads from the files of a model, and what it is asked for. Knows no family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsf_core.options import Exporter

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyRequest:
    """What the user asks a family for."""

    source: str
    """Path or URI of the model as it was given, for messages."""
    classes: tuple[str, ...] = ()
    """Class names as they were given; they replace those of the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A model, and what its own files contain about its input, output and classes."""

    family: str
    network: "nn.Module | None" = None
    """Takes normalised float32 [N, 3, H, W]. Either this or an ONNX file is set."""
    batch: int | None = None
    """Number of images that every call of the network takes, where it takes no other."""
    onnx: str | bytes | None = None
    """The ONNX file of the model: its path, or its bytes where the family adds steps to the graph."""
    as_graph: "Callable[[nn.Module, Tensor], nn.Module] | None" = None
    """Makes of the network, and images as an example, one that exporters read and that takes images of their size."""
    takes_levels: bool = False
    """Whether the network takes whole levels of 0 to 255 as they are, so that any other normalisation is wrong."""
    input_hw: tuple[int | None, int | None] = (None, None)
    """Height and width that the network was stored for; None where it takes any. No option replaces them."""
    document: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The keys of --model-config, below `input` and `output`; what the files do not contain is absent."""
    classes: tuple[str, ...] = ()
    """Names in the order of the ids, or nothing."""
    about_classes: str = ""
    """What the files contain of the classes where they do not name them, for the question about the names."""
    palette: tuple[str, ...] = ()
    """One colour per class as rrggbb, or nothing."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on what was chosen or left out."""
    advice: str = ""
    """What fits the model, for the question about what the document leaves open."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """`input`, `output` and `classes` to the name of the file that each was read from."""
    exporter: Exporter | None = None
    """The exporter that suits the network where the input has one size; None for the one that is asked for."""
