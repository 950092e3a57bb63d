"""`fsf submit` on a real head that asks for a token, with an S3 server that checks credentials."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import fsspec
import psutil
import pytest
from ray.job_submission import JobSubmissionClient

from fsf_core.model.bundle import Bundle
from tests.support import assets
from tests.support.heads import Head, dropping_proxy, ray_head
from tests.support.processes import ROOT, wait_for
from tests.support.stores import ADMIN, Store, seaweed

ITEMS = 120
SECRETS = (ADMIN["AWS_SECRET_ACCESS_KEY"], "verysecretword")
"""The credentials of the shell that submits, and one on its command line."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A client that has ended."""

    code: int
    out: str
    err: str


class Client:
    """`fsf submit` as a process."""

    def __init__(self, head: Head, *words: str, address: str | None = None, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fsf_core.cli", "submit", "--address", address or head.address, *words],
            cwd=ROOT, env={**head.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def wait(self, timeout_s: float = 200) -> Done:
        out, err = self.process.communicate(timeout=timeout_s)
        return Done(code=self.process.returncode, out=out, err=err)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("r"), RAY_enable_export_api_write="1") as running:
        yield running


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Store]:
    """A bucket with a bundle, some images, a broken one, and a list that is not over at once."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        bucket = _bucket(running)
        for path in Path(tiny_bundle.uri).iterdir():
            bucket.pipe(f"data/bundle/{path.name}", path.read_bytes())
        bucket.pipe("data/good.jpg", assets.pillow(assets.picture(), "JPEG"))
        bucket.pipe("data/broken.jpg", b"no image")
        rows = io.StringIO()
        names = ["broken.jpg", *["good.jpg"] * ITEMS]
        csv.writer(rows).writerows([("id", "uri"), *((n, f"s3://data/{name}") for n, name in enumerate(names))])
        bucket.pipe("data/items.csv", rows.getvalue().encode())
        yield running


def _bucket(store: Store) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(
        "s3", key=ADMIN["AWS_ACCESS_KEY_ID"], secret=ADMIN["AWS_SECRET_ACCESS_KEY"], use_listings_cache=False,
        client_kwargs={"endpoint_url": store.environment["AWS_ENDPOINT_URL"], "region_name": "us-east-1"},
    )  # fmt: skip


SCORE = (
    "score", "--bundle", "s3://data/bundle", "--manifest", "s3://data/items.csv", "--out", "s3://data/run",
    "--provider", "cpu", "--actors", "1", "--part-units", "8", "--max-failed-share", "0",
)  # fmt: skip


def _processes_that_show_a_secret(head: Head, store: Store, *clients: Client) -> list[str]:
    """Return the processes of this cluster, and all others but the clients that know this store, that show a secret."""
    cluster = {head.pid, *(process.pid for process in psutil.Process(head.pid).children(recursive=True))}
    found = []
    for pid in {*psutil.pids()} - {client.process.pid for client in clients}:
        with contextlib.suppress(OSError):
            title, variables = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
            is_ours = pid in cluster or f":{store.port}".encode() in variables
            if is_ours and any(secret.encode() in title + variables for secret in SECRETS):
                found.append(f"{pid} {title[:80]!r}")
    return found


@dataclass(frozen=True, kw_only=True)
class Night:
    """A run that was stopped by Ctrl-C, and the same command again, over connections that drop."""

    stopped: Done
    parts: int
    """Receipts of the stopped run."""
    resumed: Done
    refused: Done
    """Meanwhile, a command with a password on its command line, without credentials and with code of its own."""
    shown: list[str]
    """Processes that showed a credential while jobs ran."""


@pytest.fixture(scope="module")
def night(head: Head, store: Store) -> Night:
    bucket = _bucket(store)
    first = Client(head, "--submission-id", "first", "--", *SCORE, **store.environment)
    wait_for(lambda: len(bucket.glob("data/run/.attempt-*/receipts/*")) > 2 or first.process.poll() is not None)
    shown = _processes_that_show_a_secret(head, store, first)
    first.process.send_signal(signal.SIGINT)
    stopped = first.wait()
    parts = len(bucket.glob("data/run/**/receipts/*"))
    with dropping_proxy(head.address, after_s=2.5) as address:
        second = Client(head, "--submission-id", "second", "--", *SCORE, address=address, **store.environment)
        list_uri = f"https://me:{SECRETS[1]}@127.0.0.1:9/list.csv"
        words = ("--bundle", "s3://data/bundle", "--manifest", list_uri, "--out", "s3://data/other")
        options = ("--submission-id", "third", "--no-credentials", "--ship", "always")
        third = Client(head, *options, "--", "score", *words, **store.environment)
        wait_for(lambda: bucket.exists("data/run/summary.json") or second.process.poll() is not None)
        shown += _processes_that_show_a_secret(head, store, second, third)
        return Night(stopped=stopped, parts=parts, resumed=second.wait(), refused=third.wait(), shown=shown)


def test_ctrl_c_stops_the_job_after_it_has_committed_and_exits_with_130(night: Night) -> None:
    assert night.stopped.code == 130, night.stopped.err
    assert night.stopped.out == ""
    assert "stopping job first; it commits what it has" in night.stopped.err
    assert "interrupted by SIGTERM; start the same command again to resume" in night.stopped.err, "not killed"
    assert night.parts > 2


def test_the_same_command_resumes_and_its_own_exit_code_and_summary_arrive(night: Night) -> None:
    assert night.resumed.code == 3, night.resumed.err
    [line] = night.resumed.out.splitlines()
    summary = json.loads(line)
    assert summary["items"] == {"total": ITEMS + 1, "scored": ITEMS, "failed": 1, "not_in_manifest": 0}
    assert summary["attempt"] == 2


def test_connections_that_drop_lose_and_double_no_line(night: Night, head: Head) -> None:
    [log] = head.home.glob("session_2*/logs/job-driver-second.log")
    lines = [line for line in log.read_text().splitlines() if line and not line.startswith("fsf-submit ")]
    notes = ("job second", "the connection to the cluster is lost", "connected again")
    received = [line for line in night.resumed.err.splitlines() if line and not line.startswith(notes)]

    assert received == lines
    assert len(lines) > 5


def test_a_refused_command_exits_with_2_and_hides_its_password(night: Night) -> None:
    """It was not to get the credentials, and the cluster has none of its own."""
    assert night.refused.code == 2, night.refused.err
    assert "https://***@127.0.0.1:9/list.csv" in night.refused.err
    assert "NoCredentialsError" in night.refused.err
    assert "Uploading package" in night.refused.err


PAGES = (
    "/api/jobs/", "/api/jobs/first", "/api/jobs/first/logs", "/api/jobs/second/logs", "/api/jobs/third",
    "/api/jobs/third/logs", "/api/version", "/nodes?view=details", "/nodes?view=summary", "/api/cluster_status",
    "/events", "/logical/actors", "/api/component_activities", "/api/data/datasets", "/api/snapshot",
    "/api/v0/logs?node_ip=127.0.0.1",
    *(f"/api/v0/{name}?detail=1&limit=10000" for name in (
        "actors", "tasks", "jobs", "nodes", "objects", "workers", "runtime_envs", "placement_groups", "cluster_events",
        "cluster_metadata",
    )),
)  # fmt: skip


def test_credentials_reach_the_workers_and_appear_nowhere(night: Night, head: Head) -> None:
    """The workers have them: the server refuses every request without a signature."""
    pages = {path: head.get(path) for path in PAGES}
    pages |= {f"agent {path}": head.get(path, at_agent=True) for path in ("/metrics", "/api/job_agent/jobs/first/logs")}
    names = json.dumps(pages["/api/v0/logs?node_ip=127.0.0.1"].json())
    logs = [name for name in _names(json.loads(names)) if name.endswith((".log", ".out", ".err", ".txt"))]
    pages |= {name: head.get(f"/api/v0/logs/file?node_ip=127.0.0.1&lines=-1&filename={quote(name)}") for name in logs}
    shown = [path for path, page in pages.items() if any(secret in page.text for secret in SECRETS)]
    files = {path: path.read_bytes() for path in head.home.rglob("*") if path.is_file() and not path.is_symlink()}
    written = [str(path) for path, content in files.items() if any(secret.encode() in content for secret in SECRETS)]
    texts = [done.out + done.err for done in (night.stopped, night.resumed, night.refused)]

    assert not night.shown, "\n".join(night.shown)
    assert shown == []
    assert written == []
    assert not [text for text in texts if any(secret in text for secret in SECRETS)]
    served = [path for path, page in pages.items() if page.ok and len(page.text) > 2]
    assert len(served) > 20, served
    assert any("worker" in path for path in served), "logs of workers"
    assert len(files) > 30
    assert any("export" in str(path) for path in files), "events are exported, too"


def _names(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names(each)


def test_every_end_of_a_job_has_its_exit_code(head: Head, tmp_path: Path) -> None:
    """Jobs that others have submitted are followed by their ids; `ray job submit` exits with 1, 0, 0, 1 and 1."""
    jobs = JobSubmissionClient(head.address, headers=head.headers)
    commands = {"resumable": "exit 75", "none": "exit 0", "stopped": "", "killed": "", "lost": ""}
    for name, command in commands.items():
        sleep = f"echo $$ > {tmp_path}/{name}; exec sleep 600"
        jobs.submit_job(entrypoint=command or sleep, submission_id=name)
    clients = {name: Client(head, "--attach", name) for name in commands}
    wait_for(lambda: all((tmp_path / name).exists() for name in ("stopped", "killed", "lost")))
    wait_for(lambda: all(jobs.get_job_status(name) == "RUNNING" for name in ("stopped", "killed", "lost")))
    asked = Client(head, "--attach", "stopped", "--no-wait").wait()
    assert (asked.code, json.loads(asked.out)) == (0, {"job": "stopped", "status": "RUNNING"}), asked.err
    jobs.stop_job("stopped")
    os.kill(int((tmp_path / "killed").read_text()), signal.SIGKILL)
    lost = psutil.Process(int((tmp_path / "lost").read_text()))
    lost.parent().kill()
    done = {name: client.wait() for name, client in clients.items()}

    assert {name: each.code for name, each in done.items()} == {
        "resumable": 75, "none": 0, "stopped": 143, "killed": 137, "lost": 75,
    }, done  # fmt: skip
    assert "somebody else stopped the job" in done["stopped"].err
    assert "killed by SIGKILL" in done["killed"].err
    assert "JOB_SUPERVISOR_ACTOR_DIED" in done["lost"].err


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster refuses this client: Authentication required"),
        ({"RAY_AUTH_TOKEN": "8" * 64}, "the cluster refuses this client: Authentication failed"),
    ],
)
def test_a_client_without_the_token_is_refused_before_anything_is_submitted(
    head: Head, environment: dict[str, str], message: str
) -> None:
    done = Client(head, "--", "verify", "s3://data/run", **environment).wait()

    assert (done.code, done.out) == (2, "")
    assert message in done.err
