"""Options of `fsf score`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fsf_core.config.groups import ITEMS, LIMITS, MODEL, SCALE, VIDEO
from fsf_core.config.listing import ListOptions
from fsf_core.config.model import INTERFACE_OPTIONS, ModelOptions
from fsf_core.config.values import CONDITIONS, TYPES, Names, flag, parse_actors, parse_shard
from fsf_core.errors import ConfigError
from fsf_core.expressions import figures
from fsf_core.options import SCHEMES, MaskSize, Pages, Precision, Provider, SameBy, Style

if TYPE_CHECKING:
    from fsf_core.media.video import Sampling


_MAX_NUMBER, _MAX_SIZE = (1 << 31) - 1, (1 << 62)
"""What the libraries below take; sizes of images may be larger."""

MIN_GPU_SHARE = 0.05
"""Least share of a GPU for one actor: twenty processes have 14 GB of contexts and libraries on a card."""

_AT_LEAST_1 = (
    "batch_frames",
    "threads",
    "segment_frames",
    "part_units",
    "max_bytes",
    "max_pixels",
    "max_input_px",
    "max_side_px",
    "max_frames",
    "early_items",
    "item_seconds",
    "item_memory_mb",
    "limit",
    "min_region_px",
    "compact_mb",
)


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

    bundle: Annotated[str | None, Parameter(group=MODEL)] = None
    """A bundle that `fsf export` wrote. Give this or --checkpoint with --net and --classes."""
    precision: Annotated[Precision, Parameter(group=MODEL)] = "fp32"
    """Model precision to run. A bundle must hold it; with --checkpoint it is exported too."""

    column_types: Annotated[tuple[str, ...], TYPES, Parameter(group=ITEMS)] = ()
    """Arrow types for columns of a CSV or JSON list, such as plot=int64,day=date32 (default: text, as written)."""
    where: Annotated[str | None, Parameter(group=ITEMS)] = None
    """Score only rows that match, for example "split == 'test' and day >= '2026-11-01'". Also: or, not, in, is null."""
    shard: Annotated[str | None, Parameter(group=ITEMS)] = None
    """i/n: score the i-th of n parts (i from 1), by a hash of the ids. n jobs together score every item once."""
    sample: Annotated[float | None, Parameter(group=ITEMS)] = None
    """Share of the items to score, 0 to 1, by a hash of the ids: an item stays in or out as the list grows."""
    sample_seed: Annotated[int, Parameter(group=ITEMS)] = 0
    """Seed for --sample."""
    limit: Annotated[int | None, Parameter(group=ITEMS)] = None
    """Score only the first N items."""

    provider: Provider = "auto"
    """Execution provider; tensorrt is experimental. Anything but auto is a promise: the job stops if it is not kept."""
    mask_size: MaskSize = "original"
    """Size of the masks: the image's, or the network's output grid."""
    pages: Pages = "first"
    """Pages of TIFF files to score: the first, or all, each as a frame. Labels of pages are a folder, as of a video."""
    regions: bool = False
    """Also write a row for every connected region of a class other than 0, to regions/ in the run."""
    min_region_px: int = 1
    """Leave regions of fewer pixels out of --regions."""
    tile: bool = False
    """Score images at their own scale, TIFFs of any size, in windows of the input: for models that keep scale."""
    overlap: int | None = None
    """With --tile: pixels that neighbouring windows share at least, up to half a window (default: a quarter)."""
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
    fail_if: Annotated[tuple[str, ...], CONDITIONS] = ()
    """Exit with code 3 if this holds at the end, such as 'failed_share > 0.01'. Repeatable; see jobs/README.md."""
    against: str | None = None
    """A finished run of the same classes, or RUNS/latest: the summary says what has drifted since."""
    price_hour: float | None = None
    """What all machines of the job cost in an hour, in any currency: the summary has the cost of a million frames."""
    early_items: int = 200
    """After this many items, stop early if almost all failed (for example, a wrong bucket)."""
    early_failed_share: float = 0.95
    """Share of failures, 0 to 1, above which --early-items stops the job with exit code 3."""

    every_nth: Annotated[int, Parameter(group=VIDEO)] = 1
    """Score every n-th frame. Frame numbers and times in the tables stay those of the source."""
    fps: Annotated[float | None, Parameter(group=VIDEO)] = None
    """Sample videos at this rate, in frames per second."""
    start_s: Annotated[float, Parameter(group=VIDEO)] = 0.0
    """Score frames from this time on, in seconds after the first frame."""
    end_s: Annotated[float | None, Parameter(group=VIDEO)] = None
    """Score frames before this time, in seconds after the first frame (default: to the end)."""
    keyframes_only: Annotated[bool, Parameter(group=VIDEO)] = False
    """Score only keyframes: the fastest way through a long video."""
    render: Annotated[Style | None, Parameter(group=VIDEO)] = None
    """Also render every video with its masks, to videos/ in the run: blended over the frames, or masks alone."""
    legend: Annotated[bool, Parameter(group=VIDEO)] = False
    """Draw the class names and their shares into rendered videos."""

    batch_frames: Annotated[int | None, Parameter(group=SCALE)] = None
    """Frames per model call (default: 4 on CPUs, 64 on GPUs; from 50,000 items on, what each GPU measures as fast)."""
    actors: Annotated[str | int | None, Parameter(group=SCALE)] = None
    """Number of model actors, or a range such as 4-32 (default: as many as the GPUs or CPUs hold, later ones too)."""
    gpus_per_actor: Annotated[float, Parameter(group=SCALE)] = 1.0
    """Share of a GPU that an actor gets, 0.05 to 1. With 0.5 two actors run on each card, with half its memory each."""
    wait_s: Annotated[float, Parameter(group=SCALE)] = 900.0
    """Longest time to wait for nodes that the cluster's autoscaler may add, in seconds."""
    threads: Annotated[int, Parameter(group=SCALE)] = 1
    """CPU threads per actor. More actors with one thread each are faster."""
    segment_frames: Annotated[int, Parameter(group=SCALE)] = 64
    """Frames of a video per work unit, the most that a resumed run repeats. Fewer if their logits exceed 256 MiB."""
    part_units: Annotated[int | None, Parameter(group=SCALE)] = None
    """Work units per Parquet file (default: 64 to 4,096, growing with the manifest; at most 256 on CPUs)."""
    compact_mb: Annotated[int | None, Parameter(group=SCALE)] = None
    """At the end, join small Parquet files into files of up to this size, in MiB (default: leave them)."""
    engine_cache: Annotated[str | None, Parameter(group=SCALE)] = None
    """With --provider tensorrt (experimental): folder on each node for its engines, which take minutes to build."""
    ray_address: Annotated[str | None, Parameter(group=SCALE)] = None
    """Address of a running Ray cluster (default: the cluster of `ray job submit`, or this machine)."""

    max_bytes: Annotated[int, Parameter(group=LIMITS)] = 1 << 30
    """Largest image file, in bytes; with --tile a TIFF may be larger: it is read by windows."""
    max_pixels: Annotated[int, Parameter(group=LIMITS)] = 105_000_000
    """Largest image or frame, in pixels, by its header. With --tile a larger TIFF is scored, with its mask as TIFF."""
    max_side_px: Annotated[int, Parameter(group=LIMITS)] = 65_500
    """Longest side of an image, in pixels; with --tile not of a TIFF."""
    max_input_px: Annotated[int, Parameter(group=LIMITS)] = 1 << 24
    """Largest input of the model, in pixels, where its size depends on the image (4096×4096)."""
    max_frames: Annotated[int, Parameter(group=LIMITS)] = 10_000_000
    """Longest video, in frames; counted before decoding, sampled or not."""
    item_seconds: Annotated[float, Parameter(group=LIMITS)] = 120.0
    """Longest time to decode one image or one segment of a video, in seconds."""
    item_memory_mb: Annotated[int, Parameter(group=LIMITS)] = 4096
    """Memory for decoding an item alone after its process died, in MiB."""
    schemes: Annotated[Names, Parameter(group=LIMITS)] = SCHEMES
    """URI schemes that items may have, separated by commas. Leave out file on a shared cluster."""
    http_hosts: Annotated[Names, Parameter(group=LIMITS)] = ()
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
                raise ConfigError(f"{flag(name)} is {value}, expected at least 1")
            most = _MAX_SIZE if name in {"max_bytes", "max_pixels", "max_input_px"} else _MAX_NUMBER
            if value is not None and value > most:
                raise ConfigError(f"{flag(name)} is {value:.6g}, expected at most {most}")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise ConfigError(f"--sample is {self.sample}, expected a share above 0 and up to 1")
        self._require_regions()
        self._require_tiles()
        parse_shard(self.shard)
        parse_actors(self.actors)
        self._require_card()
        if not 0 <= self.wait_s <= _MAX_NUMBER:  # nan is neither
            raise ConfigError(f"--wait-s is {self.wait_s:.6g}, expected 0 to {_MAX_NUMBER} seconds")
        for name in ("max_failed_share", "early_failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{flag(name)} is {getattr(self, name)}, expected 0 to 1")
        if self.price_hour is not None and not 0 <= self.price_hour <= _MAX_NUMBER:  # nan is neither
            raise ConfigError(f"--price-hour is {self.price_hour:.6g}, expected 0 to {_MAX_NUMBER}")
        for text in self.fail_if:
            figures.parse(text)
        self.sampling()

    def _require_regions(self) -> None:
        if self.min_region_px > 1 and not self.regions:
            raise ConfigError(
                f"--min-region-px is {self.min_region_px} without --regions, expected both or neither; add --regions"
            )

    def _require_tiles(self) -> None:
        if self.overlap is not None and not self.tile:
            raise ConfigError(f"--overlap is {self.overlap} without --tile, expected both or neither; add --tile")
        if self.overlap is not None and self.overlap < 0:
            raise ConfigError(f"--overlap is {self.overlap}, expected at least 0")
        if self.tile and (self.mask_size != "original" or self.render or self.pages != "first"):
            other = f"--mask-size {self.mask_size}" if self.mask_size != "original" else f"--pages {self.pages}"
            other = f"--render {self.render}" if self.render else other
            raise ConfigError(
                f"found --tile beside {other}, expected one of them: windows are scored at the scale of the image, and "
                "of images alone, of a TIFF the first page; leave one out"
            )

    def _require_card(self) -> None:
        """Check what is for GPUs alone."""
        share = self.gpus_per_actor
        if not MIN_GPU_SHARE <= share <= 1:  # nan is neither
            raise ConfigError(
                f"--gpus-per-actor is {share:.6g}, expected {MIN_GPU_SHARE} to 1: an actor runs on one card, or shares "
                "it; for several cards pass --actors"
            )
        if share != 1 and self.provider == "cpu":
            raise ConfigError(
                f"--gpus-per-actor is {share:.6g} beside --provider cpu, expected a GPU to share; leave one of them out"
            )
        if self.precision == "int8" and self.provider not in {"auto", "cpu"}:
            raise ConfigError(
                f"--precision is int8 beside --provider {self.provider}, expected --provider cpu: it is quantized for "
                "CPUs and gains nothing on GPUs; pass --precision fp16, or leave --provider out"
            )
        if self.engine_cache is None:
            return
        if self.provider != "tensorrt":
            raise ConfigError(
                f"--engine-cache is {self.engine_cache} beside --provider {self.provider}, expected --provider "
                "tensorrt, which alone has engines; leave it out"
            )
        if "://" in self.engine_cache:
            raise ConfigError(
                f"--engine-cache is {self.engine_cache}, expected a folder on each node; give a path of a local disk"
            )

    def _require_one_model(self) -> None:
        if bool(self.bundle) == bool(self.checkpoint):
            found = "both --bundle and --checkpoint" if self.bundle else "neither --bundle nor --checkpoint"
            raise ConfigError(f"found {found}, expected one of them; give the model once")
        if self.checkpoint and not (self.net and self.classes):
            raise ConfigError("found --checkpoint without --net or --classes, expected all three; name them")
        of_checkpoint = {"--net": self.net, "--classes": self.classes, "network options": self.net_options()}
        of_checkpoint |= {flag(name): getattr(self, name) for name in INTERFACE_OPTIONS}
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
            raise ConfigError(f"{error}; correct one of {', '.join(map(flag, names))}") from error
