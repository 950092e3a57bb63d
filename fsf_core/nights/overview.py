"""The nights of a series for people: what each one cost."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsf_core import runs, storage
from fsf_core.errors import ConfigError, FSFError
from fsf_core.nights.states import CONCURRENT_READS, NightState, find_series, read_states


def list_runs(text: str, *, last: int) -> list[dict[str, Any]]:
    """Return the runs of the series of a folder, the newest first.

    Args:
        text: a template, or the folder above the runs.
        last: number of nights of each series, from the newest on.

    Returns:
        For each: run, date, state (finished, running, unfinished, removing, unreadable), pinned, and for a finished run
        items, failed, reused, seconds and frames; None where that is not known.

    Raises:
        ConfigError: no runs are meant, or the number is below 1.
        StorageError: the store refuses.
    """
    if last < 1:
        raise ConfigError(f"--last is {last}, expected at least 1")
    _, series = find_series(text)
    nights = {night.uri: night for each in series for night in each.nights()[:last]}
    states = [state for state in read_states(nights.values()) if state.state not in {"none", "leases"}]
    with ThreadPoolExecutor(CONCURRENT_READS) as pool:
        return [*pool.map(_describe, states)]


def _describe(state: NightState) -> dict[str, Any]:
    """Return the entry of a run."""
    shown: str = state.state
    summary: dict[str, Any] = {}
    if shown == "finished":
        try:
            summary = runs.read_summary(state.night.uri)
        except FSFError:
            shown = "unreadable"
    elif shown == "unfinished" and all(runs.find_holder(state.night.uri)):
        shown = "running"
    items = summary.get("items", {})
    return {
        "run": state.night.path,
        "uri": storage.redact(state.night.uri),
        "date": state.night.moment.isoformat(),
        "state": shown,
        "items": items.get("total"),
        "failed": items.get("failed"),
        "frames": summary.get("frames"),
        "reused": summary.get("reused_items"),
        "seconds": summary.get("seconds"),
        "pinned": state.pinned,
    }
