"""Help and start: short texts, and nothing loaded that a command line does not need."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fsf_core.cli import app

ROOT = Path(__file__).parents[3]
HEAVY = "ray torch onnx onnxruntime numba av cv2 pandas numpy pyarrow fsspec PIL markdown_it psutil"
COMMANDS = ["export", "score", "doctor", "bench", "inspect", "evaluate", "render", "verify", "demo"]


def loaded_by(code: str) -> list[str]:
    """Return which heavy libraries a fresh interpreter has loaded after this code."""
    code = f"import sys; {code}; print(*[name for name in {HEAVY.split()} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.split()


@pytest.mark.parametrize(
    "code",
    [
        "import fsf_core",
        "import fsf_core.config",
        "from fsf_core.cli.app import main; main(['--help'])",
        "from fsf_core.cli.app import main; main(['score', '--help'])",
        "from fsf_core.cli.app import main; main(['export', '--help'])",
    ],
)
def test_help_and_config_load_no_heavy_library(code):
    assert loaded_by(code) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_where_options_come_from(command, capsys):
    assert app.main([command, "--help"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert words.startswith(f"Usage: fsf {command}")
    assert "FSF_<COMMAND>_<OPTION> in the environment, then from --config FILE.yaml" in words
    assert "env var" not in words


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_runbook_runs_its_command_and_names_only_options_that_exist(path, capsys):
    module = runpy.run_path(str(path))
    assert app.main([path.stem, "--help"]) == 0
    known = {*re.findall(r"--[a-z-]+", capsys.readouterr().out), "--address", "--working-dir"}  # Ray's own
    named = set(re.findall(r"--[a-z][a-z-]+", module["__doc__"]))

    assert named - known == set()
    assert f"python -m jobs.{path.stem} " in module["__doc__"]
    assert len(module["__doc__"].splitlines()) <= 24
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{path.stem}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"Usage: fsf {path.stem}")
