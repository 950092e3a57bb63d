"""The map is true, imports point downward, and every import contract catches the import that it forbids."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsf_core

HOME = Path(fsf_core.__file__).parent
ROOT = HOME.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PLANT = "planted"
"""Name of the module that is planted into packages."""

PLANTED_LINES = {
    # module, imported module: the contract that forbids it
    ("fsf_core.errors", "jobs.score"): "jobs sit on top",
    ("fsf_core.errors", "fsf_core.schema"): "data flows one way",
    ("fsf_core.masks.png", "fsf_core.media.images"): "data flows one way",
    ("fsf_core.stages.decode", "fsf_core.stages.write"): "stages do not know each other",
    ("fsf_core.runs.parts", "fsf_core.config"): "data flows one way",
    ("fsf_core.report.inspect", "fsf_core.config"): "config stops at the flow",
    ("fsf_core.export.verify", "fsf_core.config"): "config stops at the flow",
    ("fsf_core.demo.oranges", "fsf_core.config"): "config stops at the flow",
    ("fsf_core.stages.mask", "onnx"): "scoring needs no torch and no onnx",
    ("fsf_core.runs.folder", "torch"): "scoring needs no torch and no onnx",
}
"""Imports that one module may not have; fsf_core.stages imports fsf_core.runs, so that scoring would load torch."""

DOORS = {
    # contract: the modules that are behind the door, and the packages that may import them from any module
    "one door to Ray": (("ray",), ("fsf_core.score", "fsf_core.submit")),
    "one door to onnxruntime": (("onnxruntime",), ()),
    "one door to stores": (("fsspec", "s3fs", "gcsfs", "adlfs", "aiohttp"), ()),
    "one door to FFmpeg": (("av",), ("fsf_core.media.video",)),
    "one door to torch": (("torch",), ("fsf_core.export",)),
}


def _packages() -> list[str]:
    """Return every package below fsf_core, and jobs."""
    inner = [path.parent.relative_to(ROOT) for path in HOME.rglob("*/__init__.py")]
    return ["jobs", *(".".join(path.parts) for path in inner)]


def _lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-cache"], cwd=root, env={"PATH": "/usr/bin:/bin", "COLUMNS": "200"}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def violations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each broken contract reports about a copy of the tree with a forbidden import for every contract."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("fsf_core", "jobs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for importer, imported in PLANTED_LINES:
        with (root / f"{importer.replace('.', '/')}.py").open("a") as file:
            file.write(f"\nimport {imported}\n")
    behind_doors = sorted({module for modules, _ in DOORS.values() for module in modules})
    for package in _packages():
        lines = "".join(f"import {module}\n" for module in behind_doors)
        (root / package.replace(".", "/") / f"{PLANT}.py").write_text(lines)
    (root / "fsf_core" / f"{PLANT}.py").write_text("")

    done = _lint_imports(root)
    assert done.returncode == 1, done.stdout + done.stderr
    return dict(_sections(done.stdout))


def _sections(output: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every broken contract in the output of lint-imports."""
    _, _, report = output.partition("Broken contracts")
    names = "|".join(re.escape(contract["name"]) for contract in CONTRACTS)
    pieces = re.split(rf"^({names})\n-+$", report, flags=re.MULTILINE)
    yield from zip(pieces[1::2], pieces[2::2], strict=True)


def test_every_module_is_on_the_map() -> None:
    listed = set(re.findall(r"^\|[^|]*\| `(\w+)/?` \|", (HOME / "README.md").read_text(), flags=re.MULTILINE))
    modules = {path.stem for path in HOME.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in HOME.glob("*/__init__.py")}

    assert listed == modules | packages


def test_the_import_contracts_hold() -> None:
    done = _lint_imports(ROOT)

    assert done.returncode == 0, done.stdout


def test_every_contract_has_a_planted_import() -> None:
    assert {contract["name"] for contract in CONTRACTS} == {*PLANTED_LINES.values(), *DOORS}


@pytest.mark.parametrize(("importer", "imported"), PLANTED_LINES)
def test_a_planted_import_breaks_its_contract(importer: str, imported: str, violations: dict[str, str]) -> None:
    assert re.search(rf"\b{importer} -> {imported} \(", violations[PLANTED_LINES[importer, imported]])


@pytest.mark.parametrize("contract", DOORS)
def test_a_door_is_closed_to_every_other_package(contract: str, violations: dict[str, str]) -> None:
    modules, doors = DOORS[contract]
    reported = set(re.findall(rf"([\w.]+)\.{PLANT} -> (\w+) \(", violations[contract]))
    closed = [package for package in _packages() if not f"{package}.".startswith(tuple(f"{door}." for door in doors))]

    assert reported == {(package, module) for package in closed for module in modules}


def test_a_module_that_is_not_on_the_map_breaks_the_layers(violations: dict[str, str]) -> None:
    assert f"fsf_core.{PLANT}" in violations["data flows one way"]


def _loaded(code: str, *modules: str) -> list[str]:
    """Run code in a fresh interpreter; returns which of the modules it has loaded."""
    report = f"import sys; print([m for m in {modules!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return re.findall(r"\w+", done.stderr)


@pytest.mark.parametrize("code", ["import fsf_core", "import fsf_core.score.job, fsf_core.cli.score, jobs.score"])
def test_scoring_loads_neither_torch_nor_onnx(code: str) -> None:
    assert _loaded(code, "torch", "onnx", "onnxscript") == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["export"],
        ["score"],
        ["render"],
        ["bench"],
        ["doctor"],
        ["inspect"],
        ["inspect-model"],
        ["publish"],
        ["verify"],
        ["demo"],
    ],
)
def test_help_loads_no_heavy_library(words: list[str]) -> None:
    code = f"import fsf_core.cli.app as f; f.main({[*words, '--help']})"

    assert _loaded(code, "ray", "torch", "onnxruntime", "av", "numba", "pandas") == []
