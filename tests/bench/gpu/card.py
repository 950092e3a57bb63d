"""What the card is, and how busy it is: `nvidia-smi`, and versions of what runs on it. Knows no model."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from importlib import metadata
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

EVERY_S = 0.2
FIGURES = ("busy", "memory_mb", "power_w", "clock_mhz")
"""What is sampled; busy is the share of the last moments in which a kernel ran, in per cent."""

_QUERY = "utilization.gpu,memory.used,power.draw,clocks.sm"

Sample = tuple[float | None, ...]


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
    """Samples the card while a block runs; without a driver it has no samples."""

    def __init__(self) -> None:
        """Find out how the card is read."""
        self._read = find_reader()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[tuple[float, Sample]] = []

    def __enter__(self) -> Self:
        """Start to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while self._read is not None and not self._ended.wait(EVERY_S):
            sample = self._read()
            if sample is not None:
                self.samples.append((time.time(), sample))

    def between(self, begin: float, end: float) -> dict[str, float | None]:
        """Return means and the peak of the memory between two moments of the epoch."""
        chosen = [sample for moment, sample in self.samples if begin <= moment <= end]
        columns = list(zip(*chosen, strict=True)) if chosen else [()] * len(FIGURES)
        busy, memory, power, clock = ([value for value in column if value is not None] for column in columns)
        return {
            "busy_share": round(sum(busy) / len(busy) / 100, 3) if busy else None,
            "peak_memory_mb": round(max(memory)) if memory else None,
            "power_w": round(sum(power) / len(power)) if power else None,
            "clock_mhz": round(sum(clock) / len(clock)) if clock else None,
        }


def find_reader() -> Callable[[], Sample | None] | None:
    """Return what reads the first card: the driver's library, or its slower program; None without a card."""
    try:
        return _library_reader()
    except Exception:  # noqa: BLE001 - the library is missing, or has no card: its own types need it
        return _read_by_program if _read_by_program() is not None else None


def _library_reader() -> Callable[[], Sample]:
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)

    def read() -> Sample:
        return (
            float(pynvml.nvmlDeviceGetUtilizationRates(card).gpu),
            pynvml.nvmlDeviceGetMemoryInfo(card).used / 2**20,
            pynvml.nvmlDeviceGetPowerUsage(card) / 1e3,
            float(pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM)),
        )

    read()  # all of them work here
    return read


def _read_by_program() -> Sample | None:
    line = _query(_QUERY)
    return None if line is None else parse(line)


def parse(line: str) -> Sample | None:
    """Return the numbers of a line of `nvidia-smi`, such as "97, 4013, 512.20, [N/A]"; None if it has others."""
    values = [_number(word.strip()) for word in line.split(",")]
    return tuple(values) if len(values) == len(FIGURES) else None
