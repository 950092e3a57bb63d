"""Headless Chromium by its driver's protocol (W3C WebDriver), which is plain HTTP; skips where it is not installed."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--hide-scrollbars", "--autoplay-policy=no-user-gesture-required", "--mute-audio",
)  # fmt: skip


class Page:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, path: Path) -> None:
        _call(f"{self._session}/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        """The value that the script gives to `done`."""
        body = f"const done = arguments[arguments.length - 1]; {script}"
        return _call(f"{self._session}/execute/async", {"script": body, "args": []})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(_call(f"{self._session}/screenshot")))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A browser for as long as the block lasts."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(base)
            options = {"binary": program, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "timeouts": {"script": 60_000}}}}
            session = f"{base}/session/{_call(f'{base}/session', wanted)['sessionId']}"
            yield Page(session)
            _call(session, method="DELETE")
        finally:
            process.terminate()


def _call(url: str, body: Any = None, *, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310 - as above
        return json.load(answer)["value"]


def _wait(base: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if _call(f"{base}/status")["ready"]:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("chromedriver did not answer")
