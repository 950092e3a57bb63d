"""Web addresses are sent byte for byte, as curl sends them: signatures cover every byte of them."""

import http.server
import threading

import pytest

from fsf_core import storage
from fsf_core.storage.web_client import exact_url

SIGNED = (
    "/exact/foo%27bar.jpg?Signature=x%2Fy",
    "/exact/a%2Fb%27c.jpg?X-Amz-Credential=K%2F20260101%2Fus-east-1&X-Amz-Signature=a%2Bb%2Fc%3D%3D",
    "/exact/%E6%9F%BF%20(1).jpg?sig=%7E%21",
    "/exact/%e6%9f%bf.jpg?sig=%7e",
    "/exact/a+b.jpg?sig=a+b",
    "/exact/a//b///c.jpg?x=/../&y=a;b",
    "/exact/a%2F..%2Fb%2e.jpg?x[0]=%5B1%5D",
    "/exact?sig=%2F",
)
BODY = bytes(range(256)) * 40


class Signed(http.server.BaseHTTPRequestHandler):
    """Serves the exact addresses in SIGNED, whole and in ranges, and redirects to what follows /to/."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith(("/to/", "/up/")):
            target = self.path[4:] if self.path.startswith("/to/") else self.path[3:]
            self._send(302, b"", Location=target)
        elif self.path not in SIGNED:
            self._send(403, b"SignatureDoesNotMatch")
        elif "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            part = BODY[int(first) : int(last) + 1]
            self._send(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(BODY)}")
        else:
            self._send(200, BODY, Accept_Ranges="bytes")

    def _send(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Signed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("way", ["", "/to/{site}", "/up"])
@pytest.mark.parametrize("signed", SIGNED)
def test_an_address_is_sent_byte_for_byte_alone_prefetched_and_redirected(signed, way, site):
    """Kind: an address that a client rewrites, in its path or query, in the first request or a redirected one."""
    uri = site + way.format(site=site) + signed
    access = storage.Access(schemes=("http",), http_hosts=("127.0.0.1",))

    assert storage.read_bytes(uri) == BODY
    with storage.open_binary(uri, access) as file:
        file.seek(5000)
        assert file.read() == BODY[5000:]
    for opener in storage.open_prefetched([uri, uri], access):
        with opener() as file:
            assert file.read() == BODY


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("http://h/zoë 1.jpg?q=ü", "http://h/zo%C3%AB%201.jpg?q=%C3%BC"),
        ("http://h/100%.jpg", "http://h/100%25.jpg"),
        ('http://h/a\nb\\c|d".jpg', "http://h/a%0Ab%5Cc%7Cd%22.jpg"),
        ("http://h/lists/../photos/./a.jpg?x=../y", "http://h/photos/a.jpg?x=../y"),
        ("http://h/a//../b", "http://h/a/b"),
        ("http://h/a/b/..", "http://h/a/"),
        ("http://h/../..", "http://h/"),
        ("HTTP://me:p%40s@München.DE:80/x#part", "http://me:p%40s@xn--mnchen-3ya.de/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://h", "http://h"),
    ],
)
def test_what_no_address_may_hold_is_encoded_and_dots_are_resolved(address, sent):
    assert str(exact_url(address)) == sent
