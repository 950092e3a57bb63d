"""Settings that training scripts pickle beside the weights, read as plain values without running their classes."""

from collections.abc import Callable
from typing import Any


class PickledSettings:
    """The options of a command line, as argparse keeps them; nothing reads them."""

    values: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        """Keep the options."""
        self.values = dict(state) if isinstance(state, dict) else {}


def _path(*parts: object) -> str:
    """Return a path as text."""
    return "/".join(map(str, parts)).replace("//", "/")


_PATHS = [f"{where}.{kind}" for where in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")]

SAFE_GLOBALS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (PickledSettings, "argparse.Namespace"),
    (PickledSettings, "types.SimpleNamespace"),
    *((_path, name) for name in _PATHS),
]
"""Replacements of what these are called, for torch.serialization.safe_globals."""
