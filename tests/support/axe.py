"""axe-core, the accessibility rules of Deque, run in a page of the browser; skips the test if npm cannot install it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Page

AXE = "4.14.1"


def violations(page: Page) -> list[dict[str, Any]]:
    """Return the violations of WCAG 2.2 A and AA and of best practice in the page: rule, elements, what to do."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = json.dumps({"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]})
    found: list[dict[str, Any]] = page.run(
        f"{_script().read_text(encoding='utf-8')}\n;axe.run(document, {options}).then("
        "result => done(result.violations.map(each => ({rule: each.id, at: each.nodes.map(node => "
        "`${node.html.slice(0, 200)} ${node.failureSummary}`)}))), error => done([{rule: String(error), at: []}]))"
    )
    return found


def _script() -> Path:
    home = Path.home() / ".cache" / "fsf-tests" / f"axe-core-{AXE}"
    script = home / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip("axe-core comes from npm, and npm is not installed")
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), f"axe-core@{AXE}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if result.returncode:
            pytest.skip(f"axe-core cannot be installed: {result.stderr[-300:]}")
    return script
