"""The folder of a run: claimed by one job at a time, and described by run.json."""

import contextlib
import datetime as dt
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.runs import lease
from fsf_core.runs.records import Run

LAYOUT_VERSION = 1
"""Version of the folder layout, written to run.json; other versions are refused."""

BUNDLE_FOLDER = "bundle"
"""Folder inside the run where a job that exports first keeps its bundle."""


def require_usable(uri: str) -> None:
    """Refuse a folder that holds something other than a run, or a store that cannot be written.

    Raises:
        OutputError: found / expected / do.
        StorageError: the store refuses.
    """
    if not storage.is_local(uri):
        storage.require_writable(uri)
    if storage.exists(storage.join(uri, "run.json")):
        return
    if storage.is_local(uri) and storage.exists(uri) and not storage.is_folder(uri):
        raise OutputError(f"{uri} is a file, expected a folder; give another --out")
    # A job that exports first writes its bundle before run.json.
    others = (entry for entry in files_below(uri, hidden=False) if not entry.relative.startswith(f"{BUNDLE_FOLDER}/"))
    first = next(iter(others), None)
    if first is not None:
        raise OutputError(
            f"{storage.redact(uri)} holds {first.relative} and no run.json: it is not a run; give a new or empty folder"
        )


@contextlib.contextmanager
def lock_run(uri: str, *, fingerprint: Mapping[str, Any]) -> Iterator[None]:
    """Keep other jobs out of a folder until the block ends; nothing is written to it.

    Args:
        uri: the output folder.
        fingerprint: everything that defines the result; a folder with a different one is refused.

    Raises:
        OutputError: the folder holds something else, belongs to another run, or is in use by a running job.
    """
    require_usable(uri)
    with lease.lease(uri):
        known = find_run_json(uri)
        if known is not None:
            _require_same(uri, known["fingerprint"], dict(fingerprint))
        yield


def begin_attempt(uri: str, *, fingerprint: Mapping[str, Any], details: Mapping[str, Any]) -> Run:
    """Record a start of the run, the first or a later one, in run.json of a locked folder.

    Args:
        uri: the output folder.
        fingerprint: as given to `lock_run`.
        details: further facts about this attempt, recorded and never compared.
    """
    known = find_run_json(uri)
    attempts = [*(known["attempts"] if known else []), {"started_at": _now(), **details}]
    run_id = known["run_id"] if known else f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    facts = {"layout": LAYOUT_VERSION, "run_id": run_id, "fingerprint": dict(fingerprint), "attempts": attempts}
    write_document(storage.join(uri, "run.json"), facts)
    return Run(uri=uri, run_id=run_id, attempt=len(attempts))


@contextlib.contextmanager
def locked_finished_run(uri: str) -> Iterator[None]:
    """Keep jobs out of a finished run until the block ends.

    Raises:
        OutputError: there is no run, it has not finished, or a job is using it.
    """
    if find_run_json(uri) is None or not is_finished(uri):
        raise OutputError(
            f"{storage.redact(uri)} holds no finished run (_SUCCESS is missing); start the command that began it again"
        )
    with lease.lease(uri):
        yield


def is_finished(run_uri: str) -> bool:
    """Return whether the run is complete and published."""
    return storage.exists(storage.join(run_uri, "_SUCCESS"))


def unpublish(run_uri: str) -> None:
    """Remove the completion mark; called before anything in the run changes."""
    storage.remove(storage.join(run_uri, "_SUCCESS"))


def read_fingerprint(run_uri: str) -> dict[str, Any]:
    """Return everything that defines the results of a run, as recorded when the run was started first.

    Raises:
        OutputError: there is no run.
    """
    return dict(read_run_json(run_uri)["fingerprint"])


def find_run_json(uri: str) -> dict[str, Any] | None:
    """Return the content of run.json, or None where no run was started.

    Raises:
        OutputError: it is damaged, or has another layout version.
    """
    if not storage.exists(storage.join(uri, "run.json")):
        return None
    known = read_document(uri, "run.json")
    if known.get("layout") != LAYOUT_VERSION:
        raise OutputError(
            f"{storage.redact(uri)} has run layout {known.get('layout')}, expected {LAYOUT_VERSION}; give another "
            "folder, or use the version of fsf that wrote it"
        )
    return known


def read_run_json(run_uri: str) -> dict[str, Any]:
    """Return the content of run.json.

    Raises:
        OutputError: there is no run, or run.json is damaged.
    """
    known = find_run_json(run_uri)
    if known is None:
        raise OutputError(
            f"{storage.redact(run_uri)} holds no run (run.json is missing); give the --out of a score job"
        )
    return known


def read_document(run_uri: str, name: str) -> dict[str, Any]:
    """Return the content of one JSON document of a run.

    Args:
        run_uri: the run folder.
        name: run.json, manifest.json or summary.json.

    Raises:
        OutputError: it is missing or damaged.
    """
    uri = storage.join(run_uri, name)
    try:
        return dict(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}; give the --out of a score job") from error


def write_document(uri: str, content: Mapping[str, Any]) -> None:
    """Replace a JSON document; once this returns it survives a power cut."""
    storage.write_bytes(uri, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(), durable=True)


def files_below(folder: str, *, hidden: bool) -> Iterable[storage.Entry]:
    """Return the files below a folder; none where the folder does not exist."""
    return storage.list_files(folder, hidden=hidden) if storage.exists(folder) else ()


def _require_same(uri: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse a fingerprint other than the one recorded.

    Raises:
        OutputError: they differ; the message lists every difference.
    """
    new = json.loads(json.dumps(new))
    changed = [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]
    if changed:
        raise OutputError(
            f"{storage.redact(uri)} is another run ({'; '.join(changed)}); give another --out or the old settings"
        )


def _now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
