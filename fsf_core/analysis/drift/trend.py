"""A reference and the runs of many nights: each class, figure and alarm, night by night."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fsf_core import storage
from fsf_core.analysis.drift.compare import compare_runs
from fsf_core.analysis.drift.verdict import is_judged
from fsf_core.analysis.items import item_features
from fsf_core.errors import FSFError
from fsf_core.runs import RunReader

GROUPS = {"classes": "share_b", "inputs": "mean_b", "confidence": "mean_b"}
"""Groups of the drift document, and what a night shows of their rows."""

_SKIPPED: Final = ("pixels", "metrics")
"""What a trend does not show."""


@dataclass(frozen=True, kw_only=True)
class NightRun:
    """A run of a series, or the place of one."""

    name: str
    """For people, such as its folder."""
    uri: str
    date: str | None
    """ISO 8601; None for a run that belongs to no series."""
    state: str
    """finished, running, unfinished, removing or unreadable."""
    run: RunReader | None
    """None where there is nothing to read."""


def trend_document(
    reference: RunReader, nights: Sequence[NightRun], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare every night with the reference.

    Args:
        reference: the run whose items decide what is usual.
        nights: in their order; the reference may be among them.
        draws: draws from the reference for each limit.
        seed: of the draws.

    Returns:
        reference; nights: state, counts and alarms of each; classes, inputs and confidence: for every row its name, its
        value in the reference, and lists with one entry per night: `values` (null where a night has none), `psi` and
        `alarms` (null where it cannot be one).

    Raises:
        OutputError: the reference has no class in common with a night, or a file of it is damaged.
    """
    known = item_features(reference)
    found = [_night(reference, one, known=known, draws=draws, seed=seed) for one in nights]
    own = compare_runs(reference, reference, draws=draws, seed=seed, skip=_SKIPPED, known=(known, known))
    return {
        "reference": {"run": storage.redact(reference.uri), "run_id": reference.run_id, "items": known.num_rows},
        "nights": [night for night, _ in found],
        **{
            group: [
                {
                    "name": row["name"],
                    "reference": row[value],
                    "values": [_entry(document, group, row["name"], value) for _, document in found],
                    "psi": [_entry(document, group, row["name"], "psi") for _, document in found],
                    "alarms": [_alarm(document, group, row["name"]) for _, document in found],
                }
                for row in own[group]
            ]
            for group, value in GROUPS.items()
        },
        "draws": draws,
        "seed": seed,
    }


def _night(
    reference: RunReader, one: NightRun, *, known: Any, draws: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the entry of a night, and its drift document where it has one."""
    entry: dict[str, Any] = {
        "name": one.name,
        "run": storage.redact(one.uri),
        "date": one.date,
        "state": one.state,
        "is_reference": one.run is not None and one.run.run_id == reference.run_id,
        "items": None,
        "failed": None,
        "verdict": None,
        "judged": False,
        "alarms": [],
        "error": None,
    }
    if one.run is None:
        return entry, None
    try:
        document = compare_runs(reference, one.run, draws=draws, seed=seed, skip=_SKIPPED, known=(known, None))
    except FSFError as error:
        if one.run.run_id == reference.run_id:
            raise
        return entry | {"state": "unreadable", "error": str(error)}, None
    items = document["items"]
    return entry | {
        "items": items["both"] + items["only_b"],
        "failed": document["runs"]["b"]["failed_items"],
        "frames": document["runs"]["b"]["frames"],
        "bundle_sha256": document["runs"]["b"]["bundle_sha256"],
        "verdict": document["verdict"],
        "judged": is_judged(document),
        "attributed": document["attributed"],
        "alarms": document["alarms"],
    }, document


def _entry(document: dict[str, Any] | None, group: str, name: str, key: str) -> Any:
    """Return one value of a night; None where it has none."""
    rows = document[group] if document else ()
    return next((row[key] for row in rows if row["name"] == name), None)


def _alarm(document: dict[str, Any] | None, group: str, name: str) -> bool | None:
    """Return whether a row of a night is an alarm; None where it could not be one."""
    limits = _entry(document, group, name, "limits")
    if limits is None or limits["psi"] is None:
        return None
    return bool(_entry(document, group, name, "alarm"))
