"""Loops are compiled beside the first job of an installation, in a process that does not outlive it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import fsf_core
from fsf_core.stages import precompile
from fsf_core.stages.precompile import compiling_ahead

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


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of processes that would be started, where nothing was compiled before."""
    commands: list[list[str]] = []

    def start(command: list[str], **_: Any) -> Mock:
        commands.append(command)
        return Mock()

    monkeypatch.setattr(precompile.kernels, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(precompile.subprocess, "Popen", start)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return commands


def test_nothing_is_compiled_ahead_where_machine_code_is_kept_elsewhere(started, tmp_path, monkeypatch) -> None:
    """It may be there already, and every job would start a process to find out."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with compiling_ahead(finish=False):
        pass

    assert started == []


def test_modules_of_the_current_folder_are_not_imported_beside_a_job(started, tmp_path, monkeypatch) -> None:
    with compiling_ahead(finish=False):
        [[*interpreter, _]] = started
    (tmp_path / "numba_of_a_user.py").write_text("")
    monkeypatch.undo()
    done = subprocess.run([*interpreter, "import numba_of_a_user"], cwd=tmp_path, check=False, capture_output=True)

    assert b"ModuleNotFoundError" in done.stderr
