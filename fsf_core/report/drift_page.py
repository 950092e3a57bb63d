"""The page of `fsf diff`: a drift document as one HTML file that opens from disk and loads nothing."""

from typing import Any

from fsf_core.analysis.drift import describe_verdict
from fsf_core.report.page import render_page


def drift_page(document: dict[str, Any]) -> str:
    """Return the page of a drift document."""
    every = [*document["classes"], *document["inputs"], *document["confidence"]]
    failures = [(change, row) for change in ("new", "gone") for row in document["failures_listed"][change]]
    data = {
        "doc": document,
        "meaning": describe_verdict(document),
        "name_a": _name(document["runs"]["a"]["run"]),
        "name_b": _name(document["runs"]["b"]["run"]),
        "alarmed": sorted((row for row in every if row["alarm"]), key=lambda row: -row["psi"]),
        "figures_judged": sum(row["limits"]["psi"] is not None for row in every),
        "failures": failures,
        "total": lambda counts: max(1, sum(counts)),
    }
    return render_page(data, palette=[], rows=None, template="drift.html.j2")


def _name(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2] or uri
