"""What a family reads from the files of a model, and what it is asked for. Knows no family."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


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
    onnx: str | bytes | None = None
    """The ONNX file of the model: its path, or its bytes where the family adds steps to the graph."""
    document: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The keys of --model-config, below `input` and `output`; what the files do not contain is absent."""
    classes: tuple[str, ...] = ()
    """Names in the order of the ids, or nothing."""
    palette: tuple[str, ...] = ()
    """One colour per class as rrggbb, or nothing."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on what was chosen or left out."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """`input`, `output` and `classes` to the name of the file that each was read from."""
