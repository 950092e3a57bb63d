"""Which runs of a series may be removed: rules over dates and states. Opens nothing."""

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fsf_core.errors import ConfigError
from fsf_core.nights.states import NightState

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is kept."""

    keep: dt.timedelta | None
    """Runs of nights younger than this; None for no limit of age."""
    keep_last: int | None
    """The newest finished runs of a series; None for no number."""
    now: dt.datetime
    """The time in UTC."""

    def is_young(self, moment: dt.datetime | None) -> bool:
        """Return whether a date of a folder, which has no time zone, or a time is within the limit of age."""
        if self.keep is None or moment is None:
            return self.keep is not None
        limit = self.now - self.keep
        if moment.tzinfo is None:  # a day is as old as its last second
            whole_day = moment.time() == dt.time()
            limit = (limit.replace(hour=0, minute=0, second=0, microsecond=0) if whole_day else limit).replace(
                tzinfo=None
            )
        return moment >= limit


def parse_keep(text: str | None) -> dt.timedelta | None:
    """Return the age in `--keep`.

    Raises:
        ConfigError: it is no number of hours, days or weeks.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text)
    if match is None:
        raise ConfigError(f"--keep is {text!r}, expected an age such as 30d, 12w or 48h; correct it")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What else needs the runs of a series."""

    reused: Mapping[str, str]
    """Id of a run to the path of an unfinished run that reuses it."""
    bundles: Collection[tuple[str, str]]
    """URI of a bundle and path of a run that was scored with it."""
    named: str
    """Path of the run that the pointer names; empty if there is none."""


def reasons_to_keep(states: Sequence[NightState], retention: Retention, uses: Uses) -> dict[str, str]:
    """Return the reason for every run of a series that stays, by path; the other runs may go.

    Args:
        states: of its nights, the newest first.
        retention: the limits.
        uses: what else needs them.
    """
    finished = [state for state in states if state.state == "finished"]
    kept = {
        id(state): f"it is one of the newest {retention.keep_last}" for state in finished[: retention.keep_last or 0]
    }
    kept |= {id(state): "it is the newest finished run" for state in finished[:1]}
    reasons = {
        state.night.path: kept.get(id(state)) or _reason_of_run(state, uses) or _reason_of_age(state, retention)
        for state in states
        if state.state in {"finished", "unfinished", "unreadable"}
    }
    return {path: reason for path, reason in reasons.items() if reason}


def _reason_of_run(state: NightState, uses: Uses) -> str:
    """Return why a run stays whatever its age; empty if nothing keeps it."""
    if state.state == "unreadable":
        return "its run.json cannot be read"
    if state.pinned:
        return "it is pinned"
    if state.night.path == uses.named:
        return "the pointer names it"
    if state.run_id in uses.reused:
        return f"{uses.reused[state.run_id]} has not finished and needs it"
    user = _user_of_bundle(state, uses.bundles)
    return f"{user} was scored with its bundle" if user else ""


def _reason_of_age(state: NightState, retention: Retention) -> str:
    """Return why a run is not old enough; empty if it is."""
    if retention.is_young(state.night.moment):
        return "it is younger than the limit"
    if state.state == "unfinished" and retention.keep is None:
        return "it has not finished"
    started_lately = state.state == "unfinished" and retention.is_young(state.started_at)
    return "it has not finished, and was started within the limit" if started_lately else ""


def _user_of_bundle(state: NightState, bundles: Collection[tuple[str, str]]) -> str:
    """Return a run that was scored with a bundle inside this run, but for the run itself; empty if there is none."""
    inside = f"{state.night.uri.rstrip('/')}/"
    return next((path for uri, path in bundles if uri.startswith(inside) and path != state.night.path), "")


def reuses(states: Iterable[NightState]) -> dict[str, str]:
    """Return the ids of the runs that unfinished runs reuse, with the path of one of these."""
    return {run_id: state.night.path for state in states if state.state == "unfinished" for run_id in state.reused}


def used_bundles(states: Iterable[NightState]) -> set[tuple[str, str]]:
    """Return the bundles that runs were scored with last, each with the path of a run."""
    usable = (state for state in states if state.state in {"finished", "unfinished"})
    return {(str(attempt.get("bundle")), state.night.path) for state in usable for attempt in state.attempts[-1:]}
