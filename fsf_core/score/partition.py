"""Partition of manifest rows into decode tasks: blocks of images, short videos alone, long videos in shares.

The shares of a video follow from its packets, which tasks of their own read before the pipeline starts. A video that
cannot be read, or that ends the process reading it, stays whole: the decode stage reports it.
"""

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from fsf_core.errors import FSFError
from fsf_core.manifest import videos_by_name
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.video_plan import pack_plan, plan_video
from fsf_core.stages.watchdog import watchdog

EXECUTION_ITEMS, EXECUTION_TASKS, EXECUTION_BYTES = 4_000_000, 100_000, 512 << 20
"""Items of one execution of Ray Data, tasks, of which a video has one or more, and bytes of packed rows: they bound the
driver's memory. Each execution starts the actors again."""

SAMPLE_ROWS = 256
"""Rows by which the packed bytes of a table are estimated."""

CODEC = "zstd"
"""Of packed rows."""

LAST_BLOCK_ITEMS = 8
"""Images of the last blocks."""

BLOCKS_PER_CONSUMER = 4
"""A block is at most a quarter of one consumer's share of the remaining images, so that all end at about the same
time."""

PLAN_CPUS = 0.5
PLAN_TASKS_IN_FLIGHT = 256
PLAN_TASK_VIDEOS = 32
"""Maximum number of videos of one planning task; in long manifests most are short, and cost a read of their headers."""
PLAN_TIMEOUT_FACTOR = 10
"""Indexing a long remote video may take this many times one segment's limit."""

log = logging.getLogger("fsf")

PackedShares: TypeAlias = tuple[tuple[range, ...], bytes]
"""The segments of each share, and the packed plan."""

SHARE = pa.struct([("first", pa.int32()), ("stop", pa.int32()), ("total", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class BlockLimits:
    """How many images a decode task gets."""

    max_items: int
    consumers: int
    """Number of processes that take blocks."""
    blocks_per_consumer: int = BLOCKS_PER_CONSUMER
    """Blocks into which a consumer's share of the remaining images is divided at least."""
    last_items: int = LAST_BLOCK_ITEMS
    """Images of the last blocks, if there are enough of them for all consumers."""
    multiple: int = 1
    """Larger blocks have a multiple of it, so that the model's calls are full."""

    @property
    def full(self) -> int:
        """Return the number of images of a full block."""
        return self.max_items // self.multiple * self.multiple or self.max_items


@dataclass(frozen=True, kw_only=True)
class DecodeTask:
    """The input of one decode task; packed, because the driver and the object store hold those of a whole execution."""

    rows: int
    packed: bytes
    """The manifest rows as a compressed Arrow stream; with a column `share` where they are a share of a video."""
    unpacked_bytes: int
    plan: Any = None
    """Reference to the packed plan of that video."""

    def table(self) -> pa.Table:
        """Return the rows as the decode stage takes them; called on the worker."""
        rows = pa.ipc.open_stream(pa.decompress(self.packed, self.unpacked_bytes, CODEC)).read_all()
        if self.plan is None:
            return rows
        return rows.append_column("plan", pa.array([ray.get(self.plan)], pa.large_binary()))


def pack_task(rows: pa.Table, plan: Any = None) -> DecodeTask:
    """Return the task of manifest rows; of a slice only its own rows are kept."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    stream = sink.getvalue()
    packed = pa.compress(stream, CODEC, asbytes=True)
    return DecodeTask(rows=rows.num_rows, packed=packed, unpacked_bytes=stream.size, plan=plan)


def executions(
    tables: Iterable[pa.Table],
    *,
    max_items: int = EXECUTION_ITEMS,
    max_videos: int = EXECUTION_TASKS,
    max_bytes: int = EXECUTION_BYTES,
) -> Iterator[Iterator[pa.Table]]:
    """Divide manifest rows into executions of Ray Data; each has to be consumed before the next is asked for.

    Args:
        tables: manifest rows.
        max_items: an execution ends with the table that reaches this number of items.
        max_videos: or this one of videos.
        max_bytes: or about this one of bytes of their tasks.
    """
    rest = iter(tables)

    def until_full(first: pa.Table) -> Iterator[pa.Table]:
        items = videos = size_bytes = 0
        for table in itertools.chain([first], rest):
            yield table
            items, videos = items + table.num_rows, videos + int(are_videos(table).sum())
            size_bytes += _packed_bytes(table)
            if items >= max_items or videos >= max_videos or size_bytes >= max_bytes:
                return

    return (until_full(first) for first in rest)


def _packed_bytes(table: pa.Table) -> int:
    """Estimate by its first rows what a table takes in tasks: columns such as embeddings do not compress."""
    sample = pack_task(table.slice(0, SAMPLE_ROWS))
    return len(sample.packed) * int(table.num_rows) // max(1, sample.rows)


def plan_decode_tasks(
    tables: Iterable[pa.Table], settings: DecodeSettings, *, item_s: float, blocks: BlockLimits
) -> list[DecodeTask]:
    """Partition manifest rows into decode tasks, videos first.

    Args:
        tables: manifest rows with `done_segments`.
        settings: of the decode stage.
        item_s: time limit of one item.
        blocks: how many images a task gets.
    """
    images, videos, tasks = RowQueue(), list[pa.Table](), list[DecodeTask]()
    # While this many images wait, the next block is full whatever comes after them.
    enough = blocks.max_items * blocks.blocks_per_consumer * blocks.consumers
    for table in tables:
        is_video = are_videos(table)
        if is_video.any():
            videos.append(table.filter(pa.array(is_video)))
        images.put(table.filter(pa.array(~is_video)) if is_video.any() else table)
        while images.num_rows >= enough:
            tasks.append(pack_task(images.take(blocks.full)))
    tasks += [pack_task(images.take(size)) for size in block_sizes(images.num_rows, blocks)]
    # Videos first: the longest tasks must not start last. Tables of one row each would take many times the rows.
    return (_video_tasks(pa.concat_tables(videos), settings, item_s) if videos else []) + tasks


def are_videos(rows: pa.Table) -> NDArray[np.bool_]:
    """Return for each manifest row whether it is a video, by its kind or else by its name."""
    kinds = rows.column("kind")
    named = pc.fill_null(pc.equal(kinds, "video"), fill_value=False).to_numpy()
    return np.where(kinds.is_null().to_numpy(), videos_by_name(rows.column("uri")), named)


class RowQueue:
    """Rows of tables in order, taken from the front without copying them."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._tables = deque[pa.Table]()

    def put(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        self._tables.append(table)
        self.num_rows += table.num_rows

    def take(self, rows: int) -> pa.Table:
        """Remove rows from the front; there are as many."""
        taken, missing = [], rows
        while missing:
            first = self._tables.popleft()
            if first.num_rows > missing:
                self._tables.appendleft(first.slice(missing))
            taken.append(first.slice(0, missing))
            missing -= taken[-1].num_rows
        self.num_rows -= rows
        return pa.concat_tables(taken)


def block_sizes(items: int, limits: BlockLimits) -> list[int]:
    """Return the number of images of each decode task, in order: full blocks first, smaller ones towards the end."""
    divisor = limits.blocks_per_consumer * limits.consumers
    min_items = max(1, min(limits.last_items, -(-items // divisor)))
    sizes, left = [], items
    while left:
        size = min(left, limits.full, max(min_items, left // divisor))
        size = size // limits.multiple * limits.multiple or size
        sizes.append(size)
        left -= size
    return sizes


def _video_tasks(videos: pa.Table, settings: DecodeSettings, item_s: float) -> list[DecodeTask]:
    """Return the tasks of every video, without shares whose segments are all committed."""
    tasks = []
    for at, video_plan in zip(range(videos.num_rows), _plan_videos(videos, settings, item_s), strict=True):
        row = videos.slice(at, 1)
        if video_plan is None:
            tasks.append(pack_task(row))
            continue
        shares, packed = video_plan
        plan = ray.put(packed)  # owned by the driver: the node that made it may be lost
        done = frozenset(row.column("done_segments")[0].as_py() or ())
        for share in shares:
            if not done.issuperset(share):
                facts = {"first": share.start, "stop": share.stop, "total": shares[-1].stop}
                tasks.append(pack_task(row.append_column("share", pa.array([facts], SHARE)), plan))
    return tasks


def _plan_videos(videos: pa.Table, settings: DecodeSettings, item_s: float) -> Iterator[PackedShares | None]:
    """Yield the plan of every video in order; None for one that stays whole."""
    task: Any = ray.remote(num_cpus=PLAN_CPUS, max_retries=0)(_plan_group)
    size = max(1, min(PLAN_TASK_VIDEOS, videos.num_rows // PLAN_TASKS_IN_FLIGHT))
    starts = range(0, videos.num_rows, size)
    refs: list[Any] = []
    for number, start in enumerate(starts):
        for begun in starts[len(refs) : number + PLAN_TASKS_IN_FLIGHT]:
            rows = videos.slice(begun, size).to_pylist()
            refs.append(task.remote(rows, settings, item_s * PLAN_TIMEOUT_FACTOR))
        try:
            yield from ray.get(refs[number])
        except ray.exceptions.RayError as error:
            items = videos.column("item_id").slice(start, size).to_pylist()
            log.warning("event=videos_not_partitioned items=%r error=%s", items, type(error).__name__)
            yield from [None] * len(items)
        refs[number] = None  # frees the plans


def _plan_group(rows: Sequence[dict[str, Any]], settings: DecodeSettings, limit_s: float) -> list[PackedShares | None]:
    """Plan videos on a worker; an unreadable one gets None, and the decode stage reports its error."""
    plans: list[PackedShares | None] = []
    for row in rows:
        watchdog(limit_s, running=True)
        try:
            plan = plan_video(row, settings, heartbeat=lambda: watchdog(limit_s, running=True))
            plans.append((plan.tasks, pack_plan(plan)) if plan else None)
        except (FSFError, OSError):
            plans.append(None)
        finally:
            watchdog(limit_s, running=False)
    return plans
