"""Who decodes what: images by the block, a short video alone, a long one shared out among tasks.

To share a video out somebody has to read its packets first; that is done here, by tasks of their own, before the flow
begins. A video that cannot be read, or ends the process that tries, is left whole: the decode stage has the words and
the child processes for it.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import ray

from fsf_core.errors import FSFError
from fsf_core.manifest import kind_by_name
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import watchdog
from fsf_core.stages.video_plan import pack_plan, plan_video

LAST_ITEMS = 8
"""Images of the last decode tasks; each task costs some 20 ms whatever is in it."""

ROUNDS = 4
"""Every consumer gets a quarter of its share of what is left at most, so that all end at about the same time."""

PLAN_CPUS = 0.5
PLANS_IN_FLIGHT = 256
PLAN_VIDEOS = 32
"""Most videos of one task that plans; where there are many, most are short and cost it a look at their headers."""
PATIENCE = 10
"""Reading the packets of a film of hours out of a far store may take so many times what one segment may."""

log = logging.getLogger("fsf")

Planned: TypeAlias = tuple[tuple[range, ...], bytes]
"""The segments of each task, and the packed plan."""

SHARE = pa.struct([("first", pa.int32()), ("stop", pa.int32()), ("total", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class DecodeTask:
    """What one decode task gets."""

    rows: pa.Table
    """Manifest rows; with a column `share` where it is a share of a video."""
    plan: Any = None
    """Reference to the packed plan of that video."""

    def table(self) -> pa.Table:
        """The rows as the decode stage wants them; called on the worker."""
        if self.plan is None:
            return self.rows
        return self.rows.append_column("plan", pa.array([ray.get(self.plan)], pa.large_binary()))


def plan_decode_tasks(
    wave: pa.Table, settings: DecodeSettings, *, consumers: int, item_s: float, block_items: int
) -> list[DecodeTask]:
    """Cut manifest rows into decode tasks: shares of videos, and images together, fewer towards the end.

    Args:
        wave: manifest rows with `done_segments`.
        settings: of the decode stage.
        consumers: how many actors take blocks of images.
        item_s: time limit of one item.
        block_items: most images of one task.
    """
    kinds = zip(wave.column("kind").to_pylist(), wave.column("uri").to_pylist(), strict=True)
    is_video = np.asarray([(kind or kind_by_name(uri)) == "video" for kind, uri in kinds], bool)
    # A slice would drag its whole wave along when it is pickled.
    videos = [wave.take(pa.array([at])) for at in np.flatnonzero(is_video)]
    pictures = wave.filter(pa.array(~is_video))
    cuts = block_sizes(pictures.num_rows, consumers, most=block_items)
    starts = itertools.accumulate(cuts, initial=0)
    blocks = [pictures.take(pa.array(range(start, start + size))) for start, size in zip(starts, cuts, strict=False)]
    # Videos first: the longest work must not begin last.
    return _shares(videos, settings, item_s) + [DecodeTask(rows=block) for block in blocks]


def block_sizes(items: int, consumers: int, *, most: int) -> list[int]:
    """How many images each decode task gets, in order: full blocks, and smaller ones towards the end."""
    rounds = ROUNDS * consumers
    least = max(1, min(LAST_ITEMS, -(-items // rounds)))
    sizes, left = [], items
    while left:
        size = min(left, most, max(least, left // rounds))
        sizes.append(size)
        left -= size
    return sizes


def _shares(videos: Sequence[pa.Table], settings: DecodeSettings, item_s: float) -> list[DecodeTask]:
    """The tasks of every video; what an earlier run has done is nobody's."""
    works = []
    for row, found in zip(videos, _planned(videos, settings, item_s), strict=True):
        if found is None:
            works.append(DecodeTask(rows=row))
            continue
        shares, packed = found
        plan = ray.put(packed)  # here: the node that made it may be lost
        done = frozenset(row.column("done_segments")[0].as_py() or ())
        for share in shares:
            if not done.issuperset(share):
                facts = {"first": share.start, "stop": share.stop, "total": shares[-1].stop}
                works.append(DecodeTask(rows=row.append_column("share", pa.array([facts], SHARE)), plan=plan))
    return works


def _planned(videos: Sequence[pa.Table], settings: DecodeSettings, item_s: float) -> Iterator[Planned | None]:
    """Shares and packed plan of every video in order; None for what stays whole."""
    task: Any = ray.remote(num_cpus=PLAN_CPUS, max_retries=0)(_plan)
    size = max(1, min(PLAN_VIDEOS, len(videos) // PLANS_IN_FLIGHT))
    groups = [videos[start : start + size] for start in range(0, len(videos), size)]
    refs: list[Any] = []
    for at, group in enumerate(groups):
        for ahead in groups[len(refs) : at + PLANS_IN_FLIGHT]:
            rows = [row for table in ahead for row in table.to_pylist()]
            refs.append(task.remote(rows, settings, item_s * PATIENCE))
        try:
            yield from ray.get(refs[at])
        except ray.exceptions.RayError as error:
            items = [table.column("item_id")[0].as_py() for table in group]
            log.warning("event=not_shared_out items=%r error=%s", items, type(error).__name__)
            yield from [None] * len(group)
        refs[at] = None  # lets go of the bytes


def _plan(rows: Sequence[dict[str, Any]], settings: DecodeSettings, limit_s: float) -> list[Planned | None]:
    """Runs on a worker; what goes wrong here is told by the decode stage, which meets it again."""
    found: list[Planned | None] = []
    for row in rows:
        watchdog(limit_s, running=True)
        try:
            plan = plan_video(row, settings)
            found.append((plan.tasks, pack_plan(plan)) if plan else None)
        except (FSFError, OSError):
            found.append(None)
        finally:
            watchdog(limit_s, running=False)
    return found
