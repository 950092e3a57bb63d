"""One job at a time in a folder: a lock on a disk, a lease with a heartbeat in a store.

A lease is an object `.lease-<number>` that only one of several callers can create and that its holder keeps rewriting.
A lease that does not change for LEASE_S is taken over under the next number; the clocks of the machines do not matter.
Knows files; knows no run.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from fsf_core import storage
from fsf_core.errors import FSFError, OutputError

HEARTBEAT_S = 5.0
"""Interval between two heartbeats."""

LEASE_S = 30.0
"""Time without a heartbeat after which a job is considered dead."""

_PREFIX = ".lease-"

log = logging.getLogger("fsf")


@contextlib.contextmanager
def lease(uri: str) -> Iterator[None]:
    """Keep a second job out of a folder until the block ends.

    On a disk the lock ends with the process. In a store the next job waits up to LEASE_S to see that the last one is
    dead, and not at all if that one died on the same machine. A live job whose lease was taken over gets SIGTERM.

    Raises:
        OutputError: a live job holds the folder.
    """
    if storage.is_local(uri):
        with _locked(uri):
            yield
        return
    number = _acquire(uri)
    stopped = threading.Event()
    thread = threading.Thread(target=_heartbeat, args=(uri, number, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with contextlib.suppress(FSFError):  # a lease that cannot be removed expires
            storage.remove(_lease_uri(uri, number))


def _acquire(uri: str) -> int:
    """Create the next lease, once the newest one is gone or expired; returns its number.

    Raises:
        OutputError: the newest lease changed while it was watched: its holder is alive.
    """
    seen: tuple[int, bytes] | None = None
    since = time.monotonic()
    while True:
        numbers = _numbers(uri)
        newest = max(numbers, default=0)
        content = _read_lease(uri, newest) if newest else b""
        if (newest, content) != seen:
            if seen is not None and seen[0] == newest and content:
                holder = _describe_holder(content)
                raise OutputError(f"{storage.redact(uri)} is in use by {holder}; wait for it, or give another --out")
            seen, since = (newest, content), time.monotonic()
        if not newest or not content or _died_on_this_host(content) or time.monotonic() - since > LEASE_S:
            payload = _payload()
            if storage.create(_lease_uri(uri, newest + 1), payload) and _read_lease(uri, newest + 1) == payload:
                for number in numbers:
                    storage.remove(_lease_uri(uri, number))
                return newest + 1
            continue
        if time.monotonic() - since < HEARTBEAT_S / 10:
            log.info("event=waiting_for_lease out=%s holder=%r", storage.redact(uri), _describe_holder(content))
        time.sleep(HEARTBEAT_S / 5)


def _heartbeat(uri: str, held: int, stopped: threading.Event) -> None:
    """Rewrite the lease until stopped; end the process if another job took it over."""
    while not stopped.wait(HEARTBEAT_S):
        try:
            if max(_numbers(uri), default=held) > held:
                log.error("event=lease_lost out=%s do='stop the second job in this folder'", storage.redact(uri))
                os.kill(os.getpid(), signal.SIGTERM)
                return
            storage.write_bytes(_lease_uri(uri, held), _payload())
        except FSFError as error:  # the store may recover; if it does not, committing parts fails with the reason
            log.warning("event=heartbeat_failed out=%s error=%r", storage.redact(uri), str(error))


def _numbers(uri: str) -> list[int]:
    """Return the numbers of the leases in a folder, sorted."""
    return sorted(int(name.removeprefix(_PREFIX)) for name in storage.list_names(uri, _PREFIX))


def _lease_uri(uri: str, number: int) -> str:
    """Return the URI of a lease."""
    return storage.join(uri, f"{_PREFIX}{number}")


def _read_lease(uri: str, number: int) -> bytes:
    """Return the content of a lease; empty if it was released in the meantime."""
    try:
        return storage.read_bytes(_lease_uri(uri, number))
    except FSFError:
        if storage.exists(_lease_uri(uri, number)):
            raise
        return b""


def _payload() -> bytes:
    """Return the content of a lease: host and process of its holder, and a token that is new with every heartbeat."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "beat": secrets.token_hex(8)}).encode()


def _parse(content: bytes) -> dict[str, Any]:
    """Parse the content of a lease; empty if it is damaged."""
    with contextlib.suppress(ValueError):
        return dict(json.loads(content))
    return {}


def _describe_holder(content: bytes) -> str:
    """Return process and host of a lease's holder, for messages."""
    holder = _parse(content)
    return f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"


def _died_on_this_host(content: bytes) -> bool:
    """Return whether the holder was a process of this host that no longer exists."""
    holder = _parse(content)
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, TypeError, ValueError):
        return False
    return False


@contextlib.contextmanager
def _locked(uri: str) -> Iterator[None]:
    """Hold the lock file of a local folder until the block ends; a folder left without other files is removed.

    Raises:
        OutputError: a live job holds it, or the folder cannot be written or locked.
    """
    path = storage.local_path(uri) / ".lock"
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise OutputError(f"{uri} cannot be written: {error}; give another --out") from error
        with file:
            _lock(uri, file)
            # The last holder may have removed the file between open and lock: another job would lock a new one.
            if not (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # the folder may be gone, or no longer empty
                    if [entry.name for entry in path.parent.iterdir()] == [path.name]:
                        path.unlink()
                        path.parent.rmdir()
            return


def _lock(uri: str, file: IO[str]) -> None:
    """Lock the file without waiting, and write the process id into it.

    Raises:
        OutputError: another process holds it, or the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise OutputError(
            f"{uri} is in use by process {file.read().strip() or 'unknown'}; wait for it, or give another --out"
        ) from error
    except OSError as error:
        raise OutputError(f"{uri} cannot be locked: {error}; give an --out on a file system with locks") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
