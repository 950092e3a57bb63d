"""The folder of a run: claimed by one job at a time, and run.json, which says what the run is."""

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

BUNDLE_FOLDER = "bundle"
"""Where a job that exports first keeps its bundle, inside the run."""


def require_usable(uri: str) -> None:
    """Refuse a folder that holds something other than a run, or a store that takes no files.

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
    # The bundle of a job that exports first is there before the run is.
    others = (entry for entry in files_below(uri, hidden=False) if not entry.relative.startswith(f"{BUNDLE_FOLDER}/"))
    first = next(iter(others), None)
    if first is not None:
        raise OutputError(
            f"{storage.redact(uri)} holds {first.relative} and no run.json: it is not a run; give a new or empty folder"
        )


@contextlib.contextmanager
def lock_run(uri: str, *, fingerprint: Mapping[str, Any]) -> Iterator[None]:
    """Keep other jobs out of a folder for as long as the block lasts; leaves nothing in it.

    Args:
        uri: the output folder.
        fingerprint: all that defines the result; a folder with another one is refused.

    Raises:
        OutputError: the folder holds something else, belongs to another run, or is in use by a running job.
    """
    require_usable(uri)
    with lease.lease(uri):
        known = known_run(uri)
        if known is not None:
            _refuse_other(uri, known["fingerprint"], dict(fingerprint))
        yield


def begin_attempt(uri: str, *, fingerprint: Mapping[str, Any], details: Mapping[str, Any]) -> Run:
    """Record in run.json of a locked folder that its run is started, for the first time or again.

    Args:
        uri: the output folder.
        fingerprint: as given to `lock_run`.
        details: what else is worth knowing of this attempt; never compared.
    """
    known = known_run(uri)
    attempts = [*(known["attempts"] if known else []), {"started_at": _now(), **details}]
    run_id = known["run_id"] if known else f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    facts = {"layout": LAYOUT_VERSION, "run_id": run_id, "fingerprint": dict(fingerprint), "attempts": attempts}
    write_json(storage.join(uri, "run.json"), facts)
    return Run(uri=uri, run_id=run_id, attempt=len(attempts))


@contextlib.contextmanager
def claim_run(uri: str, *, fingerprint: Mapping[str, Any], details: Mapping[str, Any]) -> Iterator[Run]:
    """Lock a folder and begin an attempt in one step.

    Raises:
        OutputError: as `lock_run` raises.
    """
    with lock_run(uri, fingerprint=fingerprint):
        yield begin_attempt(uri, fingerprint=fingerprint, details=details)


def fingerprint(run_uri: str) -> dict[str, Any]:
    """All that defines the results of a run, as it was given when the run was first opened.

    Raises:
        OutputError: no run is there.
    """
    return dict(run_facts(run_uri)["fingerprint"])


def unpublish(run_uri: str) -> None:
    """Take the mark of completion away before anything changes."""
    storage.remove(storage.join(run_uri, "_SUCCESS"))


def read_json(run_uri: str, name: str) -> dict[str, Any]:
    """One of the JSON documents of a run.

    Raises:
        OutputError: it is missing or damaged.
    """
    uri = storage.join(run_uri, name)
    try:
        return dict(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}; give the --out of a score job") from error


def files_below(folder: str, *, hidden: bool) -> Iterable[storage.Entry]:
    """List the files below a folder; none where there is no such folder."""
    return storage.list_files(folder, hidden=hidden) if storage.exists(folder) else ()


def known_run(uri: str) -> dict[str, Any] | None:
    """What run.json says, or None where no run was begun."""
    if not storage.exists(storage.join(uri, "run.json")):
        return None
    known = read_json(uri, "run.json")
    if known.get("layout") != LAYOUT_VERSION:
        raise OutputError(
            f"{storage.redact(uri)} has run layout {known.get('layout')}, this program writes {LAYOUT_VERSION}; "
            "give another --out"
        )
    return known


def run_facts(run_uri: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        OutputError: no run was begun there.
    """
    known = known_run(run_uri)
    if known is None:
        raise OutputError(
            f"{storage.redact(run_uri)} holds no run (run.json is missing); give the --out of a score job"
        )
    return known


def _refuse_other(uri: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    new = json.loads(json.dumps(new))
    changed = [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]
    if changed:
        raise OutputError(
            f"{storage.redact(uri)} is another run ({'; '.join(changed)}); give another --out or the old settings"
        )


@contextlib.contextmanager
def locked_finished_run(uri: str) -> Iterator[None]:
    """Keep jobs out of a finished run for as long as the block lasts.

    Raises:
        OutputError: no run is there, it has not finished, or a job is at it.
    """
    if known_run(uri) is None or not storage.exists(storage.join(uri, "_SUCCESS")):
        raise OutputError(
            f"{storage.redact(uri)} holds no finished run (_SUCCESS is missing); start the command that began it again"
        )
    with lease.lease(uri):
        yield


def write_json(uri: str, facts: Mapping[str, Any]) -> None:
    """Replace a JSON document; it survives a power cut."""
    storage.write_bytes(uri, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(), durable=True)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
