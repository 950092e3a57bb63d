"""Every option of every job: one frozen dataclass per job is its flags, its YAML file and its environment in one.

The docstring of a field is its help. Config stops at the flow: stages and tools take the values they need.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import Group, Parameter, Token

from fsf_core.class_names import parse_names
from fsf_core.errors import ConfigError
from fsf_core.options import (
    SCHEMES,
    Align,
    ChannelOrder,
    Exporter,
    FitMode,
    InputLayout,
    Interpolation,
    MaskSize,
    OutputKind,
    OutputLayout,
    Precision,
    Provider,
    PyramidKind,
    SameBy,
    Ship,
    SmallPrecision,
    Style,
    TarIds,
)

if TYPE_CHECKING:
    from fsf_core.media.video import Sampling


def _split_names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the names of `a,b,c`, of a repeated flag, or of a YAML list.

    Raises:
        ConfigError: a name is empty; every name after it would get another id.
    """
    names = tuple(part.strip() for token in tokens for part in str(token.value).split(","))
    if not all(names):
        raise ConfigError(f"found an empty name in {names}, expected names between the commas; remove the extra comma")
    return names


def _split_types(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the entries of `plot=int64,price=decimal128(10, 2)`, of a repeated flag, or of a YAML list."""
    parts = (part.strip() for token in tokens for part in re.split(r",(?![^(\[]*[)\]])", str(token.value)))
    return tuple(filter(None, parts))


def _unsplit(_: Any, value: str, *, delimiter: str | None = None) -> list[str]:  # noqa: ARG001 - cyclopts passes it
    """Return the value of a variable as one token: a name may have spaces."""
    return [value]


def _class_names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return parse_names([str(token.value) for token in tokens])


_NAMES = Parameter(converter=_split_names, n_tokens=1, negative=(), show_default=False)
_CLASS_NAMES = Parameter(converter=_class_names, n_tokens=1, negative=(), show_default=False, env_var_split=_unsplit)
_TYPES = Parameter(converter=_split_types, n_tokens=1, negative=(), show_default=False)
Names = Annotated[tuple[str, ...], _NAMES]
"""A list of names; commas separate them on the command line."""


def _split_numbers(_: Any, tokens: Sequence[Token]) -> tuple[float, ...]:
    """Return the numbers of `1,2,3`, of a repeated flag, or of a YAML list.

    Raises:
        ConfigError: one is no number.
    """
    numbers: list[float] = []
    for part in (part.strip() for token in tokens for part in str(token.value).split(",")):
        try:
            numbers.append(float(part))
        except ValueError as error:
            raise ConfigError(f"found {part!r}, expected numbers between the commas; correct it") from error
    return tuple(numbers)


Numbers = Annotated[tuple[float, ...], Parameter(converter=_split_numbers, n_tokens=1, negative=(), show_default=False)]
"""A list of numbers; commas separate them on the command line."""

Colours = tuple[tuple[int, int, int], ...]
"""One RGB colour per class."""


def parse_colours(palette: tuple[str, ...]) -> Colours:
    """Return the colours of their hexadecimal form.

    Raises:
        ConfigError: an entry is not six hexadecimal digits.
    """
    malformed = [colour for colour in palette if not re.fullmatch("#?[0-9a-fA-F]{6}", colour)]
    if malformed:
        raise ConfigError(f"--palette has {malformed}, expected six hexadecimal digits per colour, such as 800000")
    rgb = [bytes.fromhex(colour.removeprefix("#")) for colour in palette]
    return tuple((red, green, blue) for red, green, blue in rgb)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return number and count of a shard of the form i/n.

    Raises:
        ConfigError: it has another form, or i is not in 1 to n.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f"--shard is {text!r}, expected i/n with i from 1 to n, such as 1/8")
    return number, count


def parse_actors(actors: str | int | None) -> tuple[int, int] | None:
    """Return the least and the greatest number of actors of `8` or `4-32`.

    Raises:
        ConfigError: it has another form, or its numbers are not in order.
    """
    if actors is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", str(actors))
    if match is None:
        raise ConfigError(f"--actors is {actors!r}, expected a number such as 8, or a range such as 4-32")
    least, most = int(match[1]), int(match[2] or match[1])
    if not 1 <= least <= most:
        raise ConfigError(f"--actors is {actors!r}, expected at least 1, and the smaller number first")
    return least, most


_MODEL = Group("Model", sort_key=1)
_CHECKPOINT = Group("Checkpoint to export", sort_key=2)
_INTERFACE = Group("Input and output of a model; only FastSegFormer's have defaults", sort_key=3)
_ITEMS = Group("Items to score; a resumed run must choose the same", sort_key=4)
_VIDEO = Group("Videos", sort_key=5)
_SCALE = Group("Speed and size", sort_key=6)
_LIMITS = Group("Limits; an item beyond one is a failure", sort_key=7)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The network and its weights, as `fsf export` and `fsf score --checkpoint` take them."""

    net: Annotated[str | None, Parameter(group=_CHECKPOINT)] = None
    """Network of the checkpoint: fastsegformer-p, -e, -s24 or -s36, or package.module:callable."""
    checkpoint: Annotated[str | None, Parameter(group=_CHECKPOINT)] = None
    """Trained weights to export: .pth, .pt or .safetensors. `fsf export` of a callable may do without."""
    weights_key: Annotated[str | None, Parameter(group=_CHECKPOINT)] = None
    """Which weights to take from a checkpoint that holds several, as a dotted name, such as model_ema."""
    allow_missing: Annotated[Names, Parameter(group=_CHECKPOINT)] = ()
    """Patterns of keys that the checkpoint may lack, such as aux_head.*; the network keeps its own values there."""
    allow_unexpected: Annotated[Names, Parameter(group=_CHECKPOINT)] = ()
    """Patterns of keys of the checkpoint that the network may lack, such as aux_head.*"""
    classes: Annotated[tuple[str, ...], _CLASS_NAMES, Parameter(group=_CHECKPOINT)] = ()
    """Class names in the order of the ids: a,"b, c" or @FILE: lines, JSON, YAML (default: those in an ONNX file)."""
    palette: Annotated[Names, Parameter(group=_CHECKPOINT)] = ()
    """One colour per class as rrggbb, separated by commas (default: the bundle's, or PASCAL VOC's)."""
    net_option: Annotated[Names, Parameter(group=_CHECKPOINT)] = ()
    """key=value, repeatable, for what only this network takes: pyramid, cnn_branch, or a keyword of the callable."""
    pyramid: Annotated[PyramidKind | None, Parameter(group=_CHECKPOINT)] = None
    """Context module of FastSegFormer (default: multiscale). Short for --net-option pyramid=…"""
    cnn_branch: Annotated[bool | None, Parameter(group=_CHECKPOINT)] = None
    """Whether FastSegFormer has its image branch (default: true). Short for --net-option cnn_branch=…"""

    profile: Annotated[str | None, Parameter(group=_INTERFACE)] = None
    """Preprocessing by name: fastsegformer (224x224, stretched, RGB, /255) or fastsegformer-train (letterboxed)."""
    model_config: Annotated[str | None, Parameter(group=_INTERFACE)] = None
    """YAML file with `input:` and `output:` of the model. Options below replace its entries."""
    input_size: Annotated[str | None, Parameter(group=_INTERFACE)] = None
    """Height and width of the model's input in pixels, such as 512x1024."""
    resize: Annotated[FitMode | None, Parameter(group=_INTERFACE)] = None
    """How an image becomes that size: stretched, or letterboxed (aspect ratio kept, border filled with --padding)."""
    interpolation: Annotated[Interpolation | None, Parameter(group=_INTERFACE)] = None
    """Filter of the resize: one of OpenCV's, or Pillow's with pil- before its name."""
    channel_order: Annotated[ChannelOrder | None, Parameter(group=_INTERFACE)] = None
    """Order of the channels in the model's input."""
    scale: Annotated[float | None, Parameter(group=_INTERFACE)] = None
    """Divisor of the levels 0 to 255, before mean and std: 255, or 1 where mean and std are in levels."""
    mean: Annotated[Numbers, Parameter(group=_INTERFACE)] = ()
    """Subtracted from each scaled channel, in the channel order of the model: 0.485,0.456,0.406."""
    std: Annotated[Numbers, Parameter(group=_INTERFACE)] = ()
    """Divisor of each channel after the mean, in the channel order of the model: 0.229,0.224,0.225."""
    padding: Annotated[Numbers, Parameter(group=_INTERFACE)] = ()
    """Levels of a letterbox's border, 0 to 255, in the channel order of the model: 114,114,114."""
    align: Annotated[Align | None, Parameter(group=_INTERFACE)] = None
    """Where an image is placed in a letterbox (default: centre)."""
    input_layout: Annotated[InputLayout | None, Parameter(group=_INTERFACE)] = None
    """Axes of an ONNX file's input, where the file does not show them."""
    output_kind: Annotated[OutputKind | None, Parameter(group=_INTERFACE)] = None
    """What the output holds (default: what its numbers prove; else you are asked)."""
    output_layout: Annotated[OutputLayout | None, Parameter(group=_INTERFACE)] = None
    """Axes of the output (default: what its shape proves; else you are asked)."""

    def weight_options(self) -> list[str]:
        """Return the flags given that say how to read a checkpoint, and need one."""
        return [_flag(name) for name in ("weights_key", "allow_missing", "allow_unexpected") if getattr(self, name)]

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


INTERFACE_OPTIONS = (
    "profile",
    "model_config",
    "input_size",
    "resize",
    "interpolation",
    "channel_order",
    "scale",
    "mean",
    "std",
    "padding",
    "align",
    "input_layout",
    "output_kind",
    "output_layout",
)
"""Fields of ModelOptions that say what a model's input and output are."""


def is_adopted(config: "ExportConfig") -> bool:
    """Return whether the model's input and output must be given: it is none of this project's networks."""
    return config.net is None or (":" in config.net and not config.net.startswith("fsf_core."))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportConfig(ModelOptions):
    """Options of `fsf export`."""

    out: str
    """Folder of the bundle: new, empty, or holding the bundle of the same request."""
    onnx: Annotated[str | None, Parameter(group=_CHECKPOINT)] = None
    """An existing ONNX file, instead of --net and --checkpoint."""
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
    precisions: Annotated[tuple[SmallPrecision, ...], _NAMES] = ()
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
        if self.onnx is None and self.net is None:
            raise ConfigError("no model is named; pass --net and --checkpoint, or --onnx")
        if self.checkpoint is None and self.weight_options():
            raise ConfigError(f"found {' and '.join(self.weight_options())} without --checkpoint; add it, or drop them")
        if self.net is not None and ":" not in self.net and self.checkpoint is None:
            raise ConfigError(f"network {self.net!r} comes without weights; pass --checkpoint")
        least = 0 if self.onnx else 1 if is_adopted(self) else 2  # a file may hold names, one channel may have one name
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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the items of folders, archives and Parquet tables are found, as `fsf score` and `fsf bench` take it."""

    exclude: Annotated[Names, Parameter(group=_ITEMS)] = ()
    """Leave out files of a folder, glob or tar that match, such as 'labels/,*.seg.png'; patterns as in .gitignore."""
    tar_ids: Annotated[TarIds, Parameter(group=_ITEMS)] = "key"
    """Ids of the members of tar archives: key (the path up to the first dot of the name) or name (the whole path)."""
    image_column: Annotated[str | None, Parameter(group=_ITEMS)] = None
    """Column of a Parquet table that holds the images, where there are several or a column uri."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ListOptions, ModelOptions):
    """Options of `fsf score`."""

    manifest: str
    """A table (Parquet, CSV, JSON Lines), .txt of paths, tar, glob, media file, or folder of media, Parquet or tars."""
    out: str
    """Folder of the run; the same command resumes it. {date} becomes the day, {date:FORMAT} as in strftime."""
    date: str | None = None
    """Day to score instead of today: 2026-11-20, yesterday, or FIRST..LAST, one after another. --out needs {date}."""
    timezone: str = "UTC"
    """Time zone of today and of --date, such as Europe/Berlin."""

    bundle: Annotated[str | None, Parameter(group=_MODEL)] = None
    """A bundle that `fsf export` wrote. Give this or --checkpoint with --net and --classes."""
    precision: Annotated[Precision, Parameter(group=_MODEL)] = "fp32"
    """Model precision to run. A bundle must hold it; with --checkpoint it is exported too."""

    column_types: Annotated[tuple[str, ...], _TYPES, Parameter(group=_ITEMS)] = ()
    """Arrow types for columns of a CSV or JSON list, such as plot=int64,day=date32 (default: text, as written)."""
    where: Annotated[str | None, Parameter(group=_ITEMS)] = None
    """Score only rows that match, for example "split == 'test' and day >= '2026-11-01'". Also: or, not, in, is null."""
    shard: Annotated[str | None, Parameter(group=_ITEMS)] = None
    """i/n: score the i-th of n parts (i from 1), by a hash of the ids. n jobs together score every item once."""
    sample: Annotated[float | None, Parameter(group=_ITEMS)] = None
    """Share of the items to score, 0 to 1, by a hash of the ids: an item stays in or out as the list grows."""
    sample_seed: Annotated[int, Parameter(group=_ITEMS)] = 0
    """Seed for --sample."""
    limit: Annotated[int | None, Parameter(group=_ITEMS)] = None
    """Score only the first N items."""

    provider: Provider = "auto"
    """Execution provider. Anything but auto is a promise: if it cannot be kept, the job stops before it begins."""
    mask_size: MaskSize = "original"
    """Size of the masks: the image's, or the network's output grid."""
    overlays: bool = False
    """Also write a JPEG of every frame with its classes drawn over it, to overlays/ in the run."""
    clear_background: bool = False
    """Leave class 0 undrawn in overlays and rendered videos."""
    keep_failures: bool = False
    """On resume, keep earlier failures instead of retrying them."""
    reuse: str | None = None
    """An earlier run, or latest: copy its results for items whose source is unchanged, without scoring them again."""
    reuse_by: SameBy = "sha256"
    """How --reuse compares sources: sha256 reads them whole, version compares size and time, or the etag."""
    delta: str | None = None
    """Also write the finished run to Delta tables in this folder, replacing its earlier rows; one commit per table."""
    max_failed_share: float = 1.0
    """Exit with code 3 if a larger share of the items failed, 0 to 1."""
    early_items: int = 200
    """After this many items, stop early if almost all failed (for example, a wrong bucket)."""
    early_failed_share: float = 0.95
    """Share of failures, 0 to 1, above which --early-items stops the job with exit code 3."""

    every_nth: Annotated[int, Parameter(group=_VIDEO)] = 1
    """Score every n-th frame. Frame numbers and times in the tables stay those of the source."""
    fps: Annotated[float | None, Parameter(group=_VIDEO)] = None
    """Sample videos at this rate, in frames per second."""
    start_s: Annotated[float, Parameter(group=_VIDEO)] = 0.0
    """Score frames from this time on, in seconds after the first frame."""
    end_s: Annotated[float | None, Parameter(group=_VIDEO)] = None
    """Score frames before this time, in seconds after the first frame (default: to the end)."""
    keyframes_only: Annotated[bool, Parameter(group=_VIDEO)] = False
    """Score only keyframes: the fastest way through a long video."""
    render: Annotated[Style | None, Parameter(group=_VIDEO)] = None
    """Also render every video with its masks, to videos/ in the run: blended over the frames, or masks alone."""
    legend: Annotated[bool, Parameter(group=_VIDEO)] = False
    """Draw the class names and their shares into rendered videos."""

    batch_frames: Annotated[int | None, Parameter(group=_SCALE)] = None
    """Frames per model call (default: 4 on CPUs, 32 on GPUs)."""
    actors: Annotated[str | int | None, Parameter(group=_SCALE)] = None
    """Number of model actors, or a range such as 4-32 (default: one per GPU or CPU that the cluster has or may add)."""
    wait_s: Annotated[float, Parameter(group=_SCALE)] = 900.0
    """Longest time to wait for nodes that the cluster's autoscaler may add, in seconds."""
    threads: Annotated[int, Parameter(group=_SCALE)] = 1
    """CPU threads per actor. More actors with one thread each are faster."""
    segment_frames: Annotated[int, Parameter(group=_SCALE)] = 64
    """Frames of a video per work unit, the most that a resumed run repeats. Fewer if their logits exceed 256 MiB."""
    part_units: Annotated[int | None, Parameter(group=_SCALE)] = None
    """Work units per Parquet file (default: 64 to 4,096, growing with the manifest; at most 256 on CPUs)."""
    compact_mb: Annotated[int | None, Parameter(group=_SCALE)] = None
    """At the end, join small Parquet files into files of up to this size, in MiB (default: leave them)."""
    engine_cache: Annotated[str | None, Parameter(group=_SCALE)] = None
    """Folder on each node for TensorRT engines, which take minutes to build."""
    ray_address: Annotated[str | None, Parameter(group=_SCALE)] = None
    """Address of a running Ray cluster (default: the cluster of `ray job submit`, or this machine)."""

    max_bytes: Annotated[int, Parameter(group=_LIMITS)] = 1 << 30
    """Largest image file, in bytes."""
    max_pixels: Annotated[int, Parameter(group=_LIMITS)] = 105_000_000
    """Largest image or frame, in pixels; read from the header before decoding."""
    max_side_px: Annotated[int, Parameter(group=_LIMITS)] = 65_500
    """Longest side of an image, in pixels."""
    max_frames: Annotated[int, Parameter(group=_LIMITS)] = 10_000_000
    """Longest video, in frames; counted before decoding, sampled or not."""
    item_seconds: Annotated[float, Parameter(group=_LIMITS)] = 120.0
    """Longest time to decode one image or one segment of a video, in seconds."""
    item_memory_mb: Annotated[int, Parameter(group=_LIMITS)] = 4096
    """Memory for decoding an item alone after its process died, in MiB."""
    schemes: Annotated[Names, Parameter(group=_LIMITS)] = SCHEMES
    """URI schemes that items may have, separated by commas. Leave out file on a shared cluster."""
    http_hosts: Annotated[Names, Parameter(group=_LIMITS)] = ()
    """Web hosts that items may have, as patterns such as *.example.com (default: every host with a public address)."""

    def __post_init__(self) -> None:
        """Check each option and their combinations.

        Raises:
            ConfigError: a value is out of range, or options exclude each other.
        """
        self._require_one_model()
        for name in _AT_LEAST_1:
            value = getattr(self, name)
            if value is not None and not value >= 1:  # nan is neither
                raise ConfigError(f"{_flag(name)} is {value}, expected at least 1")
            most = _MAX_SIZE if name in {"max_bytes", "max_pixels"} else _MAX_NUMBER
            if value is not None and value > most:
                raise ConfigError(f"{_flag(name)} is {value:.6g}, expected at most {most}")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise ConfigError(f"--sample is {self.sample}, expected a share above 0 and up to 1")
        parse_shard(self.shard)
        parse_actors(self.actors)
        if not 0 <= self.wait_s <= _MAX_NUMBER:  # nan is neither
            raise ConfigError(f"--wait-s is {self.wait_s:.6g}, expected 0 to {_MAX_NUMBER} seconds")
        for name in ("max_failed_share", "early_failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}, expected 0 to 1")
        self.sampling()

    def _require_one_model(self) -> None:
        if bool(self.bundle) == bool(self.checkpoint):
            found = "both --bundle and --checkpoint" if self.bundle else "neither --bundle nor --checkpoint"
            raise ConfigError(f"found {found}, expected one of them; give the model once")
        if self.checkpoint and not (self.net and self.classes):
            raise ConfigError("found --checkpoint without --net or --classes, expected all three; name them")
        of_checkpoint = {"--net": self.net, "--classes": self.classes, "network options": self.net_options()}
        of_checkpoint |= {_flag(name): getattr(self, name) for name in INTERFACE_OPTIONS}
        superfluous = [name for name, value in of_checkpoint.items() if value] + self.weight_options()
        if self.bundle and superfluous:
            found = " and ".join(superfluous)
            raise ConfigError(f"found {found} beside --bundle, expected --bundle alone; leave them out")

    def sampling(self) -> "Sampling":
        """Return which frames of a video are scored.

        Raises:
            ConfigError: the options exclude each other, or one is out of range.
        """
        from fsf_core.media.video import Sampling  # loads FFmpeg

        names = ("every_nth", "fps", "start_s", "end_s", "keyframes_only")
        try:
            return Sampling(**{name: getattr(self, name) for name in names})
        except ValueError as error:
            raise ConfigError(f"{error}; correct one of {', '.join(map(_flag, names))}") from error


_MAX_NUMBER, _MAX_SIZE = (1 << 31) - 1, (1 << 62)
"""What the libraries below take; sizes of images may be larger."""

_AT_LEAST_1 = (
    "batch_frames",
    "threads",
    "segment_frames",
    "part_units",
    "max_bytes",
    "max_pixels",
    "max_side_px",
    "max_frames",
    "early_items",
    "item_seconds",
    "item_memory_mb",
    "limit",
    "compact_mb",
)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoctorConfig(ScoreConfig):
    """Options of `fsf doctor`: those of `fsf score`, all optional."""

    manifest: str = ""
    """As in `fsf score` (default: no items are checked)."""
    out: str = ""
    """As in `fsf score`; an object is written there and removed again (default: nothing is written)."""

    def _require_one_model(self) -> None:
        if self.bundle or self.checkpoint:
            super()._require_one_model()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Options of `fsf render`."""

    style: Style = "blend"
    """Blend the masks over the frames, or draw them alone."""
    legend: bool = False
    """Draw the class names and their shares into the videos."""
    clear_background: bool = False
    """Leave class 0 undrawn in a blend."""
    manifest: str | None = None
    """The manifest of the run, needed only where the videos' URIs hold a password or a signature: the run does not."""
    http_hosts: Names = ()
    """Web hosts that videos may have, as in `fsf score`."""
    ray_address: str | None = None
    """Address of a running Ray cluster (default: the cluster of `ray job submit`, or this machine)."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchConfig(ListOptions):
    """Options of `fsf bench`."""

    bundle: str
    """A bundle that `fsf export` wrote."""
    manifest: str
    """What to score, as in `fsf score`; items are taken from its beginning."""
    frames: int = 500
    """Score at most this many items; an image is one frame."""
    precision: Precision = "fp32"
    """Model precision to run. The bundle must hold it."""
    provider: Provider = "auto"
    """Execution provider. Anything but auto is a promise: if it cannot be kept, nothing is measured."""
    batch_frames: int | None = None
    """Frames per model call (default: 4 on CPUs, 32 on GPUs)."""
    actors: int | None = None
    """Number of model actors, and of bare sessions (default: one per GPU, or one per CPU)."""
    threads: int = 1
    """CPU threads per session."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check the number of frames.

        Raises:
            ConfigError: it is below 1.
        """
        if self.frames < 1:
            raise ConfigError(f"--frames is {self.frames}, expected at least 1")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `fsf inspect`."""

    png: str | None = None
    """Draw the item's classes over its image, and write that to this file."""
    frame: int | None = None
    """Number of the frame of a video (default: the first one scored)."""
    clear_background: bool = False
    """Leave class 0 undrawn."""
    legend: bool = False
    """Add the class names with their colours and shares; an image too small for them becomes wider."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Options of `fsf submit`."""

    address: str | None = None
    """Address of the dashboard, such as http://HEAD:8265 (default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS)."""
    submission_id: str | None = None
    """Id of the job (default: day, command, folder and a digest). If it runs the same command already, follow it."""
    attach: str | None = None
    """Follow the job of this id instead of submitting one."""
    wait: bool = True
    """Follow the job to its end. With --no-wait, return as soon as it runs and has its settings."""
    ship: Ship = "auto"
    """Send this program's code to the cluster: always, never, or if the cluster lacks it or has another."""
    credentials: bool = True
    """Pass the store variables of this shell, sealed. Without them, the job has those of the cluster's machines."""
    python: str = "python"
    """Python on the head of the cluster that has Ray, and the libraries of fsf."""
    driver_cpus: float = 0.0
    """CPUs to reserve for the job's driver; above 0, it may run on any node instead of the head."""
    stop_wait_s: int = 300
    """Longest time that a job may take to stop after Ctrl-C, SIGTERM or `ray job stop`, in seconds."""
    reconnect_s: float = 900.0
    """Longest time without a connection to the cluster, in seconds; the job itself goes on."""
    headers: str | None = None
    """Headers for a proxy in front of the dashboard, as a JSON object (default: RAY_JOB_HEADERS)."""
    verify: str = "true"
    """Verify certificates of https: true, false, or a file of certificate authorities."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        for name, least in (("driver_cpus", 0), ("stop_wait_s", 1), ("reconnect_s", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}, expected at least {least}")
