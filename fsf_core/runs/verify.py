"""Checking every file of a run against its receipt, and the receipts against the summary."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.runs.folder import is_finished, read_document, read_run_json
from fsf_core.runs.reading import receipts
from fsf_core.runs.reconcile import duplicate_units, orphans
from fsf_core.runs.resume import find_completed


def verify(run_uri: str) -> list[str]:
    """Check a run: every file intact, every unit in one part, every item accounted for.

    Returns:
        One line per problem, which begins with missing, torn, orphan or duplicate and a colon; none for a sound run.

    Raises:
        OutputError: there is no run, or a receipt cannot be read.
    """
    read_run_json(run_uri)
    problems = [
        line
        for receipt in receipts(run_uri)
        for table, file in receipt.files.items()
        for line in _file_problems(run_uri, table, file)
    ]
    problems += [f"orphan: {path} has no receipt and is not part of the run" for path in orphans(run_uri, hidden=False)]
    for receipt, duplicate in duplicate_units(run_uri):
        for unit in receipt.units.filter(pa.array(duplicate)).to_pylist():
            name = f"segment {unit['segment']} of {unit['item_id']!r}"
            problems.append(f"duplicate: {name} is in {receipt.part} and in an earlier part")
    completed = find_completed(run_uri)
    problems += _video_problems(run_uri, completed.segments)
    return problems + _summary_problems(run_uri, len(completed.items) + len(completed.segments))


def _file_problems(run_uri: str, table: str, file: Mapping[str, Any]) -> list[str]:
    """Compare a file with its entry in a receipt: existence, digest, rows."""
    try:
        data = storage.read_bytes(storage.join(run_uri, file["path"]))
    except FetchError:
        return [f"missing: {file['path']} has a receipt and does not exist"]
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        return [f"torn: {file['path']} differs from its receipt ({len(data)} bytes, expected {file['bytes']})"]
    rows = pyarrow.parquet.read_metadata(pa.BufferReader(data)).num_rows
    if rows != file["rows"]:
        return [f"torn: {file['path']} of {table} has {rows} rows, its receipt {file['rows']}"]
    return []


def _video_problems(run_uri: str, incomplete: Mapping[bytes, frozenset[int]]) -> list[str]:
    """Name the videos that lack segments.

    Args:
        run_uri: the run folder.
        incomplete: item key to committed segments.
    """
    wanted = pa.array(sorted(incomplete), pa.binary(16))
    problems = {}
    for receipt in receipts(run_uri) if incomplete else ():
        for unit in receipt.units.filter(pc.is_in(receipt.units.column("item_key"), wanted)).to_pylist():
            found = len(incomplete[unit["item_key"]])
            problems[unit["item_key"]] = f"missing: {unit['item_id']!r} has {found} of {unit['segments']} segments"
    return list(problems.values())


def _summary_problems(run_uri: str, items: int) -> list[str]:
    """Compare the items of the receipts with the summary: a published run accounts for every item of its manifest."""
    if not is_finished(run_uri):
        return ["missing: _SUCCESS; the run has not finished: start the same command again"]
    counts = read_document(run_uri, "summary.json")["items"]
    expected = counts["total"] + counts.get("not_in_manifest", 0)
    return [] if items == expected else [f"missing: receipts account for {items} items, the summary for {expected}"]
