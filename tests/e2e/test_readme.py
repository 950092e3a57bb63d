"""The READMEs keep their word: commands run, shown output is real, links resolve, generated parts are current."""

import ast
import contextlib
import io
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import duckdb
import pytest

from fsf_core.cli.app import app
from tests.support import docs
from tests.support.commands import takes
from tests.support.readme import EXECUTED, README, ROOT, blocks, commands, has_shape_of

READMES = [
    ROOT / name for name in subprocess.check_output(["git", "ls-files", "*README.md"], cwd=ROOT, text=True).split()
]
IMAGES = ROOT / ".github" / "images"


def test_the_three_commands_run_and_print_what_is_shown(readme_home: Path) -> None:
    assert (readme_home / "runs" / "first" / "report.html").stat().st_size > 10_000
    assert [command for command, _ in commands(README) if command.startswith(EXECUTED)][3:], "all of them were run"


def test_the_sql_runs_and_prints_what_is_shown(readme_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(readme_home)
    [(command, shown)] = [(command, shown) for command, shown in commands(README) if command.startswith("duckdb")]
    result = duckdb.sql(shlex.split(command)[2])

    assert has_shape_of(shown, str(result).splitlines()), f"README.md shows other output than\n{result}"


@pytest.mark.parametrize("path", [path for path in READMES if blocks(path, "python")], ids=lambda p: p.parent.name)
def test_the_python_runs_and_prints_what_is_shown(
    path: Path, readme_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(readme_home)
    for block in blocks(path, "python"):
        names: dict[str, object] = {}
        for example in re.split(r"^>>> ", block, flags=re.MULTILINE)[1:]:
            statement, *shown = example.strip().splitlines()
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(ast.Interactive(ast.parse(statement).body), path.name, "single"), names)  # noqa: S102 - our own README
            assert has_shape_of(shown, printed.getvalue().splitlines()), f"{statement} printed\n{printed.getvalue()}"


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_command_is_one_that_its_program_takes(path: Path) -> None:
    for command, _ in commands(path):
        words = shlex.split(command)
        while "=" in words[0]:
            words.pop(0)
        assert takes(words), f"{path}: {command}"


def test_commands_within_sentences_exist() -> None:
    for path in READMES:
        prose = re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL).replace("\n", " ")
        for code in re.findall(r"`((?:FSF_\w+=\S+ )*(?:python|make|fsf) [^`…]*)`", prose):
            words = [word for word in shlex.split(code) if not word.startswith("FSF_")]
            assert words[0] == "fsf" or takes(words), f"{path}: {code}"
            assert words[0] != "fsf" or words[1] in app, f"{path}: {code}"


def test_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for path in READMES for name in re.findall(r"'?\.\[(\w+)\]'?", path.read_text())}

    assert named
    assert named <= set(extras)


@pytest.mark.parametrize("path", docs.PARTS, ids=lambda path: path.parent.name)
def test_generated_parts_are_current(path: Path) -> None:
    assert docs.rendered(path) == path.read_text(), "run `python -m tests.support.docs`"


def test_every_promise_names_a_test_that_exists() -> None:
    table = README.read_text().split("| promise | test |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| [^|]+ \| `([\w/.]+)` \|$", table, flags=re.MULTILINE)
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(rows) == table.count("\n") - 1
    assert [name for name in rows if not (ROOT / name).is_file() and f"def {name}(" not in written] == []


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', text):
        name, _, anchor = "".join(target).partition("#")
        if name.startswith("https://"):
            continue
        there = path.parent / name if name else path
        assert there.exists(), f"{path}: {name}"
        assert not anchor or anchor in anchors(there), f"{path}: {name}#{anchor}"


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a Markdown file, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_images_are_shown_and_small() -> None:
    text = "".join(path.read_text() for path in READMES)
    files = list(IMAGES.iterdir())

    assert files
    assert [file.name for file in files if f"images/{file.name}" not in text] == []
    assert sum(file.stat().st_size for file in files) < 1_500_000


def test_the_messages_that_are_explained_exist() -> None:
    table = README.read_text().split("| what you see |")[1].split("\n\n")[0]
    shown = [message for row in table.splitlines()[2:] for message in re.findall("`([^`]+)`", row.split("|")[1])]
    source = "\n".join(path.read_text() for path in (ROOT / "fsf_core").rglob("*.py"))

    assert len(shown) > 5
    for message in shown:
        for piece in re.split(r"…|: | N ", message):
            assert piece.strip() in source, message


def test_readme_is_read_in_minutes() -> None:
    assert 1_300 <= len(README.read_text().split()) <= 1_600  # as `wc -w` counts
