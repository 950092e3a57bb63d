"""The manifests of cluster/kuberay, built by `kubectl kustomize` and checked without a Kubernetes cluster."""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

KUBERNETES = "1.37"
"""The version whose schemas are asked."""

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
PROGRAM = Path(sys.executable).with_name("kubectl")

FOLDERS = (
    "base", "overlays/cpu-small", "overlays/gpu", "overlays/spot", "jobs/export", "nights",
    "site/cluster", "site/export", "site/score", "site/nights", "site/raycronjob",
)  # fmt: skip
"""Folders of KUBERAY that can be applied."""

Document = dict[str, Any]

SETTINGS = {
    "CHECKPOINT": "s3://models/my weights.pth", "NET": "fastsegformer-e", "CLASSES": 'background,"sun burn",ulcer',
    "BUNDLE": "s3://models/oranges", "MANIFEST": "s3://data/new photos/*.jpg", "RUNS": "gs://scores/a b",
    "PROVIDER": "cuda", "KEEP": "30d", "SCHEDULE": "0 1 * * *", "TIMEZONE": "Etc/UTC",
}  # fmt: skip
"""What an operator may write into settings.env, of the awkward kind."""

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


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Return an argument as the kubelet passes it: $(NAME) replaced where it is known, and $$ by $."""
    return re.sub(
        r"\$(?:\$|\(([^)]*)\))",
        lambda match: "$" if match[1] is None else environment.get(match[1], match[0]),
        text,
    )


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


def by_kind(documents: list[Document], kind: str) -> Document:
    """Return the one document of a kind."""
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
