"""Pins: runs that are never removed, whatever their age."""

import datetime as dt

from fsf_core import runs, storage
from fsf_core.runs.folder import document_bytes
from fsf_core.runs.removal import PINNED


def pin(run_uri: str, reason: str | None) -> None:
    """Pin a run; of a pinned one the reason is replaced.

    Args:
        run_uri: the run, finished or not.
        reason: for people; None for none.

    Raises:
        OutputError: there is no run, or a job is using it.
        StorageError: the store refuses.
    """
    with runs.locked_run(run_uri, finished=False):
        content = {"reason": reason, "pinned_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
        storage.write_bytes(storage.join(run_uri, PINNED), document_bytes(content), durable=True)


def unpin(run_uri: str) -> None:
    """Remove the pin of a run; without one, nothing is done.

    Raises:
        OutputError, StorageError: as for `pin`.
    """
    with runs.locked_run(run_uri, finished=False):
        storage.remove(storage.join(run_uri, PINNED))
