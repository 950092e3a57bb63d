"""What KubeRay 1.7 refuses in its code and not in its schemas (ray-operator/controllers/ray/utils/validation.go).

Each rule yields a sentence for what breaks it. Rules on fields that the manifests may not use at all, because their
feature gates are off by default, are one rule: `_alpha`.
"""

import re
from collections.abc import Callable, Iterator
from zoneinfo import available_timezones

import yaml

from tests.support.kubernetes import Document, cluster_spec, groups, job_spec, pod_templates, values

MAX_NAME = {"RayCluster": 53, "RayJob": 47, "RayCronJob": 36}
MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
DELETION_ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
CRON_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def violations(document: Document) -> list[str]:
    """Return everything that KubeRay's controllers would refuse in a document."""
    return [sentence for rule in RULES for sentence in rule(document)]


def _names(document: Document) -> Iterator[str]:
    name, limit = document["metadata"]["name"], MAX_NAME.get(document["kind"], 63)
    if len(name) > limit:
        yield f"the name {name} has more than {limit} characters"
    if document["kind"] in MAX_NAME and not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"the name {name} is no DNS label"


def _enums(document: Document) -> Iterator[str]:
    for mode in values(document, "submissionMode"):
        if mode not in MODES:
            yield f"submissionMode {mode}, expected one of {MODES}"
    for policy in values(document, "imagePullPolicy"):
        if policy not in PULL_POLICIES:
            yield f"imagePullPolicy {policy}, expected one of {PULL_POLICIES}"


def _alpha(document: Document) -> Iterator[str]:
    spec = cluster_spec(document) or {}
    for field in ("networkPolicy", "tlsOptions", "historyServerOptions"):
        if field in spec:
            yield f"{field} needs a feature gate that is off by default"
    if spec.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb":
        yield "the backend rocksdb needs a feature gate that is off by default"


def _groups(document: Document) -> Iterator[str]:
    spec = cluster_spec(document)
    autoscaled, second = bool(spec and spec.get("enableInTreeAutoscaling")), spec and _autoscaler_v2(spec)
    for name, group in groups(spec) if spec else ():
        start = group.get("rayStartParams", {})
        if group.get("resources") and any(key in start for key in START_RESOURCES):
            yield f"{name}: resources in both rayStartParams and resources"
        if "labels" in start:
            yield f"{name}: labels belong in the field labels, not in rayStartParams"
        if not group["template"]["spec"].get("containers"):
            yield f"{name}: no container"
        if second and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy must be Never, or unset, with autoscaler v2"
        if name == "head":
            continue
        if not autoscaled and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"{name}: minReplicas and maxReplicas must be set without autoscaling"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 1 << 31):
            yield f"{name}: minReplicas is above maxReplicas"
        if not second and ("idleTimeoutSeconds" in group or group.get("priority")):
            yield f"{name}: idleTimeoutSeconds and priority need autoscaler v2"


def _autoscaler_v2(spec: Document) -> bool:
    return bool(spec.get("enableInTreeAutoscaling")) and spec.get("autoscalerOptions", {}).get("version") == "v2"


def _environment(document: Document) -> Iterator[str]:
    spec = cluster_spec(document)
    if not spec:
        return
    [head, *_] = spec["headGroupSpec"]["template"]["spec"].get("containers") or [{}]
    named = {entry["name"] for entry in head.get("env", ())}
    options = spec.get("autoscalerOptions", {})
    if "RAY_enable_autoscaler_v2" in named and ("version" in options or not spec.get("enableInTreeAutoscaling")):
        yield "RAY_enable_autoscaler_v2 contradicts autoscalerOptions.version or enableInTreeAutoscaling"
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in {entry["name"] for entry in options.get("env", ())}:
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is KubeRay's own"
    start = spec["headGroupSpec"].get("rayStartParams", {})
    for name in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
        if name in named:
            yield f"{name} in the environment: use gcsFaultToleranceOptions"
    for name in ("redis-password", "redis-username"):
        if name in start:
            yield f"{name} in rayStartParams: use gcsFaultToleranceOptions"


def _token(document: Document) -> Iterator[str]:
    spec = cluster_spec(document) or {}
    if spec.get("authOptions", {}).get("mode") == "token":
        version = spec.get("rayVersion", "")
        if not re.fullmatch(r"\d+\.\d+\.\d+", version) or tuple(map(int, version.split(".")))[:2] < (2, 52):
            yield f"authOptions.mode token needs rayVersion 2.52.0 or later, found {version or 'none'}"


def _job(document: Document) -> Iterator[str]:
    job = job_spec(document)
    if job is None:
        return
    shuts_down, selector, mode = job.get("shutdownAfterJobFinishes"), job.get("clusterSelector"), job["submissionMode"]
    kept_s, retries = job.get("ttlSecondsAfterFinished", 0), job.get("backoffLimit")
    submitter = {"submitterPodTemplate", "submitterConfig"} & job.keys()
    yield from _where({
        "suspend needs shutdownAfterJobFinishes": job.get("suspend") and not shuts_down,
        "ttlSecondsAfterFinished may not be negative": kept_s < 0,
        "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": kept_s and not shuts_down,
        "exactly one of clusterSelector and rayClusterSpec must be set": bool(selector) == ("rayClusterSpec" in job),
        "clusterSelector names no ray.io/cluster": selector and not selector.get("ray.io/cluster"),
        "clusterSelector excludes suspend": selector and job.get("suspend"),
        "clusterSelector excludes SidecarMode": selector and mode == "SidecarMode",
        "clusterSelector excludes backoffLimit": selector and retries,
        "InteractiveMode excludes backoffLimit": mode == "InteractiveMode" and retries,
        "SidecarMode excludes submitterPodTemplate and submitterConfig": mode == "SidecarMode" and submitter,
        "activeDeadlineSeconds must be positive": job.get("activeDeadlineSeconds", 1) <= 0,
        "preRunningDeadlineSeconds must be positive": job.get("preRunningDeadlineSeconds", 1) <= 0,
        "upgradeStrategy cannot be set for a job": "upgradeStrategy" in job.get("rayClusterSpec", {}),
        "runtimeEnvYAML is no YAML": not _is_yaml(job.get("runtimeEnvYAML", "")),
    })  # fmt: skip
    for name, template in pod_templates(document):
        if name == "submitter" and template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
            yield "the submitter's restartPolicy must be Never or OnFailure"


def _where(broken: dict[str, object]) -> Iterator[str]:
    """Yield the sentences whose condition holds."""
    yield from (sentence for sentence, holds in broken.items() if holds)


def _is_yaml(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return True


def _deletion(document: Document) -> Iterator[str]:
    job = job_spec(document) or {}
    rules = job.get("deletionStrategy", {}).get("deletionRules", [])
    if rules and (job.get("shutdownAfterJobFinishes") or job.get("ttlSecondsAfterFinished")):
        yield "deletionRules exclude shutdownAfterJobFinishes"
    waits: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for rule in rules:
        condition, policy = dict(rule["condition"]), rule["policy"]
        after = condition.pop("ttlSeconds", 0)
        if len(condition) != 1:
            yield f"the condition of {policy} names {len(condition)} states, expected one"
            continue
        if job.get("clusterSelector") and policy in ("DeleteCluster", "DeleteWorkers"):
            yield f"{policy} is not supported with clusterSelector"
        if policy == "DeleteWorkers" and job.get("rayClusterSpec", {}).get("enableInTreeAutoscaling"):
            yield "DeleteWorkers is not supported with autoscaling"
        waits.setdefault(next(iter(condition.items())), []).append((policy, after))
    for state, found in waits.items():
        order = [after for policy in DELETION_ORDER for named, after in found if named == policy]
        if len({policy for policy, _ in found}) < len(found) or order != sorted(order):
            yield f"the rules for {state[1]} name a policy twice, or delete in another order than {DELETION_ORDER}"


def _schedule(document: Document) -> Iterator[str]:
    if document["kind"] not in ("RayCronJob", "CronJob"):
        return
    schedule, zone = document["spec"]["schedule"], document["spec"].get("timeZone")
    if "TZ" in schedule:
        yield "the time zone belongs in timeZone, not in schedule"
    elif not _is_cron(schedule):
        yield f"{schedule!r} is no cron schedule"
    if zone is not None and zone not in available_timezones():
        yield f"{zone!r} is no time zone"


def _is_cron(schedule: str) -> bool:
    """Whether five fields of a schedule are numbers, ranges, steps or lists within their bounds."""
    fields = schedule.split()
    return len(fields) == len(CRON_FIELDS) and all(
        (match := re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", entry)) is not None
        and all(low <= int(number) <= high for number in match.groups() if number)
        for field, (low, high) in zip(fields, CRON_FIELDS, strict=True)
        for entry in field.split(",")
    )


RULES: tuple[Callable[[Document], Iterator[str]], ...] = (
    _names, _enums, _alpha, _groups, _environment, _token, _job, _deletion, _schedule,
)  # fmt: skip
