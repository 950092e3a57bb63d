"""Caches of machine code: next to the source, and in the user's cache folder where the source is read-only.

Processes that start together need the same functions: one compiles each of them, the others wait for it.
"""

import contextlib
import fcntl
import glob
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator

WAIT_S, POLL_S = 60.0, 0.05
"""Longest wait for another process that compiles a function, several times what the slowest one takes; then it is
compiled twice."""
_IN_PIECES = (EOFError, pickle.UnpicklingError)
"""What numba raises of files whose end was lost when the machine was: it does not wait for the disk."""


def cache_of(function: Callable[..., Any]) -> FunctionCache:
    """Return a cache next to the source if that is writable, else one that reads there too."""
    try:
        own = _SharedCache(function)
    except RuntimeError:  # neither this folder nor the user's cache folder is writable
        return _InstalledCache(function)
    installed = _InstalledCache(function)
    return own if own.cache_path == installed.cache_path else _LayeredCache(function, installed)


class _SharedCache(FunctionCache):
    """numba's own cache, which the processes of this machine fill together."""

    _lock_fd: int | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code; nothing where this process has to compile it, and holds the lock until it is saved."""
        found = self._load(sig, target_context)
        if found is None and self._lock_fd is None:
            self._lock()
            found = self._load(sig, target_context)  # compiled in the meantime
            if found is not None:
                self._unlock()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        """Load machine code; nothing from files that are in pieces, and an empty index then takes their place."""
        try:
            return super().load_overload(sig, target_context)
        except _IN_PIECES:
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save what was compiled, unless the disk is full or another user's, and let the others load it."""
        try:
            with contextlib.suppress(OSError):
                self._drop_earlier()
                super().save_overload(sig, data)
        finally:
            self._unlock()

    def _drop_earlier(self) -> None:
        """Remove machine code of another source: numba saves first where the new code will be, and the names recur."""
        if not self._cache_file._load_index():  # noqa: SLF001
            for path in Path(self.cache_path).glob(f"{glob.escape(self._impl.filename_base)}.*.nbc"):
                path.unlink(missing_ok=True)

    @property
    def _lock_path(self) -> Path:
        return Path(self.cache_path) / f"{self._impl.filename_base}.lock"

    def _lock(self) -> None:
        """Wait until no other process compiles the function; without a lock where the file system has none."""
        deadline = time.monotonic() + WAIT_S
        with contextlib.suppress(OSError):
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            while self._lock_fd is None and time.monotonic() < deadline:
                fd = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_ino == self._lock_path.stat().st_ino:  # else its holder has removed it
                        self._lock_fd = fd
                except (BlockingIOError, FileNotFoundError):
                    time.sleep(POLL_S)
                finally:
                    if self._lock_fd is None:
                        os.close(fd)

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                self._lock_path.unlink()
            os.close(self._lock_fd)
            self._lock_fd = None
            _drop_abandoned_locks(Path(self.cache_path))


def _drop_abandoned_locks(folder: Path) -> None:
    """Remove the locks of processes that were killed as they compiled; who waits for one finds that it is gone."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.lock"):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    path.unlink()
            except (BlockingIOError, FileNotFoundError):
                pass
            finally:
                os.close(fd)


def is_filled(cache: FunctionCache) -> bool:
    """Return whether a cache holds machine code of the source as it is, of this processor or another."""
    try:
        return any(each._cache_file._load_index() for each in (cache, getattr(cache, "_installed", cache)))  # noqa: SLF001
    except (OSError, *_IN_PIECES):
        return False


class _InstalledLocator(InTreeCacheLocator):
    """The folder next to the source, for reading: numba's own locator skips it if it cannot be written."""

    def ensure_cache_path(self) -> None:
        """Accept the folder as it is."""


class _InstalledImpl(CompileResultCacheImpl):
    _locator_classes = [_InstalledLocator]  # noqa: RUF012 # as numba declares it


class _InstalledCache(FunctionCache):
    """The cache that was filled when the package was installed, such as in a container image."""

    _impl_class = _InstalledImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code, or nothing where it is missing, unreadable, or another processor's."""
        try:
            return super().load_overload(sig, target_context)
        except (OSError, *_IN_PIECES):
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save nothing: the process that compiled has what it needs."""


class _LayeredCache(_SharedCache):
    """The user's cache, which holds only what the installed one lacks."""

    def __init__(self, function: Callable[..., Any], installed: _InstalledCache) -> None:
        super().__init__(function)
        self._installed = installed

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code from the installed cache, else from the user's."""
        return self._installed.load_overload(sig, target_context) or super().load_overload(sig, target_context)
