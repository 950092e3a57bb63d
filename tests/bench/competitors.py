"""The job, its peers and the bare model, each run as a process of its own and measured from outside."""

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
    """What a contender reached."""

    steady: float
    """Frames/s while all workers give results."""
    whole: float
    """Frames/s with the start of pools and actors."""
    took_s: float
    """From its start as a process to its end."""
    cpu_s: float
    """CPU seconds of all its processes, start and imports included."""
    peak_mb: float
    """Memory of all its processes together."""
    bytes_written: float
    """A frame."""


@dataclass(frozen=True, kw_only=True)
class Noted:
    """One job, and what its actors noted."""

    reading: meter.Reading
    summary: dict[str, Any]
    steady: float
    """Frames/s while all actors gave masks."""


def score_words(bundle: Path, manifest: Path, out: Path, *more: str) -> list[str]:
    """`fsf score` as a command."""
    words = ["score", "--bundle", str(bundle), "--manifest", str(manifest), "--out", str(out), "--provider", "cpu"]
    return [sys.executable, "-m", "fsf_core.cli", *words, *more]


def ours(bundle: Path, pictures: Path, out: Path, *more: str) -> Rate:
    """`fsf score`, in frames/s and so on."""
    done = noted_run(bundle, pictures, out, *more)
    frames = done.summary["frames"]
    return _rate(done.reading, out, frames, steady=done.steady, whole=frames / done.summary["scoring_seconds"])


def noted_run(bundle: Path, manifest: Path, out: Path, *more: str) -> Noted:
    """`fsf score`, its masks noted as the peers note theirs."""
    times = out.with_name(f"{out.name}-times")
    words = score_words(bundle, manifest, out, *more)[3:]
    reading = meter.run([sys.executable, "-m", "tests.bench.timed_actor", str(times), *words])
    summary = json.loads(reading.stdout.splitlines()[-1])
    assert summary["items"]["failed"] == 0, "the bench's own inputs are sound"
    return Noted(reading=reading, summary=summary, steady=meter.steady(times))


def peer(name: str, task: list[str], frames: int, out: Path) -> Rate:
    """A contender in a process of its own, over so many frames."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "DO_NOT_TRACK": "1"}
    words = [name, *task, "--frames", str(frames), "--out", str(out)]
    reading = meter.run([sys.executable, "-m", "tests.bench.peers", *words])
    found = json.loads(reading.stdout.splitlines()[-1])
    steady = meter.steady(out.with_name(f"{out.name}-times"))
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
    """Frames/s of the model alone."""
    reading = meter.run([sys.executable, "-m", "tests.bench.peers", "bare", "--model", str(path)])
    return float(json.loads(reading.stdout.splitlines()[-1])["steady"])


def stages(bundle: Path, manifest: Path, frames: int, home: Path) -> dict[str, float]:
    """CPU milliseconds a frame of each stage, without Ray."""
    words = ["--bundle", str(bundle), "--manifest", str(manifest), "--frames", str(frames)]
    reading = meter.run([sys.executable, "-m", "tests.bench.stages", *words, "--out", str(home / "run-stages")])
    shutil.rmtree(home / "run-stages")
    found: dict[str, float] = json.loads(reading.stdout.splitlines()[-1])
    print("  CPU ms a frame by stage: " + ", ".join(f"{name} {spent:.2f}" for name, spent in found.items()))
    sys.stdout.flush()
    return found
