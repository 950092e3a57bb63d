"""`fsf runs`: list the nights of a series."""

from typing import Any


def run(folder: str, *, last: int) -> int:
    """Print a line for every night, the newest first; returns the exit code."""
    from fsf_core.cli.output import print_json, show
    from fsf_core.nights.overview import list_runs

    found = list_runs(folder, last=last)
    show(_table(found), lines=True)
    print_json({"runs": found})
    return 0


def _table(found: list[dict[str, Any]]) -> str:
    """Return the runs as a table of text."""
    from fsf_core.safe_text import printable

    columns = ("run", "state", "items", "failed", "reused", "seconds", "pinned")
    rows = [columns, *([_cell(each[name]) for name in columns] for each in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(map(printable, lines))


def _cell(value: Any) -> str:
    return "" if value is None or value is False else "yes" if value is True else str(value)
