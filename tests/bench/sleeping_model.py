"""The job with simulated GPUs: actors whose model sleeps for as long as a GPU would compute, on any machine.

    python -m tests.bench.sleeping_model TIMES ACTORS SECONDS_PER_FRAME score --bundle B …

The actor sleeps before each call of the null model, one call at a time, as one GPU would serve them, and records in the
folder TIMES when it has logits. Everything else is the unchanged job.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.stages.infer import Infer
from tests.bench import peers
from tests.bench.patched_stage import replace_stage

SPARE_CPUS = 4
"""Logical CPUs for decode, mask and write, more than two cores can serve."""


class SleepingInfer(Infer):
    """An actor whose model takes time but no CPU."""

    def __init__(self, *, seconds_per_frame: float, times: str, **settings: Any) -> None:
        super().__init__(**settings)
        run_into, gpu = self._session.run_into, threading.Lock()

        def run_slowly(batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
            with gpu:
                time.sleep(seconds_per_frame * len(batch_NCHW))
            run_into(batch_NCHW, logits_NKHW)
            peers.record(Path(times), len(batch_NCHW))

        self._session.run_into = run_slowly


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
