"""What an operator applies from cluster/kuberay is valid and fits together; see also test_kuberay_mistakes.py."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import cluster_rules, kuberay_rules, kuberay_schema
from tests.support.kubernetes import (
    KUBERAY,
    ROOT,
    Document,
    build,
    by_kind,
    groups,
    require_valid,
)

CLUSTERS = ("base", "overlays/cpu-small", "overlays/gpu", "overlays/spot")
COMPONENTS = sorted(path.parent.name for path in (KUBERAY / "components").glob("*/kustomization.yaml"))


def test_every_folder_is_built_and_holds_what_it_is_for(built: dict[str, list[Document]]) -> None:
    kinds = {name: {document["kind"] for document in documents} for name, documents in built.items()}

    assert all(kinds[name] >= {"RayCluster", "ServiceAccount", "NetworkPolicy"} for name in CLUSTERS)
    assert "RayCluster" not in kinds["site/score"] | kinds["site/export"]
    assert {"RayJob", "Secret", "ConfigMap"} <= kinds["site/score"] & kinds["site/export"]
    pools = {
        name: [group["groupName"] for group in by_kind(built[name], "RayCluster")["spec"]["workerGroupSpecs"]]
        for name in CLUSTERS
    }
    assert pools["base"] == pools["overlays/cpu-small"] == ["cpu-workers"]
    assert pools["overlays/gpu"] == pools["overlays/spot"] == ["cpu-workers", "gpu-workers"]


def test_no_kustomization_is_left_out(built: dict[str, list[Document]]) -> None:
    folders = {
        str(path.parent.relative_to(KUBERAY))
        for path in KUBERAY.rglob("kustomization.yaml")
        if "kind: Component" not in path.read_text() and not path.relative_to(KUBERAY).parts[0].startswith("my-")
    }

    assert folders == {*built, "common"}


def test_documents_are_valid(documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] in kuberay_schema.SCHEMAS:
            assert kuberay_schema.problems(document, kuberay_schema.SCHEMAS[document["kind"]]) == []
            kuberay_schema.require_valid_pods(document)
        else:
            require_valid(document)


@pytest.mark.kuberay
def test_documents_are_valid_by_kuberays_own_schemas(documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] in kuberay_schema.SCHEMAS:
            assert kuberay_schema.problems(document, kuberay_schema.upstream(document["kind"])) == []


def test_kuberay_accepts_them_and_the_project_keeps_its_promises(documents: list[Document]) -> None:
    assert [sentence for document in documents for sentence in kuberay_rules.violations(document)] == []
    assert cluster_rules.violations(documents) == []


def test_the_settings_of_a_new_site_are_the_common_ones(tree: Path) -> None:
    assert (tree / "common" / "settings.env").read_text() == (tree / "site" / "settings" / "settings.env").read_text()


def test_a_site_decides_when_its_nights_begin_and_what_it_changes(tree: Path) -> None:
    site = tree / "site-of-a-test"
    shutil.copytree(tree / "site", site)
    settings = site / "settings" / "settings.env"
    text = settings.read_text().replace("=0 1 * * *", "=30 22 * * 1-5").replace("=Etc/UTC", "=Europe/Berlin")
    settings.write_text(text)
    for file in (site / "settings" / "kustomization.yaml", site / "cluster" / "kustomization.yaml"):
        file.write_text(re.sub(r"^# ((?:patches|-|  ).*)$", r"\1", file.read_text(), flags=re.MULTILINE))
    nights = build(site / "nights")
    specs = {each["metadata"]["name"]: each["spec"] for each in nights if each["kind"] == "CronJob"}
    alpha = by_kind(build(site / "raycronjob"), "RayCronJob")["spec"]
    cluster = build(site / "cluster")

    for spec in (specs["fsf-night"], alpha):
        assert (spec["schedule"], spec["timeZone"]) == ("30 22 * * 1-5", "Europe/Berlin")
    assert by_kind(cluster, "ServiceAccount")["metadata"]["annotations"] == {"KEY": "VALUE"}
    assert by_kind(cluster, "RayCluster")["spec"]["workerGroupSpecs"][1]["maxReplicas"] == 16


def test_a_prefix_of_the_operators_own_reaches_every_name(tree: Path) -> None:
    folder = tree / "prefixed"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("namePrefix: team-\nresources: [../site/raycronjob]\n")
    documents = build(folder)

    assert {document["metadata"]["name"].startswith("team-") for document in documents} == {True}
    assert cluster_rules.violations(documents) == []

    (folder / "night.yaml").write_text((tree / "nights" / "night.yaml").read_text())
    (folder / "kustomization.yaml").write_text("namePrefix: team-\nresources: [../base, night.yaml]\n")
    container = by_kind(build(folder), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["CLUSTER"]["value"] == "team-fsf"
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "team-fsf"
    assert container["envFrom"][0]["configMapRef"]["name"] == "team-fsf-settings"


def test_components_can_be_added(tree: Path) -> None:
    assert COMPONENTS == ["gpu-workers", "redis", "spot"]
    folder = tree / "with-redis"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: [../overlays/spot]\ncomponents: [../components/redis]\n")
    [cluster] = [document for document in build(folder) if document["kind"] == "RayCluster"]

    assert kuberay_schema.problems(cluster, kuberay_schema.SCHEMAS["RayCluster"]) == []
    assert kuberay_rules.violations(cluster) == []
    assert (
        cluster["spec"]["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "fsf-redis"
    )


def test_the_image_is_what_pods_expect(built: dict[str, list[Document]]) -> None:
    dockerfile = (ROOT / "cluster" / "image" / "Dockerfile").read_text()
    exposed = {
        int(port) for port in re.findall(r"\d+", re.findall(r"^EXPOSE (.*)$", dockerfile, flags=re.MULTILINE)[0])
    }
    head = by_kind(built["base"], "RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]

    assert re.search(r"^USER 1000$", dockerfile, flags=re.MULTILINE), "runAsUser"
    assert re.search(r'^ENTRYPOINT \[.*"--"\]$', dockerfile, flags=re.MULTILINE), "args of a CronJob are a command"
    assert {port["containerPort"] for port in head["ports"]} == exposed
    assert re.search(r"^ +bash ", dockerfile, flags=re.MULTILINE), "KubeRay, the hook and the nights run /bin/bash"


def test_prometheus_finds_the_pods(built: dict[str, list[Document]]) -> None:
    monitor = yaml.safe_load((KUBERAY.parent / "monitoring" / "podmonitor.yaml").read_text())["spec"]
    [endpoint] = monitor["podMetricsEndpoints"]
    [policy] = by_kind(built["base"], "NetworkPolicy")["spec"]["ingress"][-1]["ports"]

    for _, group in groups(by_kind(built["overlays/gpu"], "RayCluster")["spec"]):
        template = group["template"]
        assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == policy["port"], "open to every namespace"


def test_spot_nodes_get_workers_and_never_the_head(built: dict[str, list[Document]]) -> None:
    [head, *workers] = [
        group["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        for spec in [by_kind(built["overlays/spot"], "RayCluster")["spec"]]
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    ]
    spot = {(e["key"], *e["values"]) for term in workers[0]["nodeSelectorTerms"] for e in term["matchExpressions"]}

    assert workers[0] == workers[1]
    assert [len(term["matchExpressions"]) for term in workers[0]["nodeSelectorTerms"]] == [1] * 4, (
        "terms are alternatives"
    )
    [term] = head["nodeSelectorTerms"]
    assert {(e["key"], *e["values"]) for e in term["matchExpressions"] if e["operator"] == "NotIn"} == spot


def test_the_stores_settings_of_an_operator_stay_out_of_git(tree: Path) -> None:
    kept = [KUBERAY / "site" / "settings" / "stores.env", KUBERAY / "my-site" / "settings" / "stores.env"]
    ignored = subprocess.run(
        ["git", "check-ignore", *kept], cwd=KUBERAY, capture_output=True, text=True, check=False
    ).stdout.splitlines()

    assert ignored == [str(path) for path in kept]
