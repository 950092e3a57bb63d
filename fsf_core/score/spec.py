"""What a pipeline is made from: the settings of its stages, and what each of them gets to run on.

Plain values. Beside GPUs every stage has tasks of its own, so that the model need not wait for any of them. Where all
take the same cores nothing waits, and one actor does everything from bytes to committed masks.
"""

from dataclasses import dataclass
from typing import Any

from fsf_core.model.bundle import Bundle
from fsf_core.options import ResolvedProvider
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.write import WriteSettings

DECODE_CPUS, MASK_CPUS, WRITE_CPUS = 0.75, 0.6, 0.65
"""Shares of a logical CPU of the tasks beside the actors. They differ so that Ray Data does not fuse one stage into
another: a decode fused into the actors would run in turn with the model, and masks fused into writes would wait for a
whole part."""

BLOCK_ITEMS = 64
"""Most images of one decode task: 0.1 s of work at 512×512, 4 s at 12 megapixels."""

BLOCK_ITEMS_WHOLE = 256
"""Most images that an actor takes at once where it does all with them: some seconds of work, and a part of the run."""

GPU_PROVIDERS = ("cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """All that the pipeline is made from."""

    bundle: Bundle
    variant: str
    """Which form of the model, by its name in the bundle."""
    provider: ResolvedProvider
    actors: int
    separate_stages: bool
    """Whether decode, mask and write are tasks beside the actors; else the actors do all."""
    owns_cluster: bool
    """Whether the cluster is this job's own, on this machine."""
    batch_frames: int
    threads: int
    engine_cache: str | None
    part_units: int
    decode: DecodeSettings
    child: ChildLimits
    mask: MaskSettings
    write: WriteSettings

    @property
    def model(self) -> dict[str, Any]:
        """What Infer loads its model by."""
        return {
            "bundle_uri": self.bundle.uri,
            "bundle_sha256": self.bundle.sha256,
            "variant": self.variant,
            "provider": self.provider,
            "threads": self.threads,
            "engine_cache": self.engine_cache,
            "batch_frames": self.batch_frames,
        }

    @property
    def block_items(self) -> int:
        """Most images of one block of the manifest."""
        return BLOCK_ITEMS if self.separate_stages else max(BLOCK_ITEMS, min(BLOCK_ITEMS_WHOLE, self.part_units))


def cpus_of_other_stages(provider: ResolvedProvider) -> float:
    """Logical CPUs that the tasks of the other stages take, one of each."""
    return DECODE_CPUS + MASK_CPUS + WRITE_CPUS if provider in GPU_PROVIDERS else 0.0
