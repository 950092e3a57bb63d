"""The cost of a command: CPU seconds and memory of its processes, sampled while it runs; and the rate they recorded.

Knows no images.
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
"""Sampling costs CPU: twice as often, it took 0.03 of a core."""
MEMORY_EVERY = 4
"""Memory is read once in this many samples: proportional set sizes are counted page by page, which is slow."""

MIN_RECORDS = 8
"""Fewer records give no slope."""


@dataclass(kw_only=True)
class Reading:
    """Measurements of one command from its start to its end."""

    started: float
    """Seconds of the epoch."""
    seconds: float = 0.0
    peak_mb: float = 0.0
    """Peak memory of all its processes together (proportional set size, which counts shared pages once)."""
    stdout: str = ""
    times: list[float] = field(default_factory=list)
    """Seconds of the epoch of each sample."""
    cpu_s: list[float] = field(default_factory=list)
    """CPU seconds of all processes up to each sample, including processes that ended."""

    by_role: dict[str, list[float]] = field(default_factory=lambda: {"driver": [], "ray": []})
    """CPU seconds of the process that was started, and of raylet and GCS, up to each sample."""
    peak_shm_mb: float = 0.0
    """Peak growth of /dev/shm: Ray's object store, if nothing else uses it."""

    def between(self, role: str, start: float, end: float) -> float:
        """Return the CPU seconds of a role between two moments."""
        spent = self.by_role[role]
        first, last = (min(bisect.bisect_left(self.times, moment), len(spent) - 1) for moment in (start, end))
        return spent[last] - spent[first]

    def cpu_at(self, moment: float) -> float:
        """Return the CPU seconds of all processes up to a moment."""
        return self.cpu_s[min(bisect.bisect_left(self.times, moment), len(self.cpu_s) - 1)]


def run(command: list[str]) -> Reading:
    """Run a command to its end and measure it; exit with its stderr if it fails."""
    reading = Reading(started=time.time())
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}
    ray_pids: set[int] = set()
    samples, shm_mb = 0, _shm_mb()
    while process.poll() is None:
        family = _family(process.pid)
        for member in family:
            spent[member.pid] = _cpu_s(member) or spent.get(member.pid, 0.0)
        reading.times.append(time.time())
        reading.cpu_s.append(sum(spent.values()))
        reading.by_role["driver"].append(spent.get(process.pid, 0.0))
        reading.by_role["ray"].append(sum(spent[pid] for pid in ray_pids))
        if samples % MEMORY_EVERY == 0:
            ray_pids |= {member.pid for member in family if _name(member) in ("raylet", "gcs_server")}
            reading.peak_mb = max(reading.peak_mb, sum(map(_pss_mb, family)))
            reading.peak_shm_mb = max(reading.peak_shm_mb, _shm_mb() - shm_mb)
        samples += 1
        time.sleep(EVERY_S)
    reading.seconds = time.time() - reading.started
    reading.stdout, stderr = process.communicate()
    if process.returncode:
        sys.exit(f"{command} failed:\n{stderr[-2000:]}")
    return reading


def steady_rate(times: Path) -> float:
    """Return the frames/s while all workers returned results; if those records are few, over all records."""
    begin, end = common_span(times)
    records = sorted(record for worker in _records(times) for record in worker)
    common = [record for record in records if begin <= record[0] <= end]
    return bench.steady_rate(common if len(common) >= MIN_RECORDS else records)


def common_span(times: Path) -> tuple[float, float]:
    """Return when the last worker had its first results, and the first worker its last, in seconds of the epoch."""
    workers = _records(times)
    return max(records[0][0] for records in workers), min(records[-1][0] for records in workers)


def _records(times: Path) -> list[list[tuple[float, int]]]:
    """Return the sorted records of every worker: the moment of results, and their number of frames."""
    workers = [[line.split() for line in path.open()] for path in times.iterdir()]
    return [sorted((float(moment), int(frames)) for moment, frames in lines) for lines in workers]


def machine() -> str:
    """Describe the machine."""
    return f"{cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def cpu() -> str:
    """Return the name of the processor."""
    try:
        output = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in output.splitlines() if line.startswith("Model name")]
    return names[0] if names else platform.machine()


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
    return psutil.disk_usage("/dev/shm").used / 2**20 if Path("/dev/shm").is_dir() else 0.0  # noqa: S108 - only read


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
