"""The specification of a pipeline: the settings of its stages, and the resources of each.

Plain values. Beside GPUs every stage has tasks of its own, so that the model need not wait for any of them. On CPUs all
stages compete for the same cores, so one actor does everything from bytes to committed masks.
"""

import math
from dataclasses import dataclass
from typing import Any

from fsf_core.model.bundle import Bundle
from fsf_core.model.preprocess import Profile
from fsf_core.options import ResolvedProvider
from fsf_core.stages.decode import TABLE_BYTES
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.tiles import TileSettings
from fsf_core.stages.write import WriteSettings

DECODE_CPUS, MASK_CPUS, WRITE_CPUS = 0.75, 0.6, 0.65
"""Logical CPUs of one task of each stage beside the actors. Ray Data fuses operators that ask for the same resources.
So decode differs from an actor's 1 CPU: without GPUs it would run inside the actors, in turn with the model. And mask
differs from write: masks would wait for a full part; the limit on writers alone separates these two as well."""

BLOCK_ITEMS = 64
"""Maximum number of images of one block where one actor does everything, unless parts have more."""

BLOCK_ITEMS_SEPARATE = 512
"""Maximum number of images of one block where stages are separate: 0.1 s of a GPU that does 5,000 frames/s. A block
costs 65 ms of CPU whatever its size, of driver, raylet and workers: 1.0 ms per frame in blocks of 64. With blocks of up
to 512, which become smaller towards the end of the job, it is 0.39 ms for 20,000 frames and 0.21 for 100,000; decode,
mask and write take 2.5 (2 busy cores of an EPYC, 2026-11-28)."""

BLOCK_ITEMS_CPU = 256
"""Maximum number of images of one block where one actor does everything: a few seconds of work, and one part."""

BLOCK_ITEMS_TILED = 8
"""Maximum number of pictures of one block where they are scored in windows: each may take minutes, and all of a block
are scored again if it ends its process."""

GPU_PROVIDERS = ("cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """Everything that the pipeline is built from."""

    bundle: Bundle
    variant: str
    """Variant of the model, by its name in the bundle."""
    provider: ResolvedProvider
    actors: int
    """Greatest number of actors."""
    min_actors: int
    """Least number: the pool does not shrink below it before the work ends."""
    asked_actors: int
    """Number of actors for which nodes are asked for from the start; for more, as Ray Data finds them useful."""
    separate_stages: bool
    """Whether decode, mask and write are operators of their own; otherwise the actors do everything."""
    owns_cluster: bool
    """Whether this job started the cluster, on this machine."""
    batch_frames: int | None
    """Frames per call of the model; None where every actor measures what is fast."""
    gpus_per_actor: float
    """Share of a GPU of one actor; nothing on CPUs."""
    threads: int
    engine_cache: str | None
    part_units: int
    decode: DecodeSettings
    child: ChildLimits
    mask: MaskSettings
    write: WriteSettings
    tile: TileSettings | None = None
    """Where pictures are scored in windows; the actors do everything then, beside GPUs too."""

    @property
    def model(self) -> dict[str, Any]:
        """Arguments of Infer."""
        return {
            "bundle_uri": self.bundle.uri,
            "bundle_sha256": self.bundle.sha256,
            "variant": self.variant,
            "provider": self.provider,
            "threads": self.threads,
            "engine_cache": self.engine_cache,
            "batch_frames": self.batch_frames,
            "planes": self.mask.min_region_px is not None and self.tile is None,
        }

    @property
    def gpus(self) -> float:
        """Return the logical GPUs of one actor, 0 where the model runs on CPUs."""
        return gpu_share(self.gpus_per_actor) if self.provider in GPU_PROVIDERS else 0.0

    @property
    def block_items(self) -> int:
        """Maximum number of images of one block of the manifest; of separate stages, as many as one table holds."""
        if not self.separate_stages:
            return BLOCK_ITEMS_TILED if self.tile else max(BLOCK_ITEMS, min(BLOCK_ITEMS_CPU, self.part_units))
        return min(BLOCK_ITEMS_SEPARATE, frames_per_table(self.decode.profile))


def frames_per_table(profile: Profile) -> int:
    """Return how many of the network's inputs a table of the decode stage holds: the most that a call can get.

    Where their size depends on the image, that is not known before, and the most is returned.
    """
    if not profile.is_fixed:
        return BLOCK_ITEMS_SEPARATE
    return max(1, TABLE_BYTES // (3 * profile.height_px * profile.width_px))


def gpu_share(gpus_per_actor: float) -> float:
    """Return a share of a GPU as Ray takes it: in steps of 0.0001, rounded down, so that 1/3 fits three times."""
    return math.floor(gpus_per_actor * 10_000 + 1e-6) / 10_000


def actor_bundle(*, gpus: float) -> dict[str, float]:
    """Return the logical resources of one actor.

    Args:
        gpus: of one actor, at most 1; 0 where the model runs on CPUs.
    """
    return {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": 1.0}


def other_bundles(*, gpus: float) -> list[dict[str, float]]:
    """Return the logical resources of one task of each stage beside the actors."""
    return [{"CPU": cpus} for cpus in (DECODE_CPUS, MASK_CPUS, WRITE_CPUS)] if gpus else []
