"""A stub of the agents that Ray starts on every node; the dashboard's also ends what outlives the node.

Ray's node waits for the files with the agents' ports, and ends when an agent ends. Both import much before they are
ready. The dashboard's agent collects metrics that nothing reads here; the other one prepares environments for workers
that ask for one, which no worker does here. The stub runs as a program, takes the arguments of either agent, and
imports only the standard library.

Ray ends its node (raylet) with the driver, however that ends, but workers live on for seconds, and another agent for
45 s. The node leads a session of its own, so the stub knows all of its descendants and kills them.
"""

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
RUNTIME_ENV_PORTS = ("runtime_env_agent_port",)
NO_PORT = "-1"
"""What Ray's agent writes if the service is not installed."""

FOLDER_PREFIX, LOCK_NAME = "fsf-ray-", "lock"
"""Names of a job's folder in the temporary directory, and of the file in it that the driver locks."""

POLL_S = 0.2
KILL_S = 5.0
"""Longest time for killing the processes of the session, and for waiting for the end of the driver."""


def main() -> None:
    """Write the port files, run until the node ends, and end its session."""
    arguments = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
    node = int(os.environ.get("RAY_RAYLET_PID", os.getppid()))  # which may have ended already
    session = Path(arguments["session-dir"])
    of_dashboard = "runtime-env-dir" not in arguments
    for port in PORTS if of_dashboard else RUNTIME_ENV_PORTS:
        file = session / f"{port}_{arguments['node-id']}"
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(NO_PORT)
        unfinished.rename(file)
    _wait_for_end(node)
    if of_dashboard and os.getsid(0) == node:  # else the session is that of the user's shell
        _kill_session(node)
        _remove_folder(session.parents[1])


def try_lock(descriptor: int) -> bool:
    """Lock a file; returns whether no other process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_end(node: int) -> None:
    """Return when the parent has ended."""
    with contextlib.suppress(OSError, AttributeError):  # another system, or an old kernel
        descriptor = os.pidfd_open(node)
        if os.getppid() == node:
            select.select([descriptor], [], [])
    while os.getppid() == node:
        time.sleep(POLL_S)


def _kill_session(session: int) -> None:
    """Kill all processes of a session but this one."""
    end = time.monotonic() + KILL_S
    while (found := [*_others_of_session(session)]) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _others_of_session(session: int) -> Iterator[int]:
    """Yield the processes of a session that have not ended, without this one."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, number = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(number) == session and state not in "ZX" and int(process.name) != os.getpid():
                yield int(process.name)


def _remove_folder(folder: Path) -> None:
    """Remove the folder of a driver that was killed; one that lives removes it itself."""
    if not folder.name.startswith(FOLDER_PREFIX):
        return
    import shutil

    end = time.monotonic() + KILL_S  # a killed process keeps its locks until its last thread has ended
    with contextlib.suppress(OSError), (folder / LOCK_NAME).open("rb+") as lock:
        while folder.exists() and time.monotonic() < end:
            if try_lock(lock.fileno()):
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
