"""The job with simulated GPUs: actors whose model sleeps for as long as a GPU would compute, on any machine.

    python -m tests.bench.sleeping_model TIMES ACTORS SECONDS_PER_FRAME score --bundle B …

The actor sleeps before each call of the null model, one call at a time, as one GPU would serve them, and records in the
folder TIMES when it has logits. Everything else is the unchanged job.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.model.bundle_files import load_bundle
from fsf_core.stages.device_units import DeviceUnits
from fsf_core.stages.infer import CHUNK_FRAMES, MAX_DEVICE_OUTPUT_BYTES, Infer
from tests.bench import peers
from tests.bench.patched_stage import replace_stage

SPARE_CPUS = 4
"""Logical CPUs for decode, mask and write, more than two cores can serve."""


class SleepingInfer(Infer):
    """An actor whose model takes time but no CPU."""

    def __init__(self, *, seconds_per_frame: float, times: str, spent: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        run_into, gpu = self._session.run_into, SleepingGpu(seconds_per_frame, times, spent)

        def run_slowly(batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
            with gpu.call(len(batch_NCHW)):
                run_into(batch_NCHW, logits_NKHW)

        self._session.run_into = run_slowly


class SleepingGpu:
    """A GPU that serves one call at a time, and takes time for it but no CPU."""

    def __init__(self, seconds_per_frame: float, times: str, spent: str | None) -> None:
        self._seconds_per_frame = seconds_per_frame
        self._times, self._spent = Path(times), Path(spent) if spent else None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def call(self, frames: int) -> Iterator[None]:
        """Sleep, and record the call at the end of the block: its time, and the CPU seconds of this process."""
        with self._lock:
            time.sleep(self._seconds_per_frame * frames)
        yield
        peers.record(self._times, frames)
        if self._spent:
            with (self._spent / str(os.getpid())).open("a") as file:
                file.write(f"{time.process_time()} {frames}\n")


def cpu_per_frame(spent: Path) -> float:
    """Return the CPU seconds per frame that one actor recorded, from the first call to the last."""
    [path] = spent.iterdir()
    calls = [[*map(float, line.split())] for line in path.read_text().splitlines()]
    return (calls[-1][0] - calls[0][0]) / sum(frames for _, frames in calls[1:])


class SleepingModel:
    """A model on a simulated card, as DeviceUnits calls it: it makes the class maps of all images."""

    makes_maps, has_figures = True, False

    def __init__(self, gpu: SleepingGpu, *, batch_frames: int, scores_shape: tuple[int, ...]) -> None:
        self.batch_frames, self.scores_shape = batch_frames, scores_shape
        self._gpu = gpu

    def makes_map(self, height_px: int, width_px: int) -> bool:
        """Return whether an image is small enough: it is."""
        return height_px * width_px > 0

    def scores(self, frames_NHWC: NDArray[np.uint8], chosen: Sequence[int], scores_NKhw: NDArray[np.float32]) -> None:
        """Return the scores of no frame."""

    def class_maps(
        self,
        frames_NHWC: NDArray[np.uint8],
        ordered: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        *,
        outputs: NDArray[np.uint8],
        starts: Sequence[int],
    ) -> dict[str, NDArray[Any]]:
        """Copy the frames as to a card, and a class map of each as from it."""
        del sizes
        staged_NHWC = np.empty((self.batch_frames, *frames_NHWC.shape[1:]), np.uint8)
        for first in range(0, len(ordered), self.batch_frames):
            batch = ordered[first : first + self.batch_frames]
            with self._gpu.call(len(batch)):
                staged_NHWC[: len(batch)] = frames_NHWC[batch[0] : batch[0] + len(batch)]
                for frame in batch:
                    outputs[starts[frame] : starts[frame + 1]] = frame % 4
        return {}


class SleepingDevice:
    """An actor as on a card, whose model takes time but no CPU."""

    def __init__(
        self, *, bundle_uri: str, batch_frames: int, seconds_per_frame: float, times: str, spent: str, **_: Any
    ) -> None:
        bundle = load_bundle(bundle_uri)
        model: Any = SleepingModel(
            SleepingGpu(seconds_per_frame, times, spent),
            batch_frames=batch_frames,
            scores_shape=(bundle.num_classes, *(bundle.signature.grid_hw or (0, 0))),
        )
        self._units = DeviceUnits(
            model=model,
            input_hw=(bundle.profile.height_px, bundle.profile.width_px),
            num_classes=bundle.num_classes,
            max_frames=CHUNK_FRAMES,
            max_bytes=MAX_DEVICE_OUTPUT_BYTES,
            planes=False,
        )

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units."""
        yield from self._units(table)


def main() -> int:
    """Run the job with sleeping actors; returns its exit code."""
    from fsf_core.cli import app
    from fsf_core.score import cluster, plan
    from tests.bench import sleeping_model  # by its name, which workers can import
    from tests.support.separate_stages import with_separate_stages

    times, actors, seconds_per_frame, *arguments = sys.argv[1:]
    init = cluster.ray.init

    def with_spare_cpus(**options: Any) -> Any:
        return init(**options | {"num_cpus": max(options["num_cpus"], int(actors) + SPARE_CPUS)})

    cluster.ray.init = with_spare_cpus
    plan.plan_pipeline = with_separate_stages(plan.plan_pipeline)
    replace_stage(Infer, sleeping_model.SleepingInfer, seconds_per_frame=float(seconds_per_frame), times=times)
    return app.main([*arguments, "--actors", actors])


if __name__ == "__main__":
    sys.exit(main())
