"""Decoding and committing on workers, with recovery from blocks that end their process.

A block that ended its process is decoded again item by item in child processes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from fsf_core.errors import FSFError, GateError
from fsf_core.keys import group_digest, unit_key
from fsf_core.score.clock import Clock
from fsf_core.score.tracker import summarize_commit
from fsf_core.score.work_log import log_commit
from fsf_core.stages import units
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits, decode_isolated, failures_for_block
from fsf_core.stages.tiles import TileSettings, tiled_failures
from fsf_core.stages.watchdog import watchdog
from fsf_core.stages.write import WriteSettings, write

MAX_STARTS = 4
"""A block is decoded once in this process, twice in child processes, and at its fourth start its items fail."""

log = logging.getLogger("fsf")


def recovering_decode(
    rows: pa.Table, settings: DecodeSettings, limits: ChildLimits, tracker: Any
) -> Iterator[pa.Table]:
    """Decode a block; in child processes if it ended its process before, or raised an unexpected error.

    Ray repeats a task without end if its process dies. So the tracker notes the starts of each block; one that was
    started before without reaching its end is decoded item by item in child processes, and what ends a child becomes a
    failure. Hangs end the same way, because the watchdog ends the process, and so do unexpected errors, out of memory
    among them, which would otherwise end the job.
    """
    block = _block_name(rows)
    starts = _begin_block(block, tracker)
    emitted: set[tuple[str, int]] = set()
    isolated = starts > 1
    if not isolated:
        try:
            for table in decode(rows, settings, watchdog=partial(watchdog, limits.item_s)):
                emitted.update(_unit_ids(table))
                yield table
        except FSFError:
            raise
        except Exception as error:  # noqa: BLE001 - an unexpected error must only cost the item that raised it
            reason = units.failure("decode", error).error_message  # without credentials
            log.warning("event=decode_isolated items=%d error=%r", rows.num_rows, reason)
            isolated = True
        finally:
            watchdog(limits.item_s, running=False)
    if isolated and starts < MAX_STARTS:
        for table in decode_isolated(rows, settings, limits):
            is_new = pa.array([unit not in emitted for unit in _unit_ids(table)], pa.bool_())
            yield table.filter(is_new) if emitted else table
    elif isolated:
        yield failures_for_block(rows, settings, times=starts - 1)
    tracker.end_block.remote(block)


def recovering_tiles(
    rows: pa.Table, score: Callable[[pa.Table], Iterator[pa.Table]], settings: TileSettings, tracker: Any
) -> Iterator[pa.Table]:
    """Score a block of pictures in windows, beside the model; a picture that ends its process again and again fails.

    A block that ended its process before is scored item by item, and the tracker notes the starts of each, too.

    Args:
        rows: the pictures.
        score: scores them.
        settings: of the stage.
        tracker: handle of the tracker.
    """
    block = _block_name(rows)
    if _begin_block(block, tracker) == 1:
        yield from score(rows)
    else:
        for index in range(rows.num_rows):
            row, item = rows.slice(index, 1), f"{block}/{index}"
            starts = _begin_block(item, tracker)
            if starts < MAX_STARTS - 1:
                yield from score(row)
            else:
                yield tiled_failures(row, settings, times=starts)
            tracker.end_item.remote(item)
    tracker.end_block.remote(block)


def tracked_write(tables: Sequence[pa.Table], settings: WriteSettings, tracker: Any, clock: Clock) -> None:
    """Commit masked units as one part of the run, and report them; does nothing without units.

    Args:
        tables: the units.
        settings: settings of the stage.
        tracker: handle of the tracker.
        clock: measures the stage; what else it has measured is reported too.

    Raises:
        GateError: almost all of the first items failed.
    """
    filled = [table for table in tables if table.num_rows]
    if filled:
        table = pa.concat_tables(filled)
        with clock.stage("write"):
            receipts = write(table, settings)
        log_commit(receipts, table)
        verdict = ray.get(tracker.add.remote(summarize_commit(table), clock.take()))
        if verdict:
            raise GateError(f"{verdict}; look at the failures table, correct the input, start the same command again")


def _begin_block(block: str, tracker: Any) -> int:
    """Report the start of a block; returns how often it was started and did not reach its end, this start included.

    A start on a node that the cluster has lost since does not count: the block is not what ended it.
    """
    here: str = ray.get_runtime_context().get_node_id()
    nodes: list[str] = ray.get(tracker.begin_block.remote(block, here))
    if len(nodes) == 1:
        return 1
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call] # Ray publishes no type
    return sum(node in alive for node in nodes)


def _block_name(rows: pa.Table) -> str:
    """Return a name that is the same for the same rows, and different for another share of a video."""
    shares = rows.column("share").to_pylist() if "share" in rows.column_names else [None] * rows.num_rows
    named = zip(rows.column("item_id").to_pylist(), shares, strict=True)
    return group_digest(unit_key(item, share["first"] if share else 0) for item, share in named)


def _unit_ids(table: pa.Table) -> list[tuple[str, int]]:
    """Return item id and segment of every unit."""
    return [*zip(table.column("item_id").to_pylist(), table.column("segment").to_pylist(), strict=True)]
