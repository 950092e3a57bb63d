"""Whether the programs that the manuals name would take the commands in them, without running any of them.

`fsf` and `ray` parse with their own parsers. `kubectl` runs, against a server that refuses every connection: it reads
its options, its arguments and the folders of -k and -f before it connects. `docker`, `helm` and
Prometheus' programs may be missing here: their options are those of the functions below.
"""

import argparse
import functools
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from fsf_core.cli.app import app
from fsf_core.cli.sources import log_format, take_log_format
from tests.support.kubernetes import PROGRAM, copy_site

ROOT = Path(__file__).parents[2]
FILTERS = ("base64", "head", "tail", "grep", "sort")
"""Programs that read the output of another."""

NO_SERVER = """
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: none, context: {cluster: none}}]
"""


def takes(words: Sequence[str]) -> bool:
    """Whether a program would take a command; False also where the program is unknown.

    Raises:
        Exception: what the program's parser raises.
    """
    words = list(words)
    if "|" in words:
        first, rest = words[: words.index("|")], words[words.index("|") + 1 :]
        return takes(first) and (rest[0] in FILTERS or takes(rest))
    program, *arguments = words
    program = re.sub(r"^(.*/)?(python|\w+)(3(\.\d+)?)?$", r"\2", program)  # /opt/fsf/bin/python, python3.11
    return program in PROGRAMS and PROGRAMS[program](arguments)


def parsed(words: Sequence[str]) -> Any:
    """Return the record of options that fsf makes of a command."""
    _, arguments, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    [options] = [*arguments.args, *arguments.kwargs.values()]
    return options


def _export_takes(arguments: Sequence[str]) -> bool:
    return all(_is_assignment(text) for text in arguments)


def _is_assignment(text: str) -> bool:
    """Whether a text is NAME=VALUE, and a value of the form $(command) a command that its program takes."""
    name, _, value = text.partition("=")
    command = re.fullmatch(r"\$\((.*)\)", value)
    return name.isidentifier() and (command is None or takes(shlex.split(command[1])))


def _fsf_takes(arguments: Sequence[str]) -> bool:
    log_format(arguments)
    app.parse_args(take_log_format(arguments)[0], exit_on_error=False, print_error=False)
    if arguments[:1] == ["submit"] and "--" in arguments:
        return takes(["fsf", *arguments[list(arguments).index("--") + 1 :]])
    return True


def _ray_takes(arguments: Sequence[str]) -> bool:
    """Parse a command of Ray as its own command line does, and the command that a job runs."""
    from ray.scripts.scripts import cli

    command: click.Command = cli
    name, rest = "ray", list(arguments)
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        if not rest or command.get_command(context, rest[0]) is None:
            return False
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None
        command = found
    options, entrypoint = (rest[: rest.index("--")], rest[rest.index("--") + 1 :]) if "--" in rest else (rest, [])
    command.make_context(name, [*options, *(["--", *entrypoint] if entrypoint else [])])
    files = [word for word in options if word.endswith((".yaml", ".yml"))]
    return all(_in_checkout(file).is_file() for file in files) and (not entrypoint or takes(entrypoint))


@functools.cache
def _made() -> tempfile.TemporaryDirectory[str]:
    """Make a folder like the checkout's root after the manuals' steps: cluster/ with an operator's site."""
    made = tempfile.TemporaryDirectory(prefix="fsf-manuals-")
    shutil.copytree(ROOT / "cluster", Path(made.name) / "cluster")
    kuberay = Path(made.name) / "cluster" / "kuberay"
    shutil.copytree(copy_site(kuberay), kuberay / "my-site", dirs_exist_ok=True)
    (Path(made.name) / "kubeconfig").write_text(NO_SERVER)
    return made


def _checkout() -> Path:
    return Path(_made().name)


def _in_checkout(path: str) -> Path:
    """Return a path of a manual, in the checkout or among what its steps have made."""
    return ROOT / path if (ROOT / path).exists() else _checkout() / path


def _kubectl_takes(arguments: Sequence[str]) -> bool:
    """Run kubectl without a server; whatever is wrong with the command itself, it reports before it connects."""
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=_checkout(), capture_output=True, text=True, check=False, timeout=60,
        env={"KUBECONFIG": str(_checkout() / "kubeconfig"), "HOME": str(_checkout()), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0 or "refused" in done.stderr.splitlines()[-1], done.stderr
    return True


class _Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong."""

    def error(self, message: str) -> None:  # type: ignore[override] # the base class exits
        """Raise a message."""
        raise AssertionError(message)


def _docker_takes(arguments: Sequence[str]) -> bool:
    command, *arguments = arguments
    parser = _Parser(add_help=False)
    parser.add_argument("target")
    match command:
        case "run":
            parser.add_argument("--rm", action="store_true")
            parser.add_argument("--gpus")
            parser.add_argument("command", nargs=argparse.REMAINDER)
            return takes(parser.parse_args(arguments).command)
        case "build":
            parser.add_argument("-f", "--file", required=True)
            for option in ("-t", "--tag", "--build-arg", "--secret"):
                parser.add_argument(option, action="append", default=[])
            found = parser.parse_args(arguments)
            declared = re.findall(r"^ARG (\w+)", _in_checkout(found.file).read_text(), flags=re.MULTILINE)
            given = [text.partition("=")[0] for text in found.build_arg]
            assert set(given) <= set(declared), f"{found.file} has no build argument {given}"
        case "push":
            parser.add_argument("-a", "--all-tags", action="store_true")
            parser.parse_args(arguments)
        case _:
            return False
    return True


def _helm_takes(arguments: Sequence[str]) -> bool:
    command, *arguments = arguments
    if command not in ("install", "upgrade", "uninstall"):
        return False
    parser = _Parser(add_help=False)
    parser.add_argument("release")
    if command != "uninstall":
        parser.add_argument("chart")
        for option in ("--version", "--values"):
            parser.add_argument(option)
        parser.add_argument("--set", action="append")
        parser.add_argument("--create-namespace", action="store_true")
    parser.add_argument("-n", "--namespace")
    parser.parse_args(arguments)
    return True


def _python_takes(arguments: Sequence[str]) -> bool:
    match arguments:
        case ["-m", "pytest", path]:
            return (ROOT / path).exists()
        case ["-m", module, *options] if module.startswith("jobs."):
            return find_spec(module) is not None and _fsf_takes([module.removeprefix("jobs."), *options])
        case ["-m", module, *_]:
            return find_spec(module) is not None
        case [path]:
            return (ROOT / path).is_file()
    return False


def _make_takes(arguments: Sequence[str]) -> bool:
    [target] = arguments
    return re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE) is not None


def _cp_takes(arguments: Sequence[str]) -> bool:
    *options, source, _ = arguments
    return set(options) <= {"-r"} and _in_checkout(source).exists()


def _promtool_takes(arguments: Sequence[str]) -> bool:
    """Whether promtool reads these files: `check config FILE`, `check rules FILE` or `test rules FILE`."""
    *command, file = arguments
    return command in (["check", "config"], ["check", "rules"], ["test", "rules"]) and (ROOT / file).is_file()


def _prometheus_takes(arguments: Sequence[str]) -> bool:
    """Whether prometheus has the options, and the file of its configuration exists."""
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    return {*options} <= {"config.file", "storage.tsdb.retention.time"} and (ROOT / options["config.file"]).is_file()


PROGRAMS: dict[str, Callable[[Sequence[str]], bool]] = {
    "cp": _cp_takes,
    "docker": _docker_takes,
    "duckdb": lambda arguments: arguments[:-1] == ["-c"],
    "export": _export_takes,
    "fsf": _fsf_takes,
    "helm": _helm_takes,
    "kubectl": _kubectl_takes,
    "make": _make_takes,
    "prometheus": _prometheus_takes,
    "promtool": _promtool_takes,
    "python": _python_takes,
    "ray": _ray_takes,
}
"""Programs of the manuals, and what judges the words after their names."""
