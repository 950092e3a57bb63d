"""The manifests of cluster/kuberay, built by `kubectl kustomize` and checked without a Kubernetes cluster."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

KUBERNETES = "1.37"
"""The version whose schemas are asked."""

KUBERAY = Path(__file__).parents[2] / "cluster" / "kuberay"
PROGRAM = Path(sys.executable).with_name("kubectl")

Document = dict[str, Any]

_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def build(folder: Path) -> list[Document]:
    """Return the documents that `kubectl apply -k FOLDER` would send."""
    done = subprocess.run([PROGRAM, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def copy_site(to: Path) -> Path:
    """Copy cluster/kuberay with the files that an operator adds; returns the folder `site` of the copy."""
    shutil.copytree(KUBERAY, to, dirs_exist_ok=True)
    shutil.copy(to / "site" / "settings" / "stores.env.example", to / "site" / "settings" / "stores.env")
    return to / "site"


def quantity(text: str | int) -> float:
    """Return a Kubernetes quantity, such as 4Gi or 500m, as a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    assert match, f"{text!r} is no quantity"
    return float(match[1]) * _UNITS[match[2]]


def require_valid(document: Document) -> None:
    """Check a document of a built-in kind against Kubernetes' own schema; unknown fields are errors.

    Raises:
        kubernetes_validate.ValidationError: it violates the schema.
    """
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def job_spec(document: Document) -> Document | None:
    """Return the specification of a RayJob, also of one within a RayCronJob."""
    spec = document["spec"] if document["kind"] in ("RayJob", "RayCronJob") else None
    return spec["jobTemplate"] if spec and document["kind"] == "RayCronJob" else spec


def cluster_spec(document: Document) -> Document | None:
    """Return the specification of the Ray cluster that a document describes, if it does."""
    if document["kind"] == "RayCluster":
        return dict(document["spec"])
    return (job_spec(document) or {}).get("rayClusterSpec")


def groups(spec: Document) -> Iterator[tuple[str, Document]]:
    """Yield the head group and every worker group of a cluster, with their names."""
    yield "head", spec["headGroupSpec"]
    for group in spec.get("workerGroupSpecs", ()):
        yield group["groupName"], group


def pod_templates(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield every pod template of a document with its place."""
    spec, job = cluster_spec(document), job_spec(document)
    for name, group in groups(spec) if spec else ():
        yield name, group["template"]
    if job and "submitterPodTemplate" in job:
        yield "submitter", job["submitterPodTemplate"]
    if document["kind"] == "CronJob":
        yield "job", document["spec"]["jobTemplate"]["spec"]["template"]
    if document["kind"] == "Job":
        yield "job", document["spec"]["template"]


def values(tree: Any, name: str) -> Iterator[Any]:
    """Yield the values of every field of this name, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name:
                yield value
            yield from values(value, name)
    elif isinstance(tree, list):
        for entry in tree:
            yield from values(entry, name)


def texts(tree: Any) -> Iterator[str]:
    """Yield every string of a document."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from texts(value)
    elif isinstance(tree, list):
        for entry in tree:
            yield from texts(entry)
    elif isinstance(tree, str):
        yield tree
