"""One job at a time in a folder: a lock on a disk, a lease with a heartbeat in a store.

A lease is an object `.lease-<number>` that only one of several callers can create, and that its holder rewrites all the
time. One that stands still for LEASE_S is taken over under the next number, whatever the clocks of the machines say.
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
"""Between two signs of life."""

LEASE_S = 30.0
"""Without a sign of life for so long, a job counts as dead."""

_PREFIX = ".lease-"

log = logging.getLogger("fsf")


@contextlib.contextmanager
def lease(uri: str) -> Iterator[None]:
    """Keep a second job out of a folder for as long as the block lasts.

    A disk lets go when the process dies. In a store the next job waits up to LEASE_S to see that the last one is dead;
    where it died on the same machine, not at all. A job that was taken for dead and is not gets SIGTERM.

    Raises:
        OutputError: a job that lives holds it.
    """
    if storage.is_local(uri):
        with _locked(uri):
            yield
        return
    mine = _acquire(uri)
    stopped = threading.Event()
    thread = threading.Thread(target=_heartbeat, args=(uri, mine, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with contextlib.suppress(FSFError):  # what cannot be removed runs out
            storage.remove(_name(uri, mine))


def _acquire(uri: str) -> int:
    """The number of the lease that this call created."""
    seen: tuple[int, bytes] | None = None
    since = time.monotonic()
    while True:
        numbers = _numbers(uri)
        newest = max(numbers, default=0)
        content = _content(uri, newest) if newest else b""
        if (newest, content) != seen:
            if seen is not None and seen[0] == newest and content:
                raise OutputError(
                    f"{storage.redact(uri)} is in use by {_holder(content)}; wait for it, or give another --out"
                )
            seen, since = (newest, content), time.monotonic()
        if not newest or not content or _died_here(content) or time.monotonic() - since > LEASE_S:
            words = _payload()
            if storage.create(_name(uri, newest + 1), words) and _content(uri, newest + 1) == words:
                for number in numbers:
                    storage.remove(_name(uri, number))
                return newest + 1
            continue
        if time.monotonic() - since < HEARTBEAT_S / 10:
            log.info("event=waiting out=%s for=%r", storage.redact(uri), f"a sign of life of {_holder(content)}")
        time.sleep(HEARTBEAT_S / 5)


def _heartbeat(uri: str, mine: int, stopped: threading.Event) -> None:
    """Show signs of life; end the job where another took over."""
    while not stopped.wait(HEARTBEAT_S):
        try:
            if max(_numbers(uri), default=mine) > mine:
                log.error("event=lease_lost out=%s do='look for a second job in this folder'", storage.redact(uri))
                os.kill(os.getpid(), signal.SIGTERM)
                return
            storage.write_bytes(_name(uri, mine), _payload())
        except FSFError as error:  # the store may come back; if not, the parts fail and say why
            log.warning("event=no_heartbeat error=%r", str(error))


def _numbers(uri: str) -> list[int]:
    found = storage.list_names(uri, _PREFIX)
    return sorted(int(name.removeprefix(_PREFIX)) for name in found)


def _name(uri: str, number: int) -> str:
    return storage.join(uri, f"{_PREFIX}{number}")


def _content(uri: str, number: int) -> bytes:
    """What a lease says; nothing where it was given back meanwhile."""
    try:
        return storage.read_bytes(_name(uri, number))
    except FSFError:
        if storage.exists(_name(uri, number)):
            raise
        return b""


def _payload() -> bytes:
    """Who holds it, and something that is new every time."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "beat": secrets.token_hex(8)}).encode()


def _facts(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        return dict(json.loads(content))
    return {}


def _holder(content: bytes) -> str:
    facts = _facts(content)
    return f"process {facts.get('pid', 'unknown')} on {facts.get('host', 'a machine that is not known')}"


def _died_here(content: bytes) -> bool:
    facts = _facts(content)
    if facts.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(facts["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, TypeError, ValueError):
        return False
    return False


@contextlib.contextmanager
def _locked(uri: str) -> Iterator[None]:
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
                if [entry.name for entry in path.parent.iterdir()] == [path.name]:  # nothing was written
                    path.unlink()
                    with contextlib.suppress(OSError):
                        path.parent.rmdir()
            return


def _lock(uri: str, file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise OutputError(
            f"{uri} is in use by process {file.read().strip() or 'unknown'}; wait for it, or give another --out"
        ) from error
    except OSError as error:
        raise OutputError(f"{uri} cannot be locked: {error}; give an --out on a disk with locks") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
