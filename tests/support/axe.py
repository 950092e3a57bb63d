"""axe-core, the accessibility rules of Deque, run in a page of the browser; skips the test if npm cannot install it."""

import json
from typing import Any

from tests.support.browser import Page
from tests.support.npm import installed

AXE = "4.14.1"


def violations(page: Page) -> list[dict[str, Any]]:
    """Return the violations of WCAG 2.2 A and AA and of best practice in the page: rule, elements, what to do."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = json.dumps({"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]})
    script = installed("axe-core", AXE, "axe.min.js", name="axe-core").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = page.run(
        f"{script}\n;axe.run(document, {options}).then("
        "result => done(result.violations.map(each => ({rule: each.id, at: each.nodes.map(node => "
        "`${node.html.slice(0, 200)} ${node.failureSummary}`)}))), error => done([{rule: String(error), at: []}]))"
    )
    return found
