"""Ends the job with its reason where the cluster is lost: Ray would end the process with a page of logs and code 1.

Nodes that are lost or join meanwhile are logged. Ray's C++ side ends a driver within a second of its node, and within a
minute of the cluster's head, and raises nothing.
"""

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil
import ray
from ray import _raylet

from fsf_core import logs
from fsf_core.errors import ResumableError
from fsf_core.score.cluster_address import probe_service

HEAD_LOST_S = 45.0
"""Ray waits for 60 s; a head with fault tolerance may restart in the meantime."""

PROBE_INTERVAL_S = 5.0
LOST_INTERVAL_S = 0.05
"""Between two attempts to reach a head that has ended."""

NODE, HEAD = "raylet", "gcs_server"
LOST = {
    NODE: "Ray's node on this machine ended (killed, or out of memory)",
    HEAD: "the head of the Ray cluster ended, or cannot be reached any more",
}

MAX_REASON = 200
"""Characters of a reason that comes from Ray."""

log = logging.getLogger("fsf")


@contextlib.contextmanager
def watched_cluster(*, is_local: bool) -> Iterator[None]:
    """End the process with the exit code of ResumableError if the cluster is lost while the block lasts.

    Args:
        is_local: whether this process has started the cluster.
    """
    stop_fd, stopper_fd = os.pipe()
    watches = [threading.Thread(target=_watch_processes, args=(_processes(is_local=is_local), stop_fd), daemon=True)]
    if not is_local:
        head = ray.get_runtime_context().gcs_address
        watches.append(threading.Thread(target=_watch_head, args=(head, stop_fd), daemon=True))
        watches.append(threading.Thread(target=_watch_nodes, args=(stop_fd,), daemon=True))
    for watch in watches:
        watch.start()
    try:
        yield
    finally:
        os.close(stopper_fd)
        for watch in watches:
            watch.join(timeout=PROBE_INTERVAL_S)
        if not any(watch.is_alive() for watch in watches):  # else a late one, which is about to look whether it ends
            os.close(stop_fd)


@contextlib.contextmanager
def reported_exit(doing: str) -> Iterator[None]:
    """Report the end of this process if it ends inside the block, as where Ray's C++ side finds that its node is gone.

    That ends the process with code 1, raises nothing, and runs no handler; so another process waits for it.

    Args:
        doing: what the block does, after "while it was".
    """
    text = f"ClusterError: this process ended while it was {doing} Ray: it was killed, or Ray's node ended first"
    message = logs.error_line(f"{text}; start the same command again", exit_code=1)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr has no descriptor, as in a notebook
            script = ["/bin/sh", "-c", 'read -r left || printf "%s\\n" "$0" >&2', message]
            waiter = subprocess.Popen(script, stdin=subprocess.PIPE, stderr=sys.stderr.fileno(), start_new_session=True)
            stack.callback(waiter.communicate, b"left\n")
        yield


def _processes(*, is_local: bool) -> dict[str, int]:
    """Return the processes without which this driver is lost, those of Ray on this machine."""
    found: dict[str, int] = {}
    children = psutil.Process().children() if is_local else []
    for process in children or psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            name = process.name()
            if (name == NODE and (is_local or _serves_this_driver(process))) or (name == HEAD and is_local):
                found[name] = process.pid
    return found


def _serves_this_driver(process: psutil.Process) -> bool:
    """Return whether a node is the one that this process is connected to."""
    node: Any = ray._private.worker._global_node  # noqa: SLF001 - has no public name
    return node is not None and f"--raylet_socket_name={node.raylet_socket_name}" in process.cmdline()


def _watch_processes(processes: Mapping[str, int], stop_fd: int) -> None:
    """End this process when one of the others has ended."""
    watched: dict[int, str] = {}
    for name, pid in processes.items():
        with contextlib.suppress(OSError, AttributeError):  # another system: Ray ends the process
            watched[os.pidfd_open(pid)] = name
    ended, _, _ = select.select([stop_fd, *watched], [], [])
    if stop_fd not in ended:
        _end(LOST[watched[ended[0]]])
    for descriptor in watched:
        os.close(descriptor)


def _watch_head(address: str, stop_fd: int) -> None:
    """End this process when the head has not responded for a while, or another one has its address.

    A connection is kept open: when the head ends, that is known at once, and the one that comes next is asked who it is
    before Ray ends this process for it.
    """
    host, _, port_text = address.rpartition(":")
    host, port = host.strip("[]"), int(port_text)
    cluster = _cluster_id(address)
    connection = _connect(host, port)
    reached = time.monotonic()
    while True:
        watched = [stop_fd, *([connection.fileno()] if connection else [])]
        ended, _, _ = select.select(watched, [], [], PROBE_INTERVAL_S if connection else LOST_INTERVAL_S)
        if stop_fd in ended:
            break
        if ended and connection and _is_closed(connection):
            connection.close()
            connection = None
        if probe_service(host, port) is None:
            reached = time.monotonic()
            if connection is None:
                if cluster and _cluster_id(address) not in {cluster, None}:
                    _end(LOST[HEAD])
                connection = _connect(host, port)
        if time.monotonic() - reached > HEAD_LOST_S:
            _end(LOST[HEAD])
    if connection:
        connection.close()


def _connect(host: str, port: int) -> socket.socket | None:
    """Return a connection to the head, or None if it does not respond."""
    with contextlib.suppress(OSError):
        return socket.create_connection((host, port), timeout=PROBE_INTERVAL_S)
    return None


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the other side has closed a connection that can be read from."""
    try:
        return not connection.recv(4096)
    except OSError:
        return True


def _cluster_id(address: str) -> str | None:
    """Return the id of the cluster whose head is at an address, or None if it is not reached."""
    with contextlib.suppress(Exception):  # of several types, none of which is documented
        found: str = _raylet.GcsClient(address=address).cluster_id.hex()  # type: ignore[attr-defined] # not in the stubs
        return found
    return None


def _watch_nodes(stop_fd: int) -> None:
    """Log which nodes are lost and which join."""
    known = _nodes()
    while not select.select([stop_fd], [], [], PROBE_INTERVAL_S)[0]:
        now = _nodes()
        if now:  # otherwise the head is not reached
            log_changes(known, now)
            known = now


def log_changes(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    """Log which nodes of a cluster ended and which joined.

    Args:
        before: nodes as Ray describes them, dead ones too; empty if they are not known.
        now: the same, later.
    """
    was_alive = {node["NodeID"] for node in before if node["Alive"]}
    left = sum(node["Alive"] for node in now)
    for node in now:
        address, reason = node["NodeManagerAddress"], str(node.get("DeathReasonMessage") or "")[:MAX_REASON]
        if node["Alive"] and before and node["NodeID"] not in was_alive:
            log.info("event=node_joined node=%s nodes=%d", address, left)
        if not node["Alive"] and node["NodeID"] in was_alive:
            log.warning("event=node_lost node=%s nodes_left=%d reason=%r", address, left, reason)


def _nodes() -> Sequence[Mapping[str, Any]]:
    """Return the nodes of the cluster, dead ones too; nothing if the head is not reached."""
    with contextlib.suppress(Exception):  # of several types, none of which is documented
        found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call] # Ray publishes no type
        return found
    return []


def _end(reason: str) -> None:
    """End this process at once: threads of Ray's would end it while it cleans up."""
    cursor = b"\x1b[?25h" if sys.stderr.isatty() else b""  # which the progress bar hides
    text = f"ResumableError: {reason}; the same command resumes the run"
    message = logs.error_line(text, exit_code=ResumableError.exit_code) + "\n"
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), cursor + message.encode())
    os._exit(ResumableError.exit_code)
