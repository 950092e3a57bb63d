"""The command that is submitted: what of it may be shown, and which of its paths mean anything on the cluster."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fsf_core.errors import ConfigError
from fsf_core.safe_text import printable, redact_message

INPUTS = frozenset(
    (
        "bundle", "bundle_a", "bundle_b", "manifest", "checkpoint", "onnx", "model", "samples", "reuse", "against",
        "run_folder", "run_a", "run_b", "folder", "folders", "masks", "labels", "items", "excluded_items",
    )
)  # fmt: skip
"""Names of options and arguments that name an existing file or folder."""

OUTPUTS = frozenset(("out", "delta", "engine_cache", "png", "yaml"))
"""Names of options that name a file or folder to write."""

ATTACHED = frozenset(("model_config", "config_file", "classes"))
"""Names of options whose file travels with the command, because it is small."""

PATHS_OF = {("select", "exclude"): "excluded_items"}
"""Command and option whose values are paths, where those of the same option elsewhere are none, to a name of INPUTS."""

WORDS = {"reuse": frozenset(("latest",))}
"""Values of such an option that are no path."""

MAX_ATTACHED_BYTES = 1 << 20
END_BYTES = 1 << 20
MAX_NAMES = 10_000

_REMOTE = re.compile(r"(?i)(?!file:)[a-z][a-z0-9+.-]+://")
_ADVICE = "give a bucket, or the absolute path of a disk that every node shares"


def visible_words(words: Iterable[str]) -> list[str]:
    """Return the command line without credentials: `ps`, the log and the dashboard show it."""
    return [printable(redact_message(word)) for word in words]


def command_digest(words: Iterable[str]) -> str:
    """Return a digest that is equal for equal commands, whatever their credentials."""
    return hashlib.sha256("\0".join(visible_words(words)).encode()).hexdigest()[:8]


def attach_files(words: Sequence[str], values: Mapping[str, Iterable[str]]) -> tuple[list[str], dict[str, bytes]]:
    """Return the words with the names that their files have on the cluster, and name to content.

    Args:
        words: the command line.
        values: name of an option to its values.

    Raises:
        ConfigError: a file is too large, cannot be read, or is named elsewhere than on the command line.
    """
    attached: dict[str, bytes] = {}
    words = list(words)
    for option, files in values.items():
        for value in files if option in ATTACHED else ():
            path = value.removeprefix("@")
            if option == "classes" and path == value:
                continue
            if not is_local(path) or not Path(path).expanduser().is_file():
                continue
            name = f"attached/{len(attached)}/{Path(path).name}"
            attached[name] = _small_file(path)
            renamed = [_renamed(word, value, value.replace(path, name)) for word in words]
            if renamed == words:
                raise ConfigError(
                    f"{_flag(option)} names {path} in a file or a variable, expected it on the command line, from "
                    "where it is sent to the cluster; move it there"
                )
            words = renamed
    return words, attached


def _renamed(word: str, value: str, name: str) -> str:
    if word == value:
        return name
    return f"{word.removesuffix(value)}{name}" if word.endswith(f"={value}") and word.startswith("--") else word


def _small_file(path: str) -> bytes:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; check the path") from error
    if len(content) > MAX_ATTACHED_BYTES:
        raise ConfigError(f"{path} has {len(content)} bytes, expected at most {MAX_ATTACHED_BYTES}; {_ADVICE}")
    return content


def shared_paths(values: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Return what the cluster must find at the local paths of a command.

    Args:
        values: name of an option to its values.

    Raises:
        ConfigError: a path is relative, and so means nothing on the cluster.
    """
    found: dict[str, dict[str, Any]] = {}
    for option in values:
        for path in values[option] if option in INPUTS | OUTPUTS else ():
            if not path or not is_local(path) or path in WORDS.get(option, ()):
                continue
            plain = re.sub(r"(?i)^file:(//(localhost(?=/))?)?", "", path)
            if not plain.startswith("/"):
                raise ConfigError(
                    f"{_flag(option)} is {path!r}, a path of this machine that the cluster does not know; {_ADVICE}"
                )
            if (facts := facts_of(plain)) is not None:
                found[plain] = {"type": facts["type"]} if option in OUTPUTS else facts
    return found


def require_shared_paths(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a command whose paths are others on this machine than where it was submitted.

    Raises:
        ConfigError: there is one.
    """
    for path, expected in paths.items():
        facts = facts_of(path)
        if facts is None:
            raise ConfigError(
                f"{path} exists where the command was submitted, but not on the head of the cluster; {_ADVICE}"
            )
        if not _same(facts, expected):
            raise ConfigError(
                f"{path} on the head of the cluster is another {facts['type']} than where the command was submitted; "
                f"{_ADVICE}"
            )


def _same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Return whether two descriptions are those of one path; a shared disk may round its times."""
    if found["type"] != expected["type"]:
        return False
    if found["type"] == "file" and found["size_bytes"] != expected.get("size_bytes", found["size_bytes"]):
        return False
    content = expected.get("content")
    return content is None or content == found["content"] or expected["mtime_ns"] == found["mtime_ns"]


def facts_of(path: str) -> dict[str, Any] | None:
    """Return what identifies a file or folder: type, size, time and a digest; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path as it is given
        is_folder = stat.S_ISDIR(status.st_mode)
        content = _names_digest(path) if is_folder else _ends_digest(path)
    except OSError:
        return None
    facts = {"type": "folder" if is_folder else "file", "mtime_ns": status.st_mtime_ns, "content": content}
    return facts if is_folder else facts | {"size_bytes": status.st_size}


def _names_digest(path: str) -> str:
    """Return a digest of the names in a folder."""
    names = []
    with os.scandir(path) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_NAMES:
                return "many"
    return hashlib.sha256("\0".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()


def _ends_digest(path: str) -> str:
    """Return a digest of the beginning and the end of a file."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256(file.read(END_BYTES))
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - END_BYTES))
        digest.update(file.read(END_BYTES))
    return digest.hexdigest()


def is_local(path: str) -> bool:
    """Return whether a path is no URI of a store."""
    return _REMOTE.match(path) is None


def _flag(name: str) -> str:
    special = {
        "config_file": "--config",
        "excluded_items": "--exclude",
        "folder": "the folder",
        "folders": "a folder",
        "labels": "LABELS",
        "masks": "MASKS",
        "run_a": "RUN_A",
        "run_b": "RUN_B",
        "run_folder": "the run folder",
    }
    return special.get(name, f"--{name.replace('_', '-')}")
