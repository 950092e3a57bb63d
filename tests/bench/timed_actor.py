"""`fsf` as it is, but for a note of every block of masks that an actor has made, as the peers note theirs.

    python -m tests.bench.timed_actor TIMES score --bundle B …

Commits would not do for the rate of a short run, for they come by the block.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsf_core.score.actor import ScoringActor
from tests.bench import peers
from tests.bench.patched_stage import swap


class NotedBlocks(ScoringActor):
    """An actor that notes when its masks are there."""

    def __init__(self, *, times: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._times = Path(times)

    def infer_and_mask(self, table: pa.Table) -> Iterator[pa.Table]:
        """As its parent does."""
        for masked in super().infer_and_mask(table):
            peers.tick(self._times, sum(map(len, masked.column("frames").to_pylist())))
            yield masked


def main() -> int:
    from fsf_core.cli import app
    from tests.bench import timed_actor  # by its name, which workers can import

    times, *words = sys.argv[1:]
    swap(ScoringActor, timed_actor.NotedBlocks, times=times)
    return app.main(words)


if __name__ == "__main__":
    sys.exit(main())
