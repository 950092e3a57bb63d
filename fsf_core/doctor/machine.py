"""Judging one machine of a cluster by its facts: shared memory, disks, open files, the NVIDIA driver."""

from collections.abc import Iterator, Mapping
from typing import Any

from fsf_core.score.findings import Finding
from fsf_core.score.node_tasks import Node

NEWEST_DRIVER = 580
"""Major version of the NVIDIA driver that CUDA 13 needs, and so onnxruntime-gpu from 1.28 on."""

MIN_OPEN_FILES = 1024
LOW_DISK_BYTES = 5 << 30


def judge_machine(node: Node, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge shared memory, disks, open files and the NVIDIA driver of a node."""
    problems = [*_machine_problems(node.resources, facts)]
    for found, do in problems:
        yield Finding(check="machine", status="warn", node=str(node), found=found, do=do)
    if not problems:
        cpus, gpus = node.resources.get("CPU", 0), node.resources.get("GPU", 0)
        free = ", ".join(f"{free / 1e9:.0f} GB free in {path}" for path, (_, free) in facts["disks"].items())
        found = (
            f"{cpus:g} CPUs, {gpus:g} GPUs, {facts['memory_bytes'] / 1e9:.1f} GB of memory, "
            f"{facts['shm'][0] / 1e9:.1f} GB of shared memory, {free}"
        )
        yield Finding(check="machine", status="ok", node=str(node), found=found)


def _machine_problems(resources: Mapping[str, float], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is too small on a machine, and what to do about it."""
    (shm, _), store = facts["shm"], int(resources.get("object_store_memory", 0))
    if shm and shm < store:
        found = (
            f"shared memory of {shm / 1e9:.1f} GB, below Ray's {store / 1e9:.1f} GB of objects, which then use a disk"
        )
        yield found, "enlarge /dev/shm: docker run --shm-size, or an emptyDir of medium Memory in Kubernetes"
    for path, (size, free) in facts["disks"].items():
        if free < LOW_DISK_BYTES or free < size / 20:  # Ray spills no objects to a disk that is 95 % full
            found = f"{path} has {free / 1e9:.1f} of {size / 1e9:.1f} GB free"
            yield found, "free some, or start Ray with another --temp-dir: Ray spills objects there, and stops at 95 %"
    if facts["open_files"] < MIN_OPEN_FILES:
        yield f"{facts['open_files']} open files are allowed", f"raise it to {MIN_OPEN_FILES} or more: ulimit -n 65536"
    driver = facts["nvidia_driver"]
    if driver and int(driver.partition(".")[0]) < NEWEST_DRIVER:
        found = f"the NVIDIA driver is {driver}, and CUDA 13 needs {NEWEST_DRIVER} or later"
        yield found, "upgrade it, or install the last onnxruntime-gpu for CUDA 12, 1.26.0, on every node"
