"""Decoding in child processes: an item that crashes, hangs or bloats its child costs one failure, not the job.

Slower than `decode`; for blocks that have ended their process before. A child decodes item after item until one of
them ends it, then a new child is started. Knows processes and the decode stage; knows no Ray.
"""

import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cv2
import psutil
import pyarrow as pa

import fsf_core
from fsf_core.errors import LimitError
from fsf_core.stages import units
from fsf_core.stages.decode import TABLE_BYTES, decode
from fsf_core.stages.decode_row import failures_for_rest
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.watchdog import watchdog
from fsf_core.store_settings import driver_settings

_HOME = str(Path(fsf_core.__file__).parents[1])
_LENGTH = struct.Struct("<Q")
_RAISED = b"raised "
"""Begins a message with the type of an error that decoding raised; Arrow's begin otherwise."""

_CHILD_ENV = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""The memory limit is on address space, the only one that every system enforces; these keep libraries from reserving
gigabytes of it that they never use."""


_START = f"""
import os, pickle, runpy, sys
settings, home, paths = pickle.load(sys.stdin.buffer)
os.environ.update(settings)
sys.path[:] = [home, *sys.path, *(path for path in paths if path not in sys.path)]
import fsf_core
sys.path.remove(home)
sys.path.append(home)
runpy.run_module({__name__!r}, run_name="__main__", alter_sys=True)
"""
"""Program of a child. It gets store settings through its pipe, before fsspec is imported and reads them: variables of a
process that starts are visible in /proc/PID/environ. The package is the parent's. Other modules come from the current
folder last, in which a user may keep a random.py, though the parent may look there first."""


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """Limits of one item."""

    item_s: float
    """Maximum seconds until the item's next unit."""
    memory_bytes: int
    """Memory that the child may allocate in addition to what it holds when it is ready."""


class CrashError(LimitError):
    """An item ended the process that decoded it."""


def decode_isolated(rows: pa.Table, settings: DecodeSettings, limits: ChildLimits) -> Iterator[pa.Table]:
    """Decode manifest rows one by one in child processes.

    Yields:
        The tables of units that `decode` yields, in the same order: of a retried task Ray drops, by position, the
        outputs that it has already. An item that ends its child becomes a unit with the failure.
    """
    held: list[pa.Table] = []
    with _Child(settings, limits) as child:
        for index in range(rows.num_rows):
            row = rows.slice(index, 1)
            yielded: set[int] = set()
            segments: int | None = None
            try:
                for table in child.decode(row):
                    yielded.update(table.column("segment").to_pylist())
                    segments = table.column("segments")[0].as_py()
                    if segments != 1:
                        yield table
                    else:
                        held.append(table)
                        if sum(map(units.frame_bytes, held)) >= TABLE_BYTES:
                            yield pa.concat_tables(held)
                            held = []
            except LimitError as error:
                lost = failures_for_rest(row.to_pylist()[0], yielded, segments, error)
                held.append(units.to_table(lost, extra=settings.extra, labelled=settings.labelled))
    if held:
        yield pa.concat_tables(held)


def failures_for_block(rows: pa.Table, settings: DecodeSettings, *, times: int) -> pa.Table:
    """Return a failure for every item of a block that ended its process repeatedly, isolated children included."""
    error = CrashError(
        f"the block of {rows.num_rows} items that holds this one ended its process {times} times; check the node's "
        "memory, or score the items in smaller manifests"
    )
    lost = [unit for row in rows.to_pylist() for unit in failures_for_rest(row, set(), None, error)]
    return units.to_table(lost, extra=settings.extra, labelled=settings.labelled)


class _Child:
    """A process that decodes items, replaced when it dies."""

    def __init__(self, settings: DecodeSettings, limits: ChildLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def decode(self, row: pa.Table) -> Iterator[pa.Table]:
        """Decode one row in the child.

        Yields:
            Tables of units, as `decode` does.

        Raises:
            LimitError: the item exceeded its time.
            CrashError: the child died, or decoding raised an error that it does not expect.
        """
        try:
            requests, responses = self._pipes()
            _send(requests, _to_ipc(row))
            while message := _receive(responses):
                if message.startswith(_RAISED):
                    self._stop()
                    raise self._crash_error(f"decoding this item {message.decode()}")
                yield pa.ipc.open_stream(message).read_all()
        except (EOFError, BrokenPipeError) as error:
            raise self._exit_error() from error

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the pipes of requests to and responses from a live child; start one if there is none.

        Raises:
            EOFError, BrokenPipeError: a new child died before it was ready.
        """
        is_new = self._process is None or self._process.poll() is not None
        if is_new:
            self._stop()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=_child_environment(),
            )  # fmt: skip
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if is_new:
            # Pickle from parent to child only: the child trusts its parent. Back comes Arrow, which runs no code.
            self._process.stdin.write(pickle.dumps((driver_settings(), _HOME, sys.path)))
            _send(self._process.stdin, pickle.dumps((self._settings, self._limits)))
            _receive(self._process.stdout)
        return self._process.stdin, self._process.stdout

    def _exit_error(self) -> LimitError:
        """Return the error that describes how the child ended."""
        assert self._process is not None
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return LimitError(
                f"found no result after {self._limits.item_s:g} s, which is the limit for one item; "
                "raise --item-seconds or leave the item out"
            )
        status = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return self._crash_error(f"the process that decoded this item ended with {status}")

    def _crash_error(self, found: str) -> CrashError:
        return CrashError(
            f"{found} within its {self._limits.memory_bytes >> 20} MiB; repair the file, raise --item-memory-mb or "
            "leave the item out"
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


def _child_environment() -> dict[str, str]:
    """Return the variables that a child starts with: all but store settings."""
    passed = driver_settings()
    return {name: value for name, value in os.environ.items() if name not in passed} | _CHILD_ENV


def _to_ipc(table: pa.Table) -> bytes:
    """Serialise a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _send(pipe: IO[bytes], message: bytes) -> None:
    """Write one message; an empty one ends an item."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """Read one message; b"" at the end of an item.

    Raises:
        EOFError: the other side has closed the pipe.
    """
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    return _read_exactly(pipe, length)


def _read_exactly(pipe: IO[bytes], size_bytes: int) -> bytes:
    """Read this many bytes.

    Raises:
        EOFError: the pipe ends before.
    """
    data = pipe.read(size_bytes)
    if len(data) < size_bytes:
        raise EOFError
    return data


def _child_main() -> None:
    """Run the child: read settings once, then decode rows until the pipe closes."""
    requests, responses = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints to stdout must not reach the responses
    settings, limits = pickle.loads(_receive(requests))  # noqa: S301 - from the parent
    cv2.setNumThreads(1)  # each thread would reserve a stack
    units.to_table(
        [units.Unit(item_id="", uri="")], extra=settings.extra, labelled=settings.labelled
    )  # Arrow imports pandas now, not on an item
    limit_bytes = psutil.Process().memory_info().vms + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(responses, b"")
    while head := requests.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        row: Any = pa.ipc.open_stream(requests.read(length)).read_all()
        try:
            for table in decode(row, settings, watchdog=partial(watchdog, limits.item_s)):
                _send(responses, _to_ipc(table))
            _send(responses, b"")
        except Exception as error:  # noqa: BLE001 - of whatever it raises, the type is all that may be shown
            _send(responses, _RAISED + type(error).__name__.encode())


if __name__ == "__main__":
    _child_main()
