"""Items of a list from a stranger: which hosts they reach, and what opening them may do."""

import http.server
import ipaddress
import os
import socket
import threading
import time

import pytest

from fsf_core import storage
from fsf_core.errors import FetchError, StorageError
from fsf_core.options import SCHEMES
from fsf_core.storage import web_client
from fsf_core.storage.access import is_public

PUBLIC = storage.Access(schemes=SCHEMES)


def listing(*hosts):
    return storage.Access(schemes=SCHEMES, http_hosts=hosts)


def fetched(uri, access):
    """Read a file the two ways in which the decode stage does: alone, and prefetched."""
    with storage.open_binary(uri, access) as file:
        alone = file.read()
    for opener in storage.open_prefetched([uri, uri], access):
        with opener() as file:
            assert file.read() == alone
    return alone


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Redirects to the address in its path, and serves everything else."""

    def do_GET(self):
        type(self).requests.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"secret")

    do_HEAD = do_GET
    requests = []  # noqa: RUF012 - of the one server

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture
def names(monkeypatch):
    """Resolve names by a dictionary, as one that an attacker's DNS server fills."""
    known = {}

    async def resolve(_, host, port=0, family=socket.AF_INET):
        del family
        return [{"hostname": host, "host": known[host], "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(web_client.DefaultResolver, "resolve", resolve)
    return known


# --- hosts ---


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_in_every_form(address):
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(FetchError, match="private, local or reserved address, expected a public one; pass --http-host"):
        PUBLIC.require(f"http://user@{host}:80/latest/meta-data")
    listing(address).require(f"https://{host}/a.jpg")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address):
    assert is_public(ipaddress.ip_address(address))


def test_with_a_list_of_hosts_no_other_is_allowed():
    access = listing("*.Example.com", "intranet")
    access.require("https://a.b.example.COM./x")
    access.require("http://intranet:8080/x")
    for uri in ("https://example.com/x", "https://evilexample.com/x", "http://intranet.evil/x", "http://8.8.8.8/x"):
        with pytest.raises(FetchError, match=r"is none of \*\.Example\.com, intranet; add it to --http-hosts"):
            access.require(uri)
    access.require("s3://bucket/a.jpg")
    listing("*").require("http://169.254.169.254/x")


@pytest.mark.parametrize("uri", ["http:///x", "http://[::1", "https://?a", "http://[not-an-address]/"])
def test_a_web_address_without_a_host_is_refused(uri):
    with pytest.raises(FetchError, match="has no host"):
        PUBLIC.require(uri)


def test_a_local_server_is_read_only_if_it_is_listed(port):
    Redirecting.requests.clear()
    for host in ("127.0.0.1", "localhost"):
        assert fetched(f"http://{host}:{port}/a", listing("127.0.0.1", "localhost")) == b"secret"
    Redirecting.requests.clear()
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        with pytest.raises(FetchError):
            fetched(f"http://{host}:{port}/a", PUBLIC)
    assert not Redirecting.requests


def test_the_users_own_addresses_are_not_restricted(port):
    assert storage.read_bytes(f"http://127.0.0.1:{port}/a") == b"secret"


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/a", "http://inner.test:{port}/a", "//inner.test:{port}/a"])
def test_every_redirect_is_checked(target, port, names):
    """The first host is listed and the second is not, as a redirect of a public server to an internal one."""
    names |= {"outer.test": "127.0.0.1", "inner.test": "127.0.0.1"}
    uri = f"http://outer.test:{port}/to/{target.format(port=port)}"
    assert fetched(uri, listing("*")) == b"secret"
    Redirecting.requests.clear()
    began = time.monotonic()
    with pytest.raises(FetchError, match="add it to --http-hosts"):
        fetched(uri, listing("outer.test"))
    assert time.monotonic() - began < 2, "a refusal is not retried"
    assert {path[:4] for path in Redirecting.requests} == {"/to/"}, "the second host was never connected to"


def test_a_name_that_resolves_to_a_private_address_is_refused(port, names):
    """What is checked is what is connected to: there is no second look-up, which could have another result."""
    names["rebound.test"] = "127.0.0.1"
    Redirecting.requests.clear()
    with pytest.raises(FetchError, match=r"'rebound\.test' has a private, local or reserved address"):
        fetched(f"http://rebound.test:{port}/a", PUBLIC)
    assert not Redirecting.requests


def test_proxies_of_the_environment_are_not_used_for_items(port, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert fetched(f"http://127.0.0.1:{port}/a", listing("127.0.0.1")) == b"secret"


def test_a_proxy_gets_listed_hosts_only(port, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setitem(storage.filesystems.fsspec.config.conf, "http", {"client_kwargs": {"trust_env": True}})
    assert fetched("http://outer.test/a", listing("outer.test")) == b"secret"
    Redirecting.requests.clear()
    with pytest.raises(FetchError, match=r"'outer\.test' has a private"):
        fetched("http://outer.test/a", PUBLIC)
    with pytest.raises(FetchError):
        fetched(f"http://127.0.0.1:{port}/a", PUBLIC)
    assert not Redirecting.requests


def test_what_a_server_sends_is_not_quoted():
    """A port of another protocol: the client's own message quotes its first line."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-hunter2secret\r\n\r\n")

        threading.Thread(target=greet, daemon=True).start()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}/a"
        with pytest.raises(FetchError, match="the server does not speak HTTP") as caught:
            fetched(uri, listing("127.0.0.1"))
    assert "hunter2" not in str(caught.value)


# --- servers that do not respond ---


def test_a_server_that_does_not_respond_is_no_missing_file(port):
    for look_up in (storage.exists, storage.is_folder):
        with pytest.raises(StorageError, match=r"the server does not respond \(Connection refused\)"):
            look_up("http://bob:hunter2@127.0.0.1:9/run/run.json")
    assert storage.exists(f"http://127.0.0.1:{port}/a")


# --- special files ---


def refused(path):
    began = time.monotonic()
    with pytest.raises(FetchError) as caught, storage.open_binary(str(path), PUBLIC) as file:
        file.read()
    assert time.monotonic() - began < 2
    assert "; " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/status", "/proc/uptime", "/proc/1/cmdline"])
def test_a_file_that_the_system_makes_is_refused(path, tmp_path):
    assert "is made by the system" in refused(path)
    (tmp_path / "a.jpg").symlink_to(path)
    assert "is made by the system" in refused(tmp_path / "a.jpg")


def test_files_that_are_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        for path in (tmp_path / "fifo.jpg", tmp_path / "s.jpg", "/dev/zero", "/dev/null", "/dev/tty"):
            assert "not a regular file" in refused(path)
    assert "a folder" in refused(tmp_path)


def test_an_open_file_is_no_item_whatever_leads_to_it(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "fd").symlink_to("/dev/fd")
    with (tmp_path / "secret").open("rb") as file:
        (tmp_path / "a.jpg").symlink_to(f"/proc/self/fd/{file.fileno()}")
        (tmp_path / "b.jpg").symlink_to("a.jpg")
        doors = [f"/dev/fd/{file.fileno()}", f"/proc/{os.getpid()}/fd/{file.fileno()}", tmp_path / "a.jpg"]
        for path in [*doors, tmp_path / "b.jpg", tmp_path / "fd" / str(file.fileno())]:
            assert "that a process has open" in refused(path)


def test_links_and_empty_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "empty").touch()
    for name, content in (("a", b"a"), ("b", b"a"), ("empty", b"")):
        assert storage.read_bytes(str(tmp_path / name)) == content


def test_a_pipe_that_replaces_a_file_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.jpg")
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)  # as it was a moment before
    assert "not a regular file" in refused(tmp_path / "a.jpg")
