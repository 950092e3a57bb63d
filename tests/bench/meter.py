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

ROLES = {"raylet": "raylet", "gcs_server": "gcs", "ray::JobTracker": "tracker"}
"""Role of a process below the driver, by its name; any other is a worker."""


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

    by_role: dict[str, list[float]] = field(
        default_factory=lambda: {role: [] for role in ("driver", "ray", "tracker", "workers")}
    )
    """CPU seconds of the process that was started, of raylet and GCS, of the job's tracker, and of all others, up to
    each sample."""
    memory_times: list[float] = field(default_factory=list)
    """Seconds of the epoch of each sample of memory."""
    memory_mb: dict[str, list[float]] = field(
        default_factory=lambda: {role: [] for role in ("driver", *ROLES.values(), "workers")}
    )
    """Private memory of a role at each of them: what is resident without files and shared memory."""
    peak_shm_mb: float = 0.0
    """Peak growth of /dev/shm: Ray's object store, if nothing else uses it."""

    def between(self, role: str, start: float, end: float) -> float:
        """Return the CPU seconds of a role between two moments."""
        spent = self.by_role[role]
        first, last = (min(bisect.bisect_left(self.times, moment), len(spent) - 1) for moment in (start, end))
        return spent[last] - spent[first]

    def memory_at(self, role: str, moment: float) -> float:
        """Return the private MB of a role at a moment."""
        return self.memory_mb[role][min(bisect.bisect_left(self.memory_times, moment), len(self.memory_times) - 1)]

    def cpu_at(self, moment: float) -> float:
        """Return the CPU seconds of all processes up to a moment."""
        return self.cpu_s[min(bisect.bisect_left(self.times, moment), len(self.cpu_s) - 1)]


def run(command: list[str]) -> Reading:
    """Run a command to its end and measure it; exit with its stderr if it fails."""
    reading = Reading(started=time.time())
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}
    roles = {process.pid: "driver"}
    samples, shm_mb = 0, _shm_mb()
    while process.poll() is None:
        family = _family(process.pid)
        for member in family:
            spent[member.pid] = _cpu_s(member) or spent.get(member.pid, 0.0)
        reading.times.append(time.time())
        reading.cpu_s.append(sum(spent.values()))
        if samples % MEMORY_EVERY == 0:
            roles |= {member.pid: _role(member) for member in family if member.pid != process.pid}
            _note_memory(reading, family, roles)
            reading.peak_mb = max(reading.peak_mb, sum(map(_pss_mb, family)))
            reading.peak_shm_mb = max(reading.peak_shm_mb, _shm_mb() - shm_mb)
        for role, sums in reading.by_role.items():
            members = ("raylet", "gcs") if role == "ray" else (role,)
            sums.append(sum(used for pid, used in spent.items() if roles.get(pid, "workers") in members))
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


def count_records(times: Path, begin: float, end: float) -> int:
    """Return the results of all workers between two moments, in seconds of the epoch."""
    return sum(begin < moment <= end for worker in _records(times) for moment, _ in worker)


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


def _role(process: psutil.Process) -> str:
    try:
        return ROLES.get(str(process.name()), "workers")
    except psutil.Error:
        return "workers"


def _note_memory(reading: Reading, family: list[psutil.Process], roles: dict[int, str]) -> None:
    """Add a sample of the private memory of every role."""
    reading.memory_times.append(time.time())
    sums = dict.fromkeys(reading.memory_mb, 0.0)
    for member in family:
        sums[roles.get(member.pid, "workers")] += private_mb(member)
    for role, mb in sums.items():
        reading.memory_mb[role].append(mb)


def private_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process without files and shared memory, in MB; 0 if it has ended."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0.0
    return float(memory.rss - memory.shared) / 2**20


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
