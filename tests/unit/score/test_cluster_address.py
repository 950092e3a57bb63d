"""Where no cluster responds, the job is refused with the reason, before Ray waits for minutes and ends the process."""

import socket
import threading
from collections.abc import Callable

import pytest

from fsf_core.errors import ClusterError
from fsf_core.score import cluster_address
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.cluster_address import require_cluster


@pytest.fixture
def listening():
    """Start a server for one connection; return its port."""
    servers = []

    def start(treat: Callable[[socket.socket], object]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=lambda: treat(server.accept()[0]), daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.close()


def refusal(address: str, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.5) -> str:
    monkeypatch.setattr(cluster_address, "PROBE_S", seconds)
    with pytest.raises(ClusterError) as caught:
        require_cluster(address)
    return str(caught.value)


def test_nobody_listens(monkeypatch):
    message = refusal("127.0.0.1:1", monkeypatch)
    assert "no Ray cluster responds at 127.0.0.1:1: Connection refused; expected the host:port" in message
    assert "leave both unset" in message
    assert "Connection refused" in refusal("ray://127.0.0.1:1", monkeypatch)


def test_a_name_is_unknown(monkeypatch):
    assert "nowhere.invalid" in refusal("nowhere.invalid:6379", monkeypatch)


def test_a_port_accepts_and_never_responds(listening, monkeypatch):
    kept = []
    assert "no response" in refusal(f"127.0.0.1:{listening(kept.append)}", monkeypatch)


def test_a_port_is_of_another_program(listening, monkeypatch):
    other = listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"))
    assert "no service of Ray" in refusal(f"127.0.0.1:{other}", monkeypatch)


@pytest.mark.parametrize(
    "address",
    ["http://user:secret@127.0.0.1:9/", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "a b:1", "ray://x", ""],
)
def test_it_is_no_address_and_passwords_are_hidden(address, monkeypatch):
    message = refusal(address, monkeypatch)
    assert "expected host:port, ray://host:port or auto" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("option", "variable", "joins"),
    [(None, None, False), ("h:1", None, True), (None, "h:1", True), ("local", "h:1", False), (None, "local", False)],
)
def test_whether_a_job_joins_a_cluster(option, variable, joins, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert joins_cluster(option) == joins
