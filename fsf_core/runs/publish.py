"""Publication: the only code that changes what readers of a finished run see.

    1  the lease is confirmed, and _SUCCESS is taken away
    2  manifest.json, which holds the summary too, is replaced: from here on the run is what it lists
    3  files that it does not list leave the folders of the tables, and staged ones that it lists enter them; overlays
       and masks as TIFF that no row names leave too
    4  summary.json is replaced by the summary in manifest.json
    5  the lease is confirmed, and _SUCCESS is written
    6  the folder of the attempt is removed

A process that dies before 2 leaves the run as it was, without _SUCCESS after 1. One that dies later leaves files in
both places; a ledger finds them in either, and the next publication completes the move. A store has no moves: up to
1,000 files are copied, and then what they were copied from is deleted, so that some may be in both places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.errors import ResumableError
from fsf_core.runs.attempt import Attempt
from fsf_core.runs.beside import unnamed_files
from fsf_core.runs.folder import (
    RECEIPTS,
    SUCCESS,
    decided_of,
    document_bytes,
    find_manifest,
    layout_of,
    read_run_json,
)
from fsf_core.runs.ledger import FOLDERS, Ledger, receipt_path
from fsf_core.schema import DERIVED

VIDEOS = "videos"

_FACTS = ("rows", "bytes", "sha256")


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A file that was computed from the parts: a table of seconds, a rendered video, or its receipt."""

    table: str
    """Its folder."""
    path: str
    """Of the published file inside the run."""
    staged: str | None
    """Where the file is until then, inside the run; None if it is published already."""
    facts: Mapping[str, Any] | None
    """rows, bytes and sha256 for manifest.json; None for a file that it does not list."""


def publish(
    attempt: Attempt,
    ledger: Ledger,
    summary: Mapping[str, Any],
    *,
    derived: Sequence[Derived] = (),
    keep_staged: bool = False,
) -> None:
    """Make the parts of a ledger the published run; see the module for the steps.

    Args:
        attempt: that holds the run.
        ledger: every unit in one part.
        summary: the totals.
        derived: files that were computed from the parts.
        keep_staged: whether staged parts that are not in the ledger stay for the next start of the score job;
            otherwise they are decided, and never count again.

    Raises:
        StorageError: the store refuses; the same command completes the publication.
        LeaseLostError: another job has taken the run over.
    """
    _make_current(attempt, ledger, derived, summary=summary, keep_staged=keep_staged)
    attempt.replace("summary.json", document_bytes(summary))
    attempt.lease.confirm()
    attempt.replace(SUCCESS, b"")
    attempt.end(keep_staged=keep_staged)


def withdraw(attempt: Attempt, ledger: Ledger, *, derived: Sequence[Derived] = ()) -> None:
    """Make the parts of a ledger what the run has so far, without completing it: steps 1 to 3 and 6.

    Args:
        attempt: that holds the run.
        ledger: every unit in one part.
        derived: files that were computed from the parts.

    Raises:
        StorageError, LeaseLostError: as for `publish`.
    """
    _make_current(attempt, ledger, derived, summary=None, keep_staged=False)
    attempt.end(keep_staged=False)


def _make_current(
    attempt: Attempt,
    ledger: Ledger,
    derived: Sequence[Derived],
    *,
    summary: Mapping[str, Any] | None,
    keep_staged: bool,
) -> None:
    """Take the completion mark away, replace manifest.json, and move the files as it lists them.

    Raises:
        ResumableError: the parts do not have the frames of the summary: a part was lost since they were counted.
    """
    entries, moves = _list_parts(ledger)
    frames = summary.get("frames") if summary else None
    rows = sum(entry["rows"] for entry in entries if entry["table"] == "masks")
    if frames is not None and rows != frames:
        raise ResumableError(
            f"found {rows} rows of masks in {storage.redact(attempt.uri)}, expected the {frames} frames that were "
            "counted; start the same command again, which scores what was lost"
        )
    entries += [
        {"part": None, "table": each.table, "path": each.path, **{key: each.facts[key] for key in _FACTS}}
        for each in derived
        if each.facts
    ]
    moves |= {each.path: each.staged for each in derived if each.staged}
    manifest = {
        "layout": layout_of(read_run_json(attempt.uri)["fingerprint"]),
        "attempt": attempt.number,
        "decided": decided_of(find_manifest(attempt.uri)) if keep_staged else attempt.number,
        "summary": summary,
        "files": [entry for entry in entries if entry["table"] != RECEIPTS],
        RECEIPTS: [entry for entry in entries if entry["table"] == RECEIPTS],
    }
    listed = {each["path"] for each in entries} | {each.path for each in derived}
    unnamed = unnamed_files(ledger, with_staged=keep_staged)

    attempt.unpublish()
    attempt.replace("manifest.json", document_bytes(manifest))
    _raise_layout(attempt)
    sizes = {each["path"]: each["bytes"] for each in entries}
    _settle(attempt, listed, moves, unnamed=unnamed, sizes=sizes)


def _list_parts(ledger: Ledger) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the entries of manifest.json for all files of the parts, and from where they move to which path."""
    entries: list[dict[str, Any]] = []
    moves: dict[str, str] = {}
    for receipt in ledger.receipts():
        now, path = ledger.receipt_path(receipt.part), receipt_path(receipt.part)
        facts = {"rows": receipt.units.num_rows, **receipt.stored}
        entries.append({"part": receipt.part, "table": RECEIPTS, "path": path, **facts})
        moves[path] = now
        for table, file in receipt.files.items():
            path = receipt.published_path(table)
            entries.append({"part": receipt.part, "table": table, "path": path, **{key: file[key] for key in _FACTS}})
            moves[path] = file["path"]
    return entries, {path: now for path, now in moves.items() if path != now}


def _settle(
    attempt: Attempt,
    listed: set[str],
    moves: Mapping[str, str],
    *,
    unnamed: Sequence[str],
    sizes: Mapping[str, int],
) -> None:
    """Make the folders of the tables hold exactly what is listed, and take away what no row names beside them."""
    folders = (*FOLDERS, *DERIVED, VIDEOS)
    unlisted = [
        path
        for folder in folders
        for entry in storage.list_files(storage.join(attempt.uri, folder), hidden=True)
        if (path := f"{folder}/{entry.relative}") not in listed
    ]
    attempt.remove_files([*unlisted, *unnamed])
    # A video's receipt leaves before its file is replaced, and enters after it: none ever describes other bytes.
    receipts = {path: staged for path, staged in moves.items() if path.endswith(".json")}
    attempt.remove_files([*receipts])
    attempt.publish_files({path: staged for path, staged in moves.items() if path not in receipts}, sizes)
    attempt.publish_files(receipts, sizes)
    for folder in {path.partition("/")[0] for path in (*unlisted, *unnamed, *moves)}:
        storage.sync_folder(storage.join(attempt.uri, folder))


def _raise_layout(attempt: Attempt) -> None:
    """Record in run.json that the run has the layout of this version now, where an older one began it."""
    known = read_run_json(attempt.uri)
    layout = layout_of(known["fingerprint"])
    if known["layout"] != layout:
        attempt.replace("run.json", document_bytes({**known, "layout": layout}))
