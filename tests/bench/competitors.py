"""Runs the job, its peers and the bare model, each as a separate process, and measures them from outside."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import meter


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a contender reached, and at what cost."""

    steady: float
    """Frames/s while all workers return results."""
    whole: float
    """Frames/s including the start of pools and actors."""
    took_s: float
    """Duration of the process."""
    cpu_s: float
    """CPU seconds of all its processes, imports included."""
    peak_mb: float
    """Peak memory of all its processes together."""
    bytes_written: float
    """Bytes per frame."""


@dataclass(frozen=True, kw_only=True)
class TimedRun:
    """One job, and the rate that its actors recorded."""

    reading: meter.Reading
    summary: dict[str, Any]
    steady: float
    """Frames/s while all actors returned masks."""


def score_command(bundle: Path, manifest: Path, out: Path, *more: str) -> list[str]:
    """Return the command of `fsf score`."""
    arguments = ["score", "--bundle", str(bundle), "--manifest", str(manifest), "--out", str(out), "--provider", "cpu"]
    return [sys.executable, "-m", "fsf_core.cli", *arguments, *more]


def job_rate(bundle: Path, manifest: Path, out: Path, *more: str) -> Rate:
    """Run `fsf score` and return its rate."""
    done = timed_run(bundle, manifest, out, *more)
    frames = done.summary["frames"]
    return _rate(done.reading, out, frames, steady=done.steady, whole=frames / done.summary["scoring_seconds"])


def timed_run(bundle: Path, manifest: Path, out: Path, *more: str) -> TimedRun:
    """Run `fsf score` with actors that record the times of their masks, as the peers do."""
    times = out.with_name(f"{out.name}-times")
    arguments = score_command(bundle, manifest, out, *more)[3:]
    reading = meter.run([sys.executable, "-m", "tests.bench.timed_actor", str(times), *arguments])
    summary = json.loads(reading.stdout.splitlines()[-1])
    assert summary["items"]["failed"] == 0, "inputs of the bench failed"
    return TimedRun(reading=reading, summary=summary, steady=meter.steady_rate(times))


def peer_rate(name: str, task: list[str], frames: int, out: Path) -> Rate:
    """Run a peer over a number of frames and return its rate."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "DO_NOT_TRACK": "1"}
    arguments = [name, *task, "--frames", str(frames), "--out", str(out)]
    reading = meter.run([sys.executable, "-m", "tests.bench.peers", *arguments])
    found = json.loads(reading.stdout.splitlines()[-1])
    steady = meter.steady_rate(out.with_name(f"{out.name}-times"))
    rate = _rate(reading, out, frames, steady=steady, whole=found["whole"])
    shutil.rmtree(out)
    return rate


def _rate(reading: meter.Reading, out: Path, frames: int, *, steady: float, whole: float) -> Rate:
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Rate(
        steady=steady,
        whole=whole,
        took_s=reading.seconds,
        cpu_s=reading.cpu_s[-1],
        peak_mb=reading.peak_mb,
        bytes_written=written / frames,
    )


def bare_rate(path: Path) -> float:
    """Return the frames/s of the model alone."""
    reading = meter.run([sys.executable, "-m", "tests.bench.peers", "bare", "--model", str(path)])
    return float(json.loads(reading.stdout.splitlines()[-1])["steady"])


def stage_costs(bundle: Path, manifest: Path, frames: int, home: Path) -> dict[str, float]:
    """Return the CPU time of each stage without Ray, in milliseconds per frame."""
    arguments = ["--bundle", str(bundle), "--manifest", str(manifest), "--frames", str(frames)]
    reading = meter.run([sys.executable, "-m", "tests.bench.stages", *arguments, "--out", str(home / "run-stages")])
    shutil.rmtree(home / "run-stages")
    found: dict[str, float] = json.loads(reading.stdout.splitlines()[-1])
    print("  CPU ms per frame by stage: " + ", ".join(f"{name} {spent:.2f}" for name, spent in found.items()))
    sys.stdout.flush()
    return found
