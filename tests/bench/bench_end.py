"""What the end of a run costs the driver: reconcile, count, publish, and `fsf verify` afterwards.

    python -m tests.bench.bench_end             20,000 items
    python -m tests.bench.bench_end 200000

Commits made-up rows in parts of the size that a job chooses, on the disk of the temporary folder. The last line is
JSON, in seconds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fsf_core import runs
from fsf_core.keys import item_keys
from tests.support import ledger

T = TypeVar("T")


def main() -> None:
    """Commit the parts, and time each step of the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="?", type=int, default=20_000)
    items = parser.parse_args().items
    part_units = max(64, min(4096, items // 256))  # as score/plan.py
    names = [f"photos/{number:09d}.jpg" for number in range(items)]
    with tempfile.TemporaryDirectory(prefix="fsf-end-") as home:
        uri = str(Path(home) / "run")
        seconds = {}
        with ledger.claim_run(uri, fingerprint={"classes": ledger.CLASSES}, details={}) as attempt:
            for begin in range(0, items, part_units):
                ledger.commit(attempt, *map(ledger.image, names[begin : begin + part_units]))
            seconds["reconcile"], parts = _timed(lambda: _reconciled(attempt))
            seconds["count"], totals = _timed(lambda: runs.count_totals(parts, [item_keys(names)]))
            summary = {
                "items": {"total": items, "scored": items, "failed": 0, "not_in_manifest": 0},
                "frames": totals.frames,
            }
            seconds["publish"], _ = _timed(lambda: runs.publish(attempt, parts, summary))
        seconds["verify"], problems = _timed(lambda: runs.verify(uri))
        assert not problems, problems
        print(json.dumps({"items": items, "parts": len(parts.parts), **seconds}))


def _reconciled(attempt: runs.Attempt) -> runs.Ledger:
    parts = runs.load_ledger(attempt.uri)
    runs.reconcile(attempt.staging, parts)
    return parts


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.monotonic()
    result = call()
    return round(time.monotonic() - started, 2), result


if __name__ == "__main__":
    main()
