"""What the card is, and how busy it is: `nvidia-smi`, and versions of what runs on it. Knows no model."""

import bisect
import os
import shutil
import subprocess
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench import meter
from tests.bench.gpu.setting import cores

LIBRARIES = (
    "onnxruntime-gpu",
    "onnxruntime",
    "ray",
    "torch",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "nvidia-cublas",
    "numpy",
    "numba",
    "opencv-python",
    "opencv-python-headless",
)

SAMPLE_MS = 200
_QUERY = "utilization.gpu,memory.used,power.draw,clocks.sm"


def describe() -> dict[str, Any]:
    """Return card, driver, CPUs and versions; None for what is missing."""
    return {
        "card": _query("name"),
        "driver": _query("driver_version"),
        "memory_mb": _number(_query("memory.total")),
        "cpu": meter.cpu(),
        "cores": cores(),
        "threads": os.cpu_count(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _query(field: str) -> str | None:
    """Return a property of the first card."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


class CardSampler:
    """Samples the card while a block runs; without `nvidia-smi` it has no samples."""

    def __init__(self, log: Path) -> None:
        """Prepare.

        Args:
            log: file for what `nvidia-smi` prints.
        """
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._samples: list[tuple[float, list[float | None]]] = []

    def __enter__(self) -> Self:
        """Start to sample."""
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu=timestamp,{_QUERY}", "--format=csv,noheader,nounits"]
            with self._log.open("wb") as file:
                self._process = subprocess.Popen([*command, "-lms", str(SAMPLE_MS)], stdout=file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and read the samples."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        self._samples = parse_samples(self._log.read_text())

    def between(self, begin: float, end: float) -> dict[str, float | None]:
        """Return means and the peak of the memory between two moments of the epoch."""
        moments = [moment for moment, _ in self._samples]
        chosen = [row for _, row in self._samples[bisect.bisect_left(moments, begin) : bisect.bisect(moments, end)]]
        columns = list(zip(*chosen, strict=True)) if chosen else [()] * 4
        busy, memory, power, clock = ([value for value in column if value is not None] for column in columns)
        return {
            "busy_share": round(sum(busy) / len(busy) / 100, 3) if busy else None,
            "peak_memory_mb": max(memory) if memory else None,
            "power_w": round(sum(power) / len(power)) if power else None,
            "clock_mhz": round(sum(clock) / len(clock)) if clock else None,
        }


def parse_samples(text: str) -> list[tuple[float, list[float | None]]]:
    """Return the moment and the numbers of each line of `nvidia-smi`; lines that are cut off are left out.

    Args:
        text: lines such as "2026/11/28 05:15:00.123, 97, 4013, 512.20, 1980".
    """
    found = []
    for line in text.splitlines():
        stamp, *values = [word.strip() for word in line.split(",")]
        try:
            moment = datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f").timestamp()  # noqa: DTZ007 - the machine's own time
        except ValueError:
            continue
        if len(values) == len(_QUERY.split(",")):
            found.append((moment, [_number(value) for value in values]))
    return found
