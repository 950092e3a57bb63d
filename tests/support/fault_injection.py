"""A proxy in front of a store that injects faults: errors, throttling, stalls, resets, truncated responses.

Speaks plain HTTP on 127.0.0.1. A seed and the order of the requests decide which of them fail.
"""

import contextlib
import http.client
import http.server
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

FAULTS = ("error", "slow_down", "stall", "reset", "short")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class ProxyState:
    """Settings and counters of a proxy."""

    port: int = 0
    share: float = 0.0
    """Share of the requests that fail."""
    stall_s: float = 5.0
    slow_down_always: bool = False
    delay_s: float = 0.0
    """Delay of every response."""
    in_flight: int = 0
    """Requests in flight."""
    max_in_flight: int = 0
    passed_bytes: int = 0
    """Bytes of all responses of the store."""
    counts: Counter[str] = field(default_factory=Counter)
    watch: Callable[[str, str], None] | None = None
    """Called with the method of every request, COPY for a PUT that copies, and with its path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def in_front_of(port: int, *, seed: int = 7) -> Iterator[ProxyState]:
    """Run a proxy to a server on this machine."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.target_port, server.rng = port, random.Random(seed)  # noqa: S311 - reproducible
    server.state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.state
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    target_port: int
    rng: random.Random

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state, self.lock, self.closing = ProxyState(), threading.Lock(), threading.Event()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while it is in flight."""
        with self.lock:
            self.state.in_flight += 1
            self.state.max_in_flight = max(self.state.max_in_flight, self.state.in_flight)
        try:
            yield
        finally:
            with self.lock:
                self.state.in_flight -= 1

    def fault(self) -> str:
        """Return the fault of the next request; empty for most."""
        with self.lock:
            fails = self.rng.random() < self.state.share
            fault = self.rng.choice(FAULTS) if fails else "slow_down" if self.state.slow_down_always else ""
            self.state.counts[fault or "passed"] += 1
        return fault

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect, which faults make them do."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        with self.server.counted():
            self._serve_one()

    def _serve_one(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.state.watch:
            self.server.state.watch("COPY" if "x-amz-copy-source" in self.headers else self.command, self.path)
        fault = self.server.fault()
        if fault in {"error", "slow_down"}:
            self._respond(*_error_response(fault))
        elif fault == "stall":
            self.server.closing.wait(self.server.state.stall_s)
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self._forward(data, cut=fault == "short")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _forward(self, data: bytes, *, cut: bool) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=60)) as target:
            target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                target.putheader(name, value)  # above all Host, which is signed
            target.endheaders(data)
            response = target.getresponse()
            body = response.read()
            with self.server.lock:
                self.server.state.passed_bytes += len(body)
            self.server.closing.wait(self.server.state.delay_s)
            self._respond(response.status, response.getheaders(), body, cut=cut)

    def _respond(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        head = self.command == "HEAD"
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", dict(headers).get("Content-Length", "0") if head else str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


def _error_response(fault: str) -> tuple[int, list[tuple[str, str]], bytes]:
    status, code = (503, "SlowDown") if fault == "slow_down" else (500, "InternalError")
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'
    return status, [("Content-Type", "application/xml"), ("Retry-After", "0")], body.encode()
