"""The pipeline as a Ray Data dataset: its source, operators and sink, and what each of them gets to run on.

On CPUs one operator does everything; beside GPUs each stage is one. What a stage does is in `fsf_core.stages`.
"""

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ExecutionResources, ReadTask
from ray.data.block import Block, BlockMetadata
from ray.data.datasource import Datasink, WriteResult

from fsf_core import logs
from fsf_core.logs import LogSettings
from fsf_core.model.batch_choice import LARGEST, power_of_two
from fsf_core.score import measured
from fsf_core.score.actor import ScoringActor
from fsf_core.score.capacity import read_capacity
from fsf_core.score.clock import Clock
from fsf_core.score.demand import keep_asking
from fsf_core.score.local_ray.patches import patched_ray_data
from fsf_core.score.partition import (
    EXECUTION_ITEMS,
    EXECUTION_TASKS,
    BlockLimits,
    DecodeTask,
    executions,
    plan_decode_tasks,
)
from fsf_core.score.recovery import tracked_write
from fsf_core.score.spec import (
    DECODE_CPUS,
    MASK_CPUS,
    WRITE_CPUS,
    PipelineSpec,
    actor_bundle,
    other_bundles,
)

TARGET_BLOCK_BYTES = 128 << 20
"""Blocks between stages: about 160 frames of logits (4 classes, 224×224), 510 class maps of 512×512, or 890 frames of
network input."""

NO_PROGRESS_TIMEOUT_S, NO_PROGRESS_ITEM_S = 600, 10
"""Longest time without progress beside GPUs, or for each image of a block, if that is longer: while all CPUs decode
their first blocks, nothing moves. Ray Data's default of half an hour would end jobs of images that take 4 s."""

NO_PROGRESS_TIMEOUT_CPU_S = 24 * 3600
"""On CPUs a heavy model may take hours for a block; hangs in decoding are ended by their own watchdog."""

BLOCKS_IN_FLIGHT = 2
"""Blocks that an actor holds: one in work and the next; more would make the last ones uneven."""

GROW_AT, SHRINK_AT = 1.1, 0.25
"""Blocks held per concurrent call of a pool at which Ray Data adds actors, or ends idle ones, within the pool's limits.
With all actors busy it is 2, and then 1.1 nearly doubles the pool in each step; Ray's 1.75 adds one after another.
Ray's 0.5 would end actors that wait for decoding, and load the model again a moment later."""

CALL_UNITS = 32
"""Units per call of a GPU stage where Ray Data insists on a number."""

CONCURRENT_CALLS = 2
"""Concurrent calls of one model beside GPUs: while one computes, the other fetches, normalises or hands over. Sessions
of onnxruntime may be called by several threads."""


MIN_STAGE_CPUS = 3
"""Least number of logical CPUs beside the actors for separate stages, which need 2."""

WRITERS = 2
"""Least number of parts that are written at the same time."""

CPUS_PER_WRITER = 4
"""A part takes a writer 0.1 s per 1,000 frames, and a store in a network up to a second to commit it."""

MOST_CONSUMERS = 256
"""Most tasks among which the last images of separate stages are divided. One driver hands out some 64 blocks a second
(`python -m tests.bench.scale_model`): it feeds no more, and only full blocks let it feed a large cluster."""

EXECUTION_ACTOR_ITEMS = 16_000
"""Items of one execution for each actor, where that is more than EXECUTION_ITEMS: each start takes them some time."""

LAST_ITEMS_SEPARATE = 32
"""Images of the last decode tasks of separate stages: their work is about what a block costs whatever its size."""


def execute(tables: Iterable[pa.Table], spec: PipelineSpec, tracker: Any) -> None:
    """Score manifest rows and commit all of their units, in as many executions of Ray Data as bound the memory.

    Raises:
        FSFError: what a worker raised, within Ray's wrapper.
    """
    most = max(EXECUTION_ITEMS, EXECUTION_ACTOR_ITEMS * spec.actors)
    for group in executions(tables, max_items=min(most, EXECUTION_TASKS * spec.block_items)):
        _execute_once(group, spec, tracker)


def _execute_once(tables: Iterable[pa.Table], spec: PipelineSpec, tracker: Any) -> None:
    """Score manifest rows in one execution of Ray Data; raises as `execute`."""
    cpus = _cpus(spec)
    tasks = plan_decode_tasks(tables, spec.decode, item_s=spec.child.item_s, blocks=block_limits(spec, cpus))
    if not tasks:
        return
    tracker.plan_blocks.remote(len(tasks))
    with _ray_data_options(spec, cpus), patched_ray_data() if spec.owns_cluster else _asking_for_nodes(spec):
        if not spec.separate_stages:
            single_operator(tasks, spec, tracker).materialize()  # one row per block
            return
        sink = RunSink(spec, tracker)
        # At the end the actors' CPUs are free; without a limit every remaining write would start a worker.
        writers = max(WRITERS, spec.actors, int(cpus / CPUS_PER_WRITER))
        masked = separate_operators(tasks, spec, tracker)
        masked.write_datasink(sink, ray_remote_args={"num_cpus": WRITE_CPUS}, concurrency=writers)


def _asking_for_nodes(spec: PipelineSpec) -> contextlib.AbstractContextManager[None]:
    """Ask for nodes in the block, until there is room for all actors that the user asks for."""
    if spec.asked_actors == spec.min_actors:  # those had room at the start, and restarted actors ask for themselves
        return contextlib.nullcontext()
    asked, actor = spec.asked_actors, actor_bundle(gpus=spec.gpus)
    return keep_asking(actor, lambda: asked - _room(spec, most=asked))


def _start_actors(spec: PipelineSpec) -> int:
    """Return with how many actors the pool begins: as many as there is room for, within its limits."""
    return spec.actors if spec.min_actors == spec.actors else max(spec.min_actors, _room(spec, most=spec.actors))


def _room(spec: PipelineSpec, *, most: int) -> int:
    """Return for how many actors the nodes have room now."""
    actor, others = actor_bundle(gpus=spec.gpus), other_bundles(gpus=spec.gpus)
    return read_capacity(with_autoscaler=False).room(actor, beside=others, most=most)


def _cpus(spec: PipelineSpec) -> float:
    """Return how many logical CPUs the job may use.

    Separate stages of a job that started the cluster have one per core, as on the node of a cluster: with their shares
    of a CPU that is a third more tasks than cores. The cluster of a local job has twice as many, for actors on CPUs.
    Each process more costs 1.6 s of CPU to start.
    """
    total = read_capacity(with_autoscaler=False).total("CPU")
    if not (spec.separate_stages and spec.owns_cluster):
        return total
    return min(total, max(os.cpu_count() or 1, spec.actors + MIN_STAGE_CPUS))


def block_limits(spec: PipelineSpec, cpus: float) -> BlockLimits:
    """Return how many images a decode task gets: of separate stages, by the number of tasks that run at once."""
    if not spec.separate_stages:
        return BlockLimits(max_items=spec.block_items, consumers=spec.actors)
    return BlockLimits(
        max_items=spec.block_items,
        consumers=max(1, min(MOST_CONSUMERS, math.ceil(cpus / DECODE_CPUS))),  # all nodes may be about to be stopped
        blocks_per_consumer=1,
        last_items=LAST_ITEMS_SEPARATE,
        multiple=spec.batch_frames or min(LARGEST, power_of_two(spec.block_items)),
    )


def single_operator(tasks: Sequence[DecodeTask], spec: PipelineSpec, tracker: Any) -> Dataset:
    """Return the dataset of all stages in one actor pool; Ray Data fuses the source into it: both ask for 1 CPU.

    Beside GPUs that is how pictures are scored in windows, and the source stays an operator of its own.
    """
    rows = ray.data.read_datasource(ManifestSource(tasks), override_num_blocks=len(tasks), num_cpus=1)
    committed: Dataset = map_whole_blocks(
        rows,
        ScoringActor,
        compute=ActorPoolStrategy(
            min_size=min(spec.min_actors, len(tasks)),
            initial_size=min(_start_actors(spec), len(tasks)),
            max_size=min(spec.actors, len(tasks)),
            max_tasks_in_flight_per_actor=BLOCKS_IN_FLIGHT,
        ),
        num_cpus=1,
        num_gpus=spec.gpus or None,
        fn_constructor_kwargs={"spec": spec, "tracker": tracker, "observed": _observed(spec)},
    )
    return committed


def separate_operators(tasks: Sequence[DecodeTask], spec: PipelineSpec, tracker: Any) -> Dataset:
    """Return the dataset of decode, infer and mask as one operator each; the write stage is the sink."""
    start, observed = _start_actors(spec), _observed(spec)
    reporting = {"tracker": tracker, "observed": observed}
    rows = ray.data.read_datasource(ManifestSource(tasks), override_num_blocks=len(tasks), num_cpus=DECODE_CPUS)
    decoded = rows.map_batches(
        measured.decode,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
        # One table per block: Infer would concatenate the inputs of several, 0.015 ms per frame.
        fn_kwargs={"settings": replace(spec.decode, table_units=spec.block_items), "limits": spec.child, **reporting},
    )
    inferred: Any = map_whole_blocks(
        decoded,
        measured.Infer,
        # Ray Data's shares of the CPUs would end actors that have GPUs: what began stays until the work ends.
        compute=overlapping_pool(start, start, spec.actors),
        num_cpus=1,
        num_gpus=spec.gpus or None,
        fn_constructor_kwargs={**spec.model, "gpus": spec.gpus, **reporting},
    )
    masked: Dataset = inferred.map_batches(
        measured.mask,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=MASK_CPUS,
        fn_kwargs={"settings": spec.mask, **reporting},
    )
    return masked


def map_whole_blocks(dataset: Dataset, stage: type, **options: Any) -> Any:
    """Return `dataset.map_batches` by whole blocks, beside GPUs too, for which it requires a number.

    With a number Ray Data collects as many units for each task, of videos as many segments, and cuts the blocks into
    tables of it, so that the stage cannot fill larger batches; a version without the method below does so.
    """
    if not options.get("num_gpus"):
        return dataset.map_batches(stage, batch_size=None, batch_format="pyarrow", **options)
    whole: Any = getattr(dataset, "map_batches_internal", None)
    if whole is None:
        return dataset.map_batches(stage, batch_size=CALL_UNITS, batch_format="pyarrow", **options)
    return whole(stage, batch_size=None, batch_format="pyarrow", **options)


def overlapping_pool(least: int, start: int, most: int) -> ActorPoolStrategy:
    """Return a pool whose actors make several calls of their model concurrently."""
    return ActorPoolStrategy(
        min_size=least,
        initial_size=start,
        max_size=most,
        max_tasks_in_flight_per_actor=BLOCKS_IN_FLIGHT * CONCURRENT_CALLS,
        max_concurrent_calls_per_actor=CONCURRENT_CALLS,
        enable_true_multi_threading=True,
    )


def _observed(spec: PipelineSpec) -> LogSettings | None:
    """Return how the workers log what they do; None on a cluster that this job started, whose logs end with it."""
    return None if spec.owns_cluster else logs.current()


def _ray_data_options(spec: PipelineSpec, cpus: float) -> contextlib.AbstractContextManager[Any]:
    """Set Ray Data's options for the block: a program that calls `score` may have datasets of its own."""
    context = DataContext.get_current().copy()
    limited = spec.separate_stages and spec.owns_cluster
    context.execution_options.resource_limits = ExecutionResources(cpu=cpus) if limited else ExecutionResources()
    context.target_max_block_size = TARGET_BLOCK_BYTES
    context.enable_progress_bars = False
    context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_AT
    context.autoscaling_config.actor_pool_util_downscaling_threshold = SHRINK_AT
    context.raise_original_map_exception = True  # keeps type and message of an FSFError
    context.execution_no_progress_timeout_s = (
        max(NO_PROGRESS_TIMEOUT_S, NO_PROGRESS_ITEM_S * spec.block_items)
        if spec.separate_stages
        else NO_PROGRESS_TIMEOUT_CPU_S
    )
    # The limit on writers is an upper bound; a run of few parts need not reach it.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks for 'Write'")
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the command reports what it raises, once
    return DataContext.current(context)


class ManifestSource(Datasource):
    """Manifest rows, one block per decode task."""

    def __init__(self, tasks: Sequence[DecodeTask]) -> None:
        self._tasks = tasks

    def get_name(self) -> str:
        """Return the name in the dashboard."""
        return "Manifest"

    def estimate_inmemory_data_size(self) -> int | None:
        """Return the bytes of all rows."""
        return sum(task.unpacked_bytes for task in self._tasks)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return one read task per decode task, whatever parallelism Ray Data proposes."""
        del parallelism, per_task_row_limit, data_context
        return [ReadTask(_block_reader(task), _metadata(task)) for task in self._tasks]


class RunSink(Datasink[None]):
    """The write stage as Ray Data calls it: the blocks of one write become one part."""

    def __init__(self, spec: PipelineSpec, tracker: Any) -> None:
        self._settings = spec.write
        self._part_units = spec.part_units
        self._observed = _observed(spec)
        self._tracker = tracker

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """Commit all rows of one write task."""
        del ctx
        tracked_write([*blocks], self._settings, self._tracker, Clock(self._observed, rest="write"))

    def on_write_complete(self, write_result: WriteResult[None]) -> None:
        """Do nothing: the receipts are the result."""

    def get_name(self) -> str:
        """Return the name in the dashboard."""
        return "Run"

    @property
    def min_rows_per_write(self) -> int | None:
        """Units that are collected for one part."""
        return self._part_units


def _block_reader(task: DecodeTask) -> Callable[[], list[pa.Table]]:
    """Return what a read task runs on its worker."""
    return lambda: [task.table()]


def _metadata(task: DecodeTask) -> BlockMetadata:
    """Return the size of the task's block for Ray Data."""
    return BlockMetadata(num_rows=task.rows, size_bytes=task.unpacked_bytes, input_files=None, exec_stats=None)
