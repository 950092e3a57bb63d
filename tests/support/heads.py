"""A Ray head with its dashboard on 127.0.0.1, for the length of a block; and a connection to it that drops."""

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from tests.support.processes import ROOT, kill_all, wait_for
from tests.support.stores import free_port

TOKEN = "7" * 64


@dataclass(kw_only=True)
class Head:
    """A running head that asks for a token."""

    address: str
    agent: str
    """Address of the agent of its node, which has pages of its own."""
    home: Path
    """Folder of its session."""
    pid: int
    environment: dict[str, str] = field(repr=False)
    """Variables of a shell that may submit to it."""

    headers: dict[str, str] = field(default_factory={"Authorization": f"Bearer {TOKEN}"}.copy, repr=False)
    """Headers of a request that has the token."""

    def get(self, path: str, *, at_agent: bool = False) -> requests.Response:
        """Request a page of the dashboard, or of the agent."""
        return requests.get((self.agent if at_agent else self.address) + path, headers=self.headers, timeout=30)


@contextlib.contextmanager
def ray_head(home: Path, *, cpus: int = 4, **environment: str) -> Iterator[Head]:
    """Run a head whose Python and whose fsf are those of this process.

    Args:
        home: an empty folder with a short path.
        cpus: logical CPUs of its node.
        environment: variables beside those of this process.
    """
    port = free_port(1, 2, 3)
    tools = str(Path(sys.executable).parent)
    common = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    common = {name: value for name, value in common.items() if name not in {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}}
    words = [
        "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={port + 1}", f"--dashboard-agent-listen-port={port + 2}",
        f"--ray-client-server-port={port + 3}", "--min-worker-port=0", "--max-worker-port=0", f"--num-cpus={cpus}",
        "--object-store-memory=150000000", "--disable-usage-stats", f"--temp-dir={home}",
    ]  # fmt: skip
    log = home.with_name(f"{home.name}.log")
    with (
        log.open("wb") as output,
        subprocess.Popen(words, env={**common, **environment}, stdout=output, stderr=output) as daemon,
    ):
        address = f"http://127.0.0.1:{port + 1}"
        head = Head(
            address=address, agent=f"http://127.0.0.1:{port + 2}", home=home, pid=daemon.pid, environment=common
        )
        try:
            wait_for(lambda: _is_ready(head) or daemon.poll() is not None, timeout_s=90)
            assert daemon.poll() is None, log.read_text()
            yield head
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(daemon.pid).children(recursive=True)
                daemon.kill()  # asked to end, it waits for half a minute
                kill_all(family)


def _is_ready(head: Head) -> bool:
    try:
        return head.get("/api/jobs/").ok and head.get("/api/local_raylet_healthz", at_agent=True).status_code != 0
    except requests.RequestException:
        return False


@contextlib.contextmanager
def dropping_proxy(address: str, *, after_s: float) -> Iterator[str]:
    """Forward connections to an address, and reset each of them after a while; yields the address of the proxy."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def accept() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = server.accept()
                    threading.Thread(target=_forward, args=(client, (host, int(port)), after_s), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()
        thread.join()


def _forward(client: socket.socket, address: tuple[str, int], after_s: float) -> None:
    """Copy bytes in both directions until one side closes or the time is over."""
    deadline = time.monotonic() + after_s
    with client, socket.create_connection(address) as server, selectors.DefaultSelector() as waiting:
        waiting.register(client, selectors.EVENT_READ, server)
        waiting.register(server, selectors.EVENT_READ, client)
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left_s):
                with contextlib.suppress(OSError):
                    if data := key.fileobj.recv(1 << 16):  # type: ignore[union-attr] # a socket
                        key.data.sendall(data)
                        continue
                return
        for side in (client, server):  # a reset, not an end
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
