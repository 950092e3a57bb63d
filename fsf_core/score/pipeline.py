"""The pipeline: four stages over a Ray Data dataset, and what each of them gets to run on.

Knows Ray Data's sources, operators and sinks; what a stage does stands in stages/.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask
from ray.data.block import Block, BlockMetadata
from ray.data.datasource import Datasink, WriteResult

from fsf_core import ids, session, units
from fsf_core.bundle import Bundle
from fsf_core.errors import FSFError, GateError
from fsf_core.isolation import ChildLimits, alarm, decode_isolated, give_up
from fsf_core.score.shares import Work, work_of
from fsf_core.stages.decode import DecodeSettings, decode
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.mask import mask as mask_stage
from fsf_core.stages.write import WriteSettings, write

# Shares of a logical CPU. They differ so that Ray Data does not fuse one stage into another: a decode fused into the
# actors would run in turn with the model, and masks fused into writes would wait for a whole part. Together they are 2,
# and on two free CPUs no third task runs beside two of decode and write: each worker takes 3 s of CPU until it has
# imported Ray Data.
DECODE_CPUS, MASK_CPUS, WRITE_CPUS = 0.75, 0.6, 0.65

ANSWERS_HELD = 16
"""Frames whose answers an actor on CPUs holds before it draws their masks: 13 MB of logits of 4 classes, 224×224."""

IN_FLIGHT = 2
"""Blocks that an actor holds, one at work and one to go on with; more would only make the last ones unequal."""

GPU_PROVIDERS = ("cuda", "tensorrt")

LAST_TRY = 4
"""A block that took its process down in the fast way, and twice in the careful one, is given up."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """All that the pipeline is made from."""

    bundle: Bundle
    variant: str
    """Which form of the model, by its name in the bundle."""
    provider: session.Provider
    actors: int
    masks_apart: bool
    """Whether masks are made by tasks of their own; see InferAndMask."""
    batch_frames: int
    threads: int
    engine_cache: str | None
    part_units: int
    decode: DecodeSettings
    child: ChildLimits
    mask: MaskSettings
    write: WriteSettings


class InferAndMask:
    """Second and third stage in one actor, for models on CPUs: answers never leave the process.

    Beside a GPU masks are tasks of their own, so that it need not wait for them. Where model and masks take the same
    cores nothing waits, and a frame saves 0.8 MB (4 classes on a grid of 224×224) through the object store.
    """

    def __init__(self, *, masking: MaskSettings, **settings: Any) -> None:
        """Load the model as Infer does, for answers that are used up at once."""
        self._infer = Infer(**settings, group_frames=ANSWERS_HELD)
        self._masking = masking

    def __call__(self, table: pa.Table) -> pa.Table:
        """Units with `inputs` to units as the mask stage leaves them."""
        return pa.concat_tables([mask_stage(part, self._masking) for part in self._infer(table)])


def cpus_beside_actors(provider: session.Provider) -> float:
    """Logical CPUs that a task of each of the other stages takes."""
    return DECODE_CPUS + WRITE_CPUS + (MASK_CPUS if provider in GPU_PROVIDERS else 0.0)


def run_wave(wave: pa.Table, flow: Flow, watch: Any) -> None:
    """Push manifest rows through all four stages."""
    works = work_of(wave, flow.decode, consumers=flow.actors, item_s=flow.child.item_s)
    sink = RunSink(flow.write, part_units=flow.part_units, watch=watch)
    # At the end the actors' CPUs are free; without a bound every write that is left would start a worker of its own.
    writers = max(2, flow.actors)
    stages(works, flow, watch).write_datasink(sink, ray_remote_args={"num_cpus": WRITE_CPUS}, concurrency=writers)


def stages(works: Sequence[Work], flow: Flow, watch: Any) -> Dataset:
    """Decode, infer and mask; the write stage is the sink."""
    gpu = flow.provider in GPU_PROVIDERS
    rows = ray.data.read_datasource(ManifestBlocks(works), override_num_blocks=len(works), num_cpus=DECODE_CPUS)
    decoded = rows.map_batches(
        guarded_decode,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
        fn_kwargs={"settings": flow.decode, "limits": flow.child, "watch": watch},
    )
    model = {
        "bundle_uri": flow.bundle.uri,
        "bundle_sha256": flow.bundle.sha256,
        "variant": flow.variant,
        "provider": flow.provider,
        "threads": flow.threads,
        "engine_cache": flow.engine_cache,
        "batch_frames": flow.batch_frames,
    }
    inferred: Any = decoded.map_batches(
        Infer if flow.masks_apart else InferAndMask,
        # Ray Data wants a number for GPU stages; it is in units, which stay whole.
        batch_size=flow.batch_frames if gpu else None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=flow.actors, max_tasks_in_flight_per_actor=IN_FLIGHT),
        num_cpus=1,
        num_gpus=1 if gpu else None,
        fn_constructor_kwargs=model if flow.masks_apart else {**model, "masking": flow.mask},
    )
    if flow.masks_apart:
        inferred = inferred.map_batches(
            mask_stage,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=MASK_CPUS,
            fn_kwargs={"settings": flow.mask},
        )
    masked: Dataset = inferred
    return masked


def guarded_decode(rows: pa.Table, settings: DecodeSettings, limits: ChildLimits, watch: Any) -> Iterator[pa.Table]:
    """Decode a block fast; carefully, if it took a process down before.

    Ray tries a task for ever whose process dies. So a block announces itself; when it comes again without having come
    to its end, its items are decoded one by one in child processes, and what ends a child becomes a failure. The same
    serves against hangs: an alarm that nobody stops ends the process. And against errors that nobody foresaw, out of
    memory among them: they would end the job.
    """
    block = _block_name(rows)
    begun = ray.get(watch.begin.remote(block))
    given: set[tuple[str, int]] = set()
    careful = begun > 1
    if not careful:
        try:
            for table in decode(rows, settings, alarm=partial(alarm, limits.item_s)):
                given.update(_names(table))
                yield table
        except FSFError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must cost no more than the item it came from
            why = units.failure("decode", error)  # without credentials
            log.warning("event=decode_again items=%d error=%r", rows.num_rows, why.error_message)
            careful = True
        finally:
            alarm(limits.item_s, running=False)
    if careful and begun < LAST_TRY:
        for table in decode_isolated(rows, settings, limits):
            yield table.filter(pa.array([name not in given for name in _names(table)], pa.bool_())) if given else table
    elif careful:
        yield give_up(rows, settings, times=begun - 1)
    watch.end.remote(block)


def _block_name(rows: pa.Table) -> str:
    """The same for the same rows, and another for another share of a video."""
    shares = rows.column("share").to_pylist() if "share" in rows.column_names else [None] * rows.num_rows
    named = zip(rows.column("item_id").to_pylist(), shares, strict=True)
    return ids.part_name(ids.unit_key(item, share["first"] if share else 0) for item, share in named)


def _names(table: pa.Table) -> list[tuple[str, int]]:
    """Item id and segment of every unit."""
    return [*zip(table.column("item_id").to_pylist(), table.column("segment").to_pylist(), strict=True)]


class ManifestBlocks(Datasource):
    """Manifest rows, those of one decode task in a block."""

    def __init__(self, works: Sequence[Work]) -> None:
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
        """Commit all rows of one task.

        Raises:
            GateError: so many items failed so early that the job should not go on.
        """
        del ctx
        tables = [block for block in blocks if block.num_rows]
        if tables:
            verdict = ray.get(self._watch.committed.remote(write(pa.concat_tables(tables), self._settings)))
            if verdict:
                raise GateError(
                    f"{verdict}; look at the failures table, correct the input, start the same command again"
                )

    def on_write_complete(self, write_result: WriteResult[None]) -> None:
        """Nothing: the receipts are the result."""

    def get_name(self) -> str:
        """What the dashboard shows."""
        return "Run"

    @property
    def min_rows_per_write(self) -> int | None:
        """Units that are gathered for one part."""
        return self._part_units


def _giving(work: Work) -> Callable[[], list[pa.Table]]:
    return lambda: [work.table()]


def _metadata(block: pa.Table) -> BlockMetadata:
    return BlockMetadata(num_rows=block.num_rows, size_bytes=block.nbytes, input_files=None, exec_stats=None)
