"""What pods of cluster/kuberay start are commands that exist, with the settings of the operator."""

import re
import shlex
import subprocess
from collections.abc import Callable

import click
import pytest

from fsf_core.config import ExportConfig, ScoreConfig
from fsf_core.score import autoscaler
from tests.support import cluster_rules
from tests.support.commands import parsed, takes
from tests.support.kubernetes import (
    SETTINGS,
    Document,
    by_kind,
    cluster_spec,
    groups,
    job_spec,
    planted,
    quantity,
    texts,
)


def test_entrypoints_are_commands_of_fsf_with_the_settings(
    built: dict[str, list[Document]], entrypoint_words: Callable[[Document], list[str]]
) -> None:
    export = parsed(entrypoint_words(job_spec(by_kind(built["site/export"], "RayJob")) or {}))
    score = parsed(entrypoint_words(job_spec(by_kind(built["site/score"], "RayJob")) or {}))

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


def _start_command(name: str, group: Document, spec: Document) -> list[str]:
    """Return the `ray start` that KubeRay makes of a group (ray-operator/controllers/ray/common/pod.go)."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    given = {"metrics-export-port": "8080", "block": "true", "memory": f"{quantity(limits['memory']):.0f}"}
    given |= {"dashboard-host": "0.0.0.0"} if name == "head" else {"address": "fsf-head-svc:6379"}  # noqa: S104 - KubeRay's
    given |= {"no-monitor": "true"} if name == "head" and spec.get("enableInTreeAutoscaling") else {}
    options = [
        f"--{option}" if value == "true" else f"--{option}={value}"
        for option, value in (given | group["rayStartParams"]).items()
    ]
    return ["ray", "start", *(["--head"] if name == "head" else []), *options]


def test_ray_takes_the_options_that_its_nodes_start_with(documents: list[Document]) -> None:
    for spec in filter(None, map(cluster_spec, documents)):
        for name, group in groups(spec):
            assert takes(_start_command(name, group, spec))
            wrong = planted(group, "rayStartParams", {"object-store-memry": "1"})
            with pytest.raises(click.NoSuchOption):
                takes(_start_command(name, wrong, spec))


def test_rays_autoscaler_and_fsf_read_what_may_be_added(built: dict[str, list[Document]]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = planted(by_kind(built["overlays/gpu"], "RayCluster"), "metadata/namespace", "fsf")
    found = autoscaler.parse_config(_derive_autoscaling_config_from_ray_cr(cluster))

    assert [(each.name, each.min_nodes, each.max_nodes) for each in found.node_types or ()] == [
        ("cpu-workers", 0, 8), ("gpu-workers", 0, 4),
    ]  # fmt: skip
    cpu, gpu = (each.resources for each in found.node_types or ())
    assert (cpu["CPU"], gpu["CPU"], gpu["GPU"], gpu["memory"]) == (7, 7, 1, 24 << 30)


def test_the_drain_hook_is_shell(built: dict[str, list[Document]]) -> None:
    for group in by_kind(built["overlays/gpu"], "RayCluster")["spec"]["workerGroupSpecs"]:
        command = group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:2] == ["/bin/bash", "-c"]
        subprocess.run(["bash", "-n", "-c", command[2]], check=True)
        assert shlex.split(command[2], comments=True)


def test_every_setting_is_used(built: dict[str, list[Document]]) -> None:
    used = {
        name
        for folder in ("site/export", "site/score", "nights")
        for document in built[folder]
        if document["kind"] in ("RayJob", "CronJob")
        for text in texts(document)
        for name in re.findall(r"\$(\w+)", text)
    }

    assert SETTINGS.keys() == cluster_rules.settings(built["base"]).keys()
    assert used >= SETTINGS.keys() - {"SCHEDULE"}, "which Kustomize fills in"
