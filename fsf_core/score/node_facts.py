"""What a node of a cluster reports about itself: versions, clock, memory, disks, files that it sees.

Needs nothing but Python, and is sent to the nodes by value, so that a node without fsf, or with another one, reports
this instead of failing. Knows no limits and no advice.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "av": ("av",),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "pyarrow": ("pyarrow",),
}
"""Libraries that decode, infer and write, and the distributions that bring each."""


def node_facts(seen: Mapping[str, str | None], written: Sequence[str] = ()) -> dict[str, Any]:
    """Return the facts of this process's node.

    Args:
        seen: local paths that this node should see; the text that the file there should hold, or None for any.
        written: local folders that this node should be able to write to.
    """
    folder, version = _fsf()
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "ray": _ray_version(),
        "fsf": version,
        "fsf_code": code_digest(folder) if folder else "",
        "libraries": {name: _version(names) for name, names in LIBRARIES.items()},
        "torch": importlib.util.find_spec("torch") is not None,
        "time_s": time.time(),
        "memory_bytes": _memory_bytes(),
        "available_bytes": _available_bytes(),
        "shm": _space("/dev/shm"),  # noqa: S108 - where Ray keeps its objects
        "disks": {path: _space(path) for path in _ray_folders()},
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "nvidia_driver": nvidia_driver(),
        "unseen": {path: reason for path, text in seen.items() if (reason := _why_unseen(path, text))},
        "unwritable": [folder for folder in written if not os.access(folder, os.W_OK | os.X_OK)],
    }


def clock() -> float:
    """Return the time of this process's node, in seconds since 1970."""
    return time.time()


def code_digest(folder: str | Path) -> str:
    """Return a digest of the source files of a package: two images may hold different code of the same version.

    It is the one by which `fsf submit` compares installations.
    """
    home, digest = Path(folder), hashlib.sha256()
    for path in sorted(home.rglob("*.py"), key=lambda path: path.relative_to(home).parts):
        name, content = "/".join(path.relative_to(home).parts).encode(), path.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()[:16]


def nvidia_driver(document: str = "/proc/driver/nvidia/version") -> str:
    """Return the version of the NVIDIA driver of this machine; empty if it has none."""
    with contextlib.suppress(OSError):
        found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", Path(document).read_text())
        return found[1] if found else ""
    return ""


def write_mark(path: str, text: str) -> None:
    """Write a small file on this node."""
    Path(path).write_text(text)


def make_object(size_bytes: int) -> bytes:
    """Return bytes, which stay on this node until another one fetches them."""
    return bytes(size_bytes)


def length(data: bytes) -> int:
    """Return the number of bytes that another node has made."""
    return len(data)


def _fsf() -> tuple[str, str]:
    """Return the folder and the version of fsf_core as this process would import it; empty where it is missing."""
    spec = importlib.util.find_spec("fsf_core")
    if spec is None or spec.origin is None:
        return "", ""
    found = re.search(r'^__version__ = "([^"]+)"', Path(spec.origin).read_text(), flags=re.MULTILINE)
    return str(Path(spec.origin).parent), found[1] if found else ""


def _ray_version() -> str:
    """Return the version of Ray that runs this process."""
    import ray

    return str(ray.__version__)


def _version(distributions: Sequence[str]) -> str:
    """Return the version of the first distribution that is installed; empty if none is."""
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return ""


def _memory_bytes() -> int:
    """Return the memory of this machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for document in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(document).read_text()))
    return total


def _available_bytes() -> int:
    """Return the memory that new processes may take without swapping; 0 where unknown."""
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)
        return int(found[1]) << 10 if found else 0
    return 0


def _space(path: str) -> tuple[int, int]:
    """Return the size and the free bytes of the file system of a path; zeros where it does not exist."""
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(path)
        return usage.total, usage.free
    return 0, 0


def _ray_folders() -> Sequence[str]:
    """Return the folders to which this node writes logs and spilled objects."""
    import ray

    node = ray._private.worker._global_node  # noqa: SLF001 - has no public name
    found = {node.get_session_dir_path()} if node is not None else set()
    with contextlib.suppress(OSError):
        for word in Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0"):
            name, _, value = word.partition("=")
            if name in {"--fallback_directory", "--object_spilling_directory"} and value:
                found.add(value)
    return sorted(found)


def _why_unseen(path: str, text: str | None) -> str:
    """Return why this node does not see a file as the driver does; empty if it does."""
    try:
        if text is None:
            os.stat(path)  # noqa: PTH116 - a folder too
            return ""
        found = Path(path).read_text(errors="replace")
    except OSError as error:
        return error.strerror or type(error).__name__
    return "" if found == text else "another file is at this path"
