"""A pod of Kubernetes that is stopped, as on a spot node, loses nothing that runs on it."""

from pathlib import Path

from tests.support.hosts import open_hosts, require_hosts
from tests.support.kubernetes import KUBERAY, build, cluster_spec, groups
from tests.support.processes import wait_for

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "d1f0" * 16}

DRIVER = """
import pathlib, sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(max_retries=0)
def work(path, seconds):
    pathlib.Path(path).write_text("running")
    time.sleep(seconds)
    return "finished"

running = work.remote(sys.argv[2], 5)
while any(node["Alive"] and node["Resources"].get("CPU") for node in ray.nodes()):
    time.sleep(0.1)
print(ray.get(running), flush=True)
"""


def test_the_hook_lets_a_pods_tasks_finish_and_returns_when_its_node_has_left(tmp_path: Path) -> None:
    require_hosts()
    [spec] = [spec for document in build(KUBERAY / "base") if (spec := cluster_spec(document))]
    [hook] = [
        group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        for name, group in groups(spec)
        if name == "cpu-workers"
    ]
    with open_hosts("head", "worker", environment=TOKEN) as hosts, (tmp_path / "driver.log").open("w+") as log:
        head, worker = hosts.values()
        head.start_head(cpus=0)
        worker.start_worker(head, cpus=2)
        driver = head.popen("python", "-c", DRIVER, head.gcs, str(tmp_path / "running"), output=log)
        wait_for((tmp_path / "running").exists, timeout_s=60)

        code, output = worker.run(*hook, timeout_s=110, RAY_ADDRESS=head.gcs)

        assert (code, output) == (0, "")
        assert driver.wait(60) == 0, (tmp_path / "driver.log").read_text()
        assert (tmp_path / "driver.log").read_text().splitlines()[-1] == "finished"
        assert worker.run(*hook, timeout_s=10, RAY_ADDRESS=head.gcs) == (0, ""), "nothing is left to be drained"
