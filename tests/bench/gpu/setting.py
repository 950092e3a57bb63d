"""What all steps of the GPU bench share: where they run, on what, and with how many pictures."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Letter = Literal["p", "e", "demo"]

TITLES = {"p": "FastSegFormer-P", "e": "FastSegFormer-E", "demo": "FastSegFormer-E, the demo's weights"}
"""Weights of p and e follow a recipe and give masks as rough as noise; the demo's were trained: smooth masks."""

PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Setting of all steps."""

    inputs: Path
    """Folder of bundles, pictures and the video (see `inputs.prepare`)."""
    work: Path
    """Folder for runs; those of one step may serve another."""
    provider: Literal["cuda", "cpu"]
    quick: bool
    """Tiny models and counts, for rehearsals."""
    frames: int
    """Pictures of 512×512 for the job."""
    photos: Path | None = None
    """Photographs for the parity check."""
    commit: str = "unknown"
    ends: float = float("inf")
    """Moment of `time.monotonic` after which a step measures no more points: they are left out and named."""

    def count(self, full: int, quick: int) -> int:
        """Return a number of pictures or frames."""
        return quick if self.quick else full

    def bundle(self, letter: Letter) -> Path:
        """Return the folder of a bundle."""
        return self.inputs / f"bundle-{letter}"

    def seconds_left(self) -> float:
        """Return the seconds in which the step may measure."""
        return self.ends - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.provider == "cuda"


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
