"""The cheapest form of the drills that tell most, on one cluster; all of them: python -m tests.drills."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle
from tests.drills import catalogue, from_nothing
from tests.drills.workload import PYTHONPATH, Run, Workload, make_workload
from tests.support.hosts import Hosts, open_hosts, require_hosts
from tests.support.processes import wait_for

CUT_S = 12.0


@pytest.fixture(scope="module")
def work(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    require_hosts()
    return make_workload(tmp_path_factory.mktemp("work"), tiny_bundle.uri)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """A head, three workers of one CPU, and a machine that is not in the cluster."""
    require_hosts()
    environment = {"PYTHONPATH": PYTHONPATH, "FSF_DRILL_FRAME_S": "0.1"}
    with open_hosts("head", "one", "two", "three", "laptop", environment=environment) as hosts:
        hosts["head"].start_head()
        catalogue.add_workers(hosts, "one", "two", "three")
        yield hosts


def test_from_nothing_with_one_worker_killed_and_another_cut_off_the_tables_are_those_of_a_local_run(
    work: Workload, hosts: Hosts, tmp_path: Path
) -> None:
    out = f"{from_nothing.BUCKET}/run"
    with from_nothing.bucket(tmp_path / "store", work, address=hosts.outside) as environment:
        local = from_nothing.local_rows()
        job = from_nothing.submit(hosts["laptop"], hosts["head"], out, "--actors", "3", **environment)
        wait_for(lambda: from_nothing.parts_in(out) >= 3 or job.poll() is not None)
        assert job.poll() is None, job.communicate()[0]
        hosts["three"].kill_processes()
        hosts["two"].cut()
        threading.Timer(CUT_S, hosts["two"].heal).start()
        tracker = hosts["head"].must(
            "ray", "list", "actors", "--address", hosts["head"].dashboard, "--filter", "class_name=JobTracker",
            "--detail", "--format", "json",
        )  # fmt: skip
        output, _ = job.communicate(timeout=240)

        assert job.returncode == 0, output
        assert from_nothing.rows_in(out) == local
        assert f"event=node_lost node={hosts['three'].address} " in output
        assert f'"node_id": "{_head_id(hosts)}"' in tracker, "all workers wait for it: it must not be on one of them"


def test_a_driver_that_wakes_after_another_took_its_folder_changes_nothing(
    work: Workload, hosts: Hosts, tmp_path: Path
) -> None:
    began = time.monotonic()
    result = catalogue.pause_driver(hosts, Run(work=work, out=tmp_path / "run"), second=hosts["one"])

    assert result.codes == (75, 0)
    assert time.monotonic() - began < catalogue.LIMIT_S


def _head_id(hosts: Hosts) -> str:
    """Return Ray's id of the head's node."""
    return catalogue.node_id(hosts, "head")
