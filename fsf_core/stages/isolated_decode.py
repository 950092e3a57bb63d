"""Decoding in child processes: what kills, hangs or bloats a child costs one failure, not the job.

The careful, slow way, for blocks that took their process down once. A child decodes one item after another until one
of them ends it; then there is a new child. Knows processes and the decode stage; knows no Ray.
"""

import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import IO, Any, Self

import cv2
import psutil
import pyarrow as pa

from fsf_core.errors import LimitError
from fsf_core.stages import units
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_row import DecodeSettings, failures_for_rest

_LENGTH = struct.Struct("<Q")
SAID_CHARACTERS = 300

_FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""The limit is one of address space, the only one that every system keeps; these keep libraries from reserving
gigabytes of it that they never use."""


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """What one item may cost."""

    item_s: float
    """Seconds without another unit of the item."""
    memory_bytes: int
    """Memory that the child may take beside what the program itself takes."""


class CrashError(LimitError):
    """An item ended the process that decoded it."""


def watchdog(item_s: float, running: bool) -> None:  # noqa: FBT001 - a switch
    """Start or stop the clock of an item.

    The alarm's default action ends the process, even inside a C library, and even if whoever started it was killed.
    """
    signal.setitimer(signal.ITIMER_REAL, item_s if running else 0)


def decode_isolated(rows: pa.Table, settings: DecodeSettings, limits: ChildLimits) -> Iterator[pa.Table]:
    """Decode manifest rows one by one in child processes.

    Yields:
        The same units as decode in the same order, segments of videos first, for Ray drops from the output of a task
        that is done again what it had from the first time, by position. An item that ends its child is a unit with
        the reason.
    """
    held: list[pa.Table] = []
    with _Child(settings, limits) as child:
        for at in range(rows.num_rows):
            row = rows.slice(at, 1)
            given: set[int] = set()
            segments: int | None = None
            try:
                for table in child.decode(row):
                    given.update(table.column("segment").to_pylist())
                    segments = table.column("segments")[0].as_py()
                    if segments != 1:
                        yield table
                    else:
                        held.append(table)
            except LimitError as error:
                lost = failures_for_rest(row.to_pylist()[0], given, segments, error)
                held.append(units.to_table(lost, extra=settings.extra))
    if held:
        yield pa.concat_tables(held)


def failures_for_block(rows: pa.Table, settings: DecodeSettings, *, times: int) -> pa.Table:
    """A failure for every item of a block that ended its process again and again, careful as it was."""
    why = CrashError(
        f"the block of {rows.num_rows} items that holds this one ended its process {times} times; look at the node's "
        "memory, or score the items in smaller manifests"
    )
    lost = [unit for row in rows.to_pylist() for unit in failures_for_rest(row, set(), None, why)]
    return units.to_table(lost, extra=settings.extra)


class _Child:
    """A process that decodes, replaced when it dies."""

    def __init__(self, settings: DecodeSettings, limits: ChildLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._said.close()

    def decode(self, row: pa.Table) -> Iterator[pa.Table]:
        """Have one row decoded.

        Raises:
            LimitError: it took too long.
            CrashError: the child died of it.
        """
        try:
            words, answers = self._running()
            self._said.seek(0)
            self._said.truncate()  # what was said of other items
            _send(words, _packed(row))
            while message := _receive(answers):
                yield pa.ipc.open_stream(message).read_all()
        except (EOFError, BrokenPipeError) as error:
            raise self._death() from error

    def _running(self) -> tuple[IO[bytes], IO[bytes]]:
        """Where to tell a living child what to do, and where it answers.

        Raises:
            EOFError, BrokenPipeError: a new child died before it was ready.
        """
        started = self._process is None or self._process.poll() is not None
        if started:
            self._stop()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env={**os.environ, **_FRUGAL},
            )  # fmt: skip
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if started:
            # Downward only: the child trusts its parent, and the parent reads Arrow, which runs no code.
            _send(self._process.stdin, pickle.dumps((self._settings, self._limits)))
            _receive(self._process.stdout)
        return self._process.stdin, self._process.stdout

    def _death(self) -> LimitError:
        """How the child ended."""
        assert self._process is not None
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return LimitError(
                f"found no result after {self._limits.item_s:g} s, which is the limit for one item; "
                "raise --item-seconds or leave the item out"
            )
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - SAID_CHARACTERS))
        said = " ".join(self._said.read().decode(errors="replace").split())[-SAID_CHARACTERS:]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        memory = self._limits.memory_bytes >> 20
        return CrashError(
            f"the process that decoded this item ended with {how} ({said or 'no words'}), of {memory} MiB allowed: "
            "repair the file, raise --item-memory-mb or leave the item out"
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """One message, or b"" at the end of an item.

    Raises:
        EOFError: the other side is gone.
    """
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    return _read(pipe, length)


def _read(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _serve() -> None:
    """The child's life: settings once, then rows, until the pipe closes."""
    words, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not reach the answers
    (length,) = _LENGTH.unpack(words.read(_LENGTH.size))
    settings, limits = pickle.loads(words.read(length))  # noqa: S301 - from the parent
    cv2.setNumThreads(1)  # each thread would reserve a stack
    units.to_table([units.Unit(item_id="", uri="")], extra=settings.extra)  # Arrow imports pandas now, not on an item
    most = psutil.Process().memory_info().vms + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(answers, b"")
    while head := words.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        row: Any = pa.ipc.open_stream(words.read(length)).read_all()
        for table in decode(row, settings, alarm=partial(watchdog, limits.item_s)):
            _send(answers, _packed(table))
        _send(answers, b"")


if __name__ == "__main__":
    _serve()
