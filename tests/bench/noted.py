"""`fsf` as it is, but for a note of every block of masks that an actor has made, as the peers note theirs.

    python -m tests.bench.noted TIMES score --bundle B …

Commits would not do for a rate: in a short run the first ones wait for a worker that writes, and come all at once.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsf_core.score.pipeline import InferAndMask
from tests.bench import peers


class NotedInferAndMask(InferAndMask):
    """An actor that notes when its masks are there."""

    def __init__(self, *, times: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._times = Path(times)

    def __call__(self, table: pa.Table) -> pa.Table:
        """As its parent does."""
        masked = super().__call__(table)
        peers.tick(self._times, sum(map(len, masked.column("frames").to_pylist())))
        return masked


def main() -> int:
    from fsf_core.score import pipeline
    from jobs import fsf
    from tests.bench import noted  # by its name, which workers can import

    times, *words = sys.argv[1:]
    map_batches = pipeline.Dataset.map_batches

    def noting(dataset: Any, stage: Any, **settings: Any) -> Any:
        if stage is InferAndMask:
            stage = noted.NotedInferAndMask
            settings["fn_constructor_kwargs"] |= {"times": times}
        return map_batches(dataset, stage, **settings)

    pipeline.Dataset.map_batches = noting
    return fsf.main(words)


if __name__ == "__main__":
    sys.exit(main())
