"""What the starts of a run did and what that took: time, CPU and GPU seconds by stage, bytes, cost.

Measured by the clocks of the workers, added up by the tracker, and by this process. A start counts once it ends with a
published run; one that was killed leaves its parts and no figures.
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fsf_core.score.clock import as_measures
from fsf_core.score.metric_table import (
    ACTOR_SECONDS,
    DISK_READ_BYTES,
    FRAMES,
    MODEL_BUSY_SECONDS,
    MODEL_CALLS,
    MODEL_FRAMES,
    STAGE_CPU_SECONDS,
    STAGE_SECONDS,
    STORE_READ_BYTES,
    STORE_RETRIES,
    WRITTEN_BYTES,
    Measures,
    Metric,
)
from fsf_core.score.spec import GPU_PROVIDERS
from fsf_core.storage import usage

STAGES = ("decode", "infer", "mask", "write", "other")
HOUR_S, MILLION = 3600.0, 1e6

_SUMS = (
    "starts",
    "frames",
    "job_seconds",
    "scoring_seconds",
    "cpu_seconds",
    "driver_cpu_seconds",
    "gpu_seconds",
    "model_calls",
    "model_frames",
    "model_busy_seconds",
    "actor_seconds",
    "bytes_read",
    "bytes_read_from_stores",
    "bytes_read_from_disks",
    "bytes_written",
    "store_retries",
)
"""Keys that add up over the starts of a run."""


class WorkMeter:
    """Measures one start of the job."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cpu_s, self._usage = time.process_time(), usage.totals()
        self._measured: Counter[tuple[str, ...]] = Counter()
        self._scoring_s = 0.0
        self._gpu = False

    def add(self, counted: Measures, *, seconds: float, provider: str) -> None:
        """Add what a tracker has counted.

        Args:
            counted: by the tracker.
            seconds: that the scoring took.
            provider: that ran the model.
        """
        self._measured.update(counted)
        self._scoring_s += seconds
        self._gpu |= provider in GPU_PROVIDERS

    def seconds(self) -> float:
        """Return how long the job has run."""
        return time.monotonic() - self._started

    def describe(self, *, price_hour: float | None, earlier: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the entry `work` of the summary.

        Args:
            price_hour: what the machines cost in an hour.
            earlier: the entry of earlier starts of the run.

        Returns:
            The figures of all starts that scored a frame and ended; None if there is none.
        """
        starts = [earlier] if earlier else []
        if self._total(FRAMES):
            starts.append(self._of_this_start())
        return _add_up(starts, price_hour) if starts else None

    def _of_this_start(self) -> dict[str, Any]:
        """Return the figures that add up."""
        driver = usage.totals()
        driver.subtract(self._usage)
        self._measured.update(as_measures(driver))
        driver_cpu_s = time.process_time() - self._cpu_s
        busy_s, stages = self._total(MODEL_BUSY_SECONDS), self._stages()
        from_stores, from_disks = (int(self._total(metric)) for metric in (STORE_READ_BYTES, DISK_READ_BYTES))
        return {
            "starts": 1,
            "frames": int(self._total(FRAMES)),
            "job_seconds": self.seconds(),
            "scoring_seconds": self._scoring_s,
            "cpu_seconds": driver_cpu_s + sum(stage["cpu_seconds"] for stage in stages),
            "driver_cpu_seconds": driver_cpu_s,
            "gpu_seconds": busy_s if self._gpu else 0.0,
            "model_calls": int(self._total(MODEL_CALLS)),
            "model_frames": int(self._total(MODEL_FRAMES)),
            "model_busy_seconds": busy_s,
            "actor_seconds": self._total(ACTOR_SECONDS),
            "bytes_read": from_stores + from_disks,
            "bytes_read_from_stores": from_stores,
            "bytes_read_from_disks": from_disks,
            "bytes_written": int(self._total(WRITTEN_BYTES)),
            "store_retries": int(self._total(STORE_RETRIES)),
            "stages": stages,
        }

    def _stages(self) -> list[dict[str, Any]]:
        """Return the seconds of every stage."""
        busy_s = self._total(MODEL_BUSY_SECONDS) if self._gpu else 0.0
        return [
            {
                "stage": stage,
                "seconds": float(self._measured[STAGE_SECONDS.name, stage]),
                "cpu_seconds": float(self._measured[STAGE_CPU_SECONDS.name, stage]),
                "gpu_seconds": busy_s if stage == "infer" else 0.0,
            }
            for stage in STAGES
        ]

    def _total(self, metric: Metric) -> float:
        """Return a metric, whatever its labels."""
        return float(sum(amount for key, amount in self._measured.items() if key[0] == metric.name))


def _add_up(starts: list[Mapping[str, Any]], price_hour: float | None) -> dict[str, Any]:
    """Return the figures of several starts, with those that are ratios of sums."""
    sums = {key: _rounded(sum(start[key] for start in starts)) for key in _SUMS}
    stages = [
        {
            "stage": stage,
            **{
                key: _rounded(sum(each[key] for start in starts for each in start["stages"] if each["stage"] == stage))
                for key in ("seconds", "cpu_seconds", "gpu_seconds")
            },
        }
        for stage in STAGES
    ]
    # Ratios of the sums as they are written: added up again they are the same.
    return {
        **sums,
        "frames_per_s": _ratio(sums["frames"], sums["scoring_seconds"]),
        "job_frames_per_s": _ratio(sums["frames"], sums["job_seconds"]),
        "bare_session_share": _ratio(sums["model_busy_seconds"], sums["actor_seconds"]),
        "stages": stages,
        "cost": None if price_hour is None else _cost(sums, price_hour),
    }


def _cost(sums: Mapping[str, Any], price_hour: float) -> dict[str, Any]:
    """Return what the machines cost while the job ran."""
    total = price_hour * sums["job_seconds"] / HOUR_S
    return {
        "price_hour": price_hour,
        "total": round(total, 6),
        "per_million_frames": round(total / sums["frames"] * MILLION, 6),
    }


def _ratio(amount: float, of: float) -> float | None:
    return round(amount / of, 4) if of else None


def _rounded(value: float) -> float:
    """Return a sum as it is written; whole numbers stay whole."""
    return round(value, 6)
