"""Loops are compiled beside the first job of an installation, in a process that does not outlive it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsf_core

AHEAD = """
import time
from pathlib import Path
import psutil
from fsf_core import masks
from fsf_core.stages.precompile import compiling_ahead

def children():
    return len(psutil.Process().children())

with compiling_ahead(finish=False):
    began = children()
    deadline = time.monotonic() + 60
    while began and not [*Path(masks.__file__).parent.rglob("*.lock")] and time.monotonic() < deadline:
        time.sleep(0.01)
    found = bool([*Path(masks.__file__).parent.rglob("*.lock")])
print(began, found, children())
"""


def test_kernels_are_compiled_beside_a_job_where_none_was_compiled_before(tmp_path: Path) -> None:
    source = Path(fsf_core.__file__).parent
    shutil.copytree(source, tmp_path / "fsf_core", ignore=shutil.ignore_patterns("__pycache__"))

    def run() -> list[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-B", "-c", AHEAD]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.split()

    assert run() == ["1", "True", "0"]
    (tmp_path / "fsf_core/masks/kernels/__pycache__/drawing.draw-1.py311.nbi").touch()
    assert run()[0] == "0"
