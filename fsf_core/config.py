"""Everything that a job can be told: one frozen dataclass a job, which is its flags, YAML file and environment in one.

The docstring of a field is its help. Config stops at the flow: stages and tools take the values they need.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter, Token

from fsf_core.errors import ConfigError
from fsf_core.options import Exporter, MaskSize, Precision, Provider, PyramidKind, SameBy, Style
from fsf_core.storage import SCHEMES

if TYPE_CHECKING:
    from fsf_core.media.video import Sampling


def _split(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """`a,b,c`, or the flag repeated, or a YAML list.

    Raises:
        ConfigError: a name is empty; the names after it would stand for the wrong things.
    """
    names = tuple(part.strip() for token in tokens for part in str(token.value).split(","))
    if not all(names):
        raise ConfigError(f"found an empty name in {names}, expected names between the commas; leave no comma over")
    return names


Names = Annotated[tuple[str, ...], Parameter(converter=_split, n_tokens=1, negative=(), show_default=False)]
"""A list of names; commas separate them on the command line."""

Colours = tuple[tuple[int, int, int], ...]
"""One RGB colour a class."""


def parse_colours(words: tuple[str, ...]) -> Colours:
    """Colours from their hexadecimal form.

    Raises:
        ConfigError: a word is not six hexadecimal digits.
    """
    wrong = [word for word in words if not re.fullmatch("#?[0-9a-fA-F]{6}", word)]
    if wrong:
        raise ConfigError(f"--palette has {wrong}, expected six hexadecimal digits a colour such as 800000")
    found = [bytes.fromhex(word.removeprefix("#")) for word in words]
    return tuple((red, green, blue) for red, green, blue in found)


def expand_template(out: str, now: dt.datetime) -> str:
    """The folder that a template stands for: `{date}`, or `{date:FORMAT}` in the words of strftime.

    Raises:
        ConfigError: another name stands in braces.
    """
    found = re.sub(r"\{date(?::([^{}]*))?\}", lambda match: now.strftime(match[1] or "%Y-%m-%d"), out)
    if unknown := re.findall(r"\{\w*(?::[^{}]*)?\}", found):
        raise ConfigError(f"--out has {unknown}, expected {{date}} or {{date:FORMAT}}; correct it")
    return found


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Number and count of a shard from its form i/n.

    Raises:
        ConfigError: it has another form, or i is not among 1 to n.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f"--shard is {text!r}, expected i/n with i from 1 to n, such as 1/8")
    return number, count


_MODEL = Group("Model", sort_key=1)
_ITEMS = Group("Which items; what is chosen is part of the run", sort_key=2)
_VIDEO = Group("Videos", sort_key=3)
_SCALE = Group("Speed and size", sort_key=4)
_LIMITS = Group("Limits: beyond them an item is a failure", sort_key=5)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of the export job."""

    out: str
    """Folder of the bundle; new, empty, or holding the bundle of the same request."""
    net: str | None = None
    """fastsegformer-p, -e, -s24 or -s36, or package.module:callable that returns a torch module."""
    checkpoint: str | None = None
    """Trained weights: .pth, .pt or .safetensors. Only a network by import path may come without."""
    onnx: str | None = None
    """An ONNX file that exists already, instead of --net and --checkpoint."""
    classes: Names = ()
    """Class names in the order of the class ids, separated by commas."""
    palette: Names = ()
    """One colour a class, rrggbb, separated by commas. Without it: the PASCAL VOC colours."""
    profile: str = "fastsegformer"
    """Preprocessing: fastsegformer (the deployed tools) or fastsegformer-train (letterbox of the training code)."""
    pyramid: PyramidKind = "multiscale"
    """Context module of a named network."""
    cnn_branch: bool = True
    """Whether a named network has its image-reconstruction branch."""
    opset: int | None = None
    """ONNX opset; checked in what was written. Without it: 20 for dynamo, 17 for torchscript."""
    exporter: Exporter = "dynamo"
    """Which of torch's exporters writes the graph."""
    input_name: str = "input"
    """Name of the graph's input."""
    output_name: str = "output"
    """Name of the graph's output."""
    samples: str | None = None
    """Folder of pictures for the proof, beside its own, and to calibrate int8 on; yours serve your data best."""
    precisions: Names = ()
    """Smaller forms beside float32, each proved against limits of its own: fp16 (for GPUs), int8 (for CPUs)."""
    print_graph: bool = False
    """Print the graph in words."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Options of the score job."""

    manifest: str
    """What to score: a Parquet, CSV or JSON Lines table, a .txt of paths, a tar archive, a glob, one media file, or a
    folder: of media, or else of Parquet files, or else of tar archives."""
    out: str
    """Folder of the run; the same command again resumes it. {date} in it becomes the day in UTC, {date:%Y/%m/%d} what
    strftime makes of it."""

    bundle: Annotated[str | None, Parameter(group=_MODEL)] = None
    """A bundle that the export job made."""
    checkpoint: Annotated[str | None, Parameter(group=_MODEL)] = None
    """Instead of --bundle: weights that are exported and proved first."""
    net: Annotated[str | None, Parameter(group=_MODEL)] = None
    """Network of --checkpoint, as in `fsf export`."""
    classes: Annotated[Names, Parameter(group=_MODEL)] = ()
    """Class names of --checkpoint, separated by commas; beside --bundle, other names than its own."""
    palette: Annotated[Names, Parameter(group=_MODEL)] = ()
    """One colour a class, rrggbb, separated by commas. Without it: the bundle's, or the PASCAL VOC colours."""
    profile: Annotated[str, Parameter(group=_MODEL)] = "fastsegformer"
    """Preprocessing of --checkpoint, as in `fsf export`."""
    pyramid: Annotated[PyramidKind, Parameter(group=_MODEL)] = "multiscale"
    """Context module of --net."""
    cnn_branch: Annotated[bool, Parameter(group=_MODEL)] = True
    """Whether --net has its image-reconstruction branch."""

    precision: Annotated[Precision, Parameter(group=_MODEL)] = "fp32"
    """Which form of the model scores. The bundle must hold it; with --checkpoint it is made and proved."""

    where: Annotated[str | None, Parameter(group=_ITEMS)] = None
    """Only rows for which this holds: "split == 'test' and day >= '2026-11-01'"; knows and, or, not, in, is null."""
    shard: Annotated[str | None, Parameter(group=_ITEMS)] = None
    """i/n: the i-th of n parts, from 1, by a hash of the ids; n jobs score every item once."""
    sample: Annotated[float | None, Parameter(group=_ITEMS)] = None
    """Share of the items, 0 to 1, by a hash of the ids: the same items whatever else is in the list."""
    sample_seed: Annotated[int, Parameter(group=_ITEMS)] = 0
    """Another seed, another sample."""
    limit: Annotated[int | None, Parameter(group=_ITEMS)] = None
    """The first so many items."""

    provider: Provider = "auto"
    """Where the model runs. Anything but auto is a promise: if it cannot be kept the job stops before it begins."""
    mask_size: MaskSize = "original"
    """Masks at the size of the picture, or on the network's grid."""
    overlays: bool = False
    """Write a JPEG of every frame with the classes drawn over it, under overlays/ in the run."""
    clear_background: bool = False
    """Leave class 0 undrawn in overlays."""
    keep_failures: bool = False
    """On resume, keep earlier failures instead of trying them again."""
    reuse: str | None = None
    """An earlier run: items whose source has not changed since, scored by the same bundle and options, are carried
    forward from it and cost no model call."""
    reuse_by: SameBy = "sha256"
    """How a source is known to be unchanged: sha256 reads it whole; version asks for size and time, or the etag."""
    delta: str | None = None
    """Put the rows of the finished run into the Delta tables masks, class_stats and failures below this folder, each in
    one atomic commit; rows of the same run are replaced."""
    max_failed_share: float = 1.0
    """Share of failed items, 0 to 1, above which a finished run ends with exit code 3."""
    early_items: int = 200
    """After so many items the job looks whether nearly all failed; a wrong bucket must not burn a night."""
    early_failed_share: float = 0.95
    """Share of failures among the first items above which the job stops with exit code 3."""

    every_nth: Annotated[int, Parameter(group=_VIDEO)] = 1
    """Score every n-th frame; numbers and times stay those of the source, here and below."""
    fps: Annotated[float | None, Parameter(group=_VIDEO)] = None
    """Score the frames on screen at so many moments a second."""
    start_s: Annotated[float, Parameter(group=_VIDEO)] = 0.0
    """Score frames shown from this time on, in seconds after the first frame."""
    end_s: Annotated[float | None, Parameter(group=_VIDEO)] = None
    """Score frames shown before this time, in seconds after the first frame."""
    keyframes_only: Annotated[bool, Parameter(group=_VIDEO)] = False
    """Score keyframes alone, by far the fastest way through a long video."""
    render: Annotated[Style | None, Parameter(group=_VIDEO)] = None
    """Make a film of every video, under videos/ in the run: its masks blended in, or alone."""
    legend: Annotated[bool, Parameter(group=_VIDEO)] = False
    """Write the names of the classes and their shares into the films."""

    batch_frames: Annotated[int | None, Parameter(group=_SCALE)] = None
    """Frames given to the model at once. Without it: 4 on CPUs, 32 on GPUs, which hold two such batches."""
    actors: Annotated[int | None, Parameter(group=_SCALE)] = None
    """Processes that hold the model. Without it: one a GPU, or one a CPU."""
    threads: Annotated[int, Parameter(group=_SCALE)] = 1
    """CPU threads of each actor's session; more actors with one thread each are faster."""
    segment_frames: Annotated[int, Parameter(group=_SCALE)] = 64
    """Most frames of a video in one work unit, which is what a resumed run does again at most; fewer where a model of
    many classes answers with more than 256 MiB for them."""
    part_units: Annotated[int | None, Parameter(group=_SCALE)] = None
    """Work units in one Parquet file. Without it: grows with the manifest, from 64 to 4,096, and on CPUs to 256."""
    compact_mb: Annotated[int | None, Parameter(group=_SCALE)] = None
    """At the end, join small parts into ones of at most so many mebibytes. Without it: parts stay as committed."""
    engine_cache: Annotated[str | None, Parameter(group=_SCALE)] = None
    """Folder on each node where TensorRT keeps its engines, which take minutes to build."""
    ray_address: Annotated[str | None, Parameter(group=_SCALE)] = None
    """A running cluster. Without it: the cluster of `ray job submit`, or else this machine."""

    max_bytes: Annotated[int, Parameter(group=_LIMITS)] = 1 << 30
    """Bytes of one picture."""
    max_pixels: Annotated[int, Parameter(group=_LIMITS)] = 105_000_000
    """Pixels of one picture or frame, read from the header before anything is decoded."""
    max_side_px: Annotated[int, Parameter(group=_LIMITS)] = 65_500
    """Pixels of either side of one picture."""
    max_frames: Annotated[int, Parameter(group=_LIMITS)] = 10_000_000
    """Frames of one video, wanted or not, counted before any is decoded."""
    item_seconds: Annotated[float, Parameter(group=_LIMITS)] = 120.0
    """Seconds for one picture, or for one segment of a video."""
    item_memory_mb: Annotated[int, Parameter(group=_LIMITS)] = 4096
    """Mebibytes for decoding one item that is tried again alone, because it may have taken its process down."""
    schemes: Annotated[Names, Parameter(group=_LIMITS)] = SCHEMES
    """URI schemes that items may have, separated by commas; leave `file` out on a shared cluster."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: found / expected / do.
        """
        if bool(self.bundle) == bool(self.checkpoint):
            found = "both --bundle and --checkpoint" if self.bundle else "neither --bundle nor --checkpoint"
            raise ConfigError(f"found {found}, expected one of them; give the model once")
        if self.checkpoint and not (self.net and self.classes):
            raise ConfigError("found --checkpoint without --net or --classes, expected all three; name them")
        if self.bundle and (self.net or self.classes):
            raise ConfigError("found --net or --classes beside --bundle, expected --bundle alone; leave them out")
        for name in (
            "batch_frames",
            "actors",
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
        ):
            value = getattr(self, name)
            if value is not None and not value >= 1:  # nan is neither
                raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise ConfigError(f"--sample is {self.sample}, expected a share above 0 and up to 1")
        parse_shard(self.shard)
        for name in ("max_failed_share", "early_failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 0 to 1")
        self.sampling()

    def sampling(self) -> "Sampling":
        """Which frames of a video are wanted.

        Raises:
            ConfigError: found / expected / do.
        """
        from fsf_core.media.video import Sampling  # FFmpeg waits until it is needed

        names = ("every_nth", "fps", "start_s", "end_s", "keyframes_only")
        try:
            return Sampling(**{name: getattr(self, name) for name in names})
        except ValueError as error:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            raise ConfigError(f"{error}; correct one of {options}") from error


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Options of `fsf render`."""

    style: Style = "blend"
    """The masks blended into the pictures, or alone."""
    legend: bool = False
    """Write the names of the classes and their shares into the films."""
    clear_background: bool = False
    """Leave class 0 undrawn in a blend."""
    manifest: str | None = None
    """A list with the addresses of the videos, as in `fsf score`: needed where they hold a password or a signature."""
    ray_address: str | None = None
    """A running cluster. Without it: the cluster of `ray job submit`, or else this machine."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Options of `fsf bench`."""

    bundle: str
    """A bundle that the export job made."""
    manifest: str
    """What to score, as in `fsf score`; it is read from its beginning."""
    frames: int = 500
    """Most items of the manifest that are scored; a picture is one frame."""
    precision: Precision = "fp32"
    """Which form of the model, as in `fsf score`."""
    provider: Provider = "auto"
    """Where the model runs, as in `fsf score`."""
    batch_frames: int | None = None
    """Frames given to the model at once, as in `fsf score`."""
    actors: int | None = None
    """Processes that hold the model, as in `fsf score`; the bare session runs in as many."""
    threads: int = 1
    """CPU threads of each session."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: found / expected / do.
        """
        if self.frames < 1:
            raise ConfigError(f"--frames is {self.frames}, expected at least 1")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `fsf inspect`."""

    png: str | None = None
    """Write the picture with its classes drawn over it to this file."""
    frame: int | None = None
    """Frame of a video. Without it: the first one scored."""
    clear_background: bool = False
    """Leave class 0 undrawn."""
