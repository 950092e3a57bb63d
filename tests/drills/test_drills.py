"""The drill that tells most in its cheapest form; all of them: python -m tests.drills."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle
from tests.drills import from_nothing
from tests.drills.cluster import add_workers, node_id
from tests.drills.workload import PYTHONPATH, Workload, make_workload
from tests.support.hosts import Hosts, open_hosts, require_hosts

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
        add_workers(hosts, "one", "two", "three")
        yield hosts


def test_from_nothing_with_one_worker_killed_and_another_cut_off_the_tables_are_those_of_a_local_run(
    work: Workload, hosts: Hosts, tmp_path: Path
) -> None:
    output, _ = from_nothing.score_through_faults(hosts, work, tmp_path, cut_s=CUT_S, scored_again=False)

    assert f"event=node_lost node={hosts['three'].address} " in output
    assert _places_of_trackers(hosts) == {node_id(hosts, "head")}, (
        "all workers wait for the tracker: it belongs to the node of its driver"
    )


def _places_of_trackers(hosts: Hosts) -> set[str]:
    """Return the nodes of the trackers of all jobs so far."""
    actors = hosts["head"].must(
        "ray", "list", "actors", "--address", hosts["head"].dashboard, "--filter", "class_name=JobTracker", "--detail",
        "--format", "json",
    )  # fmt: skip
    found = {*re.findall(r'"node_id": "(\w+)"', actors)}
    assert found
    return found
