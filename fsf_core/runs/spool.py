"""Receipts of a run in a store, read once while a block runs: every pass over a ledger reads all of them.

The copies are in one file without a name in the temporary folder, which the system removes however this process ends.
Where that folder is full, receipts are read from the store again. A receipt is created once under its name, or removed
and created anew; so a copy counts as long as every listing shows a file of its name and size.
"""

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO

from fsf_core import storage

_SPOOLS: dict[str, "_Spool"] = {}
"""Run folder to the copies of its receipts."""

log = logging.getLogger("fsf")


@contextlib.contextmanager
def spooled_receipts(run_uri: str) -> Iterator[None]:
    """Keep a copy of every receipt that this process reads until the block ends; a run on a disk needs none.

    Blocks of one run may be nested: the outermost keeps the copies.
    """
    if storage.is_local(run_uri) or run_uri in _SPOOLS:
        yield
        return
    file = _temporary_file()
    if file is None:
        yield
        return
    with file:
        _SPOOLS[run_uri] = _Spool(file)
        try:
            yield
        finally:
            del _SPOOLS[run_uri]


def read_receipts(run_uri: str, paths: Sequence[str]) -> Iterator[tuple[Callable[[], bytes], bool]]:
    """Yield for each receipt in order a call that returns its bytes, and whether these are a copy.

    Args:
        run_uri: the run folder.
        paths: of the receipts, inside the run.
    """
    spool = _SPOOLS.get(run_uri)
    missing = [path for path in paths if spool is None or path not in spool]
    reads = storage.read_prefetched([storage.join(run_uri, path) for path in missing])
    rest = iter(missing)
    waiting = next(rest, None)
    for path in paths:
        if path != waiting:
            yield partial(read_receipt, run_uri, path), True
            continue
        _, read = next(reads)
        waiting = next(rest, None)
        yield partial(_read_and_keep, run_uri, path, read), False


def read_receipt(run_uri: str, path: str, *, anew: bool = False) -> bytes:
    """Return the bytes of a receipt.

    Args:
        run_uri: the run folder.
        path: of the receipt, inside the run.
        anew: whether to read it from the store though there is a copy.

    Raises:
        FetchError: it does not exist, or cannot be read.
    """
    spool = _SPOOLS.get(run_uri)
    copy = spool.find(path) if spool and not anew else None
    if copy is not None:
        return copy
    return _read_and_keep(run_uri, path, partial(storage.read_bytes, storage.join(run_uri, path)))


def forget_replaced(run_uri: str, sizes: Mapping[str, int]) -> None:
    """Forget the copies of receipts that a listing no longer shows, or shows with another size.

    Args:
        run_uri: the run folder.
        sizes: of all files that may be receipts, by path inside the run.
    """
    if spool := _SPOOLS.get(run_uri):
        spool.forget_replaced(sizes)


def _read_and_keep(run_uri: str, path: str, read: Callable[[], bytes]) -> bytes:
    """Return what a call returns, and keep a copy if the block has not ended."""
    data = read()
    if spool := _SPOOLS.get(run_uri):
        spool.keep(path, data)
    return data


class _Spool:
    """Copies of files, one after the other in a local file; 0.3 kB of memory for each."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._end, self._is_full = file, 0, False
        self._places: dict[str, tuple[int, int]] = {}
        """Path to where its bytes begin, and their number."""
        self._lock = threading.Lock()

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def find(self, path: str) -> bytes | None:
        """Return the copy of a file; None if there is none."""
        place = self._places.get(path)
        data = os.pread(self._file.fileno(), place[1], place[0]) if place else b""
        return data if place and len(data) == place[1] else None

    def keep(self, path: str, data: bytes) -> None:
        """Keep a copy of a file while more is left free on the disk than all of them take."""
        with self._lock:
            if not self._is_full:
                self._add(path, data)

    def forget_replaced(self, sizes: Mapping[str, int]) -> None:
        """Forget the copies of files that are not listed with the same size."""
        with self._lock:
            self._places = {path: place for path, place in self._places.items() if sizes.get(path) == place[1]}

    def _add(self, path: str, data: bytes) -> None:
        try:
            disk = os.fstatvfs(self._file.fileno())
            fits = disk.f_bavail * disk.f_frsize >= self._end + 2 * len(data)
            written = os.pwrite(self._file.fileno(), data, self._end) if fits else 0
        except OSError:  # the disk is full, or broken
            written = 0
        if written == len(data):
            self._places[path] = (self._end, len(data))
            self._end += len(data)
        else:
            self._is_full = True
            _report(f"{self._end} bytes are kept in {tempfile.gettempdir()}, which has no space for more")


def _temporary_file() -> IO[bytes] | None:
    """Return a file without a name; None where none can be made."""
    try:
        return tempfile.TemporaryFile(prefix="fsf-receipts-", buffering=0)
    except OSError as error:
        _report(str(error))
        return None


def _report(reason: str) -> None:
    log.warning(
        "event=receipts_not_kept reason=%r do='they are read from the store again; set TMPDIR to a folder with more "
        "space'", reason,
    )  # fmt: skip
