"""`fsf` that decodes nothing before the model is loaded, so that no pictures are ahead of it, as late in a long job.

    python -m tests.bench.gpu.held MARKS score --bundle B --provider cuda …

Everything else is the unchanged job; with `--provider cpu` it is the rehearsal. The folder MARKS has the times of all
decode tasks.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsf_core.score import measured
from tests.bench.gpu import rehearsal

MARKS = "FSF_BENCH_MARKS"
"""Environment variable with the folder, which Ray's workers inherit."""

LOADED = "loaded"
"""File that exists once the model is loaded."""

MAX_WAIT_S = 120.0
POLL_S = 0.02

_decode = measured.decode


class Infer(measured.Infer):
    """A model that lets decoding begin once it is loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        (Path(os.environ[MARKS]) / LOADED).touch()


def decode(rows: pa.Table, **settings: Any) -> Iterator[pa.Table]:
    """Decode a block as the job does, once the model is loaded.

    Raises:
        TimeoutError: it was not loaded in MAX_WAIT_S.
    """
    marks, ends = Path(os.environ[MARKS]), time.monotonic() + MAX_WAIT_S
    while not (marks / LOADED).exists():
        if time.monotonic() > ends:
            raise TimeoutError(f"no model was loaded in {MAX_WAIT_S:.0f} s")
        time.sleep(POLL_S)
    began = time.time()
    yield from _decode(rows, **settings)
    with (marks / f"decode-{os.getpid()}").open("a") as file:
        file.write(f"{began} {time.time()} {rows.num_rows}\n")


def decode_tasks(marks: Path) -> list[tuple[float, float, int]]:
    """Return the moments at which every decode task began and ended, and its images."""
    lines = [line.split() for path in marks.glob("decode-*") for line in path.read_text().splitlines()]
    return [(float(began), float(ended), int(images)) for began, ended, images in lines]


def main() -> int:
    """Run the job; returns its exit code."""
    from fsf_core.cli import app
    from tests.bench.gpu import held  # by its name, which workers can import

    marks, *arguments = sys.argv[1:]
    os.environ[MARKS] = str(Path(marks).absolute())
    stages: Any = measured
    stages.decode, stages.Infer = held.decode, held.Infer
    if arguments[arguments.index("--provider") + 1] == "cpu":
        rehearsal.rehearse()
    return app.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
