"""The names of `fsf_core`: loaded when they are used, and the same objects in every order of imports."""

import inspect
import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fsf_core
from fsf_core import errors

HOME = Path(fsf_core.__file__).parents[1]

IMPORTS = {
    "score": ("from fsf_core import score", "import fsf_core.score", "from fsf_core.score import job"),
    "export": ("from fsf_core import export", "import fsf_core.export", "from fsf_core.export import job"),
}

ORDERS = [
    *itertools.permutations(IMPORTS["score"]),
    *itertools.permutations(IMPORTS["export"]),
    *itertools.permutations(["import fsf_core.score.job", "import fsf_core.export.job", "import fsf_core.cli.app"]),
]

TRY_ORDERS = """
import json, sys
found = []
for order in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsf_core"]:
        del sys.modules[name]
    for statement in order:
        exec(statement, {})
    names = {}
    exec("from fsf_core import export, score; import fsf_core", names)
    found.append([
        type(names[name]).__name__ == "function"
        and names[name] is getattr(sys.modules["fsf_core"], name)
        and names[name] is getattr(sys.modules[f"fsf_core.{name}.job"], name)
        for name in ("export", "score")
    ])
print(json.dumps(found))
"""


def python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True, timeout=120).stdout


def test_score_and_export_are_the_functions_in_every_order_of_imports():
    found = json.loads(python(TRY_ORDERS, json.dumps(ORDERS)))

    assert [order for order, same in zip(ORDERS, found, strict=True) if same != [True, True]] == []


def test_modules_of_the_subpackages_are_imported_beside_the_functions():
    code = (
        "from fsf_core import score, export\n"
        "from fsf_core.score import plan\n"
        "import fsf_core.export.request\n"
        "from importlib import import_module\n"
        "print(plan.__name__, import_module('fsf_core.score').__name__, callable(score), callable(export))"
    )

    assert python(code).split() == ["fsf_core.score.plan", "fsf_core.score", "True", "True"]


def test_importing_the_package_takes_little_time_and_loads_no_dependency():
    code = (
        "import sys, time\nbefore = {*sys.modules}\nstarted = time.process_time()\nimport fsf_core\n"
        "spent = time.process_time() - started\n"
        "loaded = {name.partition('.')[0] for name in {*sys.modules} - before} - {*sys.stdlib_module_names}\n"
        "print(spent, *loaded)"
    )

    spent_s, *loaded = python(code).split()

    assert float(spent_s) < 0.3
    assert loaded == ["fsf_core"]


@pytest.mark.parametrize("name", ["open_run", "read_table", "ScoreConfig", "ExportConfig", "RunReader"])
def test_a_name_that_needs_no_ray_loads_none(name):
    code = (
        f"import sys\nfrom fsf_core import {name}\nprint(*({{'ray', 'torch', 'onnxruntime', 'av'}} & {{*sys.modules}}))"
    )

    assert python(code).split() == []


def test_every_public_name_exists_and_is_listed():
    assert {name for name in fsf_core.__all__ if not hasattr(fsf_core, name)} == set()
    assert {*fsf_core.__all__} <= {*dir(fsf_core)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fsf_core' has no attribute 'sccore'"):
        fsf_core.sccore  # noqa: B018 - the access is the test


def test_every_error_is_public():
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }

    assert defined <= {*fsf_core.__all__}


@pytest.mark.parametrize("name", ["score", "export", "open_run", "read_table"])
def test_public_functions_have_a_signature_a_docstring_and_can_be_pickled(name):
    function = getattr(fsf_core, name)

    assert inspect.isfunction(function)
    assert inspect.signature(function).parameters
    assert inspect.getdoc(function)
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301 - written in the same line
