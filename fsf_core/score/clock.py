"""The clock of a worker: seconds by stage, calls of the model, bytes and retries of stores.

What it adds up is sent to the tracker, with the parts that the worker commits or once per block, and exported by the
driver (`metrics`). On a cluster that the job has started itself nothing reads it: there clocks are off, and cost a call
per table.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import ray

from fsf_core import logs
from fsf_core.logs import LogSettings
from fsf_core.score.metric_table import (
    ACTOR_SECONDS,
    MODEL_BUSY_SECONDS,
    MODEL_CALLS,
    MODEL_FRAMES,
    NODE_ACTOR_SECONDS,
    NODE_BUSY_SECONDS,
    NODE_FRAMES,
    STAGE_SECONDS,
    STORE_READ_BYTES,
    STORE_RETRIES,
    Measures,
    Metric,
)
from fsf_core.stages.meter import ModelMeter
from fsf_core.storage import usage


class Clock:
    """Adds up what one actor or task measures, from several threads."""

    def __init__(self, observed: LogSettings | None, *, meter: ModelMeter | None = None) -> None:
        """Start, and log as the driver does.

        Args:
            observed: how the driver logs; None where nothing is to be measured or logged.
            meter: of the model that the actor holds.
        """
        running = observed is not None
        if observed:
            logs.follow(observed)
        self._running = running
        self._meter = meter
        self._lock = threading.Lock()
        self._sums: Counter[tuple[str, ...]] = Counter()
        self._taken = time.perf_counter()
        self._node: str = ray.util.get_node_ip_address() if running and meter else ""  # type: ignore[no-untyped-call] # Ray publishes no type

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block for a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            if self._running:
                self._add(STAGE_SECONDS, name, amount=time.perf_counter() - started)

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
        """Return what was added since the last call; nothing if the clock is off."""
        if not self._running:
            return {}
        if self._meter:
            self._take_model(self._meter)
        with self._lock:
            self._sums.update(store_measures())
            taken, self._sums = dict(self._sums), Counter()
        return taken

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
            self._add(node, self._node, amount=amount)

    def _add(self, metric: Metric, *labels: str, amount: float) -> None:
        with self._lock:
            self._sums.update({(metric.name, *labels): amount})


def store_measures() -> Measures:
    """Return what this process has read from stores and retried since the last call."""
    return {
        (STORE_READ_BYTES.name,) if name == usage.READ_BYTES else (STORE_RETRIES.name, name.partition(":")[2]): amount
        for name, amount in usage.take().items()
    }
