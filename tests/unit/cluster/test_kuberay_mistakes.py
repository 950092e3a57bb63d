"""Each check of cluster/kuberay is tried on planted mistakes, so that none of them passes everything."""

from typing import Any

import kubernetes_validate
import pytest

from tests.support import cluster_rules, kuberay_rules, kuberay_schema
from tests.support.kubernetes import (
    Document,
    by_kind,
    planted,
)

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
