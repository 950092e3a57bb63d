"""Options of `fsf export`."""

from dataclasses import dataclass
from typing import Annotated, get_args

from cyclopts import Parameter

from fsf_core.config.groups import CHECKPOINT
from fsf_core.config.model import ModelOptions
from fsf_core.config.values import NAMES
from fsf_core.errors import ConfigError
from fsf_core.options import Exporter, SmallPrecision

LIBRARIES = ("smp", "torchvision")
"""Libraries whose networks --net builds by name: `--net smp:Unet`."""


def library_of(net: str | None) -> str | None:
    """Return the library of a network's name, or None where it is no name of a library's network."""
    start, colon, _ = (net or "").partition(":")
    return start if colon and start in LIBRARIES else None


def is_adopted(config: "ExportConfig") -> bool:
    """Return whether the model's input and output must be given: it is none of this project's networks."""
    return config.net is None or (":" in config.net and not config.net.startswith("fsf_core."))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportConfig(ModelOptions):
    """Options of `fsf export`."""

    out: str
    """Folder of the bundle: new, empty, or holding the bundle of the same request."""
    onnx: Annotated[str | None, Parameter(group=CHECKPOINT)] = None
    """An existing ONNX file, instead of --net and --checkpoint."""
    model: Annotated[str | None, Parameter(group=CHECKPOINT)] = None
    """A model as its library saves it: a file or a folder, recognised by its content, or an ONNX file."""
    exporter: Exporter = "dynamo"
    """torch exporter that writes the graph."""
    opset: int | None = None
    """ONNX opset of the graph (default: 20 with dynamo, 17 with torchscript). An ONNX file keeps its own."""
    input_name: str = "input"
    """Name of the graph's input. An ONNX file keeps its own."""
    output_name: str | None = None
    """Name of the graph's output (default: output); chooses one if an ONNX file has several."""
    samples: str | None = None
    """Folder of your images, at most 32: they join the parity check and calibrate int8."""
    precisions: Annotated[tuple[SmallPrecision, ...], NAMES] = ()
    """Extra precisions to export, each with its own parity limits: fp16 (for GPUs), int8 (for CPUs)."""
    print_graph: bool = False
    """Print the ONNX graph as text."""

    def __post_init__(self) -> None:
        """Check what needs no other module.

        Raises:
            ConfigError: no model is named or more than one, or names are missing, equal or unknown.
        """
        if self.onnx is not None and (self.net is not None or self.checkpoint is not None):
            raise ConfigError("found --onnx with --net or --checkpoint, expected one model; pass the file alone")
        if self.model is not None and (self.onnx is not None or self.net is not None or self.checkpoint is not None):
            raise ConfigError("found --model with --onnx, --net or --checkpoint, expected one model; pass one of them")
        if self.onnx is None and self.net is None and self.model is None:
            raise ConfigError("no model is named; pass --model, --net and --checkpoint, or --onnx")
        if self.checkpoint is None and self.weight_options():
            raise ConfigError(f"found {' and '.join(self.weight_options())} without --checkpoint; add it, or drop them")
        if self.net is not None and (":" not in self.net or library_of(self.net)) and self.checkpoint is None:
            raise ConfigError(f"network {self.net!r} comes without weights; pass --checkpoint")
        # a file may hold or imply names, and one channel may have one name
        least = 0 if self.onnx or self.model or library_of(self.net) else 1 if is_adopted(self) else 2
        if len(self.classes) < least or not all(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ConfigError(
                f"classes are {list(self.classes)}, expected at least two names, none empty, no two equal; "
                "pass --classes background,first,second"
            )
        if not set(self.precisions) <= set(get_args(SmallPrecision)):
            raise ConfigError(
                f"--precisions is {','.join(self.precisions)}, expected names out of "
                f"{','.join(get_args(SmallPrecision))}; fp32 is always exported"
            )
        self.net_options()
