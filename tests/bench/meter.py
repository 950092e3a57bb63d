"""What a command costs: CPU seconds and memory of its processes, sampled while it runs; and the rate that they noted.

Knows no pictures.
"""

import bisect
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fsf_core import bench

ROOT = Path(__file__).parents[2]
EVERY_S = 1.0
"""Looking takes CPU too: every half second, and at the memory every other second, it took 0.03 of a core."""
MEMORY_EVERY = 4
"""Memory is looked at once in so many samples: what processes share is counted page by page, which takes a while."""

LEAST_NOTES = 8
"""Through fewer there is no slope."""


@dataclass(kw_only=True)
class Reading:
    """One command from its start to its end."""

    started: float
    """Seconds of the epoch."""
    seconds: float = 0.0
    peak_mb: float = 0.0
    """Memory of all its processes together at its largest, what they share counted once (proportional set size)."""
    stdout: str = ""
    times: list[float] = field(default_factory=list)
    """Seconds of the epoch of each sample."""
    cpu_s: list[float] = field(default_factory=list)
    """CPU seconds of all processes, ended ones included, up to each sample."""

    by_role: dict[str, list[float]] = field(default_factory=lambda: {"driver": [], "ray": []})
    """CPU seconds of the process that was started, and of raylet and GCS, up to each sample."""
    peak_shm_mb: float = 0.0
    """What /dev/shm grew by at its largest: Ray's object store, where nothing else uses it."""

    def between(self, role: str, start: float, end: float) -> float:
        """CPU seconds of a role between two moments."""
        spent = self.by_role[role]
        first, last = (min(bisect.bisect_left(self.times, moment), len(spent) - 1) for moment in (start, end))
        return spent[last] - spent[first]

    def cpu_at(self, moment: float) -> float:
        """CPU seconds spent up to a moment."""
        return self.cpu_s[min(bisect.bisect_left(self.times, moment), len(self.cpu_s) - 1)]


def run(words: list[str]) -> Reading:
    """Run a command to its end; one that fails ends the bench with what it said."""
    reading = Reading(started=time.time())
    command = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}
    rays: set[int] = set()
    samples, shm_mb = 0, _shm_mb()
    while command.poll() is None:
        family = _family(command.pid)
        for process in family:
            spent[process.pid] = _cpu_s(process) or spent.get(process.pid, 0.0)
        reading.times.append(time.time())
        reading.cpu_s.append(sum(spent.values()))
        reading.by_role["driver"].append(spent.get(command.pid, 0.0))
        reading.by_role["ray"].append(sum(spent[pid] for pid in rays))
        if samples % MEMORY_EVERY == 0:
            rays |= {process.pid for process in family if _name(process) in ("raylet", "gcs_server")}
            reading.peak_mb = max(reading.peak_mb, sum(map(_pss_mb, family)))
            reading.peak_shm_mb = max(reading.peak_shm_mb, _shm_mb() - shm_mb)
        samples += 1
        time.sleep(EVERY_S)
    reading.seconds = time.time() - reading.started
    reading.stdout, said = command.communicate()
    if command.returncode:
        sys.exit(f"{words} failed:\n{said[-2000:]}")
    return reading


def steady(times: Path) -> float:
    """Frames/s while all of a contender's workers gave results, or where that leaves few notes, from first to last."""
    begin, end = together(times)
    notes = sorted(note for worker in _workers(times) for note in worker)
    meanwhile = [note for note in notes if begin <= note[0] <= end]
    return bench.steady_rate(meanwhile if len(meanwhile) >= LEAST_NOTES else notes)


def together(times: Path) -> tuple[float, float]:
    """Seconds of the epoch: when the last worker had its first results, and the first one its last."""
    workers = _workers(times)
    return max(notes[0][0] for notes in workers), min(notes[-1][0] for notes in workers)


def _workers(times: Path) -> list[list[tuple[float, int]]]:
    """Of every worker when results were there, in order, and how many."""
    noted = [[line.split() for line in path.open()] for path in times.iterdir()]
    return [sorted((float(moment), int(frames)) for moment, frames in lines) for lines in noted]


def machine() -> str:
    """What it ran on."""
    return f"{cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def cpu() -> str:
    """Name of the processor."""
    said = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    named = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("Model name")]
    return named[0] if named else platform.machine()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _shm_mb() -> float:
    return psutil.disk_usage("/dev/shm").used / 2**20 if Path("/dev/shm").is_dir() else 0.0  # noqa: S108 - looked at


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0
