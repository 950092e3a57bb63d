"""The folder of a run: locked by one job at a time, and described by run.json."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.runs import lease
from fsf_core.runs.spool import spooled_receipts
from fsf_core.schema import OPTIONAL, TABLES

LAYOUT_VERSION = 2
"""Version of the folder layout, in run.json and manifest.json."""

OPTIONAL_LAYOUT = 3
"""Layout 2 with tables of `schema.OPTIONAL`, which versions that do not know them would lose as they merge parts."""

TILED_LAYOUT = 4
"""Layout 3 with masks that are files, of pictures scored in windows: older versions expect a PNG in every row."""

READABLE_LAYOUTS = frozenset((1, LAYOUT_VERSION, OPTIONAL_LAYOUT, TILED_LAYOUT))
"""Layouts that are read and resumed. In layout 1 parts were written to the folders of their tables at once, and every
receipt there counted; the first publication by this version makes layout 2 of it."""

BUNDLE_FOLDER = "bundle"
"""Folder inside the run where a job that exports first keeps its bundle."""

SUCCESS = "_SUCCESS"
"""File that exists while the folders of the tables hold exactly what manifest.json lists."""

RECEIPTS = "receipts"

REMOVED = "removed"
"""Entry of run.json in a run of a store that is being removed, see `runs.removal`."""


def require_usable(uri: str) -> None:
    """Refuse a folder that holds something other than a run, or a store that cannot be written.

    Raises:
        OutputError: found / expected / do.
        StorageError: the store refuses.
    """
    if not storage.is_local(uri):
        storage.require_writable(uri)
    require_run_or_empty(uri)


def require_run_or_empty(uri: str) -> None:
    """Refuse a folder that holds something other than a run; nothing is written.

    Raises:
        OutputError: found / expected / do.
        StorageError: the store refuses.
    """
    if storage.find_bytes(storage.join(uri, "run.json")) is not None:
        return
    if storage.is_local(uri) and storage.exists(uri) and not storage.is_folder(uri):
        raise OutputError(f"{uri} is a file, expected a folder; give another --out")
    # A job that exports first writes its bundle before run.json.
    others = (entry for entry in storage.list_files(uri) if not entry.relative.startswith(f"{BUNDLE_FOLDER}/"))
    first = next(iter(others), None)
    if first is not None:
        raise OutputError(
            f"{storage.redact(uri)} holds {first.relative} and no run.json: it is not a run; give a new or empty folder"
        )


@contextlib.contextmanager
def lock_run(uri: str, *, fingerprint: Mapping[str, Any] | None = None) -> Iterator[lease.Lease]:
    """Keep other jobs out of a folder until the block ends; nothing is written to it.

    Args:
        uri: the output folder.
        fingerprint: for `require_same`, where it is known already.

    Raises:
        OutputError: the folder holds something else, belongs to another run, or is in use by a running job.
        LeaseLostError: another job took the folder over before the block ended.
    """
    require_usable(uri)
    with lease.lease(uri) as held, spooled_receipts(uri):
        if fingerprint is not None:
            require_same(uri, fingerprint)
        yield held


def require_same(uri: str, fingerprint: Mapping[str, Any]) -> None:
    """Refuse a folder that belongs to another run.

    Args:
        uri: the output folder.
        fingerprint: everything that defines the result.

    Raises:
        OutputError: it has a different fingerprint; the message lists every difference.
    """
    known = find_run_json(uri)
    old, new = (known["fingerprint"] if known else {}), json.loads(json.dumps(dict(fingerprint)))
    changed = [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]
    if known and changed:
        raise OutputError(
            f"{storage.redact(uri)} is another run ({'; '.join(changed)}); give another --out or the old settings"
        )


@contextlib.contextmanager
def locked_run(uri: str, *, finished: bool) -> Iterator[lease.Lease]:
    """Keep jobs out of a run until the block ends.

    Args:
        uri: the run.
        finished: whether the run must have finished; the publication may have been interrupted.

    Raises:
        OutputError: there is no run, it has not finished, or a job is using it.
        LeaseLostError: another job took the folder over before the block ended.
    """
    read_run_json(uri)
    if finished and not was_published(uri):
        raise OutputError(
            f"{storage.redact(uri)} holds no finished run (_SUCCESS is missing); start the score command that began it "
            "again"
        )
    with lease.lease(uri) as held, spooled_receipts(uri):
        yield held


def is_finished(run_uri: str) -> bool:
    """Return whether the run is complete and published."""
    return storage.find_bytes(storage.join(run_uri, SUCCESS)) is not None


def read_fingerprint(run_uri: str) -> dict[str, Any]:
    """Return everything that defines the results of a run, as recorded when the run was started first.

    Raises:
        OutputError: there is no run.
    """
    return dict(read_run_json(run_uri)["fingerprint"])


def find_run_json(uri: str) -> dict[str, Any] | None:
    """Return the content of run.json, or None where no run was started.

    Raises:
        OutputError: it is damaged, or has a layout version that this program does not read.
    """
    known = find_document(uri, "run.json")
    if known is None:
        return None
    if known.get("layout") not in READABLE_LAYOUTS:
        raise OutputError(
            f"{storage.redact(uri)} has run layout {known.get('layout')}, expected "
            f"{' or '.join(map(str, sorted(READABLE_LAYOUTS)))}; give another folder, or use the version of fsf that "
            "wrote it"
        )
    if REMOVED in known:
        raise OutputError(
            f"{storage.redact(uri)} is being removed by `fsf prune`; choose another run, or start that command again, "
            "which completes the removal"
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


def find_manifest(run_uri: str) -> dict[str, Any] | None:
    """Return the content of manifest.json, the list of what is published, or None before the first publication.

    Raises:
        OutputError: it is damaged.
    """
    return find_document(run_uri, "manifest.json")


def decided_of(manifest: Mapping[str, Any] | None) -> int:
    """Return the number up to which staged parts are decided: only those that the manifest lists count; 0 for none."""
    return int(manifest.get("decided", 0)) if manifest else 0


def was_published(run_uri: str) -> bool:
    """Return whether manifest.json lists a complete run, even if its publication was interrupted.

    Raises:
        OutputError: manifest.json is damaged.
    """
    manifest = find_manifest(run_uri)
    return is_finished(run_uri) or bool(manifest and manifest.get("summary"))


def tables_of(fingerprint: Mapping[str, Any]) -> dict[str, pa.Schema]:
    """Return the tables of parts that a run has by its fingerprint, whose entry `tables` names the optional ones."""
    return {**TABLES, **{name: OPTIONAL[name] for name in fingerprint.get("tables", ())}}


def layout_of(fingerprint: Mapping[str, Any]) -> int:
    """Return the layout in which this version publishes a run."""
    if fingerprint.get("tile"):
        return TILED_LAYOUT
    return OPTIONAL_LAYOUT if fingerprint.get("tables") else LAYOUT_VERSION


def read_summary(run_uri: str) -> dict[str, Any]:
    """Return the totals of a published run: those of manifest.json, or of summary.json in layout 1.

    Raises:
        OutputError: they are missing or damaged.
    """
    manifest = find_manifest(run_uri)
    return dict((manifest or {}).get("summary") or read_document(run_uri, "summary.json"))


def read_document(run_uri: str, name: str) -> dict[str, Any]:
    """Return the content of one JSON document of a run.

    Args:
        run_uri: the run folder.
        name: run.json, manifest.json or summary.json.

    Raises:
        OutputError: it is missing or damaged.
    """
    with _as_document(run_uri, name) as uri:
        return dict(json.loads(storage.read_bytes(uri)))


def find_document(run_uri: str, name: str) -> dict[str, Any] | None:
    """Return the content of one JSON document of a run, or None if it does not exist; arguments as `read_document`.

    Raises:
        OutputError: it is damaged.
        StorageError: the store refuses.
    """
    with _as_document(run_uri, name) as uri:
        data = storage.find_bytes(uri)
        return None if data is None else dict(json.loads(data))


@contextlib.contextmanager
def _as_document(run_uri: str, name: str) -> Iterator[str]:
    """Give the URI of a JSON document of a run, and raise what reading it raises as OutputError."""
    uri = storage.join(run_uri, name)
    try:
        yield uri
    except (FetchError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}; give the --out of a score job") from error


def document_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a JSON document as it is stored."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
