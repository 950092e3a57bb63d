"""Follow the runs of many nights: class ratios, confidence and inputs, with the alarms against a reference.

fsf trend runs
fsf trend 's3://scores/{date}' --against s3://scores/2026-11-01 --out trend
fsf trend runs/monday runs/tuesday runs/wednesday
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fsf_core.config import TrendConfig
from fsf_core.errors import ConfigError, FSFError

if TYPE_CHECKING:
    from fsf_core.analysis.drift.trend import NightRun
    from fsf_core.runs import RunReader

NAMES_SHOWN = 6
"""Alarms of a night that are printed."""


def run(texts: Sequence[str], config: TrendConfig) -> int:
    """Compare, print and write; returns the exit code, which does not depend on the alarms."""
    from fsf_core import runs, storage
    from fsf_core.analysis.drift.trend import trend_document
    from fsf_core.cli.diff import require_folder, table
    from fsf_core.cli.output import print_json, show
    from fsf_core.report.trend_page import trend_page
    from fsf_core.runs.folder import document_bytes

    nights, pinned, missing = _nights(texts, last=config.last)
    reference = runs.open_run(config.against) if config.against else _reference(nights, pinned)
    out = None if config.out is None else storage.absolute(config.out)
    if out is not None:
        require_folder(out)
    document = trend_document(reference, nights, draws=config.draws, seed=config.seed) | {"missing": missing}
    show("\n".join(_lines(document, table)), lines=True)
    if out is not None:
        storage.write_bytes(storage.join(out, "trend.json"), document_bytes(document))
        storage.write_bytes(storage.join(out, "trend.html"), trend_page(document).encode())
        show(f"wrote trend.json and trend.html to {config.out}")
    print_json(document)
    return 0


def _nights(texts: Sequence[str], *, last: int) -> "tuple[list[NightRun], set[str], list[str]]":
    """Return the nights that are meant, the oldest first; the addresses of pinned ones; and the days without a run.

    Raises:
        ConfigError: no run is meant, or one text means several series.
    """
    from fsf_core import runs, storage
    from fsf_core.analysis.drift.trend import NightRun

    if not texts:
        raise ConfigError("no run is named, expected a folder of runs, a template, or several runs")
    if len(texts) == 1 and not storage.exists(storage.join(runs.find_run(texts[0]), "run.json")):
        return _series(texts[0], last=last)
    found = []
    for text in texts:
        reader = runs.open_run(text)
        state = "finished" if reader.finished else "unfinished"
        name = reader.uri.rstrip("/").rpartition("/")[2]
        found.append(NightRun(name=name, uri=reader.uri, date=None, state=state, run=reader))
    return found, set(), []


def _series(text: str, *, last: int) -> "tuple[list[NightRun], set[str], list[str]]":
    """Return the same of one series.

    Raises:
        ConfigError: the folder holds none, or several.
    """
    from fsf_core import runs, storage
    from fsf_core.analysis.drift.trend import NightRun
    from fsf_core.nights.states import find_series, read_states

    _, series = find_series(text)
    if len(series) > 1:
        templates = " or ".join(storage.redact(each.template.uri) for each in series)
        raise ConfigError(f"{storage.redact(text)} holds {len(series)} series, expected one; give {templates}")
    states = [one for one in read_states(series[0].nights()[:last]) if one.state not in {"none", "leases"}]
    found: list[NightRun] = []
    for one in reversed(states):
        reader, state = None, str(one.state)
        if state in {"finished", "unfinished"}:
            try:
                reader = runs.open_run(one.night.uri)
            except FSFError:
                state = "unreadable"
        if state == "unfinished" and all(runs.find_holder(one.night.uri)):
            state = "running"
        moment = one.night.moment.isoformat()
        found.append(NightRun(name=one.night.path, uri=one.night.uri, date=moment, state=state, run=reader))
    pinned = {one.night.uri for one in states if one.pinned}
    times = [one.night.moment for one in reversed(states)]
    return found, pinned, [] if series[0].template.has_times else _missing_days(times)


def _missing_days(times: Sequence[dt.datetime]) -> list[str]:
    """Return the days without a run of a series that has one on most days."""
    days = [each.date() for each in times]
    if len(days) < 3:  # noqa: PLR2004 - no rhythm
        return []
    span = (days[-1] - days[0]).days + 1
    if len(days) * 2 < span:
        return []
    every = [days[0] + dt.timedelta(days=at) for at in range(span)]
    return [day.isoformat() for day in every if day not in days]


def _reference(nights: "Sequence[NightRun]", pinned: set[str]) -> "RunReader":
    """Return the oldest pinned run, else the oldest finished one.

    Raises:
        ConfigError: none has finished.
    """
    finished = [one.run for one in nights if one.run is not None and one.state == "finished"]
    chosen = [each for each in finished if each.uri in pinned] or finished
    if not chosen:
        raise ConfigError(
            f"none of {len(nights)} runs has finished, expected a reference; name one with --against, or start the "
            "score command of a night again"
        )
    return chosen[0]


def _lines(document: dict[str, Any], table: Any) -> Iterator[str]:
    """Yield the document as text."""
    yield f"reference: {document['reference']['run']}, {document['reference']['items']} items"
    yield ""
    rows = []
    for night in document["nights"]:
        names = [*dict.fromkeys(alarm["name"] for alarm in night["alarms"])]
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        state = "reference" if night["is_reference"] else night["state"]
        items, failed = (_count(night[key]) for key in ("items", "failed"))
        verdict = "not judged" if night["verdict"] and not night["judged"] else night["verdict"] or "-"
        rows.append((night["name"], state, items, failed, verdict, ", ".join(names[:NAMES_SHOWN]) + more))
    yield from table(("night", "state", "items", "failed", "verdict", "alarms"), rows)
    if document["missing"]:
        yield f"no run on {', '.join(document['missing'])}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
