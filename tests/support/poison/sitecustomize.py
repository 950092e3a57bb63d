"""A decoder that dies of certain pictures: first on PYTHONPATH, this file makes every Python process have it.

Real decoders crash, hang and eat memory on files that somebody finds next year; these tests cannot wait. So in every
process that inherits PYTHONPATH (drivers, Ray's workers, children) `cv2.resize`, which each picture and each frame of
a video passes on its way to the network, looks whether the picture is flat and of one of the colours below, and then
does for real what is written beside it. Every other picture is resized as ever. The product knows nothing of it.

Imported by tests under its full name it does nothing: it offers the colours.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

GREEDY_BYTES = 1 << 30
"""Where no limit stops it, the hungry one ends as the kernel would end it, before it harms the machine."""


def _abort() -> None:
    os.abort()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    """As a loop inside C: without letting go of the interpreter, so that no Python signal handler ever runs."""
    ctypes.PyDLL(None).sleep(3600)


def _devour() -> None:
    eaten = []
    while sum(map(len, eaten)) < GREEDY_BYTES:
        eaten.append(b"x" * (64 << 20))
    _kill()


def _chatter() -> None:
    """Garbage on stdout, and then a good picture."""
    os.write(1, b"libfoo: warning: \x00\xff\n" * 1000)


DEEDS: dict[str, tuple[tuple[int, int, int], Callable[[], None]]] = {
    "abort": ((254, 2, 254), _abort),
    "kill": ((2, 254, 254), _kill),
    "segfault": ((254, 254, 2), _segfault),
    "hang": ((254, 2, 2), _hang),
    "devour": ((2, 254, 2), _devour),
    "chatter": ((2, 2, 254), _chatter),
}
"""Name to colour (blue, green, red) and deed."""

TOLERANCE = 12
"""Levels by which a lossy codec may miss a colour."""


def _deed_of(image_HWC: Any) -> Callable[[], None] | None:
    if getattr(image_HWC, "ndim", 0) != 3 or image_HWC.shape[2] != 3 or str(image_HWC.dtype) != "uint8":
        return None
    height_px, width_px = image_HWC.shape[:2]
    places = ((0, 0), (0, -1), (-1, 0), (-1, -1), (height_px // 2, width_px // 2))
    seen = [[int(level) for level in image_HWC[place]] for place in places]
    for colour, deed in DEEDS.values():
        if all(abs(a - b) <= TOLERANCE for pixel in seen for a, b in zip(pixel, colour, strict=True)):
            return deed
    return None


def _poison(cv2: ModuleType) -> None:
    plain = cv2.resize
    if getattr(plain, "poisoned", False):
        return

    def resize(image_HWC: Any, *arguments: Any, **named: Any) -> Any:
        deed = _deed_of(image_HWC)
        if deed:
            deed()
        return plain(image_HWC, *arguments, **named)

    resize.poisoned = True  # type: ignore[attr-defined]
    cv2.resize = resize


class _Cv2Finder:
    """Lets cv2 be imported as ever, when somebody wants it, and poisons it then."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "cv2" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _poison(sys.modules["cv2"])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Cv2Finder())
