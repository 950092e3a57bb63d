"""What Ray's own autoscaler may add is found, asked for and waited for; nodes really start and stop."""

import contextlib
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._common.tls_utils import generate_self_signed_tls_certs

from fsf_core.errors import ClusterError
from fsf_core.model.bundle import Bundle
from fsf_core.score.capacity import read_capacity, wait_for
from tests.support import assets, slow_actor
from tests.support.autoscaling import AutoscalingCluster, autoscaling_cluster
from tests.support.processes import ROOT, Job, fsf, rows_of
from tests.support.processes import wait_for as until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AutoscalingCluster]:
    """A cluster that has no CPU, and may add 2 nodes of 1 CPU."""
    with autoscaling_cluster(
        tmp_path_factory.mktemp("r"), types={"workers": ({"CPU": 1}, 2)}, idle_s=12, PYTHONPATH=str(ROOT)
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def driver(cluster: AutoscalingCluster) -> Iterator[None]:
    """This process as a driver of that cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        yield
        ray.shutdown()


def test_a_job_on_a_cluster_without_nodes_gets_them_uses_all_and_gives_them_back(
    cluster: AutoscalingCluster, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "one.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["id,uri", *(f"{number},one.jpg" for number in range(160))]) + "\n")
    words = ["score", "--bundle", tiny_bundle.uri, "--manifest", str(listed), "--provider", "cpu"]
    elastic = ["--actors", "1-2", "--ray-address", cluster.address, "--out", str(tmp_path / "elastic")]

    job = Job(
        str(tmp_path / "times"), "0.15", *words, *elastic, module="tests.support.slow_actor", RAY_AUTH_MODE="disabled"
    )
    code, output = job.wait()
    alone, local_output = fsf(*words, "--actors", "1", "--out", str(tmp_path / "local"))

    assert (code, alone) == (0, 0), output + local_output
    assert "event=waiting_for_resources needs='1 CPU' cluster='0 CPUs, 0 GPUs'" in output
    nodes = slow_actor.units_by_node(tmp_path / "times")
    assert len(nodes) == 2, nodes
    assert sum(nodes.values()) == 160
    assert min(nodes.values()) >= 16, f"both nodes have done a part of the work: {nodes}"
    assert rows_of(tmp_path / "elastic") == rows_of(tmp_path / "local")
    until(lambda: len(cluster.nodes()) == 1, timeout_s=90)


@pytest.mark.usefixtures("driver")
def test_what_does_not_come_in_time_ends_the_wait_with_the_reason() -> None:
    with pytest.raises(ClusterError, match=r"^waited \d s for 1 CPU, found 0 CPUs, 0 GPUs in the cluster, whose "):
        wait_for([{"CPU": 1.0}], limit_s=0)


@pytest.mark.usefixtures("driver")
def test_nodes_come_for_what_a_job_needs_and_what_cannot_come_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="fsf")
    cpu = {"CPU": 1.0}
    found = read_capacity().autoscaler
    assert found is not None
    assert found.describe() == "may add workers up to 2"

    for needs, cpus in (([{"GPU": 1.0, "CPU": 1.0}], "1 GPU, 1 CPU"), ([cpu] * 3, "3 CPUs")):
        started = time.monotonic()
        with pytest.raises(ClusterError) as refused:
            wait_for(needs, limit_s=60, advice=" or pass --actors 1")
        assert time.monotonic() - started < 5, "what can never come is refused at once"
        assert str(refused.value) == (
            "found 0 CPUs, 0 GPUs in the cluster, whose autoscaler may add workers up to 2, expected room for "
            f"{cpus}; add nodes or pass --actors 1"
        )
    assert caplog.messages == []

    after = wait_for([cpu], wishes=[cpu], limit_s=60)
    assert after.total("CPU") >= 1
    until(lambda: read_capacity(with_autoscaler=False).total("CPU") == 2, timeout_s=30)
    assert caplog.messages[0].startswith(
        "event=waiting_for_resources needs='1 CPU' cluster='0 CPUs, 0 GPUs' autoscaler='may add workers up to 2' "
    )
    assert {node.type_name for node in after.nodes if not node.is_head} == {"workers"}


def _ray_cluster(*, enabled: bool) -> dict[str, Any]:
    """Return a RayCluster as KubeRay keeps it, of which the autoscaler reads these entries."""

    def pod(**limits: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}}

    def group(name: str, most: int, **limits: str) -> dict[str, Any]:
        return {
            "groupName": name, "replicas": 0, "minReplicas": 0, "maxReplicas": most, "rayStartParams": {},
            "template": pod(**limits),
        }  # fmt: skip

    head = {"rayStartParams": {"num-cpus": "0"}, "template": pod(cpu="1", memory="2Gi")}
    workers = [
        group("gpu-workers", 8, cpu="8", memory="4Gi", **{"nvidia.com/gpu": "1"}),
        group("cpu-workers", 4, cpu="4", memory="2Gi"),
    ]
    spec = {"enableInTreeAutoscaling": enabled, "headGroupSpec": head, "workerGroupSpecs": workers}
    return {"metadata": {"name": "nightly", "namespace": "fruit"}, "spec": spec}


@contextlib.contextmanager
def _kubernetes(folder: Path, ray_cluster: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Serve a RayCluster as the server of Kubernetes does; yields the variables of a pod."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/apis/ray.io/v1/namespaces/fruit/rayclusters/nightly"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(ray_cluster).encode() if found else b"{}")

    for name, text in zip(("cert", "key"), generate_self_signed_tls_certs(), strict=True):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    with HTTPServer(("localhost", 0), Server) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield {
                "RAY_CLUSTER_NAME": "nightly", "RAY_CLUSTER_NAMESPACE": "fruit", "KUBERNETES_SERVICE_HOST": "localhost",
                "KUBERNETES_SERVICE_PORT_HTTPS": str(server.server_port),
                **dict.fromkeys(("RAY_KUBERAY_CA_CERT_PATH", "RAY_KUBERAY_CLIENT_CERT_PATH"), str(folder / "cert")),
                "RAY_KUBERAY_CLIENT_KEY_PATH": str(folder / "key"), "no_proxy": "*",
            }  # fmt: skip
        finally:
            server.shutdown()


_READ = """
import json
from fsf_core.score import autoscaler
config = autoscaler._read_from_kubernetes()
found = config and autoscaler.parse_config(config)
print(json.dumps(found and [found.describe(), [dict(each.resources) for each in found.node_types or ()]]))
"""


KUBERNETES_TYPES = [
    "may add gpu-workers up to 8, cpu-workers up to 4",
    [{"CPU": 8.0, "GPU": 1.0, "memory": 4294967296.0}, {"CPU": 4.0, "memory": 2147483648.0}],
]


@pytest.mark.parametrize("expected", [KUBERNETES_TYPES, None], ids=["autoscaling", "fixed"])
def test_the_types_of_a_kubernetes_cluster_are_those_of_its_raycluster(expected: Any, tmp_path: Path) -> None:
    with _kubernetes(tmp_path, _ray_cluster(enabled=expected is not None)) as variables:
        done = subprocess.run(
            [sys.executable, "-c", _READ], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
