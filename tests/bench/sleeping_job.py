"""One execution of the job's pipeline by actors and tasks that sleep, with the job's own tracker: what is left is Ray.

    python -m tests.bench.sleeping_job TIMES operator ACTORS ITEMS BLOCK_ITEMS SECONDS_PER_BLOCK
    python -m tests.bench.sleeping_job TIMES stages   ACTORS ITEMS BLOCK_ITEMS SECONDS_PER_BLOCK
    python -m tests.bench.sleeping_job TIMES joined   ACTORS ITEMS BLOCK_ITEMS SECONDS_PER_BLOCK

`operator` is the form of jobs on CPUs, `stages` the one beside GPUs, of which each actor has one; `joined` is that on a
cluster that the job did not start, where Ray Data is as it comes. Every block is planned, handed out, begun, reported
and ended as in a job; nothing is read, computed or written. An actor records in the folder TIMES when a block ends.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.block import Block

from fsf_core.score import measured, recovery
from fsf_core.score.actor_starts import reported_start
from fsf_core.score.clock import Clock
from fsf_core.score.pipeline import RunSink
from fsf_core.score.recovery import recovering_decode, tracked_write
from fsf_core.stages.decode_settings import TABLE_UNITS
from fsf_core.stages.meter import ModelMeter
from tests.bench import peers

SPARE_CPUS = 4
"""Logical CPUs beside one for each actor: three of each other stage."""

PART_UNITS = 4_096
"""Beside GPUs; where one actor does everything, a block is a part."""

STAGE_S = 0.005
"""Seconds of the other stages for one block: they never wait for workers."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a block takes, and where its end is recorded."""

    block_s: float
    times: str
    table_units: int = TABLE_UNITS
    """Set by the pipeline, as that of the decode stage."""


def decode(rows: pa.Table, settings: Pace, limits: Any, tracker: Any, *, observed: Any) -> Iterator[pa.Table]:
    """Report a block as the decode stage does."""
    _patch_stages()
    yield from measured.decode(rows, settings, limits, tracker, observed=observed)


def mask(table: pa.Table, settings: Pace, tracker: Any, *, observed: Any) -> pa.Table:
    """Report a block as the mask stage does."""
    _patch_stages()
    return measured.mask(table, settings, tracker, observed=observed)


class Infer:
    """An actor whose GPU serves one block at a time."""

    def __init__(self, *, pace: Pace, tracker: Any, observed: Any, **_: Any) -> None:
        with reported_start(tracker, joined=False):
            self._gpu = threading.Lock()
        self._pace, self._tracker = pace, tracker
        self._clock = Clock(observed, meter=ModelMeter(), rest="infer")

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Return the block when the GPU has had it."""
        with self._clock.stage("infer"):
            _serve(self._gpu, self._pace, table)
        yield table
        measured.report(self._clock, self._tracker)


class Actor:
    """An actor of all stages."""

    def __init__(self, *, spec: Any, tracker: Any, observed: Any) -> None:
        _patch_stages()
        with reported_start(tracker, joined=False):
            self._gpu = threading.Lock()
        self._spec, self._tracker = spec, tracker
        self._clock = Clock(observed, meter=ModelMeter())

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Report a block as the scoring actor does."""
        decoded = recovering_decode(rows, self._spec.decode, self._spec.child, self._tracker)
        held = [*self._clock.tables("decode", decoded)]
        _serve(self._gpu, self._spec.decode, rows)
        tracked_write(held, self._spec.write, self._tracker, self._clock)
        return pa.table({"units": pa.array([rows.num_rows], pa.int64())})


class Sink(RunSink):
    """The write stage, which reports its parts and writes none."""

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """Report a part as the write stage does."""
        _patch_stages()
        super().write(blocks, ctx)


def _serve(gpu: threading.Lock, pace: Pace, table: pa.Table) -> None:
    """Wait for the GPU, sleep, and record the block."""
    with gpu:
        time.sleep(pace.block_s)
    peers.record(Path(pace.times), table.num_rows)


def _patch_stages() -> None:
    """Replace the work of the stages in this process, and leave their reports."""
    names: Any = recovery
    names.decode, names.write = _units, _no_receipts
    stages: Any = measured
    stages.mask_units = _masked


def _units(rows: pa.Table, *_: Any, **__: Any) -> Iterator[pa.Table]:
    """Return a unit for each row, with the columns that its commit is counted from."""
    time.sleep(STAGE_S)
    number = rows.num_rows
    yield pa.table(
        {
            "item_id": rows.column("item_id"),
            "segment": np.zeros(number, np.int32),
            "segments": np.ones(number, np.int32),
            "frames": pa.array([[0]] * number, pa.list_(pa.int32())),
            "failed_stage": pa.nulls(number, pa.string()),
            "error_type": pa.nulls(number, pa.string()),
        }
    )


def _masked(table: pa.Table, _: Any) -> pa.Table:
    time.sleep(STAGE_S)
    return table


def _no_receipts(*_: Any) -> Sequence[Any]:
    time.sleep(STAGE_S)
    return []


def main() -> None:
    """Execute, and print the number of blocks."""
    from fsf_core.score import cluster, pipeline
    from fsf_core.score.tracker import JobTracker
    from tests.bench import sleeping_job  # by its name, which workers can import

    times, form, *numbers = sys.argv[1:]
    actors, items, block_items = map(int, numbers[:3])
    pace = sleeping_job.Pace(block_s=float(numbers[3]), times=times)
    stages, ray = form != "operator", cluster.ray
    init, names = ray.init, {"num_cpus": actors + SPARE_CPUS, "num_gpus": actors * stages}
    ray.init = lambda **options: init(**options | names)
    replaced: Any = pipeline
    replaced.ScoringActor, replaced.measured, replaced.RunSink = sleeping_job.Actor, sleeping_job, sleeping_job.Sink
    spec: Any = SimpleNamespace(
        gpus=float(stages), actors=actors, min_actors=actors, asked_actors=actors, owns_cluster=form != "joined",
        separate_stages=stages, tile=None, block_items=block_items, batch_frames=None, part_units=PART_UNITS,
        decode=pace, mask=pace, write=None, child=SimpleNamespace(item_s=120.0), model={"pace": pace},
    )  # fmt: skip
    with cluster.connected_cluster("local"):
        tracker: Any = ray.remote(num_cpus=0)(JobTracker).remote(
            early_items=None, early_failed_share=1.0, earlier_segments={}
        )
        pipeline.execute([_rows(items)], spec, tracker)


def _rows(items: int) -> pa.Table:
    """Return manifest rows of images, with the columns that a job adds."""
    names = [f"camera-{number % 7}/orange-{number:09d}.jpg" for number in range(items)]
    return pa.table(
        {
            "item_id": names,
            "uri": [f"/data/photos/{name}" for name in names],
            "kind": pa.array(["image"] * items, pa.string()),
            "row_digest": pa.array([bytes(16)] * items, pa.binary(16)),
            "attempt": np.ones(items, np.int32),
            "done_segments": pa.nulls(items, pa.list_(pa.int32())),
        }
    )


if __name__ == "__main__":
    main()
