"""A decoder that crashes on certain images, in every Python process that has this folder first on PYTHONPATH.

It reproduces decoders that crash, hang or exhaust memory on some file. In every process that inherits PYTHONPATH
(drivers, Ray workers, children) `cv2.resize`, which every image and every video frame passes before inference, checks
whether the image is flat and has one of the colours below, and then performs the deed of that colour. So does
`cv2.copyMakeBorder`, which images pass that are smaller than a window. All other images are processed normally. The
product contains nothing of this.

Imported by tests under its full name, it changes nothing and only provides the colours.
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
"""Without a limit, devour ends itself here as the kernel would, before it harms the machine."""


def _abort() -> None:
    os.abort()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    """Block as a loop in C does: with the interpreter lock held, so that no Python signal handler runs."""
    ctypes.PyDLL(None).sleep(3600)


def _devour() -> None:
    eaten = []
    while sum(map(len, eaten)) < GREEDY_BYTES:
        eaten.append(b"x" * (64 << 20))
    _kill()


def _chatter() -> None:
    """Write garbage to stdout, then let the image be decoded."""
    os.write(1, b"libfoo: warning: \x00\xff\n" * 1000)


DEEDS: dict[str, tuple[tuple[int, int, int], Callable[[], None]]] = {
    "abort": ((254, 2, 254), _abort),
    "kill": ((2, 254, 254), _kill),
    "segfault": ((254, 254, 2), _segfault),
    "hang": ((254, 2, 2), _hang),
    "devour": ((2, 254, 2), _devour),
    "chatter": ((2, 2, 254), _chatter),
}
"""By name: colour (BGR) and what happens."""

TOLERANCE = 12
"""Levels by which a lossy codec may change a colour."""


def _deed_of(image_HWC: Any) -> Callable[[], None] | None:
    """Return the deed of a flat image's colour; None for any other image."""
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
    """Patch the functions of cv2, once."""
    for name in ("resize", "copyMakeBorder"):
        plain = getattr(cv2, name)
        if not getattr(plain, "poisoned", False):
            setattr(cv2, name, _poisoned(plain))


def _poisoned(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that performs the deed of its image first."""

    def poisoned(image_HWC: Any, *arguments: Any, **named: Any) -> Any:
        deed = _deed_of(image_HWC)
        if deed:
            deed()
        return plain(image_HWC, *arguments, **named)

    poisoned.poisoned = True  # type: ignore[attr-defined]
    return poisoned


class _Cv2Finder:
    """Import hook that patches cv2 after its normal import."""

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
