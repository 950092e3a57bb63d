"""A real job on a real head: its metrics, every query of cluster/monitoring against them, its logs, and its names."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from fsf_core.model.bundle import Bundle
from fsf_core.score.metric_table import METRICS
from tests.support import assets, clips, monitoring
from tests.support.processes import ROOT, kill_all, wait_for

IMAGES, BROKEN, VIDEO_FRAMES = 30, 3, 24
PASSWORD = "s3cretWord"  # noqa: S105 - it must be seen nowhere

REPORT_MS = 3_000
"""Interval in which Ray's processes report, 10 s by default; what is not repeated disappears after two of them."""

SCRAPE_INTERVAL = "1s"
"""Also how long a scrape may take; one that takes longer ends all series of the head for that time."""

EXPECTED_EMPTY = {"panel GPU use, A", "panel GPU memory, A"}
ABSENT = {"fsf_run_info": "panel Run, A"}


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves files, but asks to slow down at the first request for each of some."""

    slowed: set[str]

    def do_GET(self) -> None:
        if self.path in self.slowed:
            self.slowed.discard(self.path)
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Night:
    """A job that has ended, and what was seen of it."""

    exposition: str
    """The metrics of the head, right after the end."""
    exported: dict[str, set[str]]
    """The labels of every metric of the head: gauges of nodes come and go between two reports."""
    stdout: str
    stderr: str
    session: Path
    """Folder of Ray's session."""
    dashboard: str
    prometheus: str | None
    """Address of a Prometheus that scraped the head meanwhile."""
    out: Path
    began: float
    """Time at which it was started, in seconds since 1970."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the driver's log; every one is an object."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    @cached_property
    def worker_log(self) -> list[dict[str, Any]]:
        """The lines of fsf in the files that Ray keeps of its workers."""
        lines = [line for path in self.session.glob("logs/worker-*.err") for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def api(self, path: str) -> Any:
        """Return a document of Ray's dashboard."""
        return _get(f"{self.dashboard}{path}")


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - of this machine
        text: str = response.read().decode()
    return text


def _get(url: str) -> Any:
    return json.loads(_read(url))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def _head(home: Path, environment: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Start a head; yields its address, and those of its dashboard and its metrics."""
    port, dashboard, metrics, *agents = _free_ports(6)
    words = [
        "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}",
        f"--dashboard-agent-listen-port={agents[0]}", f"--dashboard-agent-grpc-port={agents[1]}",
        f"--ray-client-server-port={agents[2]}", "--num-cpus=4", "--object-store-memory=150000000",
        "--disable-usage-stats", f"--temp-dir={home}",
    ]  # fmt: skip
    ray = Path(sys.executable).parent / "ray"
    with (home.parent / "head.log").open("w") as log:
        daemon = subprocess.Popen([ray, *words], env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: _responds(f"http://127.0.0.1:{dashboard}/api/version"), timeout_s=180)
        wait_for(lambda: _responds(f"http://127.0.0.1:{metrics}/metrics"), timeout_s=120)
        gcs = json.loads((home / "prom_metrics_service_discovery.json").read_text())[0]["targets"][0].split(":")[0]
        yield f"{gcs}:{port}", f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics"
    finally:
        family = psutil.Process(daemon.pid).children(recursive=True)
        daemon.kill()
        daemon.wait()
        kill_all(family)


def _responds(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - of this machine
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _prometheus(home: Path, discovery: Path) -> Iterator[str | None]:
    """Start Prometheus with the files of the project, but for the place of Ray's list and the interval."""
    if not shutil.which("prometheus"):
        yield None
        return
    config = yaml.safe_load((monitoring.FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": "1s"}
    config["rule_files"] = [str(monitoring.FOLDER / "rules.yaml")]
    config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(discovery)], "refresh_interval": "1s"}]
    (home / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = _free_ports(1)
    words = [f"--config.file={home / 'prometheus.yaml'}", f"--storage.tsdb.path={home / 'data'}"]
    with (home / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: _responds(f"http://127.0.0.1:{port}/-/ready"), timeout_s=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def night(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Score images, broken files and a video from a web server that throttles, each stage as an operator of its own."""
    home = tmp_path_factory.mktemp("n")
    media = home / "media"
    media.mkdir()
    image = assets.pillow(assets.picture(), "JPEG")
    for number in range(IMAGES + BROKEN):
        (media / f"{number}.jpg").write_bytes(image if number < IMAGES else image[:200])
    (media / "v.mp4").write_bytes(clips.clip(frames=VIDEO_FRAMES))
    handler = type("Handler", (Web,), {"slowed": {"/1.jpg", "/2.jpg"}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(media)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}"
    (home / "list.csv").write_text("\n".join(["uri", *(f"{site}/{path.name}" for path in sorted(media.iterdir()))]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FSF_"))}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_metrics_report_interval_ms": str(REPORT_MS)}
    environment |= {"PYTHONPATH": str(ROOT), "AWS_SECRET_ACCESS_KEY": PASSWORD}
    ray_home = tmp_path_factory.mktemp("r")
    with (
        _head(ray_home, environment) as (address, dashboard, metrics),
        _prometheus(home, ray_home / "prom_metrics_service_discovery.json") as prometheus,
    ):
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.separate_stages", "score", "--bundle", tiny_bundle.uri,
             "--manifest", str(home / "list.csv"), "--out", str(home / "runs" / "{date}"), "--provider", "cpu",
             "--actors", "1", "--ray-address", address, "--http-hosts", "127.0.0.1", "--log-format", "json"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        exposition = _read(metrics)
        exported = monitoring.exported_labels(exposition)
        wait_for(
            lambda: exported.update(monitoring.exported_labels(_read(metrics))) or "ray_node_mem_total" in exported
        )
        if prometheus:
            # All counters of so short a job come with its end, and a rate needs two scrapes.
            wait_for(lambda: _value(prometheus, "count_over_time(ray_fsf_runs_total[5m]) > 2"), timeout_s=60)
        out = Path(json.loads(done.stdout.splitlines()[-1])["out"])
        session = (ray_home / "session_latest").resolve()
        seen: Any = {
            "exposition": exposition,
            "exported": exported,
            "stdout": done.stdout,
            "stderr": done.stderr,
            "session": session,
            "began": began,
        }
        yield Night(**seen, dashboard=dashboard, prometheus=prometheus, out=out)
    server.shutdown()


def _value(prometheus: str, query: str) -> list[dict[str, Any]]:
    """Return the result of a query now; fails if Prometheus refuses it."""
    return _result(prometheus, "query", {"query": query})


def _values(prometheus: str, query: str, *, since: float) -> list[dict[str, Any]]:
    """Return the results of a query at every quarter of a second since a time; fails if Prometheus refuses it."""
    now = time.time()
    return _result(prometheus, "query_range", {"query": query, "start": since, "end": now, "step": "250ms"})


def _result(prometheus: str, kind: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    document = _get(f"{prometheus}/api/v1/{kind}?{urllib.parse.urlencode(parameters)}")
    assert document["status"] == "success", document
    found: list[dict[str, Any]] = document["data"]["result"]
    return found


def test_every_metric_is_exported_with_its_labels(night: Night) -> None:
    for metric in METRICS:
        assert f"ray_{metric.name}" in night.exported
        assert {"run", *metric.labels} <= night.exported[f"ray_{metric.name}"], metric.name


def test_the_metrics_of_the_end_are_the_counts_of_the_tables(night: Night) -> None:
    def total(name: str, *labels: str) -> float:
        lines = [line for line in night.exposition.splitlines() if line.startswith(f"ray_{name}{{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels))

    frames, items = night.summary["frames"], night.summary["items"]
    assert (frames, items["failed"]) == (IMAGES + VIDEO_FRAMES, BROKEN)
    assert total("fsf_frames_total", 'provider="cpu"') == total("fsf_run_frames") == frames
    assert total("fsf_model_frames_total") == total("fsf_node_frames") == frames
    assert total("fsf_failures_total", 'reason="DecodeError"', 'stage="decode"') == BROKEN
    assert total("fsf_items_total", 'result="scored"') == total("fsf_run_items", 'state="scored"') == items["scored"]
    assert total("fsf_run_items") == items["total"]
    assert total("fsf_runs_total", 'outcome="done"') == total("fsf_runs_total") == 1
    assert total("fsf_run_phase", 'phase="ended"') == total("fsf_run_phase") == 1
    assert total("fsf_store_retries_total", 'reason="throttled"') >= 2
    assert total("fsf_store_read_bytes_total") >= (IMAGES - 1) * len(assets.pillow(assets.picture(), "JPEG"))
    assert 0 < total("fsf_model_busy_seconds_total") <= total("fsf_stage_seconds_total", 'stage="infer"')
    assert total("fsf_model_busy_seconds_total") <= total("fsf_actor_seconds_total")
    assert total("fsf_blocks") == 0
    assert time.time() - total("fsf_last_success_timestamp_seconds") < 120


def test_queries_read_only_what_the_head_exports(night: Night) -> None:
    exported = {**night.exported, **monitoring.GPU_METRICS, "up": {"instance", "job"}}
    for where, query in monitoring.queries().items():
        for name, labels in monitoring.selectors(query):
            assert name in exported, f"{where}: {name} is not exported"
            assert labels - {"instance"} <= exported[name], f"{where}: {name} has only {exported[name]}"


def test_ray_exports_the_memory_of_gpus_under_the_names_that_are_read() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    for name, labels in monitoring.GPU_METRICS.items():
        assert labels <= {str(label) for label in METRICS_GAUGES[name.removeprefix("ray_")].view.columns}, name


def test_every_query_of_the_dashboard_returns_data_of_the_job(night: Night) -> None:
    if not night.prometheus:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    # At any time: what is left to do, for example, is only known before the end.
    panels = {where: query for where, query in monitoring.queries().items() if where.startswith("panel")}
    empty = {where for where, query in panels.items() if not _values(night.prometheus, query, since=night.began)}
    scrapes = _values(night.prometheus, 'up{job="ray"}', since=night.began)

    assert empty == EXPECTED_EMPTY, scrapes


def test_prometheus_evaluates_every_alert_and_none_fires_for_a_good_night(night: Night) -> None:
    if not night.prometheus:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    groups = _get(f"{night.prometheus}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert [rule["name"] for rule in rules] == [rule["alert"] for rule in monitoring.alerts()]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing <= {"FsfDiskFull", "FsfMemoryHigh"}, "which are about this machine"


def test_every_line_of_the_driver_is_an_object_of_the_run(night: Night) -> None:
    run_id = night.summary["run_id"]
    events = [line["event"] for line in night.log]

    assert {"out_expanded", "progress"} <= {*events}
    assert {line["run_id"] for line in night.log if line["event"] == "progress"} == {run_id}
    last = [line for line in night.log if line["event"] == "progress"][-1]
    assert (last["items"], last["failed_items"]) == (night.summary["items"]["total"], BROKEN)


def test_workers_log_their_parts_and_failed_items_with_ids(night: Night) -> None:
    lines = night.worker_log
    parts = {path.stem for path in (night.out / "receipts").glob("*.arrow")}
    committed = [line for line in lines if line["event"] == "part_committed"]
    failed = [line for line in lines if line["event"] == "item_failed"]

    assert {line["run_id"] for line in lines} == {night.summary["run_id"]}
    assert parts <= {line["part"] for line in committed}
    assert sum(line["frames"] for line in committed) == night.summary["frames"]
    assert len(failed) == BROKEN
    assert {(line["stage"], line["error_type"]) for line in failed} == {("decode", "DecodeError")}
    assert all(line["item"] and line["error"] for line in failed)


def test_no_log_metric_or_page_shows_the_credentials_of_the_list(night: Night) -> None:
    texts = [night.exposition, night.stdout, night.stderr]
    texts += [path.read_text(errors="replace") for path in night.session.glob("logs/**/*") if path.is_file()]
    pages = ("/api/jobs/", "/api/v0/actors?detail=1", "/api/v0/tasks?detail=1&limit=10000", "/api/v0/workers?detail=1")
    texts += [json.dumps(night.api(page)) for page in pages]

    assert not [text[:200] for text in texts if PASSWORD in text]


def test_the_dashboard_shows_readable_names(night: Night) -> None:
    tasks = night.api("/api/v0/tasks/summarize")["data"]["result"]["result"]["node_id_to_summary"]["cluster"]["summary"]
    actors = night.api("/api/v0/actors?detail=1")["data"]["result"]["result"]
    (job,) = night.api("/api/jobs/")

    assert {"ReadManifest->MapBatches(decode)", "MapBatches(mask)", "Write"} <= {*tasks}
    assert "MapWorker(MapBatches(Infer)).submit" in tasks
    assert f"fsf-score-{night.summary['run_id']}-1" in {actor["name"] for actor in actors}
    assert job["metadata"] == {"fsf_out": str(night.out)}
