"""The local cluster that a job starts, and joining another one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._private.node import Node
from ray.data._internal import stats

from fsf_core.errors import BundleError, ClusterError
from fsf_core.model.bundle import Bundle
from fsf_core.score import waiting
from fsf_core.score.cluster import resources
from fsf_core.score.cluster_address import PROBE_S
from fsf_core.score.local_ray import agent_stub, patches
from tests.support import assets
from tests.support.processes import ROOT, wait_for

pytestmark = pytest.mark.usefixtures("ray_here")


def _workers() -> set[int]:
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("ray::") and "Agent" not in process.name()
    }


def test_idle_workers_stay_and_waiting_tasks_start_no_more() -> None:
    cpus = int(resources()["CPU"])

    def waiting(seconds: float) -> None:
        time.sleep(seconds)

    def ordering(tasks: int, seconds: float) -> None:
        piece: Any = ray.remote(num_cpus=1)(waiting)
        ray.get([piece.remote(seconds) for _ in range(tasks)])

    order: Any = ray.remote(num_cpus=0.25)(ordering)
    ray.get(order.remote(cpus, 0.1))
    few = _workers()
    assert few
    ray.get(order.remote(10 * cpus, 1.0))
    many = _workers()

    # One per running task, as many prestarted ones, and the one that waits for them.
    assert few <= many
    assert len(many) <= 2 * cpus + 1


_SCORE_THRICE = """
import os, sys
from pathlib import Path
import ray  # before fsf_core, as a notebook may do
from fsf_core.config import ScoreConfig
from fsf_core.score.job import score

def scored(out, address):
    words = {"bundle": bundle, "manifest": f"{home}/media", "provider": "cpu", "actors": 1}
    return score(ScoreConfig(out=f"{home}/{out}", ray_address=address, **words))["items"]["scored"]

bundle, home, address = sys.argv[1:]
print("joined", scored("joined", address), flush=True)
print("own", scored("own", None), flush=True)
print("joined", scored("joined again", address), flush=True)
print("environment", [name for name in os.environ if name.startswith("RAY_AUTH")])
print("token file", (Path.home() / ".ray" / "auth_token").exists())
"""


def test_a_python_call_joins_a_cluster_without_any_ray_variable_before_and_after_its_own_cluster(
    tiny_bundle: Bundle, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended in a raw ActorDiedError: a token for a cluster of its own was made when the package was imported."""
    from ray.cluster_utils import Cluster

    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "one.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 150_000_000}
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - where Ray's Cluster writes its address, whatever its folder
    cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": str(tmp_path_factory.mktemp("r"))})
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCORE_THRICE, tiny_bundle.uri, str(tmp_path), cluster.address],
            cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
    finally:
        cluster.shutdown()

    printed = ["joined 1", "own 1", "joined 1", "environment []", "token file False"]
    assert (done.returncode, done.stdout.splitlines()) == (0, printed), done.stderr


_LOSE_NODE = """
import psutil
import ray._private.worker as worker
from fsf_core.score.cluster import local_cluster

def connect(*arguments, **named):
    node = next(process for process in psutil.Process().children(recursive=True) if process.name() == "raylet")
    node.kill()
    node.wait()
    connect_to_node(*arguments, **named)

connect_to_node, worker.connect = worker.connect, connect
with local_cluster():
    print("connected")
"""


def test_a_node_that_ends_before_it_is_joined_is_reported() -> None:
    """Ray ended the process without a word."""
    done = subprocess.run(
        [sys.executable, "-c", _LOSE_NODE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    *_, last = done.stderr.splitlines()
    assert last.startswith("ClusterError: this process ended while it was starting Ray: it was killed, or Ray's node ")


_START_IN_A_JOB = """
import json
import os
import ray
from fsf_core.score.cluster import local_cluster

with local_cluster():
    print(ray.get(ray.remote(lambda: os.environ["COLOUR"]).remote(), timeout=60))
"""


def test_a_cluster_that_a_submitted_job_starts_on_its_node_waits_for_no_environment() -> None:
    """Its workers asked for that of the job, and nothing made it; likewise under `uv run`."""
    job = {"runtime_env": {"env_vars": {"COLOUR": "blue"}}, "metadata": {}}
    environment = os.environ | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job), "COLOUR": "blue"}
    done = subprocess.run(
        [sys.executable, "-c", _START_IN_A_JOB],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "blue\n"), done.stderr


def test_a_process_without_the_token_cannot_join_the_clusters_that_jobs_start() -> None:
    address = ray.get_runtime_context().gcs_address
    code = "import sys, ray; ray.init(sys.argv[1]); print(ray.get(ray.remote(lambda: 'joined').remote()))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, address],
        env={**environment, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode
    assert "joined" not in done.stdout

    code = "import sys; from fsf_core.score.cluster_address import require_cluster; require_cluster(sys.argv[1])"
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, address], cwd=ROOT, env={**environment, "RAY_AUTH_MODE": "disabled"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert "requires a token, and this process has none or another; set RAY_AUTH_MODE=token and " in done.stderr
    assert time.monotonic() - since < PROBE_S, "it is not probed again"


def test_a_task_for_which_nothing_is_free_is_waited_for_with_a_limit_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was waited for without end and without a word."""
    caplog.set_level("INFO", logger="fsf")
    monkeypatch.setattr(waiting, "LOG_INTERVAL_S", 0.5)

    def occupied(seconds: float) -> None:
        time.sleep(seconds)

    cpus = resources()["CPU"]
    hold: Any = ray.remote(num_cpus=cpus)(occupied)
    held = hold.remote(60)
    limits = {"what": "the trial", "needs": {"CPU": 1.0}}
    wait_for(lambda: ray.available_resources().get("CPU", 0) == 0, timeout_s=30)
    since = time.monotonic()
    with pytest.raises(ClusterError, match=r"waited 2 s for the trial: all CPUs are in use by other jobs; start the "):
        waiting.run_task(abs, -1, **limits, start_s=2, end_s=60)
    assert time.monotonic() - since < 10
    assert any(
        message.startswith("event=waiting_for_task task='the trial' reason='all CPUs") for message in caplog.messages
    )
    ray.cancel(held, force=True)

    assert waiting.run_task(abs, -1, **limits, start_s=30, end_s=60) == 1
    with pytest.raises(ClusterError, match="waited 1 s for the trial: it has started and not ended"):
        waiting.run_task(time.sleep, 60, **limits, start_s=30, end_s=1)
    with pytest.raises(BundleError, match="gone"):
        waiting.run_task(bundle_error, **limits, start_s=30, end_s=60)


def bundle_error() -> None:
    raise BundleError("the bundle is gone; restore it")


PATCHED = [
    (patches.patched_node, Node, "start_api_server"),
    (patches.patched_ray_data, stats, "get_or_create_stats_actor"),
]


@pytest.mark.parametrize(("patched", "owner", "name"), PATCHED)
def test_patches_apply_to_a_tested_version_of_ray_for_a_while(patched: Any, owner: Any, name: str) -> None:
    original = getattr(owner, name)
    with patched():
        assert getattr(owner, name) is not original
    assert getattr(owner, name) is original


def test_patches_are_off_for_other_versions_of_ray_and_that_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "__version__", "2.63.1")
    caplog.set_level("INFO", logger="fsf")
    for patched, owner, name in PATCHED * 2:
        original = getattr(owner, name)
        with patched():
            assert getattr(owner, name) is original

    assert caplog.messages == ["event=ray_patches_off ray=2.63.1 tested=2.60.x effect='the job starts slower'"]


def test_a_name_that_ray_no_longer_has_switches_its_patch_off_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the job."""
    monkeypatch.delattr(Node, "start_monitor")
    monkeypatch.setitem(sys.modules, "ray._private.services", None)
    monkeypatch.delattr(ray._private, "services")
    caplog.set_level("INFO", logger="fsf")
    original = Node.start_api_server
    for _ in range(2):
        with patches.patched_node():
            assert Node.start_api_server is not original
            assert not hasattr(Node, "start_monitor")

    assert [message.split()[:2] for message in caplog.messages] == [
        ["event=ray_patch_off", "patch=ray._private.node:Node.start_monitor"],
        ["event=ray_patch_off", "patch=ray._private.services._build_python_executable_command_memory_profileable"],
        ["event=ray_patch_off", "patch=ray._private.services.ConsolePopen"],
    ]


@pytest.mark.parametrize(
    ("more", "ports"),
    [("--head", agent_stub.PORTS), ("--runtime-env-dir=/nowhere", agent_stub.RUNTIME_ENV_PORTS)],
)
def test_the_agent_stub_writes_the_files_that_a_node_waits_for_and_ends_with_it(
    tmp_path: Path, more: str, ports: tuple[str, ...]
) -> None:
    words = [
        sys.executable,
        "-I",
        "-S",
        agent_stub.__file__,
        f"--session-dir={tmp_path}",
        "--node-id=f00d",
        more,
    ]
    starting = ["sh", "-c", '"$@" & echo $!; wait', "sh", *words]
    with subprocess.Popen(starting, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout
        agent = psutil.Process(int(node.stdout.readline()))
        files = [tmp_path / f"{port}_f00d" for port in ports]
        wait_for(lambda: all(file.exists() for file in files), timeout_s=30)

        assert {file.read_text() for file in files} == {"-1"}
        assert agent.is_running()
        node.kill()
    wait_for(lambda: not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE, timeout_s=30)


def test_backoff_wait_returns_as_soon_as_one_task_is_ready_and_rarely_while_none_is() -> None:
    backoff: Any = patches._BackoffWait()

    def asleep(seconds: float) -> None:
        time.sleep(seconds)

    sleep: Any = ray.remote(num_cpus=0)(asleep)
    ray.get(sleep.remote(0))
    since = time.monotonic()
    short, long = sleep.remote(1.0), sleep.remote(20.0)
    rounds, ready = 0, []
    while not ready:
        rounds += 1
        ready, waiting = backoff.wait([short, long], num_returns=2, fetch_local=False, timeout=0.1)
    took_s = time.monotonic() - since
    ray.cancel(long, force=True)

    assert (ready, waiting) == ([short], [long])
    assert rounds <= 4 + took_s / patches.MAX_POLL_S, "after 0.1, 0.3 and 0.7 s, then rarely, and when it was ready"
    assert took_s < 10, "not until both are"
    assert backoff.ObjectRef is ray.ObjectRef, "other names are Ray's"
