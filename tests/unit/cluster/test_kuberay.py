"""What an operator applies from cluster/kuberay is valid, fits together, and starts commands that exist.

Each check is tried on planted mistakes, so that none of them passes everything.
"""

import copy
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from fsf_core.cli.app import app
from fsf_core.config import ExportConfig, ScoreConfig
from tests.support import cluster_rules, kuberay_rules, kuberay_schema
from tests.support.kubernetes import KUBERAY, Document, build, copy_site, job_spec, require_valid

OVERLAYS = ("base", "overlays/cpu-small", "overlays/gpu", "overlays/spot", "jobs/export", "nights")
SITES = ("site/cluster", "site/export", "site/score", "site/nights", "site/raycronjob")
COMPONENTS = sorted(path.parent.name for path in (KUBERAY / "components").glob("*/kustomization.yaml"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of cluster/kuberay with the files that an operator adds."""
    return copy_site(tmp_path_factory.mktemp("kuberay")).parent


@pytest.fixture(scope="module")
def built(tree: Path) -> dict[str, list[Document]]:
    """The documents of every folder that can be applied, and of every overlay as a job with its own cluster."""
    return {name: build(tree / name) for name in (*OVERLAYS, *SITES)}


@pytest.fixture(params=[*OVERLAYS, *SITES])
def documents(request: pytest.FixtureRequest, built: dict[str, list[Document]]) -> list[Document]:
    return built[request.param]


def by_kind(documents: list[Document], kind: str) -> Document:
    [found] = [document for document in documents if document["kind"] == kind]
    return found


def planted(document: Document, path: str, value: Any) -> Document:
    """Return a copy with a mistake: the value at a path such as spec/containers/0/image, or nothing there for None."""
    changed = copy.deepcopy(document)
    at: Any = changed
    *parents, last = (int(name) if name.isdigit() else name.replace("~", "/") for name in path.split("/"))
    for name in parents:
        at = at[name]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return changed


def test_every_folder_is_built_and_holds_what_it_is_for(built: dict[str, list[Document]]) -> None:
    kinds = {name: {document["kind"] for document in documents} for name, documents in built.items()}

    assert all(kinds[name] >= {"RayCluster", "ServiceAccount", "NetworkPolicy"} for name in OVERLAYS[:4])
    assert "RayCluster" not in kinds["site/score"] | kinds["site/export"]
    assert {"RayJob", "Secret", "ConfigMap"} <= kinds["site/score"] & kinds["site/export"]
    groups = {
        name: [group["groupName"] for group in by_kind(built[name], "RayCluster")["spec"]["workerGroupSpecs"]]
        for name in OVERLAYS[:4]
    }
    assert groups["base"] == groups["overlays/cpu-small"] == ["cpu-workers"]
    assert groups["overlays/gpu"] == groups["overlays/spot"] == ["cpu-workers", "gpu-workers"]


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


HEAD = "spec/headGroupSpec"
POD = f"{HEAD}/template/spec"
WORKERS = "spec/workerGroupSpecs/0"
WORKER_POD = f"{WORKERS}/template/spec"
SCHEMA_MISTAKES = [
    ("RayCluster", "spec/workerGroupSpec", []),
    ("RayCluster", "spec/autoscalerOptions/version", "v3"),
    ("RayCluster", "spec/autoscalerOptions/idleTimeoutSeconds", "300"),
    ("RayCluster", "spec/authOptions/mode", "tokens"),
    ("RayCluster", "spec/authoptions", {"mode": "token"}),
    ("RayCluster", f"{HEAD}/rayStartParams/num-cpus", 0),
    ("RayCluster", f"{HEAD}/template", None),
    ("RayCluster", f"{WORKERS}/maxReplicas", "8"),
    ("RayCluster", f"{WORKERS}/groupname", "cpu"),
    ("RayCluster", "spec/upgradeStrategy/type", "Rolling"),
    ("RayJob", "spec/ttlSecondsAfterFinished", "600"),
    ("RayJob", "spec/runtimeEnvYAML", {"env_vars": {}}),
    ("RayJob", "spec/entryPoint", "fsf score"),
    ("RayJob", "spec/rayClusterSpec/enableInTreeAutoscaling", "true"),
    ("RayJob", "spec/deletionStrategy", {"deletionRules": [{"policy": "DeleteAll", "condition": {}}]}),
    ("RayJob", "apiVersion", "ray.io/v1alpha1"),
]
POD_MISTAKES = [
    ("RayCluster", f"{POD}/containers/0/imagePullpolicy", "Always"),
    ("RayCluster", f"{POD}/containers/0/ports/0/containerPort", "6379"),
    ("RayCluster", f"{WORKER_POD}/tolerations", {"key": "nvidia.com/gpu"}),
    ("RayCluster", f"{WORKER_POD}/containers/0/lifecycle/preStop/exec/command", "ray drain-node"),
    ("RayCluster", f"{WORKER_POD}/terminationGracePeriodSeconds", "120"),
    ("RayCluster", "spec/autoscalerOptions/securityContext/capabilities/drop", "ALL"),
    ("RayJob", "spec/submitterPodTemplate/spec/container", []),
]


def _source(built: dict[str, list[Document]], kind: str) -> list[Document]:
    return built["overlays/spot" if kind == "RayCluster" else "site/score"]


@pytest.mark.parametrize(("kind", "path", "value"), SCHEMA_MISTAKES)
def test_a_planted_mistake_violates_the_schema(
    kind: str, path: str, value: Any, built: dict[str, list[Document]]
) -> None:
    wrong = planted(by_kind(_source(built, kind), kind), path, value)

    assert kuberay_schema.problems(wrong, kuberay_schema.SCHEMAS[kind])


@pytest.mark.kuberay
@pytest.mark.parametrize(
    ("kind", "path", "value"), [case for case in SCHEMA_MISTAKES if case[1] != "apiVersion"] + POD_MISTAKES
)
def test_a_planted_mistake_violates_kuberays_own_schema(
    kind: str, path: str, value: Any, built: dict[str, list[Document]]
) -> None:
    wrong = planted(by_kind(_source(built, kind), kind), path, value)

    assert kuberay_schema.problems(wrong, kuberay_schema.upstream(kind))


@pytest.mark.parametrize(("kind", "path", "value"), POD_MISTAKES)
def test_a_planted_mistake_in_a_pod_is_found(
    kind: str, path: str, value: Any, built: dict[str, list[Document]]
) -> None:
    wrong = planted(by_kind(_source(built, kind), kind), path, value)

    with pytest.raises(kubernetes_validate.ValidationError):
        kuberay_schema.require_valid_pods(wrong)


DELETE_WORKERS = {"policy": "DeleteWorkers", "condition": {"jobStatus": "FAILED"}}
KUBERAY_MISTAKES = [
    ("RayCluster", "metadata/name", "f" * 54, "53 characters"),
    ("RayCluster", "metadata/name", "fsf.cluster", "DNS label"),
    ("RayCluster", f"{POD}/containers/0/imagePullPolicy", "Sometimes", "imagePullPolicy"),
    ("RayCluster", "spec/networkPolicy", {}, "feature gate"),
    ("RayCluster", "spec/gcsFaultToleranceOptions", {"backend": "rocksdb"}, "rocksdb"),
    ("RayCluster", f"{HEAD}/resources", {"CPU": "1"}, "resources in both"),
    ("RayCluster", f"{HEAD}/rayStartParams/labels", "a=b", "labels belong"),
    ("RayCluster", f"{POD}/restartPolicy", "Always", "restartPolicy must be Never"),
    ("RayCluster", f"{WORKERS}/minReplicas", 9, "minReplicas is above"),
    ("RayCluster", "spec/autoscalerOptions/version", "v1", "need autoscaler v2"),
    ("RayCluster", f"{POD}/containers/0/env/0/name", "RAY_enable_autoscaler_v2", "contradicts"),
    ("RayCluster", f"{POD}/containers/0/env/0/name", "RAY_REDIS_ADDRESS", "gcsFaultToleranceOptions"),
    ("RayCluster", "spec/rayVersion", "2.51.0", "2.52.0"),
    ("RayCluster", "spec/rayVersion", None, "2.52.0"),
    ("RayJob", "metadata/name", "f" * 48, "47 characters"),
    ("RayJob", "spec/submissionMode", "K8SJobMode", "submissionMode"),
    ("RayJob", "spec/shutdownAfterJobFinishes", None, "needs shutdownAfterJobFinishes"),
    ("RayJob", "spec/ttlSecondsAfterFinished", -1, "negative"),
    ("RayJob", "spec/rayClusterSpec", None, "exactly one"),
    ("RayJob", "spec/clusterSelector", {"ray.io/cluster": "fsf"}, "exactly one"),
    ("RayJob", "spec/submissionMode", "SidecarMode", "SidecarMode excludes"),
    ("RayJob", "spec/submissionMode", "InteractiveMode", "InteractiveMode excludes"),
    ("RayJob", "spec/activeDeadlineSeconds", 0, "positive"),
    ("RayJob", "spec/runtimeEnvYAML", "a: [", "no YAML"),
    ("RayJob", "spec/rayClusterSpec/upgradeStrategy", {"type": "None"}, "upgradeStrategy"),
    ("RayJob", "spec/submitterPodTemplate/spec/restartPolicy", "Always", "submitter's restartPolicy"),
    ("RayJob", "spec/deletionStrategy", {"deletionRules": [DELETE_WORKERS]}, "not supported with autoscaling"),
    ("RayJob", "spec/deletionStrategy", {"deletionRules": [DELETE_WORKERS] * 2}, "a policy twice"),
    ("RayJob", "spec/deletionStrategy", {"deletionRules": [DELETE_WORKERS | {"condition": {}}]}, "0 states"),
]


@pytest.mark.parametrize(("kind", "path", "value", "sentence"), KUBERAY_MISTAKES)
def test_a_mistake_that_only_kuberays_code_refuses_is_found(
    kind: str, path: str, value: Any, sentence: str, built: dict[str, list[Document]]
) -> None:
    wrong = planted(by_kind(_source(built, kind), kind), path, value)

    assert sentence in " | ".join(kuberay_rules.violations(wrong))


JOB = "spec/jobTemplate/spec"
NIGHT_MISTAKES = [
    ("metadata/name", "f" * 53, "52 characters"),
    ("spec/concurrencyPolicy", "Allow", "two nights"),
    ("spec/startingDeadlineSeconds", None, "later than a day"),
    (f"{JOB}/activeDeadlineSeconds", 90_000, "later than a day"),
    (f"{JOB}/template/spec/restartPolicy", "OnFailure", "restartPolicy Never"),
    (f"{JOB}/podFailurePolicy/rules/0", None, "a drained node"),
    (f"{JOB}/podFailurePolicy/rules/1/onExitCodes/values", [1, 2, 3, 75], "exit code 75 leads to FailJob"),
    (f"{JOB}/podFailurePolicy/rules/1/onExitCodes/values", [1, 2], "exit code 3 leads to Count"),
    (f"{JOB}/podFailurePolicy/rules/1/onExitCodes/operator", "NotIn", "exit code 143 leads to FailJob"),
    (f"{JOB}/podFailurePolicy/rules/1/onExitCodes/containerName", "score", "exit code 2 leads to Count"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), NIGHT_MISTAKES)
def test_a_night_that_would_go_wrong_is_found(
    path: str, value: Any, sentence: str, built: dict[str, list[Document]]
) -> None:
    night = next(document for document in built["nights"] if document["metadata"]["name"] == "fsf-night")

    assert list(cluster_rules._nights(night, [])) == []
    assert sentence in " | ".join(cluster_rules._nights(planted(night, path, value), []))


@pytest.mark.parametrize(
    ("path", "value"),
    [("suspend", True), ("backoffLimit", 1), ("clusterSelector/ray.io~cluster", ""), ("submissionMode", "SidecarMode")],
)
def test_a_job_on_an_existing_cluster_excludes_more(path: str, value: Any, built: dict[str, list[Document]]) -> None:
    job = planted(by_kind(built["site/export"], "RayJob"), "spec/rayClusterSpec", None)
    job["spec"] |= {"clusterSelector": {"ray.io/cluster": "fsf"}, "backoffLimit": 0}
    assert kuberay_rules.violations(job) == []
    wrong = planted(job, f"spec/{path}", value)

    assert "clusterSelector" in " | ".join(kuberay_rules.violations(wrong))


@pytest.mark.parametrize(
    ("schedule", "zone", "found"),
    [
        ("0 1 * * *", "Etc/UTC", ""), ("*/5 1-3 * * 1,2", "Europe/Berlin", ""), ("TZ=UTC 0 1 * * *", "Etc/UTC", "zone"),
        ("0 1 * *", "Etc/UTC", "cron"), ("60 1 * * *", "Etc/UTC", "cron"), ("0 1 * * *", "Mars/Base", "Mars/Base"),
        ("0 1 * * *", "", "zone"), ("@daily at one", "Etc/UTC", "cron"),
    ],
)  # fmt: skip
def test_schedules_are_read(schedule: str, zone: str, found: str) -> None:
    spec = {"schedule": schedule, "timeZone": zone, "jobTemplate": {"submissionMode": "HTTPMode", "rayClusterSpec": {}}}
    sentences = list(kuberay_rules._schedule({"kind": "RayCronJob", "metadata": {"name": "a"}, "spec": spec}))

    assert bool(sentences) == bool(found)
    assert found in " ".join(sentences)


SHM = {"medium": "Memory", "sizeLimit": "9Gi"}
PROJECT_MISTAKES = [
    ("RayCluster", f"{POD}/containers/0/image", "fsf:latest", "image fsf:latest"),
    ("RayCluster", f"{POD}/containers/0/image", "registry.example.com/fsf:0.1.0", "image registry"),
    ("RayCluster", "spec/rayVersion", "2.59.0", "constraints.txt"),
    ("RayCluster", f"{WORKER_POD}/automountServiceAccountToken", True, "gets a token"),
    ("RayCluster", f"{POD}/automountServiceAccountToken", False, "lacks the autoscaler's"),
    ("RayCluster", f"{POD}/securityContext/runAsUser", 0, "user 1000"),
    ("RayCluster", f"{POD}/securityContext/seccompProfile", None, "seccomp"),
    ("RayCluster", f"{HEAD}/template/metadata/labels", {}, "lacks the label"),
    ("RayCluster", f"{POD}/containers/0/securityContext/readOnlyRootFilesystem", False, "write to its image"),
    ("RayCluster", "spec/autoscalerOptions/securityContext", None, "autoscaler: keeps capabilities"),
    ("RayCluster", f"{POD}/containers/0/env/0/value", "/home/ray", "cannot be written to"),
    ("RayCluster", f"{WORKER_POD}/containers/0/resources/requests/cpu", None, "must request CPUs"),
    ("RayCluster", f"{WORKER_POD}/containers/0/resources/limits/cpu", "7", "no limit of CPUs"),
    ("RayCluster", f"{WORKER_POD}/containers/0/resources/limits/memory", "32Gi", "memory differ"),
    ("RayCluster", "spec/workerGroupSpecs/1/template/spec/containers/0/resources/limits/nvidia.com~gpu", "2", "differ"),
    ("RayCluster", f"{WORKER_POD}/containers/0/volumeMounts/0/name", "temp", "mounts ['shared-mem', 'temp']"),
    ("RayCluster", f"{WORKER_POD}/volumes/0/emptyDir/sizeLimit", "30Gi", "ephemeral-storage"),
    ("RayCluster", f"{WORKER_POD}/volumes/1/emptyDir", SHM, "object store"),
    ("RayCluster", f"{WORKER_POD}/volumes/1/emptyDir/medium", None, "object store"),
    ("RayCluster", f"{WORKERS}/rayStartParams/object-store-memory", "6000000000", "object store"),
    ("RayCluster", f"{HEAD}/rayStartParams/num-cpus", None, "head must offer none"),
    ("RayCluster", f"{WORKERS}/rayStartParams/num-cpus", "8", "as many as it requests"),
    ("RayCluster", f"{WORKER_POD}/containers/0/resources/requests/cpu", "6500m", "whole ones"),
    ("RayCluster", f"{WORKERS}/minReplicas", 1, "does not shrink to zero"),
    ("RayCluster", f"{WORKER_POD}/containers/0/lifecycle", None, "is not drained"),
    ("RayCluster", f"{WORKER_POD}/terminationGracePeriodSeconds", 60, "drains for"),
    ("RayCluster", f"{POD}/serviceAccountName", "default", "no service account default"),
    ("RayCluster", f"{POD}/containers/0/envFrom/0/secretRef/name", "stores", "no secret stores"),
    ("RayJob", "spec/submitterPodTemplate/spec/containers/0/envFrom/0/configMapRef/name", "a", "no ConfigMap a"),
    ("PodDisruptionBudget", "spec/selector/matchLabels/ray.io~node-type", "heads", "selects no pod"),
    ("NetworkPolicy", "spec/podSelector/matchLabels", {"app": "fsf"}, "selects no pod"),
    ("Secret", "data/AWS_ACCESS_KEY_ID", "c2VjcmV0", "holds values"),
    ("ConfigMap", "data/MANIFEST", "https://me:word@data.example/list.csv", "credential"),
]


@pytest.mark.parametrize(("kind", "path", "value", "sentence"), PROJECT_MISTAKES)
def test_a_broken_promise_is_found(
    kind: str, path: str, value: Any, sentence: str, built: dict[str, list[Document]]
) -> None:
    name = "overlays/spot" if kind not in ("RayJob", "Secret") else "site/score"
    wrong = [planted(document, path, value) if document["kind"] == kind else document for document in built[name]]

    assert sentence in " | ".join(cluster_rules.violations(wrong))


SETTINGS = {
    "CHECKPOINT": "s3://models/my weights.pth", "NET": "fastsegformer-e", "CLASSES": 'background,"sun burn",ulcer',
    "BUNDLE": "s3://models/oranges", "MANIFEST": "s3://data/new photos/*.jpg", "RUNS": "gs://scores/a b",
    "PROVIDER": "cuda", "KEEP": "30d",
}  # fmt: skip


@pytest.fixture
def entrypoint_words(tmp_path: Path) -> Callable[[Document], list[str]]:
    """Return the words that reach `fsf` from a RayJob, through the shells of the submitter and of the head."""
    (tmp_path / "fsf").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tmp_path / "fsf").chmod(0o755)
    environment = {**SETTINGS, "PATH": f"{tmp_path}:/usr/bin:/bin"}

    def run(job: Document) -> list[str]:
        # KubeRay writes the entrypoint into the submitter's script as it is; `ray job submit` quotes the words again.
        submitter = f'ray() {{ shift 4; printf "%s\\0" "$@"; }}; ray job submit --address a -- {job["entrypoint"]} ;'
        sent = subprocess.run(["bash", "-ce", "--", submitter], env=environment, capture_output=True, check=True)
        [dashes, *words] = sent.stdout.decode().rstrip("\0").split("\0")
        assert dashes == "--"
        on_head = ["sh", "-c", subprocess.list2cmdline(words)]
        ran = subprocess.run(on_head, cwd=tmp_path, env=environment, capture_output=True, check=True)
        return ran.stdout.decode().rstrip("\0").split("\0")

    return run


def test_entrypoints_are_commands_of_fsf_with_the_settings(
    built: dict[str, list[Document]], entrypoint_words: Callable[[Document], list[str]]
) -> None:
    export = _parsed(entrypoint_words(job_spec(by_kind(built["site/export"], "RayJob")) or {}))
    score = _parsed(entrypoint_words(job_spec(by_kind(built["site/score"], "RayJob")) or {}))

    assert isinstance(export, ExportConfig)
    assert (export.checkpoint, export.net, export.out) == tuple(
        SETTINGS[key] for key in ("CHECKPOINT", "NET", "BUNDLE")
    )
    assert export.classes == ("background", "sun burn", "ulcer")
    assert isinstance(score, ScoreConfig)
    assert (score.bundle, score.manifest, score.provider) == tuple(
        SETTINGS[key] for key in ("BUNDLE", "MANIFEST", "PROVIDER")
    )
    assert score.out == "gs://scores/a b/date={date}"


def _parsed(words: list[str]) -> Any:
    """Return the options that the command line of fsf makes of words."""
    _, arguments, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    [config] = [*arguments.args, *arguments.kwargs.values()]
    return config


def test_settings_are_the_same_everywhere(tree: Path, built: dict[str, list[Document]]) -> None:
    assert cluster_rules.settings(built["base"]).keys() == SETTINGS.keys()
    assert (tree / "common" / "settings.env").read_text() == (tree / "site" / "settings" / "settings.env").read_text()
    used = {
        name
        for name in ("site/export", "site/score")
        for name in re.findall(r"\$(\w+)", (job_spec(by_kind(built[name], "RayJob")) or {})["entrypoint"])
    }
    assert used == SETTINGS.keys() - {"KEEP"}


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


def test_the_drain_hook_is_shell(built: dict[str, list[Document]]) -> None:
    for group in by_kind(built["overlays/gpu"], "RayCluster")["spec"]["workerGroupSpecs"]:
        command = group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:2] == ["/bin/bash", "-c"]
        subprocess.run(["bash", "-n", "-c", command[2]], check=True)
        assert shlex.split(command[2], comments=True)
