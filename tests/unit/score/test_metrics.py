"""The metrics of a job: what workers measure, what the tracker counts and what the driver exports."""

import re
import threading
import time
from collections import Counter as Counts
from pathlib import Path
from typing import Any

import pytest
import ray

from fsf_core import logs, storage
from fsf_core.errors import ConfigError, FSFError, GateError, InterruptedRunError, ResumableError
from fsf_core.score import metrics
from fsf_core.score.clock import Clock
from fsf_core.score.metric_table import (
    DISK_READ_BYTES,
    FRAMES,
    METRICS,
    PARTS,
    RUN_ITEMS,
    RUN_PHASE,
    RUN_PROGRESS,
    STAGE_CPU_SECONDS,
    STAGE_SECONDS,
    STORE_READ_BYTES,
    STORE_RETRIES,
    WRITTEN_BYTES,
)
from fsf_core.score.metrics import RunMetrics, exported_metrics
from fsf_core.score.tracker import MAX_REASONS, Commit, JobTracker
from fsf_core.storage import retry, usage


class Exported:
    """Records what a metric of Ray receives, under its conditions: known labels, and counters that only grow."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.values: dict[tuple[tuple[str, str], ...], float] = Counts()

    def _key(self, tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
        assert set(tags) == {"run", *self.metric.labels}
        assert all(isinstance(value, str) for value in tags.values())
        return tuple(sorted(tags.items()))

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert self.metric.kind == "gauge"
        self.values[self._key(tags)] = value

    def inc(self, amount: float, tags: dict[str, str]) -> None:
        assert self.metric.kind == "counter"
        assert amount > 0
        self.values[self._key(tags)] += amount


class Tracker:
    """The handle of an actor, without its process."""

    def __init__(self) -> None:
        self.job = JobTracker(early_items=None, early_failed_share=1.0, earlier_segments={})
        self.counted = self

    def remote(self) -> Any:
        return self.job.counted()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exported]:
    made: dict[str, Exported] = {}
    monkeypatch.setattr(metrics, "_exporter", lambda metric: made.setdefault(metric.name, Exported(metric)))
    monkeypatch.setattr(ray, "get", lambda value, **_: value)
    return made


def commit(*, frames: int = 0, items: int = 0, failed: int = 0, reasons: dict | None = None) -> Commit:
    return Commit(frames=frames, whole_items=items, failed_whole_items=failed, segments=(), reasons=reasons or {})


def value_of(exported: dict[str, Exported], metric: Any, **labels: str) -> float:
    (found,) = (value for key, value in exported[metric.name].values.items() if labels.items() <= dict(key).items())
    return found


def test_a_clock_counts_cpu_seconds_once_and_those_between_stages_apart() -> None:
    def compute(seconds: float) -> None:
        ends = time.process_time() + seconds
        while time.process_time() < ends:
            pass

    began = time.process_time()
    clock = Clock(None)
    with clock.stage("decode"):
        compute(0.1)
        time.sleep(0.1)
    compute(0.05)
    taken = clock.take()
    spent = time.process_time() - began

    decode, other = taken[STAGE_CPU_SECONDS.name, "decode"], taken[STAGE_CPU_SECONDS.name, "other"]
    assert decode >= 0.1
    assert other >= 0.05
    assert decode + other <= spent + 0.01, "no second is counted twice"
    assert taken[STAGE_SECONDS.name, "decode"] >= 0.2
    compute(0.01)
    assert (STAGE_SECONDS.name, "decode") not in clock.take()


def test_a_process_of_one_stage_counts_the_cpu_seconds_of_its_threads_once() -> None:
    def work() -> None:
        with clock.stage("infer"):
            ends = time.thread_time() + 0.1
            while time.thread_time() < ends:
                pass

    clock = Clock(None, rest="infer")
    threads = [threading.Thread(target=work) for _ in range(2)]
    started = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, spent = clock.take(), time.process_time() - started

    cpu = {key: value for key, value in taken.items() if key[0] == STAGE_CPU_SECONDS.name}
    assert [*cpu] == [(STAGE_CPU_SECONDS.name, "infer")]
    assert 0.2 <= cpu[STAGE_CPU_SECONDS.name, "infer"] <= spent + 0.01


def test_a_clock_counts_what_is_read_from_files_and_written(tmp_path: Path) -> None:
    usage.take()
    clock = Clock(None)
    uri = str(tmp_path / "a")
    storage.write_bytes(uri, b"x" * 300_000)
    assert storage.create(str(tmp_path / "b"), b"y" * 5)
    assert not storage.create(str(tmp_path / "b"), b"z" * 7)
    storage.write_file(str(tmp_path / "c"), tmp_path / "a")
    storage.read_bytes(uri)
    taken = clock.take()
    with clock.stage("decode"):
        storage.read_bytes(uri)

    assert taken[(WRITTEN_BYTES.name,)] == 600_005
    assert (DISK_READ_BYTES.name,) not in taken, "read by no item"
    assert 300_000 <= clock.take()[(DISK_READ_BYTES.name,)] < 350_000


def test_a_clock_adds_up_stages_and_what_stores_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def tables() -> Any:
        time.sleep(0.05)
        yield "one"
        time.sleep(0.05)

    usage.take()
    monkeypatch.setattr(logs, "follow", lambda _: None)
    clock = Clock(logs.LogSettings())
    for _ in clock.tables("decode", tables()):
        usage.count(usage.READ_BYTES, 7)
        time.sleep(0.2)  # the consumer's time does not count
    attempts = iter([True])

    def fail_once() -> None:
        if next(attempts, False):
            raise TimeoutError

    retry.with_retries(fail_once)
    taken = clock.take()

    assert 0.1 <= taken[STAGE_SECONDS.name, "decode"] < 0.2
    assert taken[(STORE_READ_BYTES.name,)] == 7
    assert taken[STORE_RETRIES.name, "transient"] == 1
    assert (STORE_READ_BYTES.name,) not in clock.take()


def test_the_export_follows_the_tracker_and_begins_again_with_a_restarted_one(exported: dict[str, Exported]) -> None:
    run, tracker = RunMetrics("s3://scores/{date}", enabled=True), Tracker()
    run.begin(run_id="r1", provider="cpu", items=10, resumed=2)
    run.track(tracker, reused=1, actors=2, batch_frames=4)
    tracker.job.add(
        commit(frames=3, items=3, failed=1, reasons={("decode", "FetchError"): 1}), {("fsf_model_calls_total",): 2}
    )
    run.update()
    run.update()
    assert value_of(exported, FRAMES, run="s3://scores/{date}", provider="cpu") == 3, "once"
    tracker.job = Tracker().job
    tracker.job.add(commit(frames=2, items=2))
    run.update()

    assert value_of(exported, FRAMES) == 5
    assert value_of(exported, PARTS) == 2
    assert exported["fsf_failures_total"].values == {
        (("reason", "FetchError"), ("run", "s3://scores/{date}"), ("stage", "decode")): 1
    }
    tracker.job.add(commit(items=4, failed=1))
    run.update()
    items = {dict(key)["state"]: value for key, value in exported[RUN_ITEMS.name].values.items()}
    assert items == {"resumed": 2, "reused": 1, "scored": 5, "failed": 1, "pending": 1}


def test_progress_is_when_counts_changed(exported: dict[str, Exported], monkeypatch: pytest.MonkeyPatch) -> None:
    run, tracker = RunMetrics("out", enabled=True), Tracker()
    run.track(tracker, reused=0, actors=1, batch_frames=1)
    run.update()
    now = time.time() + 1_000
    monkeypatch.setattr(time, "time", lambda: now)
    run.update()
    assert value_of(exported, RUN_PROGRESS) < now
    tracker.job.report({(STAGE_SECONDS.name, "decode"): 1.0})
    run.update()
    assert value_of(exported, RUN_PROGRESS) == now


def test_failures_of_many_kinds_share_one_series() -> None:
    job = Tracker().job
    for number in range(MAX_REASONS + 5):
        job.add(commit(reasons={("decode", f"Error{number}"): 1}))
    job.add(commit(reasons={("decode", "Error0"): 1}))
    counted = {key[1:]: value for key, value in job.counted()[1].items() if key[0] == "fsf_failures_total"}

    assert len(counted) == MAX_REASONS + 1
    assert counted["other", "other"] == 5
    assert counted["decode", "Error0"] == 2


def test_blocks_wait_run_and_end() -> None:
    job = Tracker().job

    def blocks() -> tuple[float, float]:
        _, counted = job.counted()
        return counted["fsf_blocks", "waiting"], counted["fsf_blocks", "running"]

    job.plan_blocks(3)
    job.begin_block("a", "node")
    job.begin_block("a", "node")  # of a process that died
    job.begin_block("b", "node")
    assert blocks() == (1, 2)
    job.end_block("a")
    job.end_block("a")
    assert blocks() == (1, 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConfigError("x"), "refused"),
        (GateError("x"), "gate"),
        (ResumableError("x"), "resumable"),
        (InterruptedRunError(15), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (FSFError("x"), "bug"),
        (ValueError("x"), "bug"),
    ],
)
def test_a_job_that_raises_ends_with_its_outcome_and_is_no_success(
    error: BaseException, outcome: str, exported: dict[str, Exported]
) -> None:
    with pytest.raises(type(error)), exported_metrics("out", joined=True):
        raise error

    assert exported["fsf_runs_total"].values == {(("outcome", outcome), ("run", "out")): 1}
    assert exported["fsf_last_success_timestamp_seconds"].values == {}
    assert value_of(exported, RUN_PHASE, phase="ended") == 1


@pytest.mark.parametrize(("failed", "outcome"), [(False, "done"), (True, "gate")])
def test_a_published_run_is_a_success_unless_a_gate_failed(
    failed: bool,  # noqa: FBT001 - a parameter of the test
    outcome: str,
    exported: dict[str, Exported],
) -> None:
    summary = {"items": {"total": 3, "scored": 2, "failed": 1, "not_in_manifest": 0}, "frames": 2}
    with exported_metrics("out", joined=True) as run:
        run.begin(run_id="r", provider="cpu", items=3, resumed=1)
        run.finish(summary, failed=failed)

    assert exported["fsf_runs_total"].values == {(("outcome", outcome), ("run", "out")): 1}
    assert bool(exported["fsf_last_success_timestamp_seconds"].values) is not failed
    items = {dict(key)["state"]: value for key, value in exported[RUN_ITEMS.name].values.items()}
    assert items == {"scored": 2, "failed": 1, "pending": 0, "reused": 0, "resumed": 0}


def test_on_a_cluster_of_the_job_itself_nothing_is_exported(exported: dict[str, Exported]) -> None:
    with exported_metrics("out", joined=False) as run:
        run.begin(run_id="r", provider="cpu", items=3, resumed=1)
        run.track(Tracker(), reused=0, actors=1, batch_frames=1)
        run.update()

    assert exported == {}


def test_an_error_of_the_export_is_logged_once_and_ends_nothing(
    exported: dict[str, Exported], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Exported, *_: Any) -> None:
        raise ValueError("no agent")

    monkeypatch.setattr(Exported, "set", refuse)
    with exported_metrics("out", joined=True) as run:
        run.update()

    assert caplog.messages == ["event=metrics_off error='ValueError: no agent'"]


def test_the_label_of_a_run_shows_no_credentials_and_is_short(exported: dict[str, Exported]) -> None:
    with exported_metrics("s3://KEY:s3cretWord@bucket/{date}\n" + "x" * 500, joined=True):
        pass

    (labels,) = {dict(key)["run"] for key in exported["fsf_run_duration_seconds"].values}
    assert labels.startswith("s3://***@bucket/{date}\\nxxx")
    assert len(labels) == metrics.MAX_LABEL


def test_names_follow_the_conventions_of_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"fsf_[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not re.search(r"_(ms|minutes|hours|mb|percent)(_|$)", metric.name), "base units"
        assert metric.meaning.endswith("."), metric.name
