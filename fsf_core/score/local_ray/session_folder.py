"""The folder of a local Ray in the temporary directory: private, removed with the job, swept after a killed one.

The driver holds a lock on a file in it for as long as it lives, so a folder whose lock is free belongs to no job.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fsf_core.errors import ClusterError
from fsf_core.score.local_ray.agent_stub import FOLDER_PREFIX, LOCK_NAME, try_lock

SESSION_NAME = "s"
"""Ray's own is unique, and with 41 characters takes much of what a socket's path may have."""

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
NEEDED_BYTES = 4 << 20
"""Free space that a start needs; a session writes logs of about 300 KB."""

REMOVAL_S = 2.0
"""Longest wait for processes that still write to a folder that is removed."""

UNLOCKED_MAX_AGE_S = 3600.0
"""A folder without a lock file is about to get one, or is what an interrupted removal left."""


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """Yield a new folder for Ray, below one that only this user can enter; remove it with the block.

    Raises:
        ClusterError: the temporary directory cannot be used.
    """
    parent = _temporary_directory()
    _sweep(parent)
    folder, lock = _create(parent)
    with lock:
        try:
            _require_space(folder)
            yield folder / "r"  # Ray opens the folder that it is given to everyone
        finally:
            _remove(folder)


def _temporary_directory() -> Path:
    """Return the directory that Ray would use.

    Raises:
        ClusterError: the paths of Ray's sockets would be too long.
    """
    parent = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp").absolute()  # noqa: S108
    socket = parent / f"{FOLDER_PREFIX}12345678" / "r" / SESSION_NAME / "sockets" / "plasma_store"
    excess = len(os.fsencode(socket)) - MAX_SOCKET_PATH
    if excess > 0:
        raise ClusterError(
            f"the temporary directory {parent} has a path of {len(os.fsencode(parent))} bytes, expected at most "
            f"{len(os.fsencode(parent)) - excess}, because Ray keeps sockets in it; set RAY_TMPDIR to a shorter one"
        )
    return parent


def _create(parent: Path) -> tuple[Path, BinaryIO]:
    """Create a folder that only this user can enter, and lock it.

    Raises:
        ClusterError: the temporary directory cannot be used.
    """
    try:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
            lock = (folder / LOCK_NAME).open("xb")
            if try_lock(lock.fileno()) and (folder / LOCK_NAME).exists():
                return folder, lock
            lock.close()  # the sweep of another job was faster
    except OSError as error:
        raise ClusterError(
            f"the temporary directory {parent} cannot be used: {error.strerror}; expected a writable directory with "
            "free space: correct it, or set TMPDIR to another one"
        ) from error


def _require_space(folder: Path) -> None:
    """Refuse a directory that is full; Ray would end without a reason.

    Raises:
        ClusterError: it is.
    """
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(NEEDED_BYTES))
    except OSError as error:
        raise ClusterError(
            f"the temporary directory {folder.parent} cannot be written: {error.strerror}; expected "
            f"{NEEDED_BYTES >> 20} MiB of free space: make room, or set TMPDIR to another one"
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def _sweep(parent: Path) -> None:
    """Remove the folders that killed jobs of this user have left."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(FOLDER_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of this user that no process has locked."""
    facts = folder.lstat()
    if facts.st_uid != os.geteuid():
        return
    try:
        with (folder / LOCK_NAME).open("rb+") as lock:
            if try_lock(lock.fileno()):
                _remove(folder)
    except FileNotFoundError:
        if time.time() - facts.st_mtime > UNLOCKED_MAX_AGE_S:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, for a while again where a process that is ending still writes to it."""
    end = time.monotonic() + REMOVAL_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > end:
            return
        time.sleep(0.01)
