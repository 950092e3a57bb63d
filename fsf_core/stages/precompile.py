"""Ahead-of-time compilation of all loops that scoring runs: when it is installed, or beside the first job."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fsf_core import masks
from fsf_core.masks import kernels
from fsf_core.media import images


def compile_loops() -> None:
    """Compile the loops, or load them from numba's cache; a job finds them compiled then."""
    masks.compile_kernels()
    images.compile_loops()


@contextlib.contextmanager
def compiling_ahead(*, finish: bool) -> Iterator[None]:
    """Compile all loops in a process of its own while the block runs, where none was compiled here before.

    An installation by pip has no step that could: a job does it while Ray starts, an export beside its own work.

    Args:
        finish: whether the end of the block waits for it, unless it is an error; otherwise it stops there.
    """
    folder = Path(kernels.__file__).parent
    cached = any(folder.glob("__pycache__/drawing.*.nbi"))
    elsewhere = os.environ.get("NUMBA_CACHE_DIR") or not os.access(folder, os.W_OK)
    if cached or elsewhere:  # where only numba knows what is compiled
        yield
        return
    program = "from fsf_core.stages.precompile import compile_loops; compile_loops()"
    command = [sys.executable, "-P", "-c", program]  # without the modules of the current folder
    nowhere = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        yield
        if finish:
            child.wait()
    finally:
        child.kill()
        child.wait()
