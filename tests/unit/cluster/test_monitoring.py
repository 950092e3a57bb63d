"""The dashboard and the alerts are valid and read metrics that exist, and alerts fire when they should."""

import json
import re
import shutil
import subprocess
from collections import Counter
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from fsf_core.cli.app import app
from fsf_core.score.metric_table import METRICS
from tests.support import monitoring
from tests.support.kubernetes import PROGRAM
from tests.support.monitoring import FOLDER, PREFIX

BY_NAME = {PREFIX + metric.name: metric for metric in METRICS}
OWN_LABELS = {"instance", "WorkerId"}
"""Labels that Prometheus and Ray add to every metric of a job."""


def _differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Return what of a document the other does not hold."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for key in ours
            for line in (
                [f"{where}.{key}"] if key not in theirs else _differences(ours[key], theirs[key], f"{where}.{key}")
            )
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [line for at in range(len(ours)) for line in _differences(ours[at], theirs[at], f"{where}[{at}]")]
    return [] if ours == theirs else [f"{where}: {ours!r} became {theirs!r}"]


def _as_grafana_reads(document: dict[str, Any]) -> dict[str, Any]:
    register_default_plugins()
    read: dict[str, Any] = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    return read


def test_every_key_of_the_dashboard_is_one_of_grafanas_schema() -> None:
    document = monitoring.dashboard()
    assert _differences(document, _as_grafana_reads(document)) == []


def test_a_key_that_grafana_does_not_know_is_found() -> None:
    document = monitoring.dashboard()
    document["panels"][1]["titel"] = "x"
    document["panels"][1]["options"]["graphmode"] = "none"
    found = _differences(document, _as_grafana_reads(document))

    assert sorted(found) == [".panels[1].options.graphmode", ".panels[1].titel"]


def test_panels_have_ids_titles_and_places_of_their_own() -> None:
    panels = monitoring.dashboard()["panels"]
    assert not [name for name, count in Counter(panel["title"] for panel in panels).items() if count > 1]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        box = panel["gridPos"]
        assert box["x"] + box["w"] <= 24
        cells = {(box["x"] + x, box["y"] + y) for x in range(box["w"]) for y in range(box["h"])}
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells
    for panel in monitoring.panels():
        assert panel["description"].endswith("."), panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("where", monitoring.queries())
def test_a_query_reads_metrics_and_labels_that_the_job_exports(where: str) -> None:
    read = monitoring.selectors(monitoring.queries()[where])
    assert read
    for name, labels in read:
        if name.startswith(f"{PREFIX}fsf_"):
            assert name in BY_NAME, f"{where}: {name} is no metric"
            assert labels <= {"run", *BY_NAME[name].labels, *OWN_LABELS}, f"{where}: {name} has no label of {labels}"


@pytest.mark.parametrize("where", monitoring.queries())
def test_a_query_groups_and_matches_by_labels_that_its_metrics_have(where: str) -> None:
    query = monitoring.queries()[where]
    named = {
        label.strip()
        for group in re.findall(r"\b(?:by|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", query)
        for label in group.split(",")
        if label.strip()
    }
    ours = [BY_NAME[name] for name, _ in monitoring.selectors(query) if name in BY_NAME]
    known = {"run", *OWN_LABELS, *(label for metric in ours for label in metric.labels)}
    known |= {"ip", "GpuIndex", "NodeAddress", "operator"}  # of Ray's metrics; the run of a real job checks them

    assert named <= known


def test_every_metric_is_shown_or_alerted_on() -> None:
    read = {name for query in monitoring.queries().values() for name, _ in monitoring.selectors(query)}
    assert {*BY_NAME} - read == set()


def test_every_alert_has_a_severity_a_summary_and_what_to_do() -> None:
    for rule in monitoring.alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert {*rule["annotations"]} == {"summary", "runbook"}, rule["alert"]
        assert re.fullmatch(r"Fsf[A-Za-z]+", rule["alert"])


def test_runbooks_name_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    app(["score", "--help"], result_action="return_value")
    known = {*re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out), "--date"}
    named = {
        name for rule in monitoring.alerts() for name in re.findall(r"--[a-z][a-z-]+", rule["annotations"]["runbook"])
    }

    assert named
    assert named - known == set()


def test_the_rules_of_the_prometheus_operator_are_the_same() -> None:
    text = (FOLDER / "prometheusrule.yaml").read_text()
    assert text == monitoring.prometheus_rule(), "write it with python -m tests.support.docs"
    assert yaml.safe_load(text)["spec"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())


def test_gauges_of_a_job_are_scraped_before_they_disappear() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (scrape,) = config["scrape_configs"]

    assert config["global"]["scrape_interval"] == endpoint["interval"] == "15s", "they live for 20 s"
    dropped = [rule["regex"] for rule in endpoint["metricRelabelings"]]
    assert dropped == [rule["regex"] for rule in scrape["metric_relabel_configs"]]
    read = {name for query in monitoring.queries().values() for name, _ in monitoring.selectors(query)}
    assert not [name for name in read if re.fullmatch(dropped[1], name)], "what is dropped is not shown"


def test_the_pod_monitor_selects_the_pods_of_the_ray_clusters() -> None:
    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    cluster = yaml.safe_load((FOLDER.parent / "kuberay" / "base" / "raycluster.yaml").read_text())
    pods = [group["template"] for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"])]
    for pod in pods:
        assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        ports = [port["name"] for container in pod["spec"]["containers"] for port in container["ports"]]
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports


def test_kustomize_builds_the_monitor_the_rules_and_the_dashboard() -> None:
    done = subprocess.run(
        [PROGRAM, "kustomize", FOLDER], capture_output=True, text=True, check=True
    )  # fmt: skip
    built = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}

    assert {*built} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    assert json.loads(built["ConfigMap"]["data"]["dashboard.json"]) == monitoring.dashboard()
    assert built["ConfigMap"]["metadata"]["labels"]["grafana_dashboard"] == "1"


def _promtool(*words: str) -> str:
    if not shutil.which("promtool"):
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [("check", "rules", "rules.yaml"), ("check", "config", "prometheus.yaml")])
def test_prometheus_takes_the_files(words: tuple[str, ...]) -> None:
    assert "SUCCESS" in _promtool(*words)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in _promtool("test", "rules", "rules-test.yaml")
    situations = yaml.safe_load((FOLDER / "rules-test.yaml").read_text())["tests"]
    expected = [
        sample["labels"] for one in situations for check in one["promql_expr_test"] for sample in check["exp_samples"]
    ]
    fired = {name for labels in expected for name in re.findall(r'alertname="(\w+)"', labels)}

    assert fired == {rule["alert"] for rule in monitoring.alerts()}, "each fires in one of them"
    assert all(any(not check["exp_samples"] for check in one["promql_expr_test"]) for one in situations if one["name"])
