"""Series of made-up runs, on a disk or in a store; see `tests.support.ledger`."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from fsf_core import storage
from fsf_core.nights.series import Series, series_of
from tests.support import ledger

FINGERPRINT = {"classes": list(ledger.CLASSES), "palette": [[0, 0, 0], [1, 2, 3]]}
ITEMS = {"total": 1, "scored": 1, "failed": 0, "not_in_manifest": 0}


def make_run(uri: str, *, finished: bool = True, details: Mapping[str, Any] | None = None, started_d: int = 0) -> str:
    """Make a run of one item, that was started some days ago; returns its id."""
    with ledger.claim_run(uri, fingerprint=FINGERPRINT, details=details or {}) as attempt:
        ledger.commit(attempt, ledger.image("a"))
        if finished:
            ledger.publish(attempt, {"items": ITEMS, "frames": 1, "seconds": 1.5, "reused_items": 0})
    if started_d:
        known = json.loads(storage.read_bytes(f"{uri}/run.json"))
        known["attempts"][-1]["started_at"] = (dt.datetime.now(dt.UTC) - dt.timedelta(days=started_d)).isoformat()
        storage.write_bytes(f"{uri}/run.json", json.dumps(known).encode())
    return attempt.run_id


def make_series(root: str, *paths: str, finished: bool = True) -> None:
    """Make a run of one item at each of these paths."""
    for path in paths:
        make_run(f"{root}/{path}", finished=finished)


def series(root: str, path: str = "{date}") -> Series:
    """Return the series of a template."""
    found = series_of(f"{root}/{path}")
    assert found
    return found
