"""Decoding and writing under the eye of the watch, on workers, in tasks and in actors.

A block that takes its process down comes again, and is decoded carefully then. What decoding and writing mean stands in
stages/.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from fsf_core.errors import FSFError, GateError
from fsf_core.keys import part_name, unit_key
from fsf_core.stages import units
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits, decode_isolated, failures_for_block, watchdog
from fsf_core.stages.write import WriteSettings, write

LAST_TRY = 4
"""A block that took its process down in the fast way, and twice in the careful one, is given up."""

log = logging.getLogger("fsf")


def recovering_decode(rows: pa.Table, settings: DecodeSettings, limits: ChildLimits, watch: Any) -> Iterator[pa.Table]:
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
            for table in decode(rows, settings, watchdog=partial(watchdog, limits.item_s)):
                given.update(_names(table))
                yield table
        except FSFError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must cost no more than the item it came from
            why = units.failure("decode", error)  # without credentials
            log.warning("event=decode_again items=%d error=%r", rows.num_rows, why.error_message)
            careful = True
        finally:
            watchdog(limits.item_s, running=False)
    if careful and begun < LAST_TRY:
        for table in decode_isolated(rows, settings, limits):
            yield table.filter(pa.array([name not in given for name in _names(table)], pa.bool_())) if given else table
    elif careful:
        yield failures_for_block(rows, settings, times=begun - 1)
    watch.end.remote(block)


def counting_write(tables: Sequence[pa.Table], settings: WriteSettings, watch: Any) -> None:
    """Commit masked units as one part of the run; nothing where there are none.

    Raises:
        GateError: so many items failed so early that the job should not go on.
    """
    rows = [table for table in tables if table.num_rows]
    if rows:
        done = write(pa.concat_tables(rows), settings)
        verdict = ray.get(watch.committed.remote(frames=done.frames, units=done.units, failed=done.failed_units))
        if verdict:
            raise GateError(f"{verdict}; look at the failures table, correct the input, start the same command again")


def _block_name(rows: pa.Table) -> str:
    """The same for the same rows, and another for another share of a video."""
    shares = rows.column("share").to_pylist() if "share" in rows.column_names else [None] * rows.num_rows
    named = zip(rows.column("item_id").to_pylist(), shares, strict=True)
    return part_name(unit_key(item, share["first"] if share else 0) for item, share in named)


def _names(table: pa.Table) -> list[tuple[str, int]]:
    """Item id and segment of every unit."""
    return [*zip(table.column("item_id").to_pylist(), table.column("segment").to_pylist(), strict=True)]
