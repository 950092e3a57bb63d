"""The fields of KubeRay 1.7 that the manifests use, as a strict schema: it is checked where KubeRay's own is missing.

KubeRay's own schemas are read from the folder FSF_KUBERAY, made strict as `kubectl --validate=strict` is.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.support.kubernetes import Document, cluster_spec, pod_templates, require_valid

FILES = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayCronJob": "raycronjobs"}

ANY: Document = {"type": "object"}
TEXT: Document = {"type": "string"}
WHOLE: Document = {"type": "integer"}
NATURAL: Document = {"type": "integer", "minimum": 0}
FLAG: Document = {"type": "boolean"}
TEXTS: Document = {"type": "object", "additionalProperties": TEXT}


def _choice(*names: str) -> Document:
    return {"enum": list(names)}


def _list(entry: Document) -> Document:
    return {"type": "array", "items": entry}


def _record(required: Sequence[str] = (), **fields: Document) -> Document:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


# Pod templates, containers and resources are Kubernetes' own: `problems` checks them against its schemas.
HEAD = _record(["template"], rayStartParams=TEXTS, template=ANY, labels=TEXTS, resources=TEXTS, serviceType=TEXT)
WORKERS = _record(
    ["groupName", "template"], groupName=TEXT, minReplicas=NATURAL, maxReplicas=NATURAL, replicas=NATURAL,
    idleTimeoutSeconds=NATURAL, rayStartParams=TEXTS, template=ANY, labels=TEXTS, resources=TEXTS, priority=WHOLE,
)  # fmt: skip
AUTOSCALER = _record(
    version=_choice("v1", "v2"), upscalingMode=_choice("Default", "Aggressive", "Conservative"), image=TEXT,
    idleTimeoutSeconds=NATURAL, imagePullPolicy=TEXT, resources=ANY, env=_list(ANY), envFrom=_list(ANY),
    volumeMounts=_list(ANY), securityContext=ANY,
)  # fmt: skip
CLUSTER = _record(
    ["headGroupSpec"], rayVersion=TEXT, upgradeStrategy=_record(type=_choice("Recreate", "None")), suspend=FLAG,
    authOptions=_record(mode=_choice("disabled", "token"), secretName=TEXT), enableInTreeAutoscaling=FLAG,
    autoscalerOptions=AUTOSCALER, headGroupSpec=HEAD, workerGroupSpecs=_list(WORKERS),
    gcsFaultToleranceOptions=_record(redisAddress=TEXT, redisUsername=ANY, redisPassword=ANY),
)  # fmt: skip
CONDITION = _record(jobStatus=_choice("SUCCEEDED", "FAILED"), jobDeploymentStatus=_choice("Failed"), ttlSeconds=NATURAL)
RULE = _record(
    ["policy", "condition"],
    policy=_choice("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"),
    condition=CONDITION,
)
JOB = _record(
    ["entrypoint"], entrypoint=TEXT, entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"},
    rayClusterSpec=CLUSTER, clusterSelector=TEXTS, submissionMode=TEXT, submitterPodTemplate=ANY, suspend=FLAG,
    submitterConfig=_record(backoffLimit=NATURAL), runtimeEnvYAML=TEXT, metadata=TEXTS, backoffLimit=NATURAL,
    activeDeadlineSeconds=WHOLE, preRunningDeadlineSeconds=WHOLE, ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=FLAG, deletionStrategy=_record(["deletionRules"], deletionRules=_list(RULE)),
)  # fmt: skip
CRON_JOB = _record(["schedule", "jobTemplate"], schedule=TEXT, timeZone=TEXT, suspend=FLAG, jobTemplate=JOB)


def _document(spec: Document) -> Document:
    fields = {"apiVersion": _choice("ray.io/v1"), "kind": TEXT, "metadata": ANY, "spec": spec}
    return _record(list(fields), **fields)


SCHEMAS = {kind: _document(spec) for kind, spec in (("RayCluster", CLUSTER), ("RayJob", JOB), ("RayCronJob", CRON_JOB))}


def problems(document: Document, schema: Document) -> list[str]:
    """Return what violates a schema, as `place: message`."""
    errors = Draft202012Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]


def require_valid_pods(document: Document) -> None:
    """Check every pod template, and the container of the autoscaler, against Kubernetes' own schema.

    Raises:
        kubernetes_validate.ValidationError: one violates it.
    """
    for name, template in pod_templates(document):
        require_valid({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template})
    options = (cluster_spec(document) or {}).get("autoscalerOptions", {})
    fields = ("env", "envFrom", "image", "imagePullPolicy", "resources", "securityContext", "volumeMounts")
    container = {"name": "autoscaler", **{name: options[name] for name in fields if name in options}}
    require_valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}})


@functools.cache
def upstream(kind: str) -> Document:
    """Return KubeRay's own schema of a kind, made strict."""
    file = Path(os.environ["FSF_KUBERAY"]) / f"{FILES[kind]}.v1.json"
    strict: Document = _strict(json.loads(file.read_text())["schema"])
    strict["properties"]["metadata"] = ANY
    return strict


def _strict(schema: Any) -> Any:
    """Return a schema of Kubernetes that refuses unknown fields, and asks for nothing that the server fills in."""
    if isinstance(schema, list):
        return [_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: _strict(value) for key, value in schema.items() if key not in ("properties", "default", "format")}
    if fields := schema.get("properties"):
        found["properties"] = {name: _strict(value) for name, value in fields.items()}
        defaulted = {name for name, value in fields.items() if "default" in value}
        found["required"] = [name for name in schema.get("required", ()) if name not in defaulted]
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    return found
