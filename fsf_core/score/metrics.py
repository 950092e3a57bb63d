"""Exports the metrics of a job through Ray's Prometheus endpoint on the driver's node, as `ray_fsf_…`.

Only on a cluster that the job joins: one that it starts itself serves no metrics. One process exports all of them, so a
run has one set of series, however many workers it has. Counters stay on the agent of the driver's node after the job;
gauges disappear 20 s after its end, so that an old night is never shown as the current one.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from fsf_core import __version__
from fsf_core.errors import InterruptedRunError, RunError
from fsf_core.safe_text import printable, redact_message
from fsf_core.score.clock import store_measures
from fsf_core.score.metric_table import (
    ACTORS_PLANNED,
    BATCH_FRAMES,
    BY_NAME,
    LAST_SUCCESS,
    METRICS,
    RUN_FRAMES,
    RUN_INFO,
    RUN_ITEMS,
    RUN_PHASE,
    RUN_PROGRESS,
    RUN_SECONDS,
    RUN_STARTED,
    RUNS,
    Measures,
    Metric,
)

UPDATE_S = 5.0
"""Interval of updates; Ray sends what it holds every 10 s."""

TRACKER_TIMEOUT_S = 3.0
MAX_LABEL = 200
"""Characters of a label's value."""

PHASES = ("starting", "scoring", "finishing", "ended")

log = logging.getLogger("fsf")


@contextlib.contextmanager
def exported_metrics(out: str, *, joined: bool) -> Iterator["RunMetrics"]:
    """Export the metrics of a job while the block lasts, and how it ended.

    Leave the block before Ray: when a driver disconnects, Ray sends what it holds.

    Args:
        out: the --out of the job as it was given. A template such as s3://scores/{date} is the same every night, and so
            are the labels of its series.
        joined: whether the cluster is one that serves metrics.
    """
    metrics = RunMetrics(out, enabled=joined)
    metrics.enter("starting")
    try:
        with metrics.updated():
            yield metrics
    except BaseException as error:
        metrics.end(_outcome(error))
        raise
    metrics.end(metrics.outcome)


def _outcome(error: BaseException) -> str:
    """Return how a job ends that raised an error."""
    if isinstance(error, RunError):
        return "refused"
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return "interrupted"
    return {3: "gate", 75: "resumable"}.get(getattr(error, "exit_code", 1), "bug")


class RunMetrics:
    """The metrics of one job; every method does nothing where they are not enabled. They never end a job."""

    def __init__(self, out: str, *, enabled: bool) -> None:
        self.outcome = "done"
        """The outcome if the job raises no error."""
        self._enabled = enabled
        self._run = printable(redact_message(out))[:MAX_LABEL]
        self._started = time.time()
        self._provider = ""
        self._tracker: Any = None
        self._total = 0
        self._lock = threading.Lock()
        self._update_lock = threading.Lock()
        self._gauges: dict[tuple[str, ...], float] = {}
        self._counted: Measures = {}
        self._counted_of = ""
        self._exporters: dict[str, Any] = {}

    def enter(self, phase: str) -> None:
        """Enter a phase."""
        for each in PHASES:
            self._set(RUN_PHASE, each, value=each == phase)
        self._export({})

    def begin(self, *, run_id: str, provider: str, items: int, resumed: int) -> None:
        """Describe the run before anything is scored.

        Args:
            run_id: id of the run.
            provider: execution provider; empty if nothing is left to score.
            items: items of the manifest.
            resumed: those of them that are finished.
        """
        self._provider, self._total = provider, items
        self._set(RUN_INFO, run_id, __version__, value=1)
        self._set(RUN_STARTED, value=self._started)
        self._set(RUN_ITEMS, "resumed", value=resumed)
        self._set(RUN_ITEMS, "reused", value=0)

    def track(self, tracker: Any, *, reused: int, actors: int, batch_frames: int | None) -> None:
        """Export what a tracker counts from now on.

        Args:
            tracker: handle of a JobTracker.
            reused: items that were copied from an earlier run.
            actors: actors of the model.
            batch_frames: most frames of a call of it; None if every actor chooses.
        """
        self._set(RUN_ITEMS, "reused", value=reused)
        self._set(RUN_PROGRESS, value=time.time())
        self._set(ACTORS_PLANNED, value=actors)
        if batch_frames is not None:
            self._set(BATCH_FRAMES, value=batch_frames)
        self._tracker = tracker
        self.enter("scoring")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Export the counts of a published run, from its tables.

        Args:
            summary: of the run.
            failed: whether a gate refuses it: it must not be taken for a success.
        """
        self.update()
        self._tracker = None
        items = summary["items"]
        for state in ("scored", "failed", "pending", "reused", "resumed"):
            self._set(RUN_ITEMS, state, value=items.get(state, 0))
        self._set(RUN_FRAMES, value=summary["frames"])
        self.outcome = "gate" if failed else "done"

    def end(self, outcome: str) -> None:
        """Export how the job ended."""
        if outcome == "done":
            self._set(LAST_SUCCESS, value=time.time())
        self._set(RUN_SECONDS, value=time.time() - self._started)
        self._export({(RUNS.name, outcome): 1})
        self.enter("ended")

    @contextlib.contextmanager
    def updated(self) -> Iterator[None]:
        """Update the metrics at intervals while the block lasts."""
        if not self._enabled:
            yield
            return
        stopped = threading.Event()
        thread = threading.Thread(target=self._poll, args=(stopped,), daemon=True, name="fsf-metrics")
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(timeout=TRACKER_TIMEOUT_S)

    def _poll(self, stopped: threading.Event) -> None:
        while not stopped.wait(UPDATE_S):
            self.update()

    def update(self) -> None:
        """Export what the tracker has counted, and what this process has measured."""
        if self._enabled:
            with self._update_lock:
                self._update()

    def _update(self) -> None:
        self._set(RUN_SECONDS, value=time.time() - self._started)
        increments = {**store_measures()}
        if self._tracker is not None:
            with contextlib.suppress(Exception):  # it is restarting or busy, and the next update has its counts
                of, counted = ray.get(self._tracker.counted.remote(), timeout=TRACKER_TIMEOUT_S)
                for key, amount in self._increments(of, counted).items():
                    increments[key] = increments.get(key, 0.0) + amount
        self._export(increments)

    def _increments(self, of: str, counted: Measures) -> Measures:
        """Set the gauges that a tracker has counted; returns by how much its counters have grown.

        Args:
            of: id of the counts; those of a tracker that was restarted begin at zero.
            counted: what the tracker has counted.
        """
        if of != self._counted_of:
            self._counted, self._counted_of = {}, of
        if counted != self._counted:
            self._set(RUN_PROGRESS, value=time.time())
        gauges = {key: value for key, value in counted.items() if BY_NAME[key[0]].kind == "gauge"}
        finished = sum(value for (name, *_), value in gauges.items() if name == RUN_ITEMS.name)
        with self._lock:
            self._gauges |= gauges
            others = sum(self._gauges.get((RUN_ITEMS.name, state), 0.0) for state in ("resumed", "reused"))
            self._gauges[RUN_ITEMS.name, "pending"] = max(0.0, self._total - others - finished)
        grown = {key: value - self._counted.get(key, 0.0) for key, value in counted.items() if key not in gauges}
        self._counted = counted
        return grown

    def _set(self, metric: Metric, *labels: str, value: float) -> None:
        with self._lock:
            self._gauges[metric.name, *labels] = float(value)

    def _export(self, increments: Measures) -> None:
        """Pass all gauges, which Ray drops unless they are repeated, and the increments of counters to Ray."""
        if not self._enabled:
            return
        try:
            with self._lock:
                if not self._exporters:
                    self._exporters = {metric.name: _exporter(metric) for metric in METRICS}
                for key, value in self._gauges.items():
                    self._exporters[key[0]].set(value, self._tags(key))
                for key, amount in increments.items():
                    if amount > 0:
                        self._exporters[key[0]].inc(amount, self._tags(key))
        except Exception as error:  # noqa: BLE001 - what watches a job must not end it
            log.warning("event=metrics_off error=%r", f"{type(error).__name__}: {error}")
            self._enabled = False

    def _tags(self, key: tuple[str, ...]) -> dict[str, str]:
        """Return all labels of a value."""
        name, *values = key
        labels = BY_NAME[name].labels
        own = [label for label in labels if label != "provider"]
        tags = {"run": self._run, **dict(zip(own, values, strict=True))}
        return tags | ({"provider": self._provider} if "provider" in labels else {})


def _exporter(metric: Metric) -> Any:
    """Return Ray's object of a metric."""
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, description=metric.meaning, tag_keys=("run", *metric.labels))
