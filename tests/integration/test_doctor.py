"""`fsf doctor` as a command, on this machine: its lines, its JSON, its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsf_core.cli.app import main
from fsf_core.model.bundle import Bundle
from fsf_core.model.cuda_driver import cuda_devices
from tests.support import assets

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture
def media(tmp_path: Path) -> str:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    return str(folder)


def _doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, Any]], list[str]]:
    """Run the doctor; returns the exit code, the findings by check, and the lines."""
    code = main(["doctor", *words])
    *lines, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["could_run"] is (code == 0)
    assert [line[:4].strip().lower() for line in lines] == [check["status"] for check in report["checks"]]
    assert all(check["do"] for check in report["checks"] if check["status"] == "fail")
    return code, {check["check"]: check for check in report["checks"]}, lines


def test_a_good_box_is_ok_and_nothing_is_left(
    tiny_bundle: Bundle, media: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", tiny_bundle.uri, "--manifest", media, "--out", f"{tmp_path}/runs/first", "--provider", "cpu"]

    code, found, lines = _doctor(capsys, *words, "--actors", "2", "--fail-if", "ratio.ulcer > 0.1 or frames < 3")

    assert code == 0, lines
    assert [*found] == [
        "options", "versions", "bundle", "manifest", "items", "gates", "out", "run", "cluster", "clock", "machine",
        "provider", "actors", "memory",
    ]  # fmt: skip
    assert found["actors"]["found"] == "2 actors on cpu"
    assert found["gates"]["found"] == "1 gate can be judged: ratio.ulcer > 0.1 or frames < 3"
    assert found["memory"]["found"].startswith("2 actors of ")
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


def test_what_is_wrong_fails_with_advice_and_what_depends_on_it_is_not_checked(
    media: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")

    code, found, _ = _doctor(
        capsys,
        "--bundle",
        f"{tmp_path}/gone",
        "--manifest",
        f"{media}/none",
        "--out",
        f"{tmp_path}/taken",
        "--actors",
        "999",
        "--fail-if",
        "miou < 0.8",
    )

    assert code == 2
    assert {check for check, finding in found.items() if finding["status"] == "fail"} == {
        "actors", "bundle", "manifest", "out", "run",
    }  # fmt: skip
    assert found["items"]["found"] == "not checked: the manifest cannot be opened"
    assert found["provider"]["found"] == "not checked: the bundle cannot be loaded"
    assert found["gates"]["found"] == "not checked: the bundle cannot be loaded"


def test_cuda_without_a_gpu_and_too_few_cpus_fail(capsys: pytest.CaptureFixture[str]) -> None:
    if cuda_devices()[0]:
        pytest.skip("this machine has a GPU")
    code, found, _ = _doctor(capsys, "--provider", "cuda")
    assert (code, found["provider"]["status"]) == (2, "fail")
    assert "pass --provider cpu" in found["provider"]["do"]

    code, found, _ = _doctor(capsys, "--actors", "999")
    assert (code, found["provider"]["status"], found["actors"]["status"]) == (2, "ok", "fail")
    assert "found room for " in found["actors"]["found"]
