"""`fsf` with actors that record when each block of masks is made, as the peers do.

    python -m tests.bench.timed_actor TIMES score --bundle B …

The commits of a short run are too few for a rate.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsf_core.score.actor import ScoringActor
from tests.bench import peers
from tests.bench.patched_stage import replace_stage


class TimedActor(ScoringActor):
    """An actor that records when its masks are made."""

    def __init__(self, *, times: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._times = Path(times)

    def infer_and_mask(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield masks as the parent does, and record them."""
        for masked in super().infer_and_mask(table):
            peers.record(self._times, sum(map(len, masked.column("frames").to_pylist())))
            yield masked


def main() -> int:
    """Run the job with timed actors; returns its exit code."""
    from fsf_core.cli import app
    from tests.bench import timed_actor  # by its name, which workers can import

    times, *arguments = sys.argv[1:]
    replace_stage(ScoringActor, timed_actor.TimedActor, times=times)
    return app.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
