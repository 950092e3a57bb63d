"""The jobs as users start them: as processes, on one machine and by `ray job submit`."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from ray.job_submission import JobStatus, JobSubmissionClient

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from tests.support import assets
from tests.support.processes import Job, kill_all, receipts, wait_for
from tests.support.stores import free_port
from tests.support.tiny_net import build

ROOT = Path(__file__).parents[2]
CLASSES = "background,sunburn,ulcer,wind_scarring"
ITEMS = 1500


def fsf(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would; returns its output."""
    return subprocess.run(
        [sys.executable, "-m", "fsf_core.cli", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def last_json(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    assets.write_good(folder)
    (folder / "cut.jpg").write_bytes(next(iter(folder.rglob("*.jpg"))).read_bytes()[:200])
    return folder


def test_checkpoint_to_masks_in_one_command(images: Path, tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "weights.pth")
    done = fsf(
        "score", "--net", "tests.support.tiny_net:build", "--checkpoint", str(tmp_path / "weights.pth"),
        "--classes", CLASSES, "--profile", "fastsegformer",
        "--manifest", str(images), "--out", str(tmp_path / "run"), "--provider", "cpu",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    summary = last_json(done.stdout)
    assert summary["items"]["failed"] == 1
    assert summary["failures"] == {"DecodeError": 1}
    assert summary["provider"] == "cpu"
    assert fsf("verify", str(tmp_path / "run")).returncode == 0


def test_logs_are_one_event_a_line_and_results_are_on_stdout(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    done = fsf("score", "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run"))

    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines, "a run logs its progress"
    assert all("event=" in line for line in lines), done.stderr
    assert "event=provider_chosen provider=cpu" in done.stderr, "auto logs the provider that it took"
    assert "wind_scarring" in done.stdout or "background" in done.stdout


def test_modules_in_the_current_folder_are_not_the_programs(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    """A user's folder may hold a random.py, or a checkout of another version."""
    for name in ("random", "json", "cv2", "numba", "pyarrow", "fsf_core"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the user')\n")

    command = [Path(sys.executable).with_name("fsf"), "score", "--bundle", tiny_bundle.uri, "--manifest", str(images)]
    done = subprocess.run(
        [*command, "--out", "run", "--provider", "cpu"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert [*last_json(done.stdout)["failures"]] == ["DecodeError"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--manifest", "nowhere.csv"], "does not exist"),
        (["--manifest", "{empty}"], "lists no items"),
        (["--manifest", "{column}"], "`uri`"),
        (["--manifest", "{twice}"], "more than once"),
        (["--manifest", "{torn}"], "not a readable .parquet"),
        (["--manifest", "{images}", "--provider", "gpu"], "gpu"),
        (["--manifest", "{images}", "--provider", "cuda"], "GPU"),
        (["--manifest", "{images}", "--out", "{foreign}"], "not a run"),
        (["--manifest", "{images}", "--batch-frames", "0"], "at least 1"),
        (["--manifest", "{images}", "--ovrelays"], "overlays"),
    ],
)
def test_wrong_commands_exit_with_2_and_a_remedy(
    words: list[str], message: str, tiny_bundle: Bundle, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "column.csv").write_text("path,kind\na.jpg,image\n")
    (tmp_path / "twice.csv").write_text("id,uri\nx,a.jpg\nx,b.jpg\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.docx").write_text("years of work")
    places = {
        "{empty}": "empty", "{column}": "column.csv", "{twice}": "twice.csv", "{torn}": "torn.parquet",
        "{foreign}": "foreign",
    }  # fmt: skip
    arguments = [str(tmp_path / places[word]) if word in places else word for word in words]
    arguments = [str(images) if word == "{images}" else word for word in arguments]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "run")]
    done = fsf("score", "--bundle", tiny_bundle.uri, *arguments, *out)

    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "foreign" / "thesis.docx").exists()


def test_options_may_come_from_yaml_and_the_environment(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(f"bundle: {tiny_bundle.uri}\nmanifest: {images}\nprovider: cuda\nmask-size: model\n")
    done = fsf(
        "score", "--config", str(config), "--out", str(tmp_path / "run"),
        FSF_SCORE_PROVIDER="cpu",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert runs.read_document(str(tmp_path / "run"), "run.json")["fingerprint"]["mask_size"] == "model"


def test_a_run_without_a_scored_item_fails_the_gate(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_text("not an image")
    done = fsf(
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(tmp_path / "images"), "--out", str(tmp_path / "run")
    )

    assert done.returncode == 3
    assert "gate: all 1 items failed" in done.stderr


def _long_job(bundle: Bundle, home: Path) -> list[str]:
    """Options of a job that is not over at once, into home/run."""
    assets.write_good(home / "images")
    sources = sorted((home / "images").rglob("*.jpg"))
    with (home / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "uri"), *((n, sources[n % len(sources)]) for n in range(ITEMS))])
    return [
        "--bundle", bundle.uri, "--manifest", str(home / "items.csv"), "--out", str(home / "run"),
        "--provider", "cpu", "--part-units", "32",
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_same_command_resumes_an_interrupted_run(
    number: signal.Signals, code: int, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    words = ["score", *_long_job(tiny_bundle, tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "fsf_core.cli", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        wait_for(lambda: receipts(tmp_path / "run") >= 3, timeout_s=120)
        job.send_signal(number)
        _, output = job.communicate(timeout=60)

    assert job.returncode == code, output
    assert "same command again" in output
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    kept = sum(receipt.units.num_rows for receipt in runs.receipts(str(tmp_path / "run")))
    assert 0 < kept < ITEMS
    done = fsf(*words)
    assert done.returncode == 0, done.stderr
    summary = last_json(done.stdout)
    assert summary["resumed_items"] >= kept
    assert summary["frames"] == ITEMS
    assert runs.verify(str(tmp_path / "run")) == []


def test_a_local_job_starts_only_the_processes_that_it_needs(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Ray's dashboard and monitors, and Ray Data's autoscaler, statistics and locations, cost 17 s of a start."""
    seen: set[str] = set()
    job = Job("score", *_long_job(tiny_bundle, tmp_path))
    while job.process.poll() is None:
        for process in job.family():
            with contextlib.suppress(psutil.Error):
                seen.add(" ".join(process.cmdline()).strip())
        time.sleep(0.1)
    output, _ = job.process.communicate()

    assert job.process.returncode == 0, output
    actors = {re.sub(r"fsf-score-[^:]*:|[.(].*", "", name) for name in seen if name.startswith("ray::")}
    assert actors - {"ray::IDLE"} == {"ray::JobTracker", "ray::MapWorker"}
    programs = {re.search(r"[^ /]+\.py", name) for name in seen if re.match(r"\S*python", name)}
    names = {found[0] for found in programs if found}
    assert "agent_stub.py" in names, "in place of Ray's agents"
    assert not names & {"dashboard.py", "monitor.py", "log_monitor.py", "agent.py", "main.py"}


def test_inspect_prints_the_table_and_draws_the_image(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    fsf("score", "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run"))
    whole = fsf("inspect", str(tmp_path / "run"))
    item = runs.read_table(str(tmp_path / "run"), "masks", columns=["item_id"]).column("item_id")[0].as_py()
    one = fsf("inspect", str(tmp_path / "run"), item, "--png", str(tmp_path / "look.png"))

    assert whole.returncode == one.returncode == 0, whole.stderr + one.stderr
    assert "-" * 63 in whole.stdout
    assert "cut.jpg" in whole.stdout
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real head with its dashboard; yields the address for jobs."""
    home = tmp_path_factory.mktemp("r")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    port = free_port(1, 2, 3)  # not those of a store or a head of the tests beside this one
    address = f"http://127.0.0.1:{port + 1}"
    words = [
        "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={port + 1}", f"--dashboard-agent-listen-port={port + 2}",
        f"--ray-client-server-port={port + 3}", "--min-worker-port=0", "--max-worker-port=0", "--num-cpus=4",
        "--object-store-memory=300000000",
        "--disable-usage-stats", f"--temp-dir={home}",
    ]  # fmt: skip
    ray = Path(sys.executable).parent / "ray"
    with subprocess.Popen(
        [ray, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as daemon:
        before = os.environ.get("RAY_AUTH_MODE")
        os.environ["RAY_AUTH_MODE"] = "disabled"
        try:
            wait_for(lambda: _is_ready(address), timeout_s=90)
            yield address
        finally:
            family = psutil.Process(daemon.pid).children(recursive=True)
            daemon.kill()  # asked to end, it waits for half a minute
            kill_all(family)
            os.environ.pop("RAY_AUTH_MODE")
            if before is not None:
                os.environ["RAY_AUTH_MODE"] = before


def _is_ready(address: str) -> bool:
    try:
        JobSubmissionClient(address).list_jobs()
    except Exception:  # noqa: BLE001 - not yet
        return False
    return True


def _submit(address: str, *words: str) -> tuple[JobStatus, int | None, str]:
    """Submit, wait, and give status, exit code and output."""
    client = JobSubmissionClient(address)
    job = _submitted(client, *words)
    wait_for(lambda: client.get_job_status(job).is_terminal(), timeout_s=240)
    return client.get_job_status(job), client.get_job_info(job).driver_exit_code, client.get_job_logs(job)


def _submitted(client: JobSubmissionClient, *words: str) -> str:
    return client.submit_job(
        entrypoint=" ".join([sys.executable, "-m", "jobs.score", *words]), runtime_env={"working_dir": str(ROOT)}
    )


def test_ray_job_submit_runs_the_same_job(head: str, tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    status, code, output = _submit(
        head, "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run"),
        "--provider", "cpu", "--actors", "1",
    )  # fmt: skip

    assert (status, code) == (JobStatus.SUCCEEDED, 0), output
    assert '"failures": {"DecodeError": 1}' in output
    assert runs.verify(str(tmp_path / "run")) == []


def test_ray_job_submit_reports_a_wrong_command(head: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    status, code, output = _submit(
        head, "--bundle", tiny_bundle.uri, "--manifest", str(tmp_path / "no.csv"), "--out", str(tmp_path / "run")
    )

    assert (status, code) == (JobStatus.FAILED, 2)
    assert "does not exist" in output


def test_the_same_command_resumes_a_stopped_job(head: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    words = [*_long_job(tiny_bundle, tmp_path), "--actors", "1"]
    client = JobSubmissionClient(head)
    job = _submitted(client, *words)
    wait_for(lambda: receipts(tmp_path / "run") >= 3, timeout_s=120)
    client.stop_job(job)
    wait_for(lambda: client.get_job_status(job).is_terminal(), timeout_s=60)
    kept = sum(receipt.units.num_rows for receipt in runs.receipts(str(tmp_path / "run")))

    assert client.get_job_status(job) == JobStatus.STOPPED
    assert 0 < kept < ITEMS
    status, code, output = _submit(head, *words)
    assert (status, code) == (JobStatus.SUCCEEDED, 0), output
    assert last_json(output)["frames"] == ITEMS
    assert runs.verify(str(tmp_path / "run")) == []


def test_more_actors_than_fit_are_refused_at_once(head: str, tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    status, code, output = _submit(
        head, "--bundle", tiny_bundle.uri, "--manifest", str(images), "--out", str(tmp_path / "run"),
        "--provider", "cpu", "--actors", "5",
    )  # fmt: skip

    assert (status, code) == (JobStatus.FAILED, 2)
    assert "found room for 4 actors" in output
