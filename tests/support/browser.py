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


KEYS = {
    "Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Space": " ", "ArrowLeft": "\ue012", "ArrowRight": "\ue014",
}  # fmt: skip
"""Codes of keys, from the WebDriver standard."""


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

    def press(self, *keys: str) -> None:
        """Press keys one after another; special ones have names of KEYS."""
        presses = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in presses for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        _call(f"{self._session}/actions", body)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return and empty a log: browser (its console) or performance (its network)."""
        entries: list[dict[str, Any]] = _call(f"{self._session}/se/log", {"type": kind})
        return entries

    def requests(self) -> list[str]:
        """Return the addresses that the browser asked for since the last call, but for data in the page."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return _call(f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width_px: int, height_px: int) -> None:
        """Set the size of the page."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width_px, height=height_px, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, theme: str) -> None:
        """Set the colour scheme that the system prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.devtools("Emulation.setEmulatedMedia", media="", features=features)


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
            wanted = {
                "capabilities": {
                    "alwaysMatch": {
                        "goog:chromeOptions": options,
                        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                        "timeouts": {"script": 60_000},
                    }
                }
            }
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
