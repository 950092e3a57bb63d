"""A session that sleeps as long as a GPU would compute, and the job with as many of them as are wanted, on any machine.

    python -m tests.bench.sleeping_model TIMES ACTORS SECONDS_A_FRAME score --bundle B …

The null model answers; before it does, the actor sleeps, one call at a time, as one GPU serves them, and notes in the
folder TIMES when it had answers. Everything else is the job as it is.
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
from tests.bench.patched_stage import swap

SPARE_CPUS = 4
"""Logical CPUs for decode, mask and write: more than two cores can serve."""


class SleepyInfer(Infer):
    """An actor whose model takes its time and no CPU."""

    def __init__(self, *, seconds_a_frame: float, times: str, **settings: Any) -> None:
        super().__init__(**settings)
        answer, gpu = self._session.run_into, threading.Lock()

        def slowly(batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
            with gpu:
                time.sleep(seconds_a_frame * len(batch_NCHW))
            answer(batch_NCHW, logits_NKHW)
            peers.tick(Path(times), len(batch_NCHW))

        self._session.run_into = slowly


def main() -> int:
    from fsf_core.cli import app
    from fsf_core.score import cluster, plan
    from tests.bench import sleeping_model  # by its name, which workers can import
    from tests.support.separate_stages import with_separate_stages

    times, actors, seconds_a_frame, *words = sys.argv[1:]
    init = cluster.ray.init

    def with_room(**options: Any) -> Any:
        return init(**options | {"num_cpus": max(options["num_cpus"], int(actors) + SPARE_CPUS)})

    cluster.ray.init = with_room
    plan.plan_pipeline = with_separate_stages(plan.plan_pipeline)
    swap(Infer, sleeping_model.SleepyInfer, seconds_a_frame=float(seconds_a_frame), times=times)
    return app.main([*words, "--actors", actors])


if __name__ == "__main__":
    sys.exit(main())
