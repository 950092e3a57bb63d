"""What a report costs: seconds and memory to write, bytes of the page, seconds until Chromium shows it.

    python -m tests.bench.bench_report                 runs of 10, 1,000 and 50,000 images
    python -m tests.bench.bench_report 1000 --keep DIR

The runs are made without a model (tests/support/synthetic_runs.py). Exits with 1 if a page requests anything, logs
anything, exceeds 15 MB or takes 2 s to open. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.browser import Page, chromium
from tests.support.synthetic_runs import Shape, make

ROOT = Path(__file__).parents[2]
MAX_OPEN_S, MAX_BYTES = 2.0, 15_000_000


def main() -> int:
    """Measure each size; returns 1 if a page is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=int, default=[10, 1_000, 50_000])
    parser.add_argument("--keep", type=Path, help="folder for runs and pages (default: removed at the end)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fsf-report-") as temporary:
        home = given.keep or Path(temporary)
        found = [_measure(home, count) for count in given.images]
    print(json.dumps(found))
    return int(not all(each["as_promised"] for each in found))


def _measure(home: Path, count: int) -> dict[str, Any]:
    run = make(home / str(count), Shape(images=count, videos=2, failures=1 + count // 200, pictures=60))
    page = home / f"{count}.html"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    words = [sys.executable, "-m", "fsf_core.cli", "report", run, "--out", str(page)]
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as window:
        shown = _open(window, page)
    size = page.stat().st_size
    promised = shown["open_s"] < MAX_OPEN_S and size < MAX_BYTES and not shown["console"]
    found = {
        "images": count,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": after.ru_maxrss // 1024,
        "page_mb": round(size / 1e6, 2),
        **shown,
        "as_promised": promised and shown["requests"] == [page.as_uri()],
    }
    print(found, flush=True)
    return found


def _open(window: Page, page: Path) -> dict[str, Any]:
    window.open(Path("/dev/null"))
    window.requests()
    window.log("browser")
    window.open(page)
    opened_ms = window.run("const [at] = performance.getEntriesByType('navigation'); done(at.loadEventEnd)")
    window.run("window.scrollTo(0, document.body.scrollHeight); setTimeout(() => done(1), 500)")
    return {
        "open_s": round(opened_ms / 1000, 2),
        "console": window.log("browser"),
        "requests": window.requests(),
    }


if __name__ == "__main__":
    sys.exit(main())
