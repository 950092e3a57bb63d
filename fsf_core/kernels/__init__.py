"""The compiled inner loops between class scores, class maps and PNG rows.

Knows arrays of the right type and shape and nothing of their meaning; what is asked of it is checked by its callers.
Compiled functions call none of another file, because numba's cache on disk notices a change of the file that it
caches, and not of one that is imported. Nothing compiles at import: the first call does, or loads the cache.
"""

from fsf_core.kernels.compiling import as_input
from fsf_core.kernels.deflate import compress_rows
from fsf_core.kernels.drawing import Axis, draw, measure
from fsf_core.kernels.scores import grid_winners, softmax_planes

__all__ = ["Axis", "as_input", "compress_rows", "draw", "grid_winners", "measure", "softmax_planes"]
