"""What the starts of a run took: added up over starts, with what is a ratio of sums computed from the sums."""

import time
from types import SimpleNamespace

import pytest

from fsf_core import runs
from fsf_core.score.finish import Work
from fsf_core.score.metric_table import (
    ACTOR_SECONDS,
    DISK_READ_BYTES,
    FRAMES,
    MODEL_BUSY_SECONDS,
    MODEL_CALLS,
    MODEL_FRAMES,
    NODE_BUSY_SECONDS,
    STAGE_CPU_SECONDS,
    STAGE_SECONDS,
    STORE_READ_BYTES,
    STORE_RETRIES,
    WRITTEN_BYTES,
)
from fsf_core.score.work import WorkMeter
from fsf_core.storage import usage
from tests.support import ledger

COUNTED = {
    (FRAMES.name,): 1000,
    (MODEL_CALLS.name,): 250,
    (MODEL_FRAMES.name,): 1010,
    (MODEL_BUSY_SECONDS.name,): 6.0,
    (NODE_BUSY_SECONDS.name, "10.0.0.1"): 6.0,
    (ACTOR_SECONDS.name,): 20.0,
    (STAGE_SECONDS.name, "decode"): 8.0,
    (STAGE_CPU_SECONDS.name, "decode"): 7.0,
    (STAGE_SECONDS.name, "infer"): 9.0,
    (STAGE_CPU_SECONDS.name, "infer"): 5.0,
    (STAGE_CPU_SECONDS.name, "other"): 0.5,
    (STORE_READ_BYTES.name,): 300,
    (DISK_READ_BYTES.name,): 40,
    (WRITTEN_BYTES.name,): 7,
    (STORE_RETRIES.name, "throttled"): 2,
    (STORE_RETRIES.name, "transient"): 1,
}


def stages_of(work):
    return {stage.pop("stage"): stage for stage in [dict(each) for each in work["stages"]]}


def test_a_start_has_its_sums_and_their_ratios(monkeypatch):
    meter = WorkMeter()
    meter.add(COUNTED, seconds=10.0, provider="cuda")
    usage.count(usage.WRITTEN_BYTES, 3)
    monkeypatch.setattr(WorkMeter, "seconds", lambda _: 40.0)
    work = meter.describe(price_hour=9.0)

    assert (work["starts"], work["frames"], work["job_seconds"], work["scoring_seconds"]) == (1, 1000, 40.0, 10.0)
    assert (work["frames_per_s"], work["job_frames_per_s"], work["bare_session_share"]) == (100.0, 25.0, 0.3)
    assert (work["model_calls"], work["model_frames"], work["store_retries"]) == (250, 1010, 3)
    assert (work["bytes_read"], work["bytes_read_from_stores"], work["bytes_read_from_disks"]) == (340, 300, 40)
    assert work["bytes_written"] == 10, "those of the driver, too"
    assert work["gpu_seconds"] == 6.0
    assert stages_of(work)["infer"] == {"seconds": 9.0, "cpu_seconds": 5.0, "gpu_seconds": 6.0}
    assert work["cpu_seconds"] == pytest.approx(12.5 + work["driver_cpu_seconds"], abs=0.002)
    assert work["cost"] == {"price_hour": 9.0, "total": 0.1, "per_million_frames": 100.0}


def test_on_cpus_no_gpu_seconds_are_counted_and_without_a_price_no_cost():
    meter = WorkMeter()
    meter.add(COUNTED, seconds=10.0, provider="cpu")
    work = meter.describe(price_hour=None)

    assert work["gpu_seconds"] == 0
    assert {stage["gpu_seconds"] for stage in work["stages"]} == {0}
    assert work["cost"] is None


def test_starts_of_a_run_add_up_and_one_that_scores_nothing_changes_no_figure(monkeypatch):
    monkeypatch.setattr(WorkMeter, "seconds", lambda _: 20.0)
    first = WorkMeter()
    first.add(COUNTED, seconds=10.0, provider="cpu")
    earlier = first.describe(price_hour=None)
    second = WorkMeter()
    second.add(COUNTED, seconds=15.0, provider="cpu")
    second.add(COUNTED, seconds=15.0, provider="cpu")  # damaged parts were scored again
    both = second.describe(price_hour=3.6, earlier=earlier)

    assert (both["starts"], both["frames"], both["scoring_seconds"], both["job_seconds"]) == (2, 3000, 40.0, 40.0)
    assert both["frames_per_s"] == 75.0
    assert stages_of(both)["decode"]["seconds"] == 24.0
    assert both["cost"] == {"price_hour": 3.6, "total": 0.04, "per_million_frames": pytest.approx(13.333333)}
    assert WorkMeter().describe(price_hour=None, earlier=earlier) == earlier
    assert WorkMeter().describe(price_hour=None) is None


def test_a_driver_counts_its_cpu_seconds():
    meter = WorkMeter()
    meter.add(COUNTED, seconds=1.0, provider="cpu")
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass

    assert 0.05 <= meter.describe(price_hour=None)["driver_cpu_seconds"] < 5


def test_the_frames_of_this_attempt_are_counted_without_those_that_were_copied_and_those_of_earlier_ones(tmp_path):
    first = ledger.begin(str(tmp_path / "run"))
    ledger.commit(first, ledger.image("a"))
    attempt = ledger.next_attempt(first.uri)
    copied = ledger.commit(attempt, ledger.image("b"), ledger.image("c"))
    ledger.commit(attempt, *ledger.video("v", 3, 5))
    ledger.commit(attempt, ledger.broken(ledger.video("w", 4)[0], frames=2))
    work = SimpleNamespace(attempt=attempt, load_ledger=lambda: runs.load_ledger(attempt.uri))

    assert Work.count_frames(work, without=[]) == 12
    assert Work.count_frames(work, without=[copied.part]) == 10
