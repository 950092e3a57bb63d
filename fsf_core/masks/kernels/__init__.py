"""The compiled inner loops between class scores, class maps and PNG rows.

Knows arrays of the right type and shape and nothing of their meaning; what is asked of it is checked by its callers.
Compiled functions call none of another file, because numba's cache on disk notices a change of the file that it
caches, and not of one that is imported. Nothing compiles at import: the first call does, or loads the cache.

Nothing is imported either before it is asked for: numba takes most of a second, and of all processes of a job only
those that make masks need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsf_core.masks.kernels.compiling import as_input
    from fsf_core.masks.kernels.deflate import compress_rows
    from fsf_core.masks.kernels.drawing import Axis, draw, measure
    from fsf_core.masks.kernels.scores import grid_winners, softmax_planes

__all__ = ["Axis", "as_input", "compress_rows", "draw", "grid_winners", "measure", "softmax_planes"]

_MODULES = {
    "as_input": "compiling",
    "compress_rows": "deflate",
    "Axis": "drawing",
    "draw": "drawing",
    "measure": "drawing",
    "grid_winners": "scores",
    "softmax_planes": "scores",
}


def __getattr__(name: str) -> Any:
    """A name of this package, imported when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
