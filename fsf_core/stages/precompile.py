"""Ahead-of-time compilation of all loops that scoring runs, for image builds."""

from fsf_core import masks
from fsf_core.media import images


def compile_loops() -> None:
    """Compile the loops, or load them from numba's cache; a job finds them compiled then."""
    masks.compile_kernels()
    images.compile_loops()
