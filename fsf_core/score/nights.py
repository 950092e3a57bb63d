"""Nights: a job whose --out is a template, on one date or on several, one after another.

Decides which date is meant, what the options become on it, which earlier run is reused, and how a range of dates ends.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fsf_core import runs, storage
from fsf_core.config import ScoreConfig
from fsf_core.errors import ConfigError, FSFError, GateError, ManifestError, OutputError, ResumableError, RunError
from fsf_core.nights import template as templates
from fsf_core.nights.series import Series, series_of
from fsf_core.publish import delta
from fsf_core.runs.lease import look_at
from fsf_core.score.cluster import connected_cluster
from fsf_core.score.gates import failed_gates, judge_gates, parse_gates
from fsf_core.score.reuse import EarlierRun, open_earlier_run, why_not_reusable

LATEST = "latest"
"""Value of --reuse."""

MAX_TRIED = 30
"""Finished runs, from the newest on, that --reuse latest looks at for one of the same model and options."""

OF_ONE_NIGHT = (ManifestError, OutputError, ConfigError)
"""Refusals that may concern one night of a range alone: its list or its folder. Others would refuse every night."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class NightJob:
    """A job on one date."""

    config: ScoreConfig
    """Its options without templates and without --date."""
    given: str
    """The --out as it was given, with its date as a template: the name of the series in metrics."""
    out: str
    """The absolute URI of the run folder."""
    series: Series | None
    """The series of the folder; None where --out has no date."""
    path: str
    """Of the folder below the root of the series."""


def plan_nights(config: ScoreConfig) -> list[NightJob]:
    """Return the job of every date that the options name, in their order; of one folder for two dates only the first.

    Raises:
        ConfigError: the date or the template is wrong, or an option needs a template that --out lacks.
    """
    templates.require_known_names(config.out)
    if not templates.has_date(config.out):
        for option, given in (("--date", config.date is not None), ("--reuse latest", config.reuse == LATEST)):
            if given:
                raise ConfigError(
                    f"{option} is given and --out is {storage.redact(config.out)}, expected a folder for every date; "
                    f"write {{date}} into --out, or leave {option} out"
                )
        return [NightJob(config=config, given=config.out, out=storage.absolute(config.out), series=None, path="")]
    series = series_of(config.out)
    if config.reuse == LATEST and not (series and series.template.readable):
        raise ConfigError(
            f"--reuse latest needs folders that show their date, and --out is {storage.redact(config.out)}; write "
            "{date} or a format with year, month and day, below a fixed folder"
        )
    now = templates.now_in(config.timezone)
    if not templates.is_range(config.date):
        moments = [now if config.date is None else templates.parse_date(config.date, now)]
    elif series and series.template.has_times:
        raise ConfigError(f"--date is {config.date}, and --out has a time of the day; give one date with its time")
    else:
        moments = templates.parse_range(str(config.date), now)
    jobs: dict[str, NightJob] = {}
    for moment in moments:
        filled: dict[str, Any] = {
            name: templates.fill(value, moment)
            for name in ("out", "manifest", "where", "delta")
            if (value := getattr(config, name)) is not None
        }
        out = storage.absolute(filled["out"])
        path = templates.fill(series.template.path, moment) if series else ""
        jobs.setdefault(
            out,
            NightJob(config=replace(config, **filled, date=None), given=config.out, out=out, series=series, path=path),
        )
    return [*jobs.values()]


def score_nights(nights: Sequence[NightJob], score_night: Callable[[NightJob], dict[str, Any]]) -> dict[str, Any]:
    """Score the nights that have not finished, one after another, while the series is locked.

    A night whose gates fail, or that is refused for its list or its folder, does not keep the later ones from being
    scored. What ends the cluster, a store or this process ends the command; started again, it skips what has finished.

    Args:
        nights: of one series.
        score_night: scores one and returns its summary.

    Returns:
        The key nights with an entry for each: date, run, state (scored, finished, stopped, refused) and the totals.

    Raises:
        RunError: all nights were refused, or the first one for what refuses every night.
        ResumableError: a store, a disk or the cluster failed.
    """
    entries: list[dict[str, Any]] = []
    refusals: list[RunError] = []
    with contextlib.ExitStack() as stack:
        series = nights[0].series
        if series:
            for night in [night for night in nights if not _is_done(night)][:1]:
                look_at(night.out)
            stack.enter_context(series.locked())
        if sum(not _is_done(night) for night in nights) > 1:
            stack.enter_context(connected_cluster(nights[0].config.ray_address))
        for night in nights:
            try:
                outcome = _score_or_skip(night, score_night)
            except OF_ONE_NIGHT as error:
                refusals.append(error)
                outcome = {"state": "refused", "error": f"{type(error).__name__}: {error}"}
                log.warning("event=night_refused run=%s reason=%r", storage.redact(night.out), str(error))
            except RunError as error:
                if not any(entry["state"] in {"scored", "stopped"} for entry in entries):
                    raise
                raise ResumableError(f"{error}; once that is corrected, the same command goes on") from error
            entries.append({"night": night.path, "run": storage.redact(night.out), **outcome})
        if len(refusals) == len(entries):
            raise refusals[0]
        if series:
            series.advance()
    return {"nights": entries}


def _score_or_skip(night: NightJob, score_night: Callable[[NightJob], dict[str, Any]]) -> dict[str, Any]:
    """Score a night unless it has finished; returns its entry."""
    if _is_done(night):
        log.info("event=night_skipped run=%s reason='it has finished'", storage.redact(night.out))
        return {"state": "finished", **_totals(runs.read_summary(night.out), night.config)}
    try:
        return {"state": "scored", **_totals(score_night(night), night.config)}
    except GateError as error:
        log.warning("event=night_stopped run=%s reason=%r", storage.redact(night.out), str(error))
        return {"state": "stopped", "gates": [str(error)]}


def _is_done(night: NightJob) -> bool:
    """Return whether a night has finished, and its rows are in the Delta tables."""
    tables = night.config.delta
    return runs.is_finished(night.out) and (not tables or delta.is_current(night.out, storage.absolute(tables)))


def _totals(summary: Mapping[str, Any], config: ScoreConfig) -> dict[str, Any]:
    """Return what the entry of a finished night has of its summary."""
    kept = {name: summary[name] for name in ("items", "frames", "seconds", "reused_items") if name in summary}
    gates = judge_gates(summary, parse_gates(config.fail_if), max_failed_share=config.max_failed_share)
    return {**kept, "gates": failed_gates({**summary, "gates": gates}, max_failed_share=config.max_failed_share)}


def find_reused(night: NightJob, facts: Mapping[str, Any]) -> EarlierRun | None:
    """Open the run that a night reuses: what --reuse names, or for `latest` the newest finished run that it can reuse.

    A resumed night reuses the run that it began with, as long as that can be reused.

    Args:
        night: the job.
        facts: the fingerprint of its run.

    Raises:
        ConfigError: it is this run.
        OutputError: the run that --reuse names does not exist, or is damaged.
    """
    reuse = night.config.reuse
    if reuse is None:
        return None
    if reuse != LATEST:
        earlier = runs.find_run(reuse)
        if earlier.rstrip("/") == night.out.rstrip("/"):
            raise ConfigError(f"--reuse is {reuse}, which is --out too; resuming needs no --reuse, leave it out")
        return open_earlier_run(earlier) if _can_reuse(earlier, facts) else None
    assert night.series
    finished = (each.uri for each in night.series.nights() if each.path != night.path and runs.is_finished(each.uri))
    for earlier in itertools.islice(itertools.chain(_begun_with(night.out), finished), MAX_TRIED):
        try:
            if _can_reuse(earlier, facts):
                return open_earlier_run(earlier)
        except OutputError as error:
            log.warning("event=reuse_failed run=%s error=%r", storage.redact(earlier), str(error))
    log.info("event=items_reused items=0 reason='no finished run of %s can be reused'", night.series.template.written)
    return None


def _begun_with(out: str) -> list[str]:
    """Return the run that an earlier start of this run reused, if it has finished, as a list of one or none."""
    if not storage.exists(storage.join(out, "run.json")):
        return []
    attempts = runs.read_document(out, "run.json")["attempts"]
    recorded = next((each["reuse"]["run"] for each in reversed(attempts) if each.get("reuse")), None)
    with contextlib.suppress(FSFError):
        return [recorded] if recorded and runs.is_finished(recorded) else []
    return []


def _can_reuse(earlier: str, facts: Mapping[str, Any]) -> bool:
    """Return whether results of an earlier run apply to this one; log why not.

    Raises:
        OutputError: there is no run, or it is damaged.
    """
    reason = why_not_reusable(earlier, facts)
    if reason:
        log.info("event=items_reused items=0 run=%s reason=%r", storage.redact(earlier), reason)
    return not reason


def reuse_record(earlier: EarlierRun | None) -> dict[str, Any]:
    """Return what the attempt of a run records about the run that it reuses."""
    return {"reuse": {"run": storage.redact(earlier.uri), "run_id": earlier.run_id}} if earlier else {}


def still_reusable(earlier: EarlierRun | None) -> EarlierRun | None:
    """Return the run that is reused, unless its removal has begun before this run recorded that it reuses it."""
    if earlier:
        try:
            runs.read_fingerprint(earlier.uri)
        except OutputError as error:
            log.warning("event=reuse_failed run=%s error=%r", storage.redact(earlier.uri), str(error))
            return None
    return earlier
