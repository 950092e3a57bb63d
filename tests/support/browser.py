"""Headless Chromium, driven over W3C WebDriver, which is plain HTTP; skips the test if it is not installed."""

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
    """One browser window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, path: Path) -> None:
        """Load a local page."""
        _call(f"{self._session}/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        """Run a script and return the value that it passes to `done`."""
        body = f"const done = arguments[arguments.length - 1]; {script}"
        return _call(f"{self._session}/execute/async", {"script": body, "args": []})

    def screenshot(self, path: Path) -> None:
        """Save the window as PNG."""
        path.write_bytes(base64.b64decode(_call(f"{self._session}/screenshot")))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start a browser, and end it with the block."""
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
    """Send one command to the driver and return its value."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=90) as response:  # noqa: S310 - as above
        return json.load(response)["value"]


def _wait(base: str) -> None:
    """Wait until the driver accepts commands."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if _call(f"{base}/status")["ready"]:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("chromedriver was not ready after 60 s")
