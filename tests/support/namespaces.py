"""Network, mount, process, name and IPC namespaces, and the links between them: what hosts for tests are made of."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUBNETS = range(1, 255)

INIT = """
import os, select, subprocess, sys
name, sessions, names = sys.argv[1:]
for words in (
    ["hostname", name],
    ["mount", "-t", "proc", "proc", "/proc"],
    ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],
    ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", sessions],
    ["mount", "--bind", names, "/etc/hosts"],
):
    subprocess.run(words, check=True)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.2)[0]:  # it is closed when the process that opened the hosts ends
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""
"""The first process of a host: when it ends, the kernel kills all others."""


def why_no_hosts() -> str | None:
    """Return why this machine cannot have hosts, or None."""
    if os.geteuid():
        return "hosts of their own need root, for namespaces"
    missing = [name for name in ("unshare", "nsenter", "mount", "hostname") if shutil.which(name) is None]
    if missing:
        return f"hosts of their own need {', '.join(missing)}"
    if find_spec("pyroute2") is None:
        return "hosts of their own need pyroute2 (extra dev)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@contextlib.contextmanager
def own_subnet() -> Iterator[str]:
    """Reserve the first three numbers of addresses for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        for number in SUBNETS:
            path = Path(tempfile.gettempdir()) / f"fsf-hosts-{number}.lock"
            file = stack.enter_context(path.open("a"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield f"10.213.{number}"
                return
    raise AssertionError("no free subnet")


@contextlib.contextmanager
def first_process(name: str, names: Path, sessions: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the first process of a host for as long as the block lasts.

    Args:
        name: of the host.
        names: its file of host names.
        sessions: a folder where the host mounts a disk of its own.
    """
    process = subprocess.Popen(
        [
            "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL",
            sys.executable, "-I", "-S", "-c", INIT, name, str(sessions), str(names),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n", f"the host {name} does not start"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the first process of a namespace from the one that made it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def change_links(requests: Iterable[list[Any]]) -> None:
    """Send requests to the kernel, in another process."""
    words = [sys.executable, str(Path(__file__).with_name("links.py")), json.dumps([*requests])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def processes_of(process_table: str) -> Iterator[int]:
    """Yield the processes of a namespace."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str((entry / "ns" / "pid").readlink()) == process_table:
                    yield int(entry.name)


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
