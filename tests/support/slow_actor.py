"""`fsf` whose scoring actors sleep for each unit, and record on which node: python -m … FOLDER SECONDS score …

One machine then does the work of several: a sleeping actor needs no core.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from fsf_core.score.actor import ScoringActor
from tests.bench.patched_stage import replace_stage


class SlowActor(ScoringActor):
    """Scores, and sleeps for each unit."""

    def __init__(self, *, folder: str, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._seconds = seconds
        node = ray.get_runtime_context().get_node_id()
        self._record = (Path(folder) / f"{node}-{os.getpid()}").open("a", buffering=1)

    def infer_and_mask(self, decoded: pa.Table) -> Iterator[pa.Table]:
        for masked in super().infer_and_mask(decoded):
            time.sleep(self._seconds * masked.num_rows)
            self._record.write(f"{time.time()} {masked.num_rows}\n")
            yield masked


def units_by_node(folder: Path) -> dict[str, int]:
    """Return how many units each node has scored, those that were scored twice included."""
    found: dict[str, int] = {}
    for file in folder.iterdir():
        units = sum(int(line.split()[1]) for line in file.read_text().splitlines())
        node = file.name.partition("-")[0]
        found[node] = found.get(node, 0) + units
    return found


def main() -> int:
    """Run the command with slow actors; returns its exit code."""
    from fsf_core.cli import app
    from tests.support import slow_actor  # by its name, which workers can import

    folder, seconds, *arguments = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    replace_stage(ScoringActor, slow_actor.SlowActor, folder=folder, seconds=float(seconds))
    return app.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
