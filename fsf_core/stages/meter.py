"""Counts the calls of a model and how long it computes; used by several threads of one actor."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """What a model has done since its use was last taken."""

    calls: int = 0
    frames: int = 0
    busy_s: float = 0.0
    """Time during which at least one call ran; calls that overlap count once."""


class ModelMeter:
    """Meters the calls of one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self._calls = self._frames = 0
        self._busy_s = 0.0

    @contextlib.contextmanager
    def call(self, frames: int) -> Iterator[None]:
        """Count the block as one call with this number of frames."""
        with self._lock:
            if not self._running:
                self._since = time.perf_counter()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._calls += 1
                self._frames += frames
                if not self._running:
                    self._busy_s += time.perf_counter() - self._since

    def take(self) -> ModelUse:
        """Return the use since the last call, that of a running call up to now."""
        with self._lock:
            now = time.perf_counter()
            if self._running:
                self._busy_s += now - self._since
                self._since = now
            taken = ModelUse(calls=self._calls, frames=self._frames, busy_s=self._busy_s)
            self._calls = self._frames = 0
            self._busy_s = 0.0
        return taken
