"""What surrounds a process: standard streams that never fail, and signals as errors."""

import atexit
import contextlib
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn, TextIO

from fsf_core.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def open_standard_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever they are; what cannot be printed is dropped.

    A descriptor that is closed is opened on /dev/null: otherwise the first file that the process opens would get its
    number, and be printed into.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for as long as the process
    # A stream that somebody else has put there is left alone.
    if sys.stdout is sys.__stdout__:
        sys.stdout = tolerant_stream(1, line_buffering=os.isatty(1))
    if sys.stderr is sys.__stderr__:
        sys.stderr = tolerant_stream(2)


def end_process(code: int) -> NoReturn:
    """End the process in order, but leave its memory to the system.

    What runs at the end of a process runs: other threads are waited for, exit handlers are called, streams are written
    out. Only the destruction of all modules and their objects is left out, 0.3 to 0.5 s of CPU after Ray was imported
    (2-core EPYC, 2026-11-28).
    """
    with contextlib.suppress(KeyboardInterrupt):  # which ends the wait for threads; the work is done
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as the interpreter does; no public name
    atexit._run_exitfuncs()  # noqa: SLF001 - likewise
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
    os._exit(code)


def tolerant_stream(fd: int, *, line_buffering: bool = True) -> TextIO:
    """Return a text stream on a descriptor that drops what cannot be written: a closed pipe, a full disk."""
    return io.TextIOWrapper(
        io.BufferedWriter(_TolerantFile(fd, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering,
    )


class _TolerantFile(io.FileIO):
    """A descriptor whose writes always succeed."""

    def write(self, data: Any) -> int:
        """Write, or drop what the descriptor refuses."""
        with contextlib.suppress(OSError):
            written = super().write(data)
            if written is not None:
                return written
            waiting = select.poll()  # a parent made it non-blocking, and it is full
            waiting.register(self, select.POLLOUT)
            waiting.poll()
            return 0
        return len(data)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise InterruptedRunError at the first of SIGNALS; a second one kills.

    Signals that the parent has set to be ignored, as nohup does, stay ignored. A closing terminal sends SIGHUP more
    than once, so later ones are ignored.

    Raises:
        InterruptedRunError: also for a signal that arrived in an outer block, where a library ignored the error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _received:
        raise InterruptedRunError(_received[0])
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    is_outer = _interrupt not in previous.values()
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        if is_outer or not _received:
            _set_handlers(previous)
        if is_outer:
            _received.clear()


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Take away the signal handlers that a library installs in the block."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            _set_handlers(previous)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off the first signal that `interruptible` would raise until the block ends; a second one kills.

    For what must not be left half done, and is soon over.

    Raises:
        InterruptedRunError: a signal arrived.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread() or _interrupt not in previous.values():
        yield
        return
    arrived: list[int] = []

    def put_off(number: int, _: FrameType | None) -> None:
        if arrived and number != signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        arrived.append(number)

    _set_handlers({number: put_off for number, handler in previous.items() if handler is _interrupt})
    with _changing:
        _uninterrupted.set()
    try:
        yield
    finally:
        _uninterrupted.clear()
        _set_handlers(previous)
    if arrived:
        _interrupt(arrived[0], None)


def interrupt_main_thread(number: int) -> bool:
    """Send the main thread a signal; return False if it handles none now, and would be killed.

    In an uninterrupted block, too: the end of Ray's core worker sets SIGTERM back to the default, below Python.
    """
    with _changing:
        if _uninterrupted.is_set() or not callable(signal.getsignal(number)):
            return False
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        return True


_uninterrupted = threading.Event()


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    with _changing:
        for number, handler in handlers.items():
            if handler is not None:  # as it is for one that C code installed
                signal.signal(number, handler)


_changing = threading.Lock()
"""Held where handlers are removed: a signal that was sent for one must not meet the default, which kills."""

_received: list[int] = []
"""The signal that interrupts this process."""


def _interrupt(number: int, _: FrameType | None) -> None:
    _received.append(number)
    for each in SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)
    raise InterruptedRunError(number)
