"""What the nodes of a cluster report, judged; the real nodes are in tests/integration/test_doctor_nodes.py."""

from pathlib import Path
from typing import Any

import pytest

from fsf_core.model.cuda_driver import loaded_libraries
from fsf_core.score import preflight
from fsf_core.score.node_facts import code_digest, node_facts, nvidia_driver
from fsf_core.score.node_tasks import Node, Offset
from fsf_core.submit import code

NODE = Node(id="0123456789abcdef", address="10.0.0.2", resources={"CPU": 4.0})
HEAD = Node(id="fedcba9876543210", address="10.0.0.1", resources={"memory": 1.0})


def _survey(facts: dict[str, Any] | None = None, *, node: Node = NODE, ahead_s: float = 0.0) -> preflight.Survey:
    own = node_facts({})
    return preflight.Survey(
        driver=own,
        facts={node: own | (facts or {})},
        reasons={},
        offsets={node: Offset(ahead_s=ahead_s, uncertainty_s=0.01)},
    )


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"ray": "2.55.0"}, "Ray 2.55.0 (driver: "),
        ({"python": "3.12.1"}, "Python 3.12.1 (driver: "),
        ({"fsf": ""}, "fsf none (driver: "),
        ({"fsf_code": "0123456789ab"}, " of other code, 0123456789ab (driver: "),
    ],
)
def test_another_program_on_a_node_fails(facts: dict[str, str], found: str) -> None:
    [finding] = preflight.judge_versions(_survey(facts))

    assert (finding.status, finding.node) == ("fail", "10.0.0.2 (01234567)")
    assert found in finding.found


def test_another_library_on_a_node_is_a_warning_and_a_missing_one_fails() -> None:
    libraries = node_facts({})["libraries"]
    [other] = preflight.judge_versions(_survey({"libraries": libraries | {"numpy": "1.0"}}))
    [missing] = preflight.judge_versions(_survey({"libraries": libraries | {"onnxruntime": ""}}))

    assert (other.status, other.found.startswith("numpy 1.0 (driver: ")) == ("warn", True)
    assert (missing.status, missing.found.startswith("onnxruntime none (driver: ")) == ("fail", True)


def test_a_node_like_the_driver_is_ok() -> None:
    assert [finding.status for finding in preflight.judge_versions(_survey())] == ["ok"]


@pytest.mark.parametrize(
    ("ahead_s", "status", "found"),
    [
        (0.3, "ok", "0.30 ± 0.01 s ahead of the driver's clock"),
        (-90.0, "warn", "90.00 ± 0.01 s behind the driver's clock"),
        (1000.0, "fail", "1000.00 ± 0.01 s ahead of the driver's clock"),
    ],
)
def test_clocks_are_compared(ahead_s: float, status: str, found: str) -> None:
    [finding] = preflight.judge_clocks(_survey(ahead_s=ahead_s))

    assert (finding.status, finding.found) == (status, found)


def test_a_folder_that_a_node_does_not_see_fails_unless_the_node_does_no_work() -> None:
    facts = {"unseen": {f"/data/run/{preflight.MARK}01234567": "No such file or directory"}}
    [finding] = preflight.judge_paths(_survey(facts))

    assert finding.status == "fail"
    assert finding.found == "does not see the driver's --out /data/run (No such file or directory)"
    assert preflight.judge_paths(_survey(facts, node=HEAD)) == []


def test_a_folder_that_a_node_may_not_write_fails() -> None:
    [finding] = preflight.judge_paths(_survey({"unwritable": ["/data/run"]}))

    assert (finding.status, finding.found) == ("fail", "may not write to /data/run")


def test_no_node_that_can_start_a_task_fails_and_one_of_several_is_a_warning() -> None:
    reasons = {Node(id="99" * 8, address="10.0.0.9", resources={"CPU": 1.0}): "no task ended there within 90 s"}
    alone = preflight.Survey(driver={}, facts={}, reasons=reasons, offsets={})
    beside_head = preflight.Survey(driver={}, facts={HEAD: {}}, reasons=reasons, offsets={})
    beside_another = preflight.Survey(driver={}, facts={NODE: {}}, reasons=reasons, offsets={})

    statuses = [preflight.judge_starts(found)[0].status for found in (alone, beside_head, beside_another)]

    assert statuses == ["fail", "fail", "warn"]


def test_the_mark_of_a_local_folder_is_removed_and_a_store_has_none(tmp_path: Path) -> None:
    with preflight.marked(str(tmp_path)) as mark:
        [(path, text)] = mark.items()
        assert Path(path).read_text() == text
        assert node_facts(mark)["unseen"] == {}
        assert node_facts({path: "another"})["unseen"] == {path: "another file is at this path"}
    assert [*tmp_path.iterdir()] == []
    with preflight.marked("s3://data/run") as nothing:
        assert nothing == {}


def test_other_code_of_the_same_version_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 1")
    first = code_digest(tmp_path)
    (tmp_path / "a.pyc").write_text("compiled")
    assert code_digest(tmp_path) == first
    (tmp_path / "a.py").write_text("A = 2")
    assert code_digest(tmp_path) != first


def test_the_digest_of_the_code_is_that_of_fsf_submit() -> None:
    assert node_facts({})["fsf_code"] == code.code_digest()


def test_versions_of_the_driver_and_of_loaded_libraries_are_read(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.06  Release Build  (dvs-builder)\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    (tmp_path / "maps").write_text(
        "7f00-7f01 r-xp 00000000 fe:00 1 /usr/lib/libcudart.so.13.0.96\n7f02-7f03 r-xp 0 fe:00 2 /x/libcublas.so.13\n"
    )

    assert nvidia_driver(str(tmp_path / "version")) == "535.183.06"
    assert nvidia_driver(str(tmp_path / "gone")) == ""
    assert loaded_libraries(str(tmp_path / "maps")) == {"cudart": "13.0.96", "cublas": "13"}
