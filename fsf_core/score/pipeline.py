"""The pipeline: four stages over a Ray Data dataset, and what each of them gets to run on.

Knows Ray Data's sources, operators and sinks; what a stage does stands in stages/.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask
from ray.data.block import Block, BlockMetadata
from ray.data.datasource import Datasink, WriteResult

from fsf_core.score.actor import ScoringActor
from fsf_core.score.local_ray.patches import patched_ray_data
from fsf_core.score.partition import DecodeTask, plan_decode_tasks
from fsf_core.score.recovery import counting_write, recovering_decode
from fsf_core.score.spec import DECODE_CPUS, GPU_PROVIDERS, MASK_CPUS, WRITE_CPUS, PipelineSpec
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask
from fsf_core.stages.write import WriteSettings

TARGET_BLOCK_BYTES = 64 << 20
"""Blocks between stages: about 80 frames of logits (4 classes, 224×224), 430 frames of network input."""

NO_PROGRESS_S = 600
"""Ray Data waits half an hour by default before it calls a job stuck."""

NO_PROGRESS_WHOLE_S = 24 * 3600
"""A heavy model may take hours for a block on CPUs; what hangs in decoding is ended by its own clock."""

IN_FLIGHT = 2
"""Blocks that an actor holds, one at work and one to go on with; more would only make the last ones unequal."""

CALLS_AT_ONCE = 2
"""Calls of one model that overlap where it waits for nothing else: while one computes on the GPU, the other fetches,
normalises or hands over. onnxruntime's sessions may be called by several threads."""


def run_wave(wave: pa.Table, spec: PipelineSpec, watch: Any) -> None:
    """Push manifest rows through all four stages."""
    _set_up_ray_data(spec)
    works = plan_decode_tasks(
        wave, spec.decode, consumers=spec.actors, item_s=spec.child.item_s, block_items=spec.block_items
    )
    if not works:
        return
    with patched_ray_data() if spec.owns_cluster else contextlib.nullcontext():
        if not spec.separate_stages:
            whole(works, spec, watch).materialize()  # of every block its one number
            return
        sink = RunSink(spec.write, part_units=spec.part_units, watch=watch)
        # At the end the actors' CPUs are free; without a bound every write that is left would start a worker of its own
        writers = max(2, spec.actors)
        stages(works, spec, watch).write_datasink(sink, ray_remote_args={"num_cpus": WRITE_CPUS}, concurrency=writers)


def whole(works: Sequence[DecodeTask], spec: PipelineSpec, watch: Any) -> Dataset:
    """All stages in the actors, which take the manifest's blocks themselves: Ray Data fuses what asks for the same."""
    rows = ray.data.read_datasource(ManifestBlocks(works), override_num_blocks=len(works), num_cpus=1)
    done: Dataset = rows.map_batches(
        ScoringActor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(spec.actors, len(works)), max_tasks_in_flight_per_actor=IN_FLIGHT),
        num_cpus=1,
        fn_constructor_kwargs={"spec": spec, "watch": watch},
    )
    return done


def stages(works: Sequence[DecodeTask], spec: PipelineSpec, watch: Any) -> Dataset:
    """Decode, infer and mask, each by itself; the write stage is the sink."""
    gpu = spec.provider in GPU_PROVIDERS
    rows = ray.data.read_datasource(ManifestBlocks(works), override_num_blocks=len(works), num_cpus=DECODE_CPUS)
    decoded = rows.map_batches(
        recovering_decode,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
        fn_kwargs={"settings": spec.decode, "limits": spec.child, "watch": watch},
    )
    inferred: Any = decoded.map_batches(
        Infer,
        # Ray Data wants a number for GPU stages; it is in units, which stay whole.
        batch_size=spec.batch_frames if gpu else None,
        batch_format="pyarrow",
        compute=overlapping(spec.actors),
        num_cpus=1,
        num_gpus=1 if gpu else None,
        fn_constructor_kwargs=spec.model,
    )
    masked: Dataset = inferred.map_batches(
        mask, batch_size=None, batch_format="pyarrow", num_cpus=MASK_CPUS, fn_kwargs={"settings": spec.mask}
    )
    return masked


def overlapping(actors: int) -> ActorPoolStrategy:
    """A pool whose actors make several calls of their model at once."""
    return ActorPoolStrategy(
        size=actors,
        max_tasks_in_flight_per_actor=IN_FLIGHT * CALLS_AT_ONCE,
        max_concurrent_calls_per_actor=CALLS_AT_ONCE,
        enable_true_multi_threading=True,
    )


def _set_up_ray_data(spec: PipelineSpec) -> None:
    context = DataContext.get_current()
    context.target_max_block_size = TARGET_BLOCK_BYTES
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # errors of ours, with their words and exit codes, out of the actors
    context.execution_no_progress_timeout_s = NO_PROGRESS_S if spec.separate_stages else NO_PROGRESS_WHOLE_S
    # The bound of the writers is a bound; a run of few parts need not reach it.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks for 'Write'")
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it raises is told by us, once


class ManifestBlocks(Datasource):
    """Manifest rows, those of one decode task in a block."""

    def __init__(self, works: Sequence[DecodeTask]) -> None:
        self._works = works

    def get_name(self) -> str:
        """What the dashboard shows."""
        return "Manifest"

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of all rows."""
        return sum(int(work.rows.nbytes) for work in self._works)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One task a block, whatever parallelism Ray would choose."""
        del parallelism, per_task_row_limit, data_context
        return [ReadTask(_giving(work), _metadata(work.rows)) for work in self._works]


class RunSink(Datasink[None]):
    """The write stage as Ray Data calls it: some blocks become one part."""

    def __init__(self, settings: WriteSettings, *, part_units: int, watch: Any) -> None:
        self._settings = settings
        self._part_units = part_units
        self._watch = watch

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """Commit all rows of one task."""
        del ctx
        counting_write([*blocks], self._settings, self._watch)

    def on_write_complete(self, write_result: WriteResult[None]) -> None:
        """Nothing: the receipts are the result."""

    def get_name(self) -> str:
        """What the dashboard shows."""
        return "Run"

    @property
    def min_rows_per_write(self) -> int | None:
        """Units that are gathered for one part."""
        return self._part_units


def _giving(work: DecodeTask) -> Callable[[], list[pa.Table]]:
    return lambda: [work.table()]


def _metadata(block: pa.Table) -> BlockMetadata:
    return BlockMetadata(num_rows=block.num_rows, size_bytes=block.nbytes, input_files=None, exec_stats=None)
