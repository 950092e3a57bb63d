"""Compiled inner loops between class scores, class maps and PNG rows.

Knows arrays of the right type and shape, not their meaning; callers check their arguments. A compiled function calls
only functions of its own file, because numba's disk cache is invalidated by a change of the cached file, not of one
that it imports. The first call compiles or loads the cache; importing does neither.

Submodules are imported on first use: numba takes most of a second, and only processes that make masks need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsf_core.machine_code.compiling import as_input
    from fsf_core.masks.kernels.blending import add_scores, write_winners
    from fsf_core.masks.kernels.counting import count_cells, look_up_colours
    from fsf_core.masks.kernels.deflate import compress_rows
    from fsf_core.masks.kernels.drawing import Axis, draw, measure
    from fsf_core.masks.kernels.regions import Cells, Found, Scan, find_regions
    from fsf_core.masks.kernels.scores import grid_winners, softmax_planes, won_cells

__all__ = [
    "Axis",
    "Cells",
    "Found",
    "Scan",
    "add_scores",
    "as_input",
    "compress_rows",
    "count_cells",
    "draw",
    "find_regions",
    "grid_winners",
    "look_up_colours",
    "measure",
    "softmax_planes",
    "won_cells",
    "write_winners",
]

_MODULES = {
    "add_scores": ".blending",
    "write_winners": ".blending",
    "as_input": "fsf_core.machine_code.compiling",
    "count_cells": ".counting",
    "look_up_colours": ".counting",
    "compress_rows": ".deflate",
    "Axis": ".drawing",
    "draw": ".drawing",
    "measure": ".drawing",
    "Cells": ".regions",
    "Found": ".regions",
    "Scan": ".regions",
    "find_regions": ".regions",
    "grid_winners": ".scores",
    "softmax_planes": ".scores",
    "won_cells": ".scores",
}


def __getattr__(name: str) -> Any:
    """Import a name of this package on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value
