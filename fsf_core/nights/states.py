"""What state the nights of a series are in, and which series a folder holds."""

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from fsf_core import runs, storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.nights.series import Night, Series, series_of
from fsf_core.nights.template import has_date, parse_template
from fsf_core.runs import latest, removal
from fsf_core.runs.folder import SUCCESS

CONCURRENT_READS = 16
"""Runs that are looked at in a store at once."""

_DAY = re.compile(r"(?<![0-9])(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})(?![0-9])")

State = Literal["finished", "unfinished", "removing", "unreadable", "leases", "none"]


@dataclass(frozen=True, kw_only=True)
class NightState:
    """A folder of a series, and what it holds."""

    night: Night
    state: State
    """leases: only what a removal leaves last. none: no run."""
    known: dict[str, Any]
    """The content of run.json; empty where it cannot be read."""
    pinned: bool

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return str(self.known.get("run_id", ""))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The starts of its job."""
        return list(self.known.get("attempts", ()))

    @property
    def reused(self) -> set[str]:
        """Ids of the runs that it reuses, or is compared with."""
        found = [each[entry] for each in self.attempts for entry in ("reuse", "against") if each.get(entry)]
        return {str(run.get("run_id")) for run in found}

    @property
    def started_at(self) -> dt.datetime | None:
        """When its job was started last, in UTC."""
        with contextlib.suppress(KeyError, IndexError, ValueError, TypeError):
            return dt.datetime.fromisoformat(self.attempts[-1]["started_at"])
        return None


def read_states(nights: Iterable[Night]) -> list[NightState]:
    """Return the states of nights in their order: one listing and one small file of each.

    Raises:
        StorageError: the store refuses.
    """
    with ThreadPoolExecutor(CONCURRENT_READS) as pool:
        return [*pool.map(_read_state, nights)]


def _read_state(night: Night) -> NightState:
    names = {*storage.list_names(night.uri, "")}
    if "run.json" not in names:
        leases = bool(names) and all(name.startswith(".lease-") for name in names)
        return NightState(night=night, state="leases" if leases else "none", known={}, pinned=False)
    state: State = "finished" if SUCCESS in names else "unfinished"
    known: dict[str, Any] = {}
    try:
        known = runs.read_document(night.uri, "run.json")
        if removal.is_removed(known):
            state = "removing"
        elif not {"run_id", "fingerprint", "attempts"} <= {*known}:
            state = "unreadable"
    except OutputError:
        state = "unreadable"
    return NightState(night=night, state=state, known=known, pinned=removal.PINNED in names)


def find_series(text: str) -> tuple[str, list[Series]]:
    """Return the root that a template or a folder names, and the series that are meant.

    Args:
        text: a template, as `--out` takes it, or the folder above the runs.

    Raises:
        ConfigError: it is a run, or holds no runs with dates in their names.
    """
    if has_date(text):
        series = series_of(text)
        if series is None or not series.template.readable:
            raise ConfigError(
                f"{storage.redact(text)} has folders that do not show their date, expected {{date}} or a format with "
                "year, month and day, below a fixed folder"
            )
        return series.template.root, [series]
    root = storage.absolute(text)
    if storage.exists(storage.join(root, "run.json")):
        raise ConfigError(
            f"{storage.redact(root)} is one run, expected the folder above several; give that, or the template of --out"
        )
    found = [*_series_in(root)]
    if not found:
        raise ConfigError(
            f"{storage.redact(root)} holds no runs with a date in their names, expected the folder above the runs of a "
            "series; give that, or the template of --out"
        )
    return root, found


def _series_in(root: str) -> Iterator[Series]:
    """Yield the series whose pointers a folder holds; without any, those that its names with a day make."""
    written = [str((latest.read_pointer(root, name) or {}).get("template")) for name in latest.find_pointers(root)]
    if not written:
        names = [name for name in storage.list_names(root, "") if not name.startswith(".")]
        written = [*dict.fromkeys(filter(None, map(_template_of, names)))]
    for path in written:
        template = parse_template(storage.join(root, path))
        if template and template.readable:
            series = Series(template)
            if series.nights():
                yield series


def other_series(root: str, known: Iterable[Series]) -> list[Series]:
    """Return the series of a folder but for some.

    Raises:
        StorageError: the store refuses.
    """
    paths = {series.template.path for series in known}
    return [series for series in _series_in(root) if series.template.path not in paths]


def _template_of(name: str) -> str:
    """Return the template that makes a name with one day of its day; empty if there is none."""
    found = _DAY.findall(name)
    form = "{date}" if found and "-" in found[0] else "{date:%Y%m%d}"
    return name.replace(found[0], form) if len(found) == 1 and not set(name) & {*"{}"} else ""
