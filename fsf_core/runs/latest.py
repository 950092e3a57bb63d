"""The pointer to the newest finished run of a series: RUNS/latest.json, which is read where RUNS/latest is given.

    {"layout": 1, "template": "date={date}", "run": "date=2026-11-20", "date": "2026-11-20T00:00:00", "written_at": …}

`run` is the path of the run below the folder of the pointer. `fsf_core.nights.series` writes it.
"""

import contextlib
import re
from typing import Any

from fsf_core import storage
from fsf_core.errors import FSFError, OutputError
from fsf_core.runs.folder import read_document, was_published

LATEST = "latest"
SUFFIX = ".json"


def find_run(run: str) -> str:
    """Return the absolute URI of a run; that of the newest finished one where RUNS/latest is given.

    A run whose own folder has this name is that run. Where RUNS has no latest.json and the pointer of one series of
    another name, such as orchard-latest.json, that is meant.

    Args:
        run: path or URI of a run or of a pointer, without its suffix.

    Raises:
        OutputError: the pointer is damaged, names a run that is not finished, or may be one of several.
        StorageError: the store refuses.
    """
    uri = storage.absolute(run)
    name = uri.rstrip("/").rpartition("/")[2]
    if LATEST not in name or storage.exists(storage.join(uri, "run.json")):
        return uri
    folder = storage.parent(uri)
    pointer = _find_pointer(folder, re.sub(r"^\w+=(?=latest)", "", name))
    if pointer is None:
        return uri  # whoever reads it reports that there is no run
    found = read_document(folder, pointer)
    target = storage.join(folder, str(found.get("run", "")))
    if "run" not in found or not was_published(target):
        raise OutputError(
            f"{storage.redact(storage.join(folder, pointer))} names {found.get('run')!r}, which is no finished run; "
            "give the folder of a run, or start the job of the series again, which corrects the pointer"
        )
    return target


def read_pointer(folder: str, pointer: str) -> dict[str, Any] | None:
    """Return the content of a pointer; None where it is missing or damaged."""
    if storage.exists(storage.join(folder, pointer)):
        with contextlib.suppress(OutputError):
            return read_document(folder, pointer)
    return None


def find_pointers(folder: str) -> list[str]:
    """Return the names of the pointers in a folder, sorted."""
    names = [name for name in storage.list_names(folder, "") if LATEST in name and name.endswith(SUFFIX)]
    return [name for name in names if "template" in (read_pointer(folder, name) or {})]


def _find_pointer(folder: str, name: str) -> str | None:
    """Return the name of the pointer that is meant; None if there is none.

    Raises:
        OutputError: it may be one of several.
    """
    if storage.exists(storage.join(folder, name + SUFFIX)):
        return name + SUFFIX
    others: list[str] = []
    if name == LATEST:
        with contextlib.suppress(FSFError):  # a folder that cannot be listed
            others = find_pointers(folder)
    if len(others) > 1:
        series = " or ".join(other.removesuffix(SUFFIX) for other in others)
        raise OutputError(
            f"{storage.redact(folder)} holds {len(others)} series, expected one for {LATEST}; give {series} instead"
        )
    return others[0] if others else None
