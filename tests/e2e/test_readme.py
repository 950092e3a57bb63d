"""README.md keeps its word: its commands run as written, its generated parts are current, its tests exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fsf_core.demo import model, oranges
from tests.support import docs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_tables_and_options_are_those_of_the_code() -> None:
    assert docs.rendered(README) == README, "run `python -m tests.support.docs`"


def test_every_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`(test_\w+)`", README)
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert named
    assert [name for name in named if f"def {name}(" not in written] == []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a demo like `make demo` leaves, its model trained for a moment only."""
    folder = tmp_path_factory.mktemp("home")
    oranges.write_demo(folder / "demo" / "data", count=6, frames=12)
    model.train(folder / "demo" / "model.pth", steps=8, pictures=12)
    return folder


def test_the_quick_start_runs_by_hand_as_written(home: Path) -> None:
    block = README.split("The same by hand:")[1].split("```console")[1].split("```")[0]
    commands = [line.removeprefix("$ ") for line in block.strip().splitlines()]
    assert [command.split()[1] for command in commands] == ["export", "score", "inspect", "verify"]
    program = Path(sys.executable).parent / "fsf"
    for command in commands:
        words = [str(program), *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert (home / "demo" / "overlay.png").stat().st_size > 10_000


def test_the_sql_of_the_quick_start_runs(home: Path) -> None:
    import duckdb

    query = re.search(r'duckdb -c "(.*)"', README)
    assert query is not None
    rows = duckdb.sql(query[1].replace("'demo/", f"'{home}/demo/")).fetchall()
    assert {name for name, _ in rows} == {"background", "sunburn", "ulcer", "wind_scarring"}
