"""Class names in every form that they are given in: text with commas, JSON, a file, or a model's own metadata.

Knows text and local files. Knows no models.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fsf_core.errors import ConfigError

FILE_MARK = "@"
"""What the name of a file with class names begins with, instead of the names themselves."""

KEYS = ("names", "class_names", "classes", "labels", "label_names", "id2label")
"""Where documents and models keep the names of classes: Ultralytics, mmsegmentation, transformers and others."""


def parse_names(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the names of `a,b`, of `a,"b, c"`, of a JSON list, of @FILE, or of several of these.

    A comma belongs to a name in double quotes, in a list of JSON, on a line of a file, and before a space where each
    name is given by itself.

    Raises:
        ConfigError: a name is empty, or a form is not closed.
    """
    separator = "," if len(tokens) == 1 else r",(?!\s)"
    names = [name.strip() for token in tokens for name in _names_of(token.strip(), separator)]
    if not all(names):
        raise ConfigError(
            f"found an empty name in {tuple(names)}, expected names between the commas; remove the extra comma"
        )
    return tuple(names)


def names_in_metadata(entries: Mapping[str, str]) -> tuple[str, ...]:
    """Return the class names that a model carries, () if it carries none: a list or mapping of Python or JSON, or text.

    Args:
        entries: key to text.
    """
    by_key = {key.lower(): text for key, text in entries.items()}
    for key in KEYS:
        if text := by_key.get(key, "").strip():
            found = _names_in(_literal(text))
            if found is None and not text.startswith(("{", "[", "(")):
                found = [part.strip() for part in re.split(r"[\n;]" if re.search(r"[\n;]", text) else ",", text)]
            if found and all(found):
                return tuple(found)
    return ()


def _names_of(token: str, separator: str) -> list[str]:
    """Return the names of one token."""
    if token.startswith(FILE_MARK):
        return _names_of_file(token.removeprefix(FILE_MARK))
    if token.startswith("["):
        try:
            names = _names_in(json.loads(token))
        except (ValueError, RecursionError):
            names = None
        if names is None:
            raise ConfigError(
                f'--classes is {token[:100]!r}, expected a list of JSON such as ["a", "b, c"]; correct it'
            )
        return names
    return _quoted(token) if '"' in token else re.split(separator, token)


_PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s][^,]*|))\s*(,|$)')
"""A name, in double quotes or without, and the comma behind it."""


def _quoted(token: str) -> list[str]:
    """Return the names between commas; in double quotes a comma is part of a name, and two quotes are one.

    Raises:
        ConfigError: quotes are not closed, or close inside a name.
    """
    names, at, more = [], 0, True
    while more:
        part = _PART.match(token, at)
        if part is None:
            raise ConfigError(
                f"--classes is {token[:100]!r}, expected quotes around whole names; close them, or write each quote "
                "inside a name twice"
            )
        names.append(part[2] if part[1] is None else part[1].replace('""', '"'))
        at, more = part.end(), bool(part[3])
    return names


def _names_of_file(path: str) -> list[str]:
    """Return the names of a file: a list or mapping in .json, .yaml or .yml, otherwise one name per line.

    Raises:
        ConfigError: it cannot be read, or holds no names.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        names = (
            _names_in(yaml.load(text, yaml.BaseLoader))  # noqa: S506 - it makes only text: a class may be called "no"
            if Path(path).suffix.lower() in {".json", ".yaml", ".yml"}
            else text.rstrip().splitlines()
        )
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--classes names the file {path!r}, which cannot be read: {reason}; check it") from error
    if not names:
        raise ConfigError(
            f"--classes names the file {path!r}, which holds no class names; expected one per line, or a list in "
            f"JSON or YAML, alone or under one of {', '.join(KEYS)}; correct it"
        )
    return names


def _names_in(value: Any) -> list[str] | None:
    """Return the names in a list, in a mapping from 0, 1, 2 … or under a known key; None if it is none of these."""
    if isinstance(value, Mapping):
        inner = next((value[key] for key in KEYS if key in value), None)
        if inner is not None:
            return _names_in(inner)
        try:
            by_id = {int(key): name for key, name in value.items()}
        except (TypeError, ValueError):
            return None
        value = [by_id.get(index) for index in range(len(by_id))]
    if not isinstance(value, list | tuple):
        return None
    return [str(name) for name in value] if all(isinstance(name, str | int | float) for name in value) else None


def _literal(text: str) -> Any:
    """Return the value of JSON or of a Python literal; None if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None
