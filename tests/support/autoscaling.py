"""A cluster that really starts and stops nodes on this machine: Ray's own autoscaler with its provider for tests.

Ray's `AutoscalingCluster` begins with `ray stop`, which would end every other Ray of the machine, and needs a file that
the wheel lacks.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil
from ray._private import services

from tests.support.processes import kill_all, wait_for

HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
EMPTY = (
    "file_mounts", "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
    "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
STORE_BYTES = 100_000_000
RAY = Path(sys.executable).parent / "ray"
NodeTypes: TypeAlias = Mapping[str, tuple[Mapping[str, float], int]]
"""By name, the resources of a node, and the greatest number of such nodes; the least is 0."""


@dataclass(frozen=True, kw_only=True)
class AutoscalingCluster:
    """A running cluster."""

    address: str
    folder: Path
    daemon: psutil.Process

    def nodes(self) -> dict[str, psutil.Process]:
        """Return the raylet of each node, by node id: f…f00000 is the head, f…f00001 the first worker."""
        found = {}
        for process in self.daemon.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name() == "raylet":
                    found[process.environ().get("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "")] = process
        return found


@contextlib.contextmanager
def autoscaling_cluster(
    folder: Path,
    *,
    types: NodeTypes,
    head_cpus: int = 0,
    idle_s: float = 12.0,
    version: Literal["v1", "v2"] = "v2",
    **environment: str,
) -> Iterator[AutoscalingCluster]:
    """Start a head whose autoscaler adds nodes to it, and end all of them with the block.

    Args:
        folder: an empty folder with a short path, for Ray's sockets.
        types: of the nodes that it may add.
        head_cpus: CPUs of the head.
        idle_s: after this time without work a node is stopped.
        version: of the autoscaler.
        environment: variables of the nodes.
    """
    host = services.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    config = folder / "cluster.json"
    config.write_text(json.dumps(_config(f"{host}:{port}", types, head_cpus, idle_s)))
    variables = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_FAKE_CLUSTER": "1"}
    variables |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": str(int(version == "v2"))}
    variables |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID, **environment}
    words = [
        "start", "--head", "--block", f"--port={port}", f"--num-cpus={head_cpus}", "--include-dashboard=false",
        f"--object-store-memory={STORE_BYTES}", f"--autoscaling-config={config}", f"--temp-dir={folder / 'r'}",
        "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    log = folder / "head.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [Path(sys.executable).parent / "ray", *words], env=variables, stdout=output, stderr=output
        ) as daemon,
    ):
        process = psutil.Process(daemon.pid)
        try:
            wait_for(lambda: re.search("Ray runtime started", log.read_text()) or daemon.poll(), timeout_s=90)
            assert daemon.poll() is None, log.read_text()
            yield AutoscalingCluster(address=f"{host}:{port}", folder=folder, daemon=process)
        finally:
            _end(process)


def _config(address: str, types: NodeTypes, head_cpus: int, idle_s: float) -> dict[str, Any]:
    """Return the configuration of the autoscaler."""
    workers = {
        name: {
            "resources": {**resources, "object_store_memory": STORE_BYTES},
            "node_config": {}, "min_workers": 0, "max_workers": most,
        }
        for name, (resources, most) in types.items()
    }  # fmt: skip
    head = {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "tests",
        "max_workers": sum(most for _, most in types.values()),
        "upscaling_speed": 100,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external", "module": PROVIDER, "gcs_address": address, "head_node_id": HEAD_ID,
            "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        "auth": {"ssh_user": "ray"},
        "available_node_types": {HEAD_TYPE: head, **workers},
        "head_node_type": HEAD_TYPE,
        "file_mounts_sync_continuously": False,
        **{name: {} if name == "file_mounts" else [] for name in EMPTY},
    }  # fmt: skip


def _end(daemon: psutil.Process) -> None:
    """Kill a head, the autoscaler before its nodes, and everything that they started."""
    family = daemon.children(recursive=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon.kill()
    kill_all(family)
    psutil.wait_procs(family, timeout=10)
