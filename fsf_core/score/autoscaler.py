"""What the autoscaler of a joined cluster may add, and what it does at the moment.

Ray has no call for it. The node types are in the file that the autoscaler was started with, on the head, or in the
RayCluster of Kubernetes, which the head may read; launches and failures are in the state of the cluster. Whatever
cannot be read is unknown, and nothing here ends a job.
"""

import contextlib
import functools
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ray
import yaml
from ray._raylet import GcsClient  # type: ignore[attr-defined] # not in the stubs
from ray.core.generated import autoscaler_pb2
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Bundle: TypeAlias = Mapping[str, float]
"""Logical resources that one node has to provide together, by name: CPU, GPU, memory in bytes."""

HEAD_TIMEOUT_S = 60.0
"""How long the head may take for reading the configuration: it starts a worker for that."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GCS_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A kind of node that the autoscaler starts and stops."""

    name: str
    resources: Bundle
    min_nodes: int
    max_nodes: int


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """The autoscaler of a cluster."""

    node_types: tuple[NodeType, ...] | None
    """Without the head's; None if they cannot be read."""
    max_nodes: int | None = None
    """Of all types together, without the head; None if there is no such limit."""

    def describe(self) -> str:
        """Return what may be added as text for messages."""
        if self.node_types is None:
            return "may add nodes of types that cannot be read"
        return "may add " + (", ".join(f"{each.name} up to {each.max_nodes}" for each in self.node_types) or "no node")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What the autoscaler does at the moment."""

    launching: Mapping[str, int]
    """Nodes that were ordered and have not joined yet, by type."""
    failures: tuple[str, ...]
    """Launches that failed, with the reason of the provider."""
    infeasible: tuple[Bundle, ...]
    """Requests that no type of node can hold, or that exceed the limits; only version 2 reports them."""


def read_autoscaler() -> Autoscaler | None:
    """Return what the autoscaler of the connected cluster may add; None if the cluster has none.

    Takes a second where this process does not run on the head: it starts a worker there.
    """
    found: dict[str, Any] | None
    try:
        head = next(node for node in ray.nodes() if node["Alive"] and "node:__internal_head__" in node["Resources"])  # type: ignore[no-untyped-call] # Ray publishes no type
        if ray.get_runtime_context().get_node_id() == head["NodeID"]:
            found = _read_on_head()
        else:
            remote: Any = ray.remote
            there = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
            task = remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_read_on_head)
            found = ray.get(task.remote(), timeout=HEAD_TIMEOUT_S)
    except (ray.exceptions.RayError, StopIteration):
        found = {}
    return None if found is None or not (found or _reports()) else parse_config(found)


def parse_config(config: Mapping[str, Any]) -> Autoscaler:
    """Return what an autoscaler of this configuration may add; of an empty one, that is unknown."""
    types = config.get("available_node_types")
    if not types:
        return Autoscaler(node_types=None)
    most = config.get("max_workers")
    return Autoscaler(
        node_types=tuple(
            NodeType(
                name=name,
                resources={key: float(value) for key, value in (each.get("resources") or {}).items()},
                min_nodes=int(each.get("min_workers") or 0),
                max_nodes=int(each.get("max_workers", most or 0)),
            )
            for name, each in types.items()
            if name != config.get("head_node_type") and each.get("max_workers", most or 0)
        ),
        max_nodes=None if most is None else int(most),
    )


def _read_on_head() -> dict[str, Any] | None:
    """Return the configuration of the autoscaler, on the head; empty if it cannot be read, None if there is none."""
    import psutil

    address = ray.get_runtime_context().gcs_address
    monitors: dict[str, str] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            options = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
            if "monitor.py" in {Path(word).name for word in words[:6]} and "--gcs-address" in options:
                monitors[options["--gcs-address"]] = options.get("--autoscaling-config", "")
    # Other clusters may have the same port at other addresses, and this one another name for the same address.
    alike = [other for other in monitors if other.rpartition(":")[2] == address.rpartition(":")[2]]
    if not alike:
        return _read_from_kubernetes()
    file = monitors[address if address in alike else alike[0]]
    try:
        return yaml.safe_load(Path(file).expanduser().read_text()) if file else None
    except (OSError, yaml.YAMLError):
        return {}


def _read_from_kubernetes() -> dict[str, Any] | None:
    """Return the configuration that KubeRay's autoscaler makes of the RayCluster of this pod.

    The autoscaler is another container of the head's pod, and the pod's service account may read the RayCluster.
    """
    name = os.environ.get("RAY_CLUSTER_NAME")
    if not name or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return {}
    try:
        from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

        namespace = os.environ.get("RAY_CLUSTER_NAMESPACE") or (SERVICE_ACCOUNT / "namespace").read_text().strip()
        found = node_provider.KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
        if not found["spec"].get("enableInTreeAutoscaling"):
            return None
        config: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(found)  # noqa: SLF001 - what the autoscaler itself calls
    except Exception:  # noqa: BLE001 - of several libraries; without permission it is unknown
        return {}
    return config


def node_type_names() -> dict[str, str]:
    """Return the type of each node that has one, by node id."""
    state = _cluster_status().cluster_resource_state
    return {node.node_id.hex(): node.ray_node_type_name for node in state.node_states if node.ray_node_type_name}


def read_scaling() -> Scaling:
    """Return what the autoscaler does at the moment; nothing if that cannot be read."""
    state = _cluster_status().autoscaling_state
    if not state.autoscaler_state_version:
        return _read_scaling_v1()
    launching = Counter[str]()
    for request in state.pending_instance_requests:
        launching[request.ray_node_type_name] += request.count
    for instance in state.pending_instances:
        launching[instance.ray_node_type_name] += 1
    return Scaling(
        launching=launching,
        failures=tuple(f"{each.ray_node_type_name}: {each.reason}" for each in state.failed_instance_requests),
        infeasible=tuple(dict(each.resources_bundle) for each in state.infeasible_resource_requests),
    )


def _reports() -> bool:
    """Return whether an autoscaler reports to the cluster, such as one in another container."""
    return bool(_cluster_status().autoscaling_state.autoscaler_state_version or _status_v1())


def _read_scaling_v1() -> Scaling:
    """Return what version 1 of the autoscaler does at the moment."""
    return parse_scaling_v1(json.loads(_status_v1() or b"{}").get("autoscaler_report") or {})


def _status_v1() -> bytes:
    """Return what version 1 of the autoscaler reported; empty if it did not."""
    text = None
    with contextlib.suppress(Exception):  # of Ray's C++ side; the state is only shown
        text = _gcs(_gcs_address()).internal_kv_get(b"__autoscaling_status", None, timeout=GCS_TIMEOUT_S)
    return text or b""


def parse_scaling_v1(report: Mapping[str, Any]) -> Scaling:
    """Return what version 1 of the autoscaler reports."""
    launching = Counter[str](report.get("pending_launches") or {})
    launching.update(each[1] for each in report.get("pending_nodes") or ())
    known = (report.get("node_availability_summary") or {}).get("node_availabilities") or {}
    reasons = {name: each.get("unavailable_node_information") or {} for name, each in known.items()}
    failures = tuple(f"{name}: {each.get('description')}" for name, each in reasons.items() if each)
    return Scaling(launching=launching, failures=failures, infeasible=())


def _cluster_status() -> Any:
    """Return the state of cluster and autoscaler, empty if it cannot be read."""
    reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined] # generated, without stubs
    with contextlib.suppress(Exception):  # of Ray's C++ side; the state is only shown
        reply.ParseFromString(_gcs(_gcs_address()).get_cluster_status(timeout_s=GCS_TIMEOUT_S))
    return reply


def _gcs_address() -> str:
    """Return the address of the cluster's state.

    Raises:
        ConnectionError: this process is connected through a proxy (ray://), and may not reach it.
    """
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call] # Ray publishes no type
        raise ConnectionError("connected through a proxy")
    return str(ray.get_runtime_context().gcs_address)


@functools.lru_cache(maxsize=1)
def _gcs(address: str) -> Any:
    return GcsClient(address=address)
