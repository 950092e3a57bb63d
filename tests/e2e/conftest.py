"""A folder in which the commands of README.md ran, for the tests that look at what they left."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fsf_core.demo import WEIGHTS, oranges
from tests.support.readme import EXECUTED, README, ROOT, commands, has_shape_of


@pytest.fixture(scope="session")
def readme_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `make demo` leaves it, but with half of the images, in which README.md's commands ran."""
    folder = tmp_path_factory.mktemp("home")
    oranges.write_demo(folder / "demo" / "data", count=6, frames=12)
    for command, shown in commands(README):
        if command.startswith(EXECUTED) and command.startswith("fsf"):
            words = shlex.split(command)
            if "--checkpoint" in words:
                shutil.copyfile(WEIGHTS, folder / words[words.index("--checkpoint") + 1])
            done = subprocess.run(
                [sys.executable, "-m", "fsf_core.cli", *words[1:]], cwd=folder, capture_output=True, text=True,
                timeout=300, check=False, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            assert done.returncode == 0, command + done.stdout + done.stderr
            assert has_shape_of(shown, done.stdout.splitlines()), f"README.md shows other output than\n{done.stdout}"
    return folder
