"""What the manifests of this project promise beyond being valid: sizes fit, names resolve, pods have few rights."""

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fsf_core.cli.app import EXIT_GATE, EXIT_UNEXPECTED, EXIT_USAGE
from fsf_core.errors import ResumableError
from tests.support.kubernetes import Document, cluster_spec, groups, pod_templates, quantity, texts, values

ROOT = Path(__file__).parents[2]
PART_OF = {"app.kubernetes.io/part-of": "fsf"}
KUBERAY_LABELS = {"head": {"ray.io/node-type": "head"}}
"""Labels that KubeRay adds to the pods of a group, as far as selectors here use them."""

OTHERS_SECRETS = {"fsf-stores", "fsf-redis", "fsf"}
"""Secrets that the operator makes, or KubeRay: the token of the cluster `fsf`, where the cluster is another build."""

STOP_S = 10
"""What `ray start --block` may take to stop its processes after a pod's hook."""

DAY_S = 86_400
MAX_CRON_JOB_NAME = 52
"""Kubernetes appends 11 characters for a Job."""

GIVE_UP = (EXIT_UNEXPECTED, EXIT_USAGE, EXIT_GATE)
TRY_AGAIN = (ResumableError.exit_code, *(128 + number for number in (1, 2, 3, 9, 15)))
"""Exit codes of fsf: those that another attempt does not change, and those after which the same command resumes."""

CREDENTIAL = re.compile(r"AKIA[0-9A-Z]{12}|-----BEGIN|://[^/\s:@]+:[^/\s@]+@|(?i:(secret|password|token|key)=\S)")


def project_version() -> str:
    """Return the version of the project."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def pinned(package: str) -> str:
    """Return the version of a package in constraints.txt."""
    [version] = re.findall(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    return str(version)


def violations(documents: Sequence[Document]) -> list[str]:
    """Return every promise that the documents of one build break."""
    return [
        f"{document['kind']} {document['metadata']['name']}: {sentence}"
        for document in documents
        for rule in RULES
        for sentence in rule(document, documents)
    ]


def _versions(document: Document, _: Sequence[Document]) -> Iterator[str]:
    tags = [f"{project_version()}{variant}" for variant in ("", "-gpu", "-export")]
    for image in values(document, "image"):
        name, _colon, tag = image.rpartition(":")
        if name not in ("fsf", "REGISTRY/fsf") or tag not in tags:
            yield f"image {image}, expected fsf with a tag of {tags}"
    for version in values(document, "rayVersion"):
        if version != pinned("ray"):
            yield f"rayVersion {version}, constraints.txt has {pinned('ray')}"


def _pods(document: Document, _: Sequence[Document]) -> Iterator[str]:
    if document["kind"] == "ServiceAccount" and document.get("automountServiceAccountToken") is not False:
        yield "pods get its token by default"
    for name, template in pod_templates(document):
        pod = template["spec"]
        security = pod.get("securityContext", {})
        if pod.get("automountServiceAccountToken") is not (name == "head" and _is_autoscaled(document)):
            yield f"{name}: gets a token of Kubernetes, or lacks the autoscaler's"
        if not security.get("runAsNonRoot") or security.get("runAsUser") != 1000:
            yield f"{name}: does not run as user 1000"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: has no seccomp profile"
        if not PART_OF.items() <= template["metadata"]["labels"].items():
            yield f"{name}: lacks the label {PART_OF}"


def _is_autoscaled(document: Document) -> bool:
    return bool((cluster_spec(document) or {}).get("enableInTreeAutoscaling"))


def _containers(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield every container of a document, that of the autoscaler included, with the name of its group."""
    for name, template in pod_templates(document):
        for container in template["spec"]["containers"]:
            yield name, container
    options = (cluster_spec(document) or {}).get("autoscalerOptions")
    if options:
        yield "autoscaler", options


def _rights(document: Document, _: Sequence[Document]) -> Iterator[str]:
    for name, container in _containers(document):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or not security.get("readOnlyRootFilesystem"):
            yield f"{name}: may gain privileges, or write to its image"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        home = next((entry["value"] for entry in container.get("env", ()) if entry["name"] == "HOME"), None)
        if home not in {mount["mountPath"] for mount in container.get("volumeMounts", ())}:
            yield f"{name}: HOME {home} cannot be written to"


def _resources(document: Document, _: Sequence[Document]) -> Iterator[str]:
    for name, container in _containers(document):
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        if "cpu" not in requests or "cpu" in limits:
            yield f"{name}: must request CPUs, and have no limit of CPUs"
        for kind in ("memory", "nvidia.com/gpu", "ephemeral-storage"):
            if requests.get(kind) != limits.get(kind):
                yield f"{name}: requests and limits of {kind} differ"
        if "memory" not in limits:
            yield f"{name}: has no limit of memory"


def _volumes(document: Document, _: Sequence[Document]) -> Iterator[str]:
    options = (cluster_spec(document) or {}).get("autoscalerOptions", {})
    for name, template in pod_templates(document):
        pod = template["spec"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", ())]
        mounts += options.get("volumeMounts", []) if name == "head" else []
        if {mount["name"] for mount in mounts} != volumes.keys():
            yield f"{name}: mounts {sorted(mount['name'] for mount in mounts)}, has volumes {sorted(volumes)}"
            continue
        disk_bytes = sum(
            quantity(volume["emptyDir"].get("sizeLimit", "1Ti"))
            for volume in volumes.values()
            if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
        )
        limit = pod["containers"][0]["resources"]["limits"].get("ephemeral-storage")
        if limit and disk_bytes > quantity(limit):
            yield f"{name}: volumes of {disk_bytes:.0f} bytes exceed the limit {limit} of ephemeral-storage"


def _ray_sizes(document: Document, _: Sequence[Document]) -> Iterator[str]:
    spec = cluster_spec(document)
    for name, group in groups(spec) if spec else ():
        start, pod = group.get("rayStartParams", {}), group["template"]["spec"]
        resources = pod["containers"][0]["resources"]
        [shm] = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-mem"]
        store, shm_bytes = int(start["object-store-memory"]), quantity(shm["sizeLimit"])
        memory = quantity(resources["limits"]["memory"])
        if shm.get("medium") != "Memory" or not store < shm_bytes <= memory / 3:
            yield f"{name}: object store {store} < /dev/shm {shm_bytes:.0f} <= a third of the memory {memory:.0f}"
        cpus = start.get("num-cpus", resources["requests"].get("cpu", "0"))
        if (name == "head") != (cpus == "0"):
            yield f"{name}: offers {cpus} CPUs; the head must offer none, a worker some"
        if name != "head" and (quantity(cpus) < 1 or quantity(cpus) % 1 or "num-cpus" in start):
            yield f"{name}: offers {cpus} CPUs, expected whole ones, as many as it requests"
        if name != "head" and not (group["minReplicas"] == 0 < group["maxReplicas"] and group["idleTimeoutSeconds"]):
            yield f"{name}: does not shrink to zero"
        if name != "head":
            yield from _drain(name, pod)


def _drain(name: str, pod: Document) -> Iterator[str]:
    """Yield why a worker's pod is not drained before it ends."""
    [*_, script] = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [""])
    deadline = re.search(r"--deadline-remaining-seconds (\d+)", script)
    waits = [int(number) for number in re.findall(r"(?:\{1\.\.|timeout )(\d+)", script)]
    grace = pod.get("terminationGracePeriodSeconds", 30)
    if not deadline:
        yield f"{name}: is not drained"
    elif sum(waits) + STOP_S > grace or int(deadline[1]) > max(waits):
        yield f"{name}: drains for {deadline[1]} s and waits {waits} s within {grace} s"


def _references(document: Document, documents: Sequence[Document]) -> Iterator[str]:
    named: dict[str, set[str]] = {}
    for other in documents:
        named.setdefault(other["kind"], set()).add(other["metadata"]["name"])
    for account in values(document, "serviceAccountName"):
        if account not in named["ServiceAccount"]:
            yield f"there is no service account {account}"
    for source in [*values(document, "configMapRef"), *values(document, "configMapKeyRef")]:
        if source["name"] not in named.get("ConfigMap", set()):
            yield f"there is no ConfigMap {source['name']}"
    for source in [*values(document, "secretRef"), *values(document, "secretKeyRef")]:
        known = named.get("Secret", set()) | (named.get("RayCluster") or OTHERS_SECRETS) | OTHERS_SECRETS
        if source["name"] not in known:
            yield f"there is no secret {source['name']}"


def _selectors(document: Document, documents: Sequence[Document]) -> Iterator[str]:
    if document["kind"] not in ("PodDisruptionBudget", "NetworkPolicy"):
        return
    selector = document["spec"].get("selector", document["spec"].get("podSelector"))["matchLabels"]
    pods = [
        template["metadata"]["labels"] | KUBERAY_LABELS.get(name, {})
        for other in documents
        for name, template in pod_templates(other)
    ]
    if pods and not any(selector.items() <= labels.items() for labels in pods):
        yield f"{selector} selects no pod"


def _credentials(document: Document, _: Sequence[Document]) -> Iterator[str]:
    if document["kind"] == "Secret" and any(document.get("data", {}).values()):
        yield "holds values"
    for text in texts(document):
        if CREDENTIAL.search(text):
            yield "holds something that looks like a credential"


def _nights(document: Document, _: Sequence[Document]) -> Iterator[str]:
    if document["kind"] != "CronJob":
        return
    spec, job = document["spec"], document["spec"]["jobTemplate"]["spec"]
    if len(document["metadata"]["name"]) > MAX_CRON_JOB_NAME:
        yield f"its name has more than {MAX_CRON_JOB_NAME} characters"
    if spec.get("concurrencyPolicy") != "Forbid":
        yield "two nights may run at once"
    if not 0 < spec.get("startingDeadlineSeconds", 0) < DAY_S or not 0 < job.get("activeDeadlineSeconds", 0) < DAY_S:
        yield "starts or ends later than a day after its time"
    if job["template"]["spec"].get("restartPolicy") != "Never":
        yield "podFailurePolicy needs restartPolicy Never"
    for code in (*GIVE_UP, *TRY_AGAIN):
        expected = "FailJob" if code in GIVE_UP else "Count"
        if (found := after_exit(job, code)) != expected:
            yield f"exit code {code} leads to {found}, expected {expected}"
    if after_exit(job, None) != "Ignore":
        yield "a drained node counts as an attempt"


def after_exit(job: Document, code: int | None) -> str:
    """Return what a Job does when its pod ends with an exit code, or is disrupted (None), by its podFailurePolicy."""
    containers = {container["name"] for container in job["template"]["spec"]["containers"]}
    for rule in job.get("podFailurePolicy", {}).get("rules", ()):
        on, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if code is None and any(each["type"] == "DisruptionTarget" for each in conditions):
            return str(rule["action"])
        exits = code is not None and on and on.get("containerName") in containers
        if exits and (code in on["values"]) == (on["operator"] == "In"):
            return str(rule["action"])
    return "Count"


Rule = Callable[[Document, Sequence[Document]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    _versions, _pods, _rights, _resources, _volumes, _ray_sizes, _references, _selectors, _credentials, _nights,
)  # fmt: skip


def settings(documents: Sequence[Document]) -> dict[str, Any]:
    """Return the entries of the ConfigMap that jobs take their settings from."""
    [data] = [document["data"] for document in documents if document["kind"] == "ConfigMap"]
    return dict(data)
