"""`fsf doctor` and the start of a job on a cluster of three hosts, one of which differs in all that can differ."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fsf_core
from fsf_core.model.bundle import Bundle
from tests.support import assets
from tests.support.hosts import Hosts, faketime_library, open_hosts, require_hosts

AHEAD_S = 90.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A head without CPUs, a worker like the driver, and one of other code, another clock and a disk of its own."""
    require_hosts()
    if faketime_library() is None:
        pytest.skip("a clock of its own needs libfaketime (Debian's faketime)")
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(Path(fsf_core.__file__).parent, other / "fsf_core", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "fsf_core" / "keys.py").open("a") as file:
        file.write("\n# another build\n")
    with open_hosts("head", "good", "odd", clocks={"odd": AHEAD_S}) as hosts:
        hosts["head"].start_head()
        hosts["odd"].must("mount", "-t", "tmpfs", "tmpfs", str(_disk(tmp_path_factory)))
        differs = {"PYTHONPATH": str(other)}
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(hosts[name].start_worker, hosts["head"], **more) for name, more in
                      (("good", {}), ("odd", differs))]  # fmt: skip
        for start in starts:
            start.result()
        yield hosts


def _disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the odd host does not share."""
    folder = tmp_path_factory.getbasetemp() / "disk"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def options(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a job with an output that the odd host does not see."""
    media = tmp_path_factory.mktemp("media")
    (media / "one.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    out = str(_disk(tmp_path_factory) / "run")
    return ["--bundle", tiny_bundle.uri, "--manifest", str(media), "--out", out, "--actors", "2"]


def _doctor(hosts: Hosts, *words: str, code: int, cwd: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Run the doctor on the head; returns the findings by check and host."""
    head = hosts["head"]
    found, output = head.run("fsf", "doctor", *words, "--ray-address", head.gcs, cwd=cwd)
    assert found == code, output
    names = {hosts[name].address: name for name in hosts}
    report = json.loads(output.splitlines()[-1])
    return {(check["check"], names.get(check["node"].partition(" ")[0], "")): check for check in report["checks"]}


def test_the_node_that_differs_is_named_with_everything_in_which_it_differs(
    cluster: Hosts, options: list[str], tmp_path: Path
) -> None:
    found = _doctor(cluster, *options, code=2, cwd=tmp_path)

    assert " of other code, " in found["versions", "odd"]["found"]
    assert "90.0" in found["clock", "odd"]["found"]
    assert "does not see the driver's --out " in found["shared files", "odd"]["found"]
    statuses = {place: check["status"] for place, check in found.items()}
    assert {place: status for place, status in statuses.items() if status != "ok"} == {
        ("versions", "odd"): "fail", ("clock", "odd"): "warn", ("shared files", "odd"): "fail",
    }  # fmt: skip
    assert {("versions", "good"), ("versions", "head"), ("shared files", "good"), ("provider", "good")} <= {*statuses}
    assert all(check["do"] for check in found.values() if check["status"] != "ok")
    assert [*Path(options[5]).parent.iterdir()] == []


def test_a_job_is_refused_before_it_scatters_its_results(cluster: Hosts, options: list[str], tmp_path: Path) -> None:
    """It began, ended with 75 as soon as the worker wrote, and a scheduler repeated it for ever."""
    head = cluster["head"]
    code, output = head.run("fsf", "score", *options, "--ray-address", head.gcs, cwd=tmp_path)

    last = output.strip().splitlines()[-1]
    assert (code, last.partition(":")[0]) == (2, "ClusterError"), output
    assert f"{cluster['odd'].address} (" in last
    assert "does not see the driver's --out " in last
    assert [*Path(options[5]).parent.iterdir()] == []
