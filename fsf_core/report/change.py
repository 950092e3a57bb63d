"""What changed since another run: the comparison of `fsf diff`, for the page."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.analysis.drift import changed_pixels, compare_runs, describe_verdict, is_judged
from fsf_core.analysis.items import item_features
from fsf_core.report.classes import LogAxis

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 24
"""Classes of the table of changes, those with the largest PSI."""

MAX_IDS = 8
"""New and vanished failures that the page names."""

STATISTICS = {
    "psi": "population stability index",
    "js": "Jensen-Shannon divergence, bits",
    "presence": "difference of the shares of items that have it",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A run compared with another one."""

    other: runs.RunReader
    document: dict[str, Any]
    """As `fsf diff` prints it; a is the other run."""
    features: "pa.Table"
    """One row per item of the other run."""
    changed: dict[str, float]
    """Share of changed pixels of every item that both runs have scored."""


def read_change(run: runs.RunReader, other_uri: str) -> Change:
    """Compare a run with another one.

    Raises:
        OutputError: there is no other run, or the two have no class in common.
    """
    other = runs.open_run(other_uri)
    changes = changed_pixels(other, run)
    table = changes.item_table()
    known = table.filter(pc.is_valid(table.column("changed_share")))
    pairs = zip(known.column("item_id").to_pylist(), known.column("changed_share").to_pylist(), strict=True)
    features = item_features(other)
    document = compare_runs(other, run, changes=changes, known=(features, None))
    return Change(other=other, document=document, features=features, changed=dict(pairs))


def shares_before(change: Change, names: tuple[str, ...]) -> dict[int, float]:
    """Return the share of each class of a run in the other run, found by its name."""
    found = {each["name"]: each["share_a"] for each in change.document["classes"]}
    return {k: found[name] for k, name in enumerate(names) if found.get(name) is not None}


def change_section(change: Change, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what the template shows.

    Args:
        change: of the run.
        names: of its classes.
    """
    document = change.document
    ids = {name: k for k, name in enumerate(names)}
    classes = sorted(document["classes"], key=lambda each: -(each["psi"] or 0))[:MAX_ROWS]
    listed = document.get("failures_listed", {})
    return {
        "other": storage.redact(change.other.uri),
        "run_id": change.other.run_id,
        "finished": change.other.finished,
        "verdict": describe_verdict(document),
        "tone": "bad" if document["verdict"] != "same" else "good" if is_judged(document) else "soft",
        "attributed": document["attributed"],
        "reason": document["model"]["reason"],
        "alarms": [{**each, "title": STATISTICS[each["statistic"]]} for each in document["alarms"]],
        "classes": [{**each, "id": ids[each["name"]]} for each in sorted(classes, key=lambda each: ids[each["name"]])],
        "axis": _axis(classes),
        "hidden": len(document["classes"]) - len(classes),
        "classes_only": document["classes_only"],
        "inputs": [each for each in (*document["inputs"], *document["confidence"]) if each["mean_a"] is not None],
        "pixels": document["pixels_changed_share"],
        "transitions": document["pixels"]["transitions"][:MAX_IDS],
        "shared": document["items"],
        "failures": document["failures"],
        "new": listed.get("new", [])[:MAX_IDS],
        "gone": listed.get("gone", [])[:MAX_IDS],
        "draws": document["draws"],
        "seed": document["seed"],
    }


def _axis(classes: list[dict[str, Any]]) -> LogAxis:
    return LogAxis.of(share for each in classes for share in (each["share_a"], each["share_b"]) if share)
