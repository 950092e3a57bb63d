"""From whatever a network returns to one float32 tensor: the first call of a network, and the choice of its output.

Knows what networks return: a tensor, or a mapping, a sequence or a record of tensors. Knows no exporter and no classes.
"""

# N images, C channels, H rows, W columns

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsf_core.errors import ConfigError, InterruptedRunError, did_you_mean
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.export.input_sizes import example_hw
from fsf_core.model.preprocess import Profile

_LOGITS = ("out", "logits")
"""Names by which torchvision and transformers return the logits, beside those of auxiliary heads."""
_MAX_DEPTH = 4
_OUTPUTS_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleOutput:
    """A network that returns one tensor."""

    network: nn.Module
    note: str
    """Which of several outputs was taken, or empty."""


class _Output(nn.Module):
    """A network with one of its outputs taken, as float32."""

    def __init__(self, network: nn.Module, path: tuple[object, ...]) -> None:
        super().__init__()
        self.network = network
        self.path = path

    def forward(self, batch_NCHW: Tensor) -> Tensor:
        """Return the output."""
        value: Any = self.network(batch_NCHW)
        for key in self.path:
            value = getattr(value, key) if isinstance(key, str) and not isinstance(value, Mapping) else value[key]
        output: Tensor = value
        return output if output.dtype == torch.float32 or not output.is_floating_point() else output.float()


def example_batch(profile: Profile, *, images: int = 2) -> Tensor:
    """Return black images of the size of a network's input, or of an example where that depends on the image."""
    return torch.zeros(images, 3, *example_hw(profile))


def call(network: nn.Module, batch_NCHW: Tensor) -> object:
    """Return what a network returns for a batch.

    Raises:
        ConfigError: it raises something; the message has its own words.
    """
    try:
        with torch.inference_mode():
            return network(batch_NCHW)
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        advice = (
            "give the size that it was made for with --input-size or --model-config, the divisor of its sides with "
            "--multiple-of, or wrap it"
        )
        if isinstance(error, TypeError) and "argument" in str(error):
            advice = "wrap it in a module whose forward takes the images alone"
        raise ConfigError(
            f"the network fails for images of {list(batch_NCHW.shape)}: {in_one_line(error)}; "
            f"expected outputs for float32 [N, 3, height, width]; {advice}"
        ) from error


def single_output(network: nn.Module, batch_NCHW: Tensor, *, wanted: str | None = None) -> SingleOutput:
    """Return the network with one output: its only tensor, the named one, or that which is called out or logits.

    A network that returns one float32 tensor is returned as it is.

    Args:
        network: called once.
        batch_NCHW: the images of the call.
        wanted: name of the output: a key, an attribute or a number, dotted where they are nested.

    Raises:
        ConfigError: the network fails, or returns no tensor, several of which none is named, or half precision.
    """
    value = call(network, batch_NCHW)
    if isinstance(value, Tensor):
        _require_dtype(value)
        plain = value.dtype == torch.float32 or not value.is_floating_point()
        return SingleOutput(network=network if plain else _Output(network, ()).eval(), note="")
    outputs = {".".join(map(str, path)): (path, tensor) for path, tensor in _tensors(value, ())}
    name = _chosen(outputs, type(value).__name__, wanted)
    path, tensor = outputs[name]
    _require_dtype(tensor)
    others = [f"{other} {list(outputs[other][1].shape)}" for other in outputs if other != name]
    note = f"output {name} of the network was taken, not {', '.join(others[:_OUTPUTS_SHOWN])}" if others else ""
    return SingleOutput(network=_Output(network, path).eval(), note=note)


def _tensors(value: object, path: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], Tensor]]:
    """Yield every tensor in what a network returns, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    if len(path) >= _MAX_DEPTH:
        return
    for key, item in _entries(value):
        yield from _tensors(item, (*path, key))


def _entries(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(name, getattr(value, name)) for name in value._fields]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def _chosen(outputs: Mapping[str, tuple[tuple[object, ...], Tensor]], kind: str, wanted: str | None) -> str:
    """Return the name of the output to take.

    Raises:
        ConfigError: there is none, or several and none is named.
    """
    if not outputs:
        raise ConfigError(
            f"the network returns a {kind}, expected one tensor [N, K, H, W], or a mapping, a sequence or a record of "
            "tensors; wrap it so that it returns that tensor alone"
        )
    if wanted in outputs:
        return str(wanted)
    if len(outputs) == 1:
        return next(iter(outputs))
    named = next((name for name in _LOGITS if name in outputs), None)
    if named is not None and wanted is None:
        return named
    listed = [f"{name} {list(tensor.shape)}" for name, (_, tensor) in outputs.items()]
    found = "" if wanted is None else f", and --output-name is {wanted!r}{did_you_mean(wanted, outputs)}"
    raise ConfigError(
        f"the network returns a {kind} of {', '.join(listed[:_OUTPUTS_SHOWN])}{found}; expected one output to be "
        f"chosen; give --output-name {next(iter(outputs))} or another of them"
    )


def _require_dtype(output: Tensor) -> None:
    """Refuse float16 and bfloat16: a network casts to them, or leaves autocast on in its forward.

    Raises:
        ConfigError: the output is one of them.
    """
    if output.dtype in {torch.float16, torch.bfloat16}:
        raise ConfigError(
            f"the network returns {str(output.dtype).removeprefix('torch.')}, though its weights are float32; expected "
            "it to compute in float32, as the exported model does; remove the cast or torch.autocast from its forward"
        )
