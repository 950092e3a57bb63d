"""Jobs whose surroundings fail: a killed driver, a lost cluster, a folder that is gone."""

import csv
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fsf_core.model.bundle import Bundle
from tests.support import assets
from tests.support.processes import Job, wait_for

ITEMS = 20_000


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the temporary directory of the jobs; its path is short, because sockets are in it."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def start(tiny_bundle: Bundle, tmp_path: Path, temporary: Path) -> Callable[[int], Job]:
    """Start a job into tmp_path/run; return it once parts are written."""
    assets.write_good(tmp_path / "images")
    sources = sorted((tmp_path / "images").rglob("*.jpg"))

    def run(items: int) -> Job:
        with (tmp_path / "items.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("id", "uri"), *((n, sources[n % len(sources)]) for n in range(items))])
        job = Job(
            "score", "--bundle", tiny_bundle.uri, "--manifest", str(tmp_path / "items.csv"), "--provider", "cpu",
            "--out", str(tmp_path / "run"), "--part-units", "8",
        )  # fmt: skip
        wait_for(lambda: any((tmp_path / "run").rglob("part-*.arrow")) or job.process.poll() is not None, timeout_s=120)
        return job

    return run


def _alive(family: list[psutil.Process]) -> list[str]:
    return [each.name() for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_nothing_outlives_a_killed_driver(start: Callable[[int], Job], temporary: Path) -> None:
    """An agent of Ray's lived for 45 s, workers for 3 s, and the folder in the temporary directory for ever."""
    job = start(ITEMS)
    family = job.family()
    assert {"raylet", "gcs_server"} <= {each.name() for each in family}
    folders = list(temporary.iterdir())
    assert [oct(folder.stat().st_mode)[-3:] for folder in folders] == ["700"]
    job.process.kill()
    wait_for(lambda: not _alive(family), timeout_s=10)  # 0.1 s on an idle machine
    wait_for(lambda: not list(temporary.iterdir()), timeout_s=10)


def test_a_lost_cluster_is_a_reason_to_try_again(start: Callable[[int], Job]) -> None:
    job = start(ITEMS)
    family = job.family()
    next(each for each in family if each.name() == "gcs_server").send_signal(signal.SIGKILL)
    output, _ = job.process.communicate(timeout=30)

    assert job.process.returncode == 75, output
    assert output.splitlines()[-1].startswith("ResumableError: the head of the Ray cluster ended")
    assert not re.search(r"\.(cc|h):\d+|ray\.io|Traceback", output), "nothing of Ray's"
    wait_for(lambda: not _alive(family), timeout_s=10)


def test_a_run_folder_that_is_removed_in_the_middle_is_a_reason_to_try_again_and_that_works(
    start: Callable[[int], Job], temporary: Path, tmp_path: Path
) -> None:
    job = start(ITEMS)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    output, _ = job.process.communicate(timeout=120)

    assert job.process.returncode == 75, output
    assert "Traceback" not in output
    # Whichever is noticed first: the lock is gone, or a file cannot be written.
    reason = output.splitlines()[-1]
    assert re.match("(LeaseLost|Resumable)Error: .*(start the same command again|the same command scores all)", reason)
    if "remove what is left" in reason:
        shutil.rmtree(tmp_path / "run")
    again = start(8)
    output, _ = again.process.communicate(timeout=120)
    assert again.process.returncode == 0, output
    assert not list(temporary.iterdir()), "Ray's folder is removed with the job"
