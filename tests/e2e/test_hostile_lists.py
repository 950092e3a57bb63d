"""A list from a stranger gets nothing of the machine, and planted secrets appear nowhere: one job, seen as it runs."""

import contextlib
import http.server
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fsf_core import runs
from fsf_core.cli.app import main
from fsf_core.model.bundle import Bundle
from fsf_core.safe_text import printable
from fsf_core.schema import TABLES
from tests.support import assets
from tests.support.processes import Job

CONTENT = "".join(f"user{k}:password-number-{k}\n" for k in range(8))
"""What a file of the machine and an internal web page hold."""

LIST_PASSWORD, ITEM_PASSWORD, SIGNATURE = "l1stPassw0rd", "1temPassw0rd", "5ignedS3cret"
VARIABLES = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPx",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;AccountKey=Eby8vdM02xNOcqFlqUwJPLl;EndpointSuffix=x",
    "HTTP_PROXY": "http://bob:pr0xyPassw0rd@127.0.0.1:9",
}
PLANTED = [
    "password-number", LIST_PASSWORD, ITEM_PASSWORD, SIGNATURE, "wJalrXUtnFEMIK7MDENGbPx", "Eby8vdM02xNOcqFlqUwJPLl",
    "pr0xyPassw0rd",
]  # fmt: skip
HOSTILE_ID = "\x1b[2J\x1b]0;owned\x07\u202ephoto\u2028\x9b31m"


class Site(http.server.BaseHTTPRequestHandler):
    """Serves the list, a picture, a text, a redirect and a response that breaks off."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - of the one server

    def do_GET(self) -> None:
        """Respond as the path demands."""
        path = self.path.partition("?")[0]
        body = self.files.get(path, CONTENT.encode())
        self.send_response({"/away": 302, "/500": 500}.get(path, 200))
        if path == "/away":
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/internal")
        self.send_header("Content-Length", str(len(body) + 1000 * (path == "/cut.jpg")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short path: it is part of the paths of Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


def test_a_hostile_list_gets_nothing_and_planted_secrets_appear_nowhere(
    tiny_bundle: Bundle, tmp_path: Path, port: int, ray_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.txt").write_text(CONTENT)
    web = f"http://bob:{ITEM_PASSWORD}@127.0.0.1"
    uris = {
        "a good one": f"{web}:{port}/good.jpg?sig={SIGNATURE}",
        "away": f"{web}:{port}/away",
        "cut": f"{web}:{port}/cut.jpg?X-Amz-Signature={SIGNATURE}",
        "dead": f"{web}:9/a.jpg?X-Goog-Signature={SIGNATURE}",
        "error": f"{web}:{port}/500",
        "metadata": "http://169.254.169.254/latest/meta-data",
        "text": str(tmp_path / "secret.txt"),
        "web text": f"{web}:{port}/internal",
        "environment": "/proc/self/environ",
        "list": f"http://127.0.0.1:{port}/list.csv",
        HOSTILE_ID: str(tmp_path / "\x1b[31mnone.jpg"),
        **{f"span {at}": f"span://{at}+24/{tmp_path}/secret.txt" for at in range(0, len(CONTENT), 24)},
        **{f"web span {at}": f"span://{at}+24/{web}:{port}/internal" for at in range(0, len(CONTENT), 24)},
    }
    Site.files |= {
        "/good.jpg": assets.pillow(assets.picture(), "JPEG"),
        "/list.csv": "".join(["id,uri\n", *(f'"{name}","{uri}"\n' for name, uri in uris.items())]).encode(),
    }
    out = tmp_path / "run"
    code, shown = _watched(
        Job(
            "score", "--bundle", tiny_bundle.uri, "--out", str(out), "--provider", "cpu", "--actors", "1",
            "--manifest", f"http://bob:{LIST_PASSWORD}@127.0.0.1:{port}/list.csv?token={SIGNATURE}",
            "--http-hosts", "127.0.0.1", **VARIABLES, RAY_TMPDIR=str(ray_folder),
        ),
        ray_folder,
    )  # fmt: skip

    assert code == 0, shown["output"]
    failures = {row["item_id"]: row for row in runs.read_table(str(out), "failures").to_pylist()}
    assert failures.keys() == uris.keys() - {"a good one"}
    assert {row["error_type"] for row in failures.values()} == {"FetchError", "DecodeError"}
    reasons = {name.rstrip("0123456789 "): row["error_message"] for name, row in failures.items()}
    for name, reason in {
        "away": "the host 'localhost' is none of 127.0.0.1",
        "dead": "the server does not respond",
        "metadata": "the host '169.254.169.254' is none of",
        "text": "found text (192 bytes)",
        "environment": "is made by the system",
        "span": "names a part of a file",
        "web span": "names a part of a file",
    }.items():
        assert reason in reasons[name]

    for command in (["verify", str(out)], ["inspect", str(out)], ["inspect", str(out), HOSTILE_ID]):
        main(command)
        printed = "".join(capsys.readouterr())
        assert printed == printable(printed, lines=True)
        shown[command[0]] = shown.get(command[0], "") + printed
    assert "no such" not in shown["inspect"]
    shown["tables"] = repr([runs.read_table(str(out), name).to_pylist() for name in TABLES])
    for path in out.rglob("*"):
        if path.is_file():
            shown[str(path)] = path.read_bytes().decode("latin-1")
    assert {(name, secret) for name, text in shown.items() for secret in PLANTED if secret in text} == set()
    assert not re.search("user[0-7]:", shown["tables"])


def _files_below(folder: Path) -> list[Path]:
    """Return the files below a folder whose content changes; sockets and links are left out."""
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _watched(job: Job, ray_folder: Path) -> tuple[int, dict[str, str]]:
    """Wait for a job; return its exit code, and what could be read of it meanwhile: logs of Ray and command lines."""
    read: dict[str, str] = {}
    lines: set[str] = set()
    output: list[str] = []
    assert job.process.stdout is not None
    reader = threading.Thread(target=lambda stdout=job.process.stdout: output.extend(stdout), daemon=True)
    reader.start()
    while job.process.poll() is None:
        for process in job.family():
            try:
                lines.add(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        for path in _files_below(ray_folder):
            with contextlib.suppress(OSError):  # it was removed meanwhile
                read[str(path)] = path.read_bytes().decode("latin-1")
        time.sleep(0.1)
    reader.join()
    assert any("worker" in name for name in read), "Ray keeps its logs there"
    assert any("ray::" in line for line in lines)
    return job.process.returncode, {**read, "ps": "\n".join(lines), "output": "".join(output)}
