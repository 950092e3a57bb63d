"""The wheel, installed without extras into a clean environment: its packages, imports, command, functions and types."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

HOME = Path(__file__).parents[2]
LEFT_OUT = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Without the second one, only the first process compiles what it imports."""
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "fsf_core", "jobs")


@dataclass(frozen=True)
class Installed:
    """A virtual environment that holds the wheel and what it requires, without any extra."""

    folder: Path

    def run(self, *command: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the checkout."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | {"PATH": path}
        program = self.folder / "bin" / command[0]
        done = subprocess.run(
            [program, *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == status, done.stderr + done.stdout
        return done

    @property
    def packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))


def build_wheel(folder: Path) -> Path:
    """Build from a copy, because setuptools writes beside the sources."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (HOME / name).is_dir() else shutil.copy
        copy(HOME / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, timeout=120)
    return next(folder.glob("*.whl"))


def find_links() -> list[str]:
    """Return folders of local wheels that pip is configured with, as the Makefile hands them to uv."""
    configured = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    found = (
        os.environ.get("PIP_FIND_LINKS")
        or subprocess.run(configured, capture_output=True, text=True, check=False, timeout=60).stdout
    )
    return [option for folder in found.split() for option in ("--find-links", folder)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    uv = Path(sys.executable).parent / "uv"
    python = folder / "venv" / "bin" / "python"
    constraints = HOME / "constraints.txt"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, *find_links(), "-c", constraints, wheel],
        check=True,
        timeout=300,
    )
    yield Installed(folder / "venv")
    shutil.rmtree(folder / "venv")  # pytest keeps temporary folders; this one has more than a gigabyte


@pytest.fixture(scope="module")
def run_folder(installed: Installed, tiny_bundle, tmp_path_factory) -> Path:
    """A run of one image by the installed command; the bundle is made by the environment of the tests."""
    home = tmp_path_factory.mktemp("scored")
    image_HWC = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    (home / "orange.png").write_bytes(cv2.imencode(".png", image_HWC)[1].tobytes())
    options = ("--bundle", tiny_bundle.uri, "--manifest", "orange.png", "--out", "run", "--provider", "cpu")
    scored = installed.run("fsf", "score", *options, "--actors", "1", cwd=home)
    assert json.loads(scored.stdout.splitlines()[-1])["items"]["scored"] == 1
    return home / "run"


def test_the_wheel_installs_one_package_and_no_torch(installed):
    (metadata,) = installed.packages.glob("fsf-*.dist-info")
    tops = {line.partition("/")[0] for line in (metadata / "RECORD").read_text().splitlines()} - {"..", metadata.name}

    assert tops == {"fsf_core"}
    assert (installed.packages / "fsf_core" / "py.typed").exists()
    weights = Path("demo", "oranges.safetensors")
    assert (installed.packages / "fsf_core" / weights).read_bytes() == (HOME / "fsf_core" / weights).read_bytes()
    assert [name for name in ("jobs", "tests", "torch", "onnx") if (installed.packages / name).exists()] == []


def test_the_package_is_imported_from_the_wheel_without_its_dependencies(installed, tmp_path):
    code = (
        "import sys, time; started = time.process_time(); import fsf_core; spent = time.process_time() - started; "
        "print(spent, fsf_core.__file__, *({'ray', 'pyarrow', 'numpy', 'cyclopts'} & {*sys.modules}))"
    )
    spent_s, file, *loaded = installed.run("python", "-c", code, cwd=tmp_path).stdout.split()

    assert Path(file).is_relative_to(installed.packages)
    assert float(spent_s) < 0.3
    assert loaded == []


def test_a_run_of_the_installed_command_is_read_by_the_installed_package(installed, run_folder, tiny_bundle):
    code = (
        "import json, sys; from fsf_core import open_run, read_table; run = open_run(sys.argv[1]); "
        "mask = run.mask('orange.png'); ids = read_table(sys.argv[1], 'masks', columns=['item_id']); "
        "print(json.dumps([run.finished, run.summary['items'], run.classes, mask.dtype.name, mask.shape, "
        "int(mask.max()), ids.to_pylist()]))"
    )
    found = json.loads(installed.run("python", "-c", code, "run", cwd=run_folder.parent).stdout)

    finished, items, classes, dtype, shape, greatest, ids = found
    assert finished
    assert items == {"total": 1, "scored": 1, "failed": 0, "not_in_manifest": 0}
    assert classes == [*tiny_bundle.classes]
    assert (dtype, shape) == ("uint8", [48, 64])
    assert greatest < len(classes)
    assert ids == [{"item_id": "orange.png"}]


EXPORT = {"net": "fastsegformer-p", "checkpoint": "weights.pth", "classes": ["background", "rot"], "out": "bundle"}


def test_export_without_its_extra_names_the_extra(installed, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    options = [
        word
        for name, value in EXPORT.items()
        for word in (f"--{name}", ",".join(value) if isinstance(value, list) else value)
    ]
    code = (
        "import json, sys; from fsf_core import ConfigError, ExportConfig, export\n"
        "options = json.loads(sys.argv[1]); options['classes'] = tuple(options['classes'])\n"
        "try:\n    export(ExportConfig(**options))\n"
        "except ConfigError as error:\n    print(error)"
    )

    by_command = installed.run("fsf", "export", *options, cwd=tmp_path, status=2).stderr
    by_function = installed.run("python", "-c", code, json.dumps(EXPORT), cwd=tmp_path).stdout

    for message in (by_command, by_function):
        assert "which is not installed; pip install 'fsf[export]'" in message
    assert not (tmp_path / "bundle").exists()


USE = """
from fsf_core import ConfigError, ExportConfig, ScoreConfig, export, open_run, score

reveal_type(score(ScoreConfig(bundle="b", manifest="m", out="o")))
reveal_type(open_run("o").mask("a", frame=3).shape)
reveal_type(export(ExportConfig(net="n", checkpoint="c", classes=("a", "b"), out="o")).bundle.sha256)
score("o")
"""


def test_type_checkers_see_the_types_of_the_installed_package(installed, tmp_path):
    (tmp_path / "use.py").write_text(USE)
    python = str(installed.folder / "bin" / "python")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        "cache",
        "--python-executable",
        python,
        "use.py",
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300).stdout

    assert [
        line.partition("note: Revealed type is ")[2].strip('"') for line in found.splitlines() if "note:" in line
    ] == [
        "dict[str, Any]",
        "tuple[Any, ...]",
        "str",
    ]
    assert [line for line in found.splitlines() if "error:" in line] == [
        'use.py:7: error: Argument 1 to "score" has incompatible type "str"; expected "ScoreConfig"  [arg-type]'
    ]
