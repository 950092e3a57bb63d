"""The map is true: every module is on it, and imports point downward."""

import re
import subprocess
import sys
from pathlib import Path

import fsf_core

HOME = Path(fsf_core.__file__).parent


def test_every_module_is_on_the_map() -> None:
    listed = set(re.findall(r"^\|[^|]*\| `(\w+)/?` \|", (HOME / "README.md").read_text(), flags=re.MULTILINE))
    modules = {path.stem for path in HOME.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in HOME.glob("*/__init__.py")}

    assert listed == modules | packages


def test_imports_point_downward_and_doors_stay_single() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program], cwd=HOME.parent, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout


def test_scoring_loads_neither_torch_nor_onnx() -> None:
    modules = "fsf_core.score.job, fsf_core.cli.score, jobs.score"
    code = f"import sys, {modules}; print([m for m in ('torch', 'onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME.parent, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_help_answers_without_loading_ray() -> None:
    code = (
        "import sys, fsf_core.cli.app as f; f.main(['score', '--help']); print('ray' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME.parent, capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "False"
    assert "--manifest" in done.stdout
