"""An S3 bucket in this process that keeps every key as it is, unlike servers that store objects as files.

Lists, heads and serves; checks no signature.
"""

import contextlib
import hashlib
import http.server
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from xml.sax.saxutils import escape

import fsspec


class _Quiet(http.server.ThreadingHTTPServer):
    objects: Mapping[str, bytes]

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Quiet

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        bucket, _, key = path.removeprefix("/").partition("/")
        key = urllib.parse.unquote(key)
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if bucket == "bucket" and not key:
            self._send(200, self._listing(asked).encode())
        elif key in self.server.objects:
            self._serve(self.server.objects[key])
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    def _serve(self, data: bytes) -> None:
        tag = {"ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'}
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first:
            self._send(200, data, **tag)
        elif int(first) >= len(data):
            self._send(416, b"")
        else:
            part = data[int(first) : int(last or len(data)) + 1]
            place = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            self._send(206, part, Content_Range=place, **tag)

    def _listing(self, asked: Mapping[str, str]) -> str:
        prefix, mark = asked.get("prefix", ""), asked.get("delimiter", "")
        text = urllib.parse.quote if asked.get("encoding-type") == "url" else escape
        keys = sorted(key for key in self.server.objects if key.startswith(prefix))
        inner = [key for key in keys if mark and mark in key[len(prefix) :]]
        folders = dict.fromkeys(prefix + key[len(prefix) :].partition(mark)[0] + mark for key in inner)
        files = [key for key in keys if key not in inner]
        return (
            "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Name>bucket</Name>"
            f"<Prefix>{text(prefix)}</Prefix><KeyCount>{len(files) + len(folders)}</KeyCount>"
            "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
            + "".join(
                f'<Contents><Key>{text(key)}</Key><Size>{len(self.server.objects[key])}</Size><ETag>"x"</ETag>'
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
                for key in files
            )
            + "".join(f"<CommonPrefixes><Prefix>{text(folder)}</Prefix></CommonPrefixes>" for folder in folders)
            + "</ListBucketResult>"
        )

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        facts = {"Content-Length": str(len(body)), "Last-Modified": formatdate(0, usegmt=True), **headers}
        for name, value in facts.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def bucket_of(objects: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
    """Serve objects as s3://bucket; yields the environment that a process needs to connect.

    This process forgets its connections to other stores: s3fs keeps them by their arguments, not by the environment.
    """
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server = _Quiet(("127.0.0.1", 0), _Handler)
    server.objects = objects
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.shutdown()
