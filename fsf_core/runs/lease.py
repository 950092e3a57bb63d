"""One job at a time in a folder: a lock on a disk, a lease with a heartbeat in a store.

A lease is an object `.lease-<number>` that only one of several callers can create and that its holder keeps rewriting.
A lease that does not change for LEASE_S is taken over under the next number; one that was released stays until a
greater one exists, so that no number is used twice. Knows files; knows no run.

No holder writes while a successor does. Every time below is the reader's own boot clock; no two clocks are compared.

- The holder counts from the moment before it sent the last heartbeat that the store confirmed, and stops at HOLD_S.
- A successor counts from its first sight of that heartbeat, which is later, and starts at LEASE_S.
- So LEASE_S - HOLD_S = 25 s are left for what the holder has sent by then: `check` is called before every attempt at a
  request below the folder (`storage.guarded`), and one attempt takes at most 20 s (5 s to connect, 15 s without a
  byte). Retries, up to 45 s, end where HOLD_S does.
- Between two heartbeats are 5 s. A request that stalls for 20 s and then succeeds leaves the lease 25 s old, below
  HOLD_S; a store that fails for longer ends the job.
- A pause between `check` and the request that follows cannot be excluded by any clock. What follows must be harmless
  when it is late: files of an attempt that a successor has renamed or no longer lists.
"""

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from fsf_core import storage
from fsf_core.errors import FSFError, InterruptedRunError, LeaseLostError, OutputError
from fsf_core.process import interrupt_main_thread

HEARTBEAT_S = 5.0
"""Interval between the starts of two heartbeats."""

HOLD_S = 35.0
"""Age of the last confirmed heartbeat at which its holder stops."""

LEASE_S = 60.0
"""Time without a heartbeat after which a job is considered dead."""

WATCH_S = 1.0
"""Interval at which a job checks its lease without a request."""

FAREWELL_S = 10.0
"""Longest time that the end of a job waits for its lease."""

_NAME = re.compile(r"\.lease-([1-9][0-9]*)")

_SIGHTS: dict[str, tuple[tuple[int, bytes] | None, float]] = {}
"""Folder to the newest lease that `look_at` found there, and when."""

log = logging.getLogger("fsf")

T = TypeVar("T")


class Lease(ABC):
    """The right of this process to write to a folder."""

    def __init__(self, uri: str, number: int) -> None:
        self.uri = uri
        self.number = number
        """Number of the lease in a store, never used twice for one folder; 0 on a disk."""
        self.raised = False
        """Whether the main thread was informed of the loss by an exception."""
        self._lost = ""

    def check(self) -> None:
        """Check, without a request to a store, that the folder is still held; called before every write.

        Raises:
            LeaseLostError: it is not, now and forever.
        """
        if self.is_lost():
            self.raised |= threading.current_thread() is threading.main_thread()
            raise LeaseLostError(self._lost)

    def confirm(self) -> None:
        """Check by the store's or the disk's response that the folder is still held.

        Raises:
            LeaseLostError: it is not, now and forever.
            FSFError: the store does not respond.
        """
        self.check()
        self._lose(self.taken())
        self.check()

    def is_lost(self) -> bool:
        """Return whether the folder is held no more, as far as this process knows."""
        if not self._lost:
            self._lose(self.expired())
        return bool(self._lost)

    def explain(self) -> str:
        """Return why the lease was lost, who holds the folder now, and what to do."""
        holder = _within(FAREWELL_S, self._successor)
        do = f"{_describe(holder)} took it over; once that has ended, start" if holder else "start"
        return f"{self._lost}; {do} the same command again"

    @abstractmethod
    def expired(self) -> str:
        """Return why this process must stop by what it knows itself; empty if it need not."""

    @abstractmethod
    def taken(self) -> str:
        """Return why this process must stop by what the store or the disk returns; empty if it need not."""

    @abstractmethod
    def _successor(self) -> dict[str, Any]:
        """Return who took the folder over, as a parsed lease; empty if nothing shows that."""

    def _lose(self, reason: str) -> None:
        """Record and log the loss, once."""
        if reason and not self._lost:
            self._lost = reason
            log.error("event=lease_lost out=%s reason=%r", storage.redact(self.uri), reason)


@contextlib.contextmanager
def lease(uri: str, *, name: str = "") -> Iterator[Lease]:
    """Keep a second job out of a folder until the block ends.

    On a disk the lock ends with the process. In a store the next job waits up to LEASE_S to see that the last one is
    dead, and not at all if that one died on the same machine. A job that loses its lease gets SIGTERM, if it handles
    that, and whatever error ends the block becomes LeaseLostError.

    Args:
        uri: the folder.
        name: what is in use, for the message to a second job; the folder by default.

    Raises:
        OutputError: a live job holds the folder.
        LeaseLostError: another job took the folder over, or may have.
    """
    with (_locked if storage.is_local(uri) else _leased)(uri, name or storage.redact(uri)) as held:
        stopped = threading.Event()
        watch = threading.Thread(target=_watch, args=(held, stopped), daemon=True)
        watch.start()
        try:
            with storage.guarded(uri, held.check):
                yield held
            held.check()
        except BaseException as error:
            held.raised = True
            if isinstance(error, Exception) and not isinstance(error, InterruptedRunError):
                _within(FAREWELL_S, held.confirm)  # the error may be the first that is seen of the loss
            if held.is_lost():
                raise LeaseLostError(held.explain()) from error
            raise
        finally:
            stopped.set()
            watch.join()


def find_holder(uri: str) -> tuple[str, bool]:
    """Return which job holds a folder, and whether it is alive, without taking the folder; empty if none does.

    A lease in a store is watched for up to two heartbeats.

    Raises:
        StorageError: the store refuses.
        FetchError: the lease cannot be read.
    """
    if storage.is_local(uri):
        return _find_lock_holder(storage.local_path(uri) / ".lock"), True
    newest = max(_numbers(uri), default=0)
    first = _read_lease(uri, newest) if newest else b""
    holder = _parse(first)
    if not first or holder.get("released") is True or _died_on_this_host(holder):
        return "", False
    begun = _now()
    while _now() - begun < 2 * HEARTBEAT_S:
        time.sleep(HEARTBEAT_S / 5)
        if _read_lease(uri, newest) != first:
            return _describe(holder), True
    return _describe(holder), False


def _find_lock_holder(path: Path) -> str:
    """Return the process that has locked a file; empty if none has."""
    try:
        with path.open(errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for a moment, and shared with other readers
            except BlockingIOError:
                return _describe(_parse_lock(file.read()))
    except OSError:
        pass  # there is no lock file, or no right to read it: the job itself will report that
    return ""


def look_at(uri: str) -> None:
    """Note the newest lease of a folder in a store: a later `lease` of it counts the time without a heartbeat from now.

    A job that takes two leases of a dead one after each other waits for both at once.

    Raises:
        StorageError: the store refuses.
    """
    if storage.is_local(uri):
        return
    newest = max(_numbers(uri), default=0)
    _SIGHTS[uri] = ((newest, _read_lease(uri, newest) if newest else b""), _now())


@contextlib.contextmanager
def unwatched_lease(uri: str) -> Iterator[Lease]:
    """Keep jobs out of a folder on a disk until the block ends, which may rename the folder with its lock.

    Raises:
        OutputError: a live job holds the folder.
    """
    with _locked(uri, uri) as held:
        yield held


def _watch(held: Lease, stopped: threading.Event) -> None:
    """Wake the main thread with SIGTERM once the lease is lost."""
    while not stopped.wait(WATCH_S):
        if not held.is_lost() or (held.raised and stopped.wait(FAREWELL_S)):
            continue  # a main thread that unwinds already is not disturbed
        if interrupt_main_thread(signal.SIGTERM):
            return


def _within(timeout_s: float, call: Callable[[], T]) -> T | None:
    """Return what a call returns; None if it fails with an FSFError or takes too long."""
    results: list[T] = []

    def run() -> None:
        with contextlib.suppress(FSFError):
            results.append(call())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return results[0] if results else None


def _now() -> float:
    """Return seconds since the machine was booted, the time of a suspended machine included where it is known."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


# --- stores ---


class _StoreLease(Lease):
    """An object that is rewritten by a thread until it is released."""

    def __init__(self, uri: str, number: int, token: str, confirmed: float, since: str) -> None:
        super().__init__(uri, number)
        self._token, self._confirmed, self._since = token, confirmed, since

    def beat(self) -> None:
        """Rewrite the lease, if it is still this one.

        Raises:
            LeaseLostError: it is not.
            FSFError: the store does not respond.
        """
        self.confirm()
        begun = _now()
        self.check()  # last, because the response may have taken long
        storage.write_bytes(_lease_uri(self.uri, self.number), _payload(self._token, self._since))
        self._confirmed = begun

    def beat_until(self, stopped: threading.Event) -> None:
        """Rewrite the lease every HEARTBEAT_S until stopped or lost."""
        begun = self._confirmed
        while not stopped.wait(max(0.0, begun + HEARTBEAT_S - _now())):
            begun = _now()
            try:
                self.beat()
            except LeaseLostError:
                return
            except FSFError as error:  # the store may recover before HOLD_S
                log.warning("event=heartbeat_failed out=%s error=%r", storage.redact(self.uri), str(error))

    def release(self) -> None:
        """Mark the lease as released, if it is still this one; the object stays, so that its number does.

        Raises:
            LeaseLostError: it is not.
            FSFError: the store does not respond; the lease expires.
        """
        with storage.guarded(self.uri, self.check):
            self.confirm()
            storage.write_bytes(_lease_uri(self.uri, self.number), _payload(self._token, self._since, released=True))

    def remove_older(self) -> None:
        """Remove the leases below this one, which nothing needs any more."""
        for number in _numbers(self.uri):
            if number < self.number:
                storage.remove(_lease_uri(self.uri, number))

    def expired(self) -> str:
        silent_s = _now() - self._confirmed
        if silent_s <= HOLD_S:
            return ""
        return (
            f"this job could not renew its lease on {storage.redact(self.uri)} for {silent_s:.0f} s, at most "
            f"{HOLD_S:.0f} s are allowed: it was paused, or cut off from the store"
        )

    def taken(self) -> str:
        # In this order: a successor first creates its own lease and then removes this one.
        token = _parse(_read_lease(self.uri, self.number)).get("token")
        newest = max(_numbers(self.uri), default=0)
        if newest > self.number:
            return f"another job took {storage.redact(self.uri)} over while this one was paused, or cut off from it"
        if token != self._token:
            found = "was replaced" if newest == self.number else "was deleted"
            return f"the lease of this job on {storage.redact(self.uri)} {found}"
        return ""

    def _successor(self) -> dict[str, Any]:
        newest = max(_numbers(self.uri), default=0)
        holder = _parse(_read_lease(self.uri, newest)) if newest >= self.number else {}
        return {} if holder.get("token") == self._token else holder


@contextlib.contextmanager
def _leased(uri: str, name: str) -> Iterator[_StoreLease]:
    """Hold the lease of a folder in a store until the block ends.

    Raises:
        OutputError: a live job holds it.
    """
    held = _acquire(uri, name)
    stopped = threading.Event()
    beats = threading.Thread(target=held.beat_until, args=(stopped,), daemon=True)
    beats.start()
    try:
        held.remove_older()
        yield held
    finally:
        stopped.set()
        beats.join(FAREWELL_S)
        if not beats.is_alive():  # its heartbeat would overwrite the release; the lease expires
            _within(FAREWELL_S, held.release)


def _acquire(uri: str, name: str) -> _StoreLease:
    """Create the next lease, once the newest one is released or expired.

    Raises:
        OutputError: the newest lease changed while it was watched: its holder is alive.
    """
    token = secrets.token_hex(8)
    seen, since = _SIGHTS.pop(uri, (None, _now()))
    while True:
        newest = max(_numbers(uri), default=0)
        content = _read_lease(uri, newest) if newest else b""
        holder = _parse(content)
        free = not content or holder.get("released") is True or _died_on_this_host(holder)
        if (newest, content) != seen:
            if seen is not None and seen[0] == newest and not free:
                raise OutputError(f"{name} is in use by {_describe(holder)}; wait for it, or give another --out")
            seen, since = (newest, content), _now()
        if free or _now() - since > LEASE_S:
            held = _create(uri, newest + 1, token)
            if held:
                return held
            continue
        if _now() - since < HEARTBEAT_S / 10:
            log.info("event=waiting_for_lease out=%s holder=%r", storage.redact(uri), _describe(holder))
        time.sleep(HEARTBEAT_S / 5)


def _create(uri: str, number: int, token: str) -> _StoreLease | None:
    """Create a lease; None if another job was faster.

    Whether it was created is read back: the response to a create that succeeded may be lost, and its repetition fails.
    """
    begun, since = _now(), _utc_now()
    created = storage.create(_lease_uri(uri, number), _payload(token, since))
    held = _StoreLease(uri, number, token, begun, since)
    taken = held.taken()
    if not taken and _now() - begun > HEARTBEAT_S:  # the lease may be as old as that already
        held = _StoreLease(uri, number, token, _now(), since)
        storage.write_bytes(_lease_uri(uri, number), _payload(token, since))
        taken = held.taken()
    if not taken:
        return held
    # Below a greater number it was created by a job that slept between its look and its create.
    if created and max(_numbers(uri)) > number:
        storage.remove(_lease_uri(uri, number))
    return None


def _numbers(uri: str) -> list[int]:
    """Return the numbers of the leases in a folder, sorted; other names are ignored."""
    names = (_NAME.fullmatch(name) for name in storage.list_names(uri, ".lease-"))
    return sorted(int(match[1]) for match in names if match)


def _lease_uri(uri: str, number: int) -> str:
    """Return the URI of a lease."""
    return storage.join(uri, f".lease-{number}")


def _read_lease(uri: str, number: int) -> bytes:
    """Return the content of a lease; empty if it does not exist."""
    try:
        return storage.read_bytes(_lease_uri(uri, number))
    except FSFError:
        if storage.exists(_lease_uri(uri, number)):
            raise
        return b""


# --- disks ---


class _DiskLease(Lease):
    """A locked file; the lock ends with the process."""

    def __init__(self, uri: str, path: Path, file: IO[str], content: str) -> None:
        super().__init__(uri, 0)
        self._path, self._file, self._content = path, file, content

    def expired(self) -> str:
        try:
            status = os.fstat(self._file.fileno())
            if not os.path.samestat(self._path.stat(), status):
                found = "is not the file that this job locked"
            elif os.pread(self._file.fileno(), status.st_size, 0) != self._content.encode():
                # A network file system gives the lock of a machine that it does not reach to the next one.
                found = "was locked by another job"
            else:
                return ""
        except OSError as error:
            found = f"cannot be read ({error.strerror})"
        return f"{self._path} {found}: it was deleted or replaced, or the folder was moved, deleted or cut off"

    def taken(self) -> str:
        return self.expired()

    def _successor(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            content = self._path.read_text(errors="replace")
            return {} if content == self._content else _parse_lock(content)
        return {}


@contextlib.contextmanager
def _locked(uri: str, name: str) -> Iterator[_DiskLease]:
    """Hold the lock file of a local folder until the block ends; of a folder that stays empty nothing is left.

    Raises:
        OutputError: a live job holds it, or the folder cannot be written or locked.
    """
    path = storage.local_path(uri).absolute() / ".lock"
    with storage.empty_folders_removed(str(path.parent)):
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("a+", errors="replace")
            except OSError as error:
                raise OutputError(f"{uri} cannot be written: {error}; give another --out") from error
            with file:
                held = _DiskLease(uri, path, file, _lock(uri, path, file, name))
                # The last holder may have removed the file between open and lock: another job would lock a new one.
                if held.expired():
                    continue
                try:
                    yield held
                finally:
                    if not held.expired():  # a file that replaced the locked one belongs to a successor
                        _remove_if_alone(path)
                return


def _lock(uri: str, path: Path, file: IO[str], name: str) -> str:
    """Lock the file without waiting, write this process and a token into it, and return that.

    Raises:
        OutputError: another process holds it, the file system has no locks, or the disk is full.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = _describe(_parse_lock(file.read()))
        raise OutputError(f"{name} is in use by {holder}; wait for it, or give another --out") from error
    except OSError as error:
        raise OutputError(f"{uri} cannot be locked: {error}; give an --out on a file system with locks") from error
    content = f"{os.getpid()} {socket.gethostname()} {secrets.token_hex(8)} {_utc_now()}"
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), content.encode())
    except OSError as error:
        _remove_if_alone(path)
        raise OutputError(f"{uri} cannot be written: {error}; free some space, or give another --out") from error
    return content


def _remove_if_alone(path: Path) -> None:
    """Remove a lock file from a folder without other files; the folder may be gone."""
    with contextlib.suppress(OSError):
        if [entry.name for entry in path.parent.iterdir()] == [path.name]:
            path.unlink()


def _parse_lock(content: str) -> dict[str, Any]:
    """Return the process in a lock file, like a parsed lease."""
    return dict(zip(("pid", "host", "token", "since"), content.split(), strict=False))


# --- processes ---


def _payload(token: str, since: str = "", *, released: bool = False) -> bytes:
    """Return the content of a lease: its holder, and a value that is new with every heartbeat."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), **_kernel(), "started": _started(os.getpid())}
    holder["since"] = since
    return json.dumps({**holder, "token": token, "beat": secrets.token_hex(8), "released": released}).encode()


def _parse(content: bytes) -> dict[str, Any]:
    """Parse the content of a lease; empty if it is damaged."""
    with contextlib.suppress(ValueError):
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return {}


def _describe(holder: dict[str, Any]) -> str:
    """Return process and host of a holder, and since when it has the folder by its own clock, for messages."""
    on, since = holder.get("host", "an unknown host"), holder.get("since")
    return (
        f"process {holder.get('pid', 'unknown')}" + (f" on {on}" if on else "") + (f" since {since}" if since else "")
    )


def _utc_now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _kernel() -> dict[str, str]:
    """Return what process ids are unique in: a boot of a kernel and a PID namespace; empty where unknown.

    Containers share host names, and a host keeps its name when it boots.
    """
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": boot, "pids": str(Path("/proc/self/ns/pid").readlink())}
    return {}


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it is a zombie or unknown."""
    with contextlib.suppress(OSError, IndexError):
        # The name of the program, in parentheses, may contain anything; field 3 follows it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _died_on_this_host(holder: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this kernel that no longer exists."""
    kernel, pid = _kernel(), holder.get("pid")
    if not kernel or any(holder.get(name) != value for name, value in kernel.items()):
        return False
    if not isinstance(pid, int) or not holder.get("started"):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    # Of a process that another user hides nothing can be read.
    return Path(f"/proc/{pid}").exists() and _started(pid) != holder["started"]
