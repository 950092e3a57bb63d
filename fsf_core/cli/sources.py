"""Where options come from: flags, the environment, a YAML file.

An unknown name is reported before any error that follows from it: of `--bundel X` the spelling, not the missing bundle.
"""

import contextlib
import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict, Env

from fsf_core.errors import ConfigError, did_you_mean
from fsf_core.logs import LogFormat

PREFIX = "FSF_"
LOG_FORMAT, LOG_FORMAT_VARIABLE = "--log-format", "FSF_LOG_FORMAT"
"""The option that all commands share."""


def configure(app: App, words: Iterable[str]) -> list[str]:
    """Set the sources of an app; returns the words without --config and --log-format.

    Args:
        app: the root command.
        words: the command line, without the program.

    Raises:
        ConfigError: --config names no readable YAML mapping, or a flag, key or variable is no option of the command.
            What the app raises of a number with a fraction for an option that has none.
    """
    words, file = _take_config(take_log_format(words)[0])
    commands, _, rest = app.parse_commands(words)
    special = {*app.help_flags, *app.version_flags}
    sources: list[Any] = [Env(PREFIX, show=False)]  # one line in the epilogue instead of one per option
    if commands and commands[0] not in special:
        command, options = commands[0], _option_names(app[commands[0]].assemble_argument_collection())
        _require_known_flags(rest, options, command, special)
        _require_known_variables(options, command)
        if file is not None:
            # Below the command's name, because cyclopts skips keys of a flat document that are commands: `render`.
            sources.append(Dict({command: _read_yaml(file, options)}, source=file))
    app.config = [*sources, _require_whole_numbers]
    return words


def config_file(words: Iterable[str]) -> str | None:
    """Return the file that --config names, if it is given.

    Raises:
        ConfigError: it is given twice, or the file does not exist.
    """
    return _take_config(words)[1]


def log_format(words: Iterable[str]) -> LogFormat:
    """Return the format of log lines: of --log-format, else of FSF_LOG_FORMAT, else text.

    Raises:
        ConfigError: it is no format, or given twice.
    """
    _, given = take_log_format(words)
    source = LOG_FORMAT if given is not None else LOG_FORMAT_VARIABLE
    chosen = given if given is not None else os.environ.get(LOG_FORMAT_VARIABLE) or "text"
    for known in get_args(LogFormat):
        if chosen == known:
            return cast("LogFormat", known)
    raise ConfigError(f"{source} is {chosen!r}, expected text or json; correct it")


def take_log_format(words: Iterable[str]) -> tuple[list[str], str | None]:
    """Return the words without `--log-format FORMAT`, and the format.

    Raises:
        ConfigError: it is given twice, or without a format.
    """
    kept, found = _split(words, LOG_FORMAT, LOG_FORMAT.replace("log-", "log_"))
    if len(found) > 1:
        raise ConfigError(f"{LOG_FORMAT} is given {len(found)} times, expected text or json once; drop the others")
    return kept, found[0] if found else None


def _take_config(words: Iterable[str]) -> tuple[list[str], str | None]:
    """Return the words without `--config FILE` or `--config=FILE`, and the file.

    Raises:
        ConfigError: it is given twice, or the file does not exist.
    """
    kept, files = _split(words, "--config")
    if len(files) > 1:
        raise ConfigError(f"--config is given {len(files)} times, expected one YAML file; join them")
    if files and not Path(files[0]).is_file():
        raise ConfigError(f"--config names {files[0]!r}, expected a YAML file; check the path")
    return kept, files[0] if files else None


def _split(words: Iterable[str], *names: str) -> tuple[list[str], list[str]]:
    """Return the words without an option, and its values; after `--` the words are those of another command."""
    kept: list[str] = []
    values: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            kept += [word, *remaining]
            break
        name, given, value = word.partition("=")
        if name in names:
            values.append(value if given else next(remaining, ""))
        else:
            kept.append(word)
    return kept, values


def _option_names(arguments: ArgumentCollection) -> list[str]:
    return [name for argument in arguments for name in argument.names if name.startswith("--")]


def _require_whole_numbers(_: App, __: Sequence[str], arguments: ArgumentCollection) -> None:
    """Refuse a fraction where the option takes whole numbers: cyclopts rounds it.

    Raises:
        ConfigError: there is one.
    """
    for argument in arguments:
        kinds = {argument.hint, *get_args(argument.hint)}
        for token in argument.tokens if int in kinds and not kinds & {str, float} else ():
            with contextlib.suppress(ValueError):  # which cyclopts reports
                if "." in token.value and not float(token.value).is_integer():
                    raise ConfigError(f"{argument.name} is {token.value}, expected a whole number; correct it")


def _keys(options: Iterable[str]) -> list[str]:
    """Return options as keys, without --no-…: cyclopts sets a flag to true whatever the value of its negation."""
    return [name[2:] for name in options if not name.startswith("--no-")]


def _require_known_flags(words: Iterable[str], options: Iterable[str], command: str, special: set[str]) -> None:
    """Refuse flags that the command does not have.

    Raises:
        ConfigError: there is one.
    """
    known = {name.replace("-", "_") for name in [*options, *special]}
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        if _is_flag(name) and name.replace("-", "_") not in known:
            hint = did_you_mean(name, options) or "."
            raise ConfigError(f"unknown option {name}{hint} See fsf {command} --help.")


def _is_flag(word: str) -> bool:
    """Return whether a word is a flag, and not a negative number."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and word != "-"
    return False


def _require_known_variables(options: Iterable[str], command: str) -> None:
    """Refuse variables FSF_<COMMAND>_… that are no option; others beginning with FSF_ belong to other programs.

    Raises:
        ConfigError: there is one.
    """
    prefix = f"{PREFIX}{command.upper()}_"
    known = [prefix + name.replace("-", "_").upper() for name in _keys(options)]
    for name in sorted(os.environ):
        if name.startswith(prefix) and name not in known:
            raise ConfigError(f"unknown variable {name} in the environment{did_you_mean(name, known)}")


def _read_yaml(file: str, options: Iterable[str]) -> dict[str, Any]:
    """Read a mapping of option to value.

    Raises:
        ConfigError: the file is no YAML mapping, or a key is no option.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # PyYAML points with spaces and lines
        raise ConfigError(f"--config {file} cannot be read: {reason}; expected a YAML mapping") from error
    except RecursionError as error:
        raise ConfigError(f"--config {file} is nested too deeply, expected a mapping of option to value") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {file} holds a {type(content).__name__}, expected a mapping of option to value")
    known = _keys(options)
    for key in map(str, content):
        if key.replace("_", "-") not in known:
            raise ConfigError(f"unknown option {key} in {file}{did_you_mean(key.replace('_', '-'), known)}")
    return {str(key): _option_value(value, key=str(key), file=file) for key, value in content.items()}


def _option_value(value: Any, *, key: str, file: str) -> Any:
    """Return a value as cyclopts takes it: a scalar, a list of them, or for --net-option a list of key=value.

    Raises:
        ConfigError: it is something else; what is nested may be endless, and is not printed.
    """
    if key == "classes" and (names := _class_names(value, file=file)) is not None:
        return names
    if isinstance(value, Mapping):
        value = [
            f"{name}={str(each).lower() if isinstance(each, bool) else each}" if _is_scalar(each) else each
            for name, each in value.items()
        ]
    if isinstance(value, dt.date):  # YAML reads an unquoted day as a date
        value = str(value)
    if isinstance(value, list) and all(map(_is_scalar, value)):
        return [str(each) if isinstance(each, dt.date) else each for each in value]
    if value is None or _is_scalar(value):
        return value
    raise ConfigError(
        f"{key} in {file} holds a {type(value).__name__}, expected text, a number, true or false, or a list of these; "
        "correct it"
    )


def _class_names(value: Any, *, file: str) -> str | None:
    """Return a list or mapping of class names as one value in which commas belong to names; None if it is neither.

    Raises:
        ConfigError: a name is a word that YAML reads as true, false or nothing.
    """
    if isinstance(value, Mapping):
        if not all(isinstance(key, int) for key in value) or sorted(value) != list(range(len(value))):
            return None
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or not all(each is None or _is_scalar(each) for each in value):
        return None
    if any(each is None or isinstance(each, bool) for each in value):
        raise ConfigError(f"classes in {file} holds {value}, expected names; put yes, no and null in quotes")
    return json.dumps([str(each) for each in value])


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | dt.date) or (isinstance(value, str) and "\0" not in value)
