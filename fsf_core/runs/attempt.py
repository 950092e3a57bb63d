"""An attempt: a start of the job that holds a run's lease, and so the only one that may change what is published.

Every change of a published file is made here. On a disk each is a rename out of the attempt's folder or into it, which
fails once another attempt has taken the folder over. In a store each request follows a check of the lease.
"""

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.runs import staging
from fsf_core.runs.folder import (
    SUCCESS,
    document_bytes,
    find_manifest,
    find_run_json,
    is_finished,
    layout_of,
    read_run_json,
)
from fsf_core.runs.lease import Lease
from fsf_core.runs.staging import Staging

TRASH = "trash"

CONCURRENT_COPIES = 16
"""Files that a store copies at once."""

COPIES_BEFORE_REMOVAL = 1000
"""Files that are copied before what they were copied from is deleted, in S3 by one request."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A start of the job in a run whose lease it holds."""

    run_id: str
    """Created with the first attempt; later ones keep it."""
    start: int
    """How many times the job was started in this run, this time included."""
    staging: Staging
    lease: Lease

    @property
    def uri(self) -> str:
        """The run folder."""
        return self.staging.run_uri

    @property
    def number(self) -> int:
        """Number of the attempt, greater than that of every earlier one."""
        return self.staging.number

    def replace(self, path: str, data: bytes) -> None:
        """Replace a file of the run durably.

        Raises:
            StorageError: the store refuses, or another attempt has begun.
            LeaseLostError: another job has taken the run over.
        """
        self.lease.check()
        self.staging.replace(path, data, durable=True)

    def publish_files(self, moves: Mapping[str, str], sizes: Mapping[str, int]) -> None:
        """Move staged files to their places in the run; a store copies some at once, and then deletes these.

        Args:
            moves: place inside the run to the path inside the run where the file is staged: in the folder of this
                attempt or, in a store, of an earlier one.
            sizes: bytes of the files by their places, as far as they are known.

        Raises:
            StorageError, LeaseLostError: as for `replace`.
        """
        if storage.is_local(self.uri):
            for path, staged in moves.items():
                self.lease.check()
                storage.move(storage.join(self.uri, staged), storage.join(self.uri, path), root=self.uri)
            return
        paths = [*moves]
        with ThreadPoolExecutor(CONCURRENT_COPIES) as pool:
            for start in range(0, len(paths), COPIES_BEFORE_REMOVAL):
                copied = paths[start : start + COPIES_BEFORE_REMOVAL]
                for done in [pool.submit(self._copy, moves[path], path, sizes.get(path)) for path in copied]:
                    done.result()
                self.lease.check()
                storage.remove_files(self.uri, [moves[path] for path in copied])

    def _copy(self, staged: str, path: str, size_bytes: int | None) -> None:
        self.lease.check()
        storage.copy(storage.join(self.uri, staged), storage.join(self.uri, path), size_bytes=size_bytes)

    def remove_files(self, paths: Sequence[str]) -> None:
        """Take published files away; missing ones are no error.

        Raises:
            StorageError, LeaseLostError: as for `replace`.
        """
        if not storage.is_local(self.uri):
            self.lease.check()
            storage.remove_files(self.uri, paths)
            return
        for path in paths:
            self.lease.check()
            uri = storage.join(self.uri, path)
            if storage.exists(uri):
                storage.move(uri, self.staging.uri(f"{TRASH}/{path}"), root=self.staging.folder)

    def unpublish(self) -> None:
        """Take the completion mark away, durably: from here on the published files may change.

        Raises:
            StorageError, LeaseLostError: as for `replace`.
        """
        self.lease.confirm()
        if is_finished(self.uri):
            self.remove_files([SUCCESS])
            storage.sync_folder(self.uri)

    def end(self, *, keep_staged: bool) -> None:
        """Remove the folders of this attempt and of earlier ones, with everything that was not published.

        Args:
            keep_staged: whether staged parts stay, for the next start of the score job.
        """
        numbers = [number for number in staging.attempt_numbers(self.uri) if number <= self.number]
        is_local = storage.is_local(self.uri)
        sizes = staging.list_sizes(self.uri, map(staging.folder_name, numbers)) if is_local or keep_staged else {}
        kept = keep_staged and any(staging.staged_receipts(self.uri, numbers, sizes))
        left = [path for path in sizes if not (kept and staging.is_part_file(path))]
        if not is_local:
            self.lease.check()
            storage.remove_files(self.uri, left)
        for path in left if is_local else ():  # one by one: the folder may be a successor's by now
            self.lease.check()
            storage.remove(storage.join(self.uri, path))
        for number in () if kept else numbers:
            self.lease.check()
            storage.remove_folder(storage.join(self.uri, staging.folder_name(number)))


def begin_attempt(uri: str, lease: Lease, *, fingerprint: Mapping[str, Any], details: Mapping[str, Any]) -> Attempt:
    """Take over what earlier attempts staged, and record the start in run.json.

    Args:
        uri: the output folder.
        lease: of the folder.
        fingerprint: as given to `lock_run`.
        details: further facts about this attempt, recorded and never compared.

    Raises:
        StorageError, LeaseLostError: the folder cannot be written, or another job has taken it over.
    """
    known = find_run_json(uri)
    starts = list(known["attempts"]) if known else []
    attempt = Attempt(
        run_id=known["run_id"] if known else f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        start=len(starts) + 1,
        staging=_take_over(uri, lease, known),
        lease=lease,
    )
    facts = {
        "layout": known["layout"] if known else layout_of(fingerprint),
        "run_id": attempt.run_id,
        "fingerprint": dict(fingerprint),
        "attempts": [*starts, {"number": attempt.number, "started_at": _now(), **details}],
    }
    attempt.replace("run.json", document_bytes(facts))
    return attempt


def begin_change(uri: str, lease: Lease) -> Attempt:
    """Take over what earlier attempts staged, to change a run otherwise than by scoring.

    Raises:
        OutputError: there is no run.
        StorageError, LeaseLostError: as for `begin_attempt`.
    """
    known = read_run_json(uri)
    return Attempt(
        run_id=known["run_id"], start=len(known["attempts"]), staging=_take_over(uri, lease, known), lease=lease
    )


def _take_over(uri: str, lease: Lease, known: Mapping[str, Any] | None) -> Staging:
    """Take the next number, and what earlier attempts staged."""
    starts = known["attempts"] if known else []
    manifest = find_manifest(uri) if known else None
    earlier = [
        len(starts),
        *(each.get("number", 0) for each in starts),
        *staging.attempt_numbers(uri),
        manifest.get("attempt", 0) if manifest else 0,
    ]
    lease.confirm()
    taken = staging.take_over(uri, max(lease.number, max(earlier) + 1), adopt=known is not None)
    lease.confirm()  # a process that was paused in between has now made a folder, and changes nothing else
    return taken


def _now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
