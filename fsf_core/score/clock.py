"""The clock of a worker: seconds and CPU seconds by stage, calls of the model, bytes, retries of stores.

What it adds up is sent to the tracker, with the parts that the worker commits or once per block. The driver exports it
(`metrics`) and adds it to the summary (`work`). It costs a few clock readings per table.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import ray

from fsf_core import logs
from fsf_core.logs import LogSettings
from fsf_core.score.metric_table import (
    ACTOR_SECONDS,
    DISK_READ_BYTES,
    MODEL_BUSY_SECONDS,
    MODEL_CALLS,
    MODEL_FRAMES,
    NODE_ACTOR_SECONDS,
    NODE_BUSY_SECONDS,
    NODE_FRAMES,
    STAGE_CPU_SECONDS,
    STAGE_SECONDS,
    STORE_READ_BYTES,
    STORE_RETRIES,
    WRITTEN_BYTES,
    Measures,
    Metric,
)
from fsf_core.stages.meter import ModelMeter
from fsf_core.storage import usage

READING = "decode"
"""The stage that reads the items; what a process reads from files is counted in it alone."""

OTHER = "other"
"""What the CPU seconds between stages are counted for."""

_IO = Path("/proc/self/io")


class Clock:
    """Adds up what one actor or task measures, from several threads."""

    def __init__(self, observed: LogSettings | None, *, meter: ModelMeter | None = None, rest: str = OTHER) -> None:
        """Start, and log as the driver does.

        Args:
            observed: how the driver logs; None on a cluster of the job's own, which keeps no logs and has one node.
            meter: of the model that the actor holds.
            rest: what the CPU seconds outside of stages count for. A process that does nothing but one stage names it
                here: then all of its CPU seconds are that stage's, those of several threads once.
        """
        if observed:
            logs.follow(observed)
        self._meter = meter
        self._rest = rest
        self._lock = threading.Lock()
        self._sums: Counter[tuple[str, ...]] = Counter()
        self._taken = time.perf_counter()
        self._cpu_taken = time.process_time()
        self._staged_cpu_s = 0.0
        self._node: str = ray.util.get_node_ip_address() if observed and meter else ""  # type: ignore[no-untyped-call] # Ray publishes no type

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block for a stage."""
        started, cpu_started = time.perf_counter(), time.process_time()
        read = _read_from_files() if name == READING else 0
        try:
            yield
        finally:
            if name == READING:
                self._add(DISK_READ_BYTES, amount=_read_from_files() - read)
            self._add(STAGE_SECONDS, name, amount=time.perf_counter() - started)
            if name != self._rest:
                cpu_s = time.process_time() - cpu_started
                self._staged_cpu_s += cpu_s
                self._add(STAGE_CPU_SECONDS, name, amount=cpu_s)

    def tables(self, name: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield tables, and count the time that each takes to arrive for a stage."""
        iterator = iter(tables)
        while True:
            with self.stage(name):
                table = next(iterator, None)
            if table is None:
                return
            yield table

    def take(self) -> Measures:
        """Return what was added since the last call."""
        if self._meter:
            self._take_model(self._meter)
        self._take_process()
        with self._lock:
            self._sums.update(store_measures())
            taken, self._sums = {key: amount for key, amount in self._sums.items() if amount}, Counter()
        return taken

    def _take_process(self) -> None:
        """Add the CPU seconds outside of stages."""
        with self._lock:
            cpu_s = time.process_time()
            rest_s = cpu_s - self._cpu_taken - self._staged_cpu_s
            self._cpu_taken, self._staged_cpu_s = cpu_s, 0.0
        self._add(STAGE_CPU_SECONDS, self._rest, amount=max(0.0, rest_s))

    def _take_model(self, meter: ModelMeter) -> None:
        """Add what the model has done."""
        with self._lock:
            now = time.perf_counter()
            wall_s, self._taken = now - self._taken, now
            use = meter.take()
        self._add(MODEL_CALLS, amount=use.calls)
        for metrics, amount in (
            ((MODEL_FRAMES, NODE_FRAMES), use.frames),
            ((MODEL_BUSY_SECONDS, NODE_BUSY_SECONDS), use.busy_s),
            ((ACTOR_SECONDS, NODE_ACTOR_SECONDS), wall_s),
        ):
            job, node = metrics
            self._add(job, amount=amount)
            if self._node:
                self._add(node, self._node, amount=amount)

    def _add(self, metric: Metric, *labels: str, amount: float) -> None:
        with self._lock:
            self._sums.update({(metric.name, *labels): amount})


_USAGE = {usage.READ_BYTES: STORE_READ_BYTES, usage.WRITTEN_BYTES: WRITTEN_BYTES}


def store_measures() -> Measures:
    """Return what this process has read from stores, written and retried since the last call."""
    return as_measures(usage.take())


def as_measures(counts: Mapping[str, int]) -> Measures:
    """Return the counts of `storage.usage` by metric."""
    return {
        (_USAGE[name].name,) if name in _USAGE else (STORE_RETRIES.name, name.partition(":")[2]): amount
        for name, amount in counts.items()
    }


def _read_from_files() -> int:
    """Return the bytes that this process has read from files, those in the page cache included; 0 where unknown."""
    try:
        return int(_IO.read_bytes().split(maxsplit=2)[1])  # rchar: N
    except (OSError, ValueError, IndexError):
        return 0
