"""The network and its weights, as several commands take them."""

from dataclasses import dataclass
from typing import Annotated, get_type_hints

from cyclopts import Parameter

from fsf_core.config.groups import CHECKPOINT, INTERFACE
from fsf_core.config.values import CLASS_NAMES, Names, Numbers, flag
from fsf_core.errors import ConfigError
from fsf_core.options import (
    Align,
    ChannelOrder,
    Corners,
    FitMode,
    InputLayout,
    Interpolation,
    OutputGrid,
    OutputKind,
    OutputLayout,
    PaddingMode,
    PyramidKind,
    Resized,
    Rounding,
    ToMultiple,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The network and its weights, as `fsf export` and `fsf score --checkpoint` take them."""

    net: Annotated[str | None, Parameter(group=CHECKPOINT)] = None
    """Network of the checkpoint: fastsegformer-p, -e, -s24 or -s36, or package.module:callable."""
    checkpoint: Annotated[str | None, Parameter(group=CHECKPOINT)] = None
    """Trained weights to export: .pth, .pt or .safetensors. `fsf export` of a callable may do without."""
    weights_key: Annotated[str | None, Parameter(group=CHECKPOINT)] = None
    """Which weights to take from a checkpoint that holds several, as a dotted name, such as model_ema."""
    allow_missing: Annotated[Names, Parameter(group=CHECKPOINT)] = ()
    """Patterns of keys that the checkpoint may lack, such as aux_head.*; the network keeps its own values there."""
    allow_unexpected: Annotated[Names, Parameter(group=CHECKPOINT)] = ()
    """Patterns of keys of the checkpoint that the network may lack, such as aux_head.*"""
    classes: Annotated[tuple[str, ...], CLASS_NAMES, Parameter(group=CHECKPOINT)] = ()
    """Class names in the order of the ids: a,"b, c" or @FILE: lines, JSON, YAML (default: those in an ONNX file)."""
    palette: Annotated[Names, Parameter(group=CHECKPOINT)] = ()
    """One colour per class as rrggbb, separated by commas (default: the bundle's, or PASCAL VOC's)."""
    net_option: Annotated[Names, Parameter(group=CHECKPOINT)] = ()
    """key=value, repeatable, for what only this network takes: pyramid, cnn_branch, or a keyword of the callable."""
    pyramid: Annotated[PyramidKind | None, Parameter(group=CHECKPOINT)] = None
    """Context module of FastSegFormer (default: multiscale). Short for --net-option pyramid=…"""
    cnn_branch: Annotated[bool | None, Parameter(group=CHECKPOINT)] = None
    """Whether FastSegFormer has its image branch (default: true). Short for --net-option cnn_branch=…"""

    profile: Annotated[str | None, Parameter(group=INTERFACE)] = None
    """Preprocessing by name: fastsegformer (224x224, stretched, RGB, /255) or fastsegformer-train (letterboxed)."""
    model_config: Annotated[str | None, Parameter(group=INTERFACE)] = None
    """YAML file with `input:` and `output:` of the model. Options below replace its entries."""
    input_size: Annotated[str | None, Parameter(group=INTERFACE)] = None
    """Height and width in pixels that images are resized to, such as 512x1024."""
    resize: Annotated[FitMode | None, Parameter(group=INTERFACE)] = None
    """How: stretch, letterbox (into the size), short-side, closest-side (as DPT does), or own (no resize)."""
    short_side: Annotated[int | None, Parameter(group=INTERFACE)] = None
    """Length of the shorter side after a short-side resize, in pixels."""
    max_long_side: Annotated[int | None, Parameter(group=INTERFACE)] = None
    """Upper limit of the longer side after a short-side resize, in pixels (default: none)."""
    rounding: Annotated[Rounding | None, Parameter(group=INTERFACE)] = None
    """How scaled sides become whole: truncate (torchvision), half-up (mmcv), half-even (Ultralytics), detr."""
    multiple_of: Annotated[int | None, Parameter(group=INTERFACE)] = None
    """Number that both sides of the input are divisible by, such as 32, where its size depends on the image."""
    to_multiple: Annotated[ToMultiple | None, Parameter(group=INTERFACE)] = None
    """How sides become multiples: padded, or resized to the nearest, the next or the previous multiple."""
    crop: Annotated[str | None, Parameter(group=INTERFACE)] = None
    """Height and width of the centre of the resized image that the model takes, such as 224x224."""
    uncovered: Annotated[str | None, Parameter(group=INTERFACE)] = None
    """What pixels outside of the crop get: the name of a class, or stretch: its scores are stretched over the image."""
    interpolation: Annotated[Interpolation | None, Parameter(group=INTERFACE)] = None
    """Filter of the resize: one of OpenCV's, or Pillow's with pil- before its name."""
    channel_order: Annotated[ChannelOrder | None, Parameter(group=INTERFACE)] = None
    """Order of the channels in the model's input."""
    scale: Annotated[float | None, Parameter(group=INTERFACE)] = None
    """Divisor of the levels 0 to 255, before mean and std: 255, or 1 where mean and std are in levels."""
    mean: Annotated[Numbers, Parameter(group=INTERFACE)] = ()
    """Subtracted from each scaled channel, in the channel order of the model: 0.485,0.456,0.406."""
    std: Annotated[Numbers, Parameter(group=INTERFACE)] = ()
    """Divisor of each channel after the mean, in the channel order of the model: 0.229,0.224,0.225."""
    padding: Annotated[Numbers, Parameter(group=INTERFACE)] = ()
    """Levels of the padding, 0 to 255, in the channel order of the model: 114,114,114."""
    padding_mode: Annotated[PaddingMode | None, Parameter(group=INTERFACE)] = None
    """What the padding holds: constant (--padding), reflect, or edge (default: constant)."""
    align: Annotated[Align | None, Parameter(group=INTERFACE)] = None
    """Where an image is placed in its padding (default in a letterbox: centre)."""
    input_layout: Annotated[InputLayout | None, Parameter(group=INTERFACE)] = None
    """Axes of an ONNX file's input, where the file does not show them."""
    output_kind: Annotated[OutputKind | None, Parameter(group=INTERFACE)] = None
    """What the output holds (default: what its numbers prove; else you are asked)."""
    output_layout: Annotated[OutputLayout | None, Parameter(group=INTERFACE)] = None
    """Axes of the output (default: what its shape proves; else you are asked)."""

    resized: Annotated[Resized | None, Parameter(group=INTERFACE)] = None
    """What is resized to the image before the largest is taken (default: probabilities, behind softmax or sigmoid)."""
    output_grid: Annotated[OutputGrid | None, Parameter(group=INTERFACE)] = None
    """input: scores on a coarser grid are enlarged to the input's size before padding is cropped (default: own)."""
    corners: Annotated[Corners | None, Parameter(group=INTERFACE)] = None
    """Resize of the output (default: half-pixel); aligned is align_corners of PyTorch, asymmetric its nearest."""
    threshold: Annotated[float | None, Parameter(group=INTERFACE)] = None
    """Probability from which on a pixel of a model with one foreground channel is foreground (default: 0.5)."""

    def weight_options(self) -> list[str]:
        """Return the flags given that say how to read a checkpoint, and need one."""
        return [flag(name) for name in ("weights_key", "allow_missing", "allow_unexpected") if getattr(self, name)]

    def net_options(self) -> dict[str, str]:
        """Return the options that only this network has, by name, as they were given.

        Raises:
            ConfigError: one is not key=value, or is given twice.
        """
        options: dict[str, str] = {}
        short = {"pyramid": self.pyramid, "cnn_branch": None if self.cnn_branch is None else str(self.cnn_branch)}
        pairs = [pair.partition("=")[::2] for pair in self.net_option]
        for name, value in [*pairs, *((name, value) for name, value in short.items() if value is not None)]:
            if not name or not value:
                raise ConfigError(f"--net-option has {name or value!r}, expected key=value; correct it")
            if name in options:
                raise ConfigError(f"net option {name!r} is given twice, expected one value; give it once")
            options[name] = value
        return options


INTERFACE_OPTIONS = tuple(
    name
    for name, hint in get_type_hints(ModelOptions, include_extras=True).items()
    if INTERFACE in hint.__metadata__[-1].group
)
"""Fields of ModelOptions that say what a model's input and output are."""
