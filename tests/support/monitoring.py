"""The files of cluster/monitoring as tests read them, and what is generated of them."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from fsf_core.score.metric_table import METRICS

FOLDER = Path(__file__).parents[2] / "cluster" / "monitoring"
PREFIX = "ray_"
"""Of every metric that Ray exports."""

VARIABLES = {"$run": ".*", "$__rate_interval": "1m", "$__range": "12h"}
"""Grafana's variables, and values for them."""

GPU_METRICS = {
    "ray_node_gram_used": {"ip", "GpuIndex"},
    "ray_node_gram_available": {"ip", "GpuIndex"},
    "ray_node_gpus_utilization": {"ip", "GpuIndex"},
}
"""Metrics that Ray exports beside GPUs only, with their labels that are used."""

_RULE_HEAD = """\
# Generated from rules.yaml by `python -m tests.support.docs`, for the Prometheus operator.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fsf
  labels: {app.kubernetes.io/part-of: fsf}
spec:
"""


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    document: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return document


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    """Return the alerts."""
    return [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]


def queries() -> dict[str, str]:
    """Return every query of the dashboard and the rules by its place, with values for Grafana's variables."""
    found = {f"alert {rule['alert']}": str(rule["expr"]) for rule in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            found[f"panel {panel['title']}, {target['refId']}"] = query
    return found


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """Return the metrics that a query reads, with the labels that it asks for or groups by."""
    found: list[tuple[str, set[str]]] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matched = {matcher.name for matcher in node.matchers.matchers if matcher.name != "__name__"}
            found.append((str(node.name), matched))
        for name in ("expr", "lhs", "rhs", "param", "selector", "vector_selector"):
            child = getattr(node, name, None)
            if child is not None and not isinstance(child, str):
                visit(child)
        for child in getattr(node, "args", None) or []:
            visit(child)

    visit(promql_parser.parse(query))
    return found


def exported_labels(exposition: str) -> dict[str, set[str]]:
    """Return the labels of every metric in a Prometheus text, of all of its series together."""
    found: dict[str, set[str]] = {}
    for line in exposition.splitlines():
        match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", line)
        if match and not line.startswith("#"):
            found.setdefault(match[1], set()).update(re.findall(r'([a-zA-Z_]\w*)="(?:[^"\\]|\\.)*"', match[2] or ""))
    return found


def prometheus_rule() -> str:
    """Return the rules as an object of the Prometheus operator."""
    lines = (FOLDER / "rules.yaml").read_text().splitlines()
    body = [line for line in lines if not line.startswith("#")]
    return _RULE_HEAD + "".join(f"  {line}\n" if line else "\n" for line in body)


def metric_rows() -> str:
    """Return every metric of a job as a table."""
    lines = ["| metric | labels | meaning |", "|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in ("run", *metric.labels))
        lines.append(f"| `{PREFIX}{metric.name}` | {labels} | {metric.kind}: {metric.meaning} |")
    return "\n".join(lines)


def alert_rows() -> str:
    """Return every alert as a table."""
    lines = ["| alert | severity | fires when |", "|---|---|---|"]
    for rule in alerts():
        summary = re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", rule["annotations"]["summary"])
        lines.append(f"| `{rule['alert']}` | {rule['labels']['severity']} | {summary} |")
    return "\n".join(lines)
