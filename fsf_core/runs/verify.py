"""Checking every file of a run against its receipt, and the books against the manifest."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.runs.folder import read_json, run_facts
from fsf_core.runs.reading import receipts
from fsf_core.runs.reconcile import duplicate_units, orphans
from fsf_core.runs.resume import completed


def verify(run_uri: str) -> list[str]:
    """Check every committed file against its receipt; returns what is wrong, in words.

    Raises:
        OutputError: no run is there, or a receipt cannot be read.
    """
    run_facts(run_uri)
    wrong = [
        line
        for receipt in receipts(run_uri)
        for table, facts in receipt.files.items()
        for line in _wrong_with_file(run_uri, table, facts)
    ]
    wrong += [f"orphan: {path} has no receipt; it is not part of the run" for path in orphans(run_uri, hidden=False)]
    for receipt, repeated in duplicate_units(run_uri):
        for unit in receipt.units.filter(pa.array(repeated)).to_pylist():
            which = f"segment {unit['segment']} of {unit['item_id']!r}"
            wrong.append(f"doubled: {which} is in {receipt.part} and in a part before it")
    finished = completed(run_uri)
    wrong += _wrong_with_videos(run_uri, finished.segments)
    return wrong + _wrong_with_summary(run_uri, len(finished.items) + len(finished.segments))


def _wrong_with_file(run_uri: str, table: str, facts: Mapping[str, Any]) -> list[str]:
    uri = storage.join(run_uri, facts["path"])
    try:
        data = storage.read_bytes(uri)
    except FetchError:
        return [f"missing: {facts['path']} has a receipt and is not there"]
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        return [f"torn: {facts['path']} differs from its receipt ({len(data)} bytes, expected {facts['bytes']})"]
    rows = pyarrow.parquet.read_metadata(pa.BufferReader(data)).num_rows
    return [] if rows == facts["rows"] else [f"torn: {table} part {facts['path']} has {rows} rows, not {facts['rows']}"]


def _wrong_with_videos(run_uri: str, begun: Mapping[bytes, frozenset[int]]) -> list[str]:
    """Videos of which a segment is missing, by name."""
    wanted = pa.array(sorted(begun), pa.binary(16))
    wrong = {}
    for receipt in receipts(run_uri) if begun else ():
        for unit in receipt.units.filter(pc.is_in(receipt.units.column("item_key"), wanted)).to_pylist():
            have = len(begun[unit["item_key"]])
            wrong[unit["item_key"]] = f"missing: {unit['item_id']!r} has {have} of {unit['segments']} segments"
    return list(wrong.values())


def _wrong_with_summary(run_uri: str, items: int) -> list[str]:
    """Conservation: a published run accounts for every item of its manifest."""
    if not storage.exists(storage.join(run_uri, "_SUCCESS")):
        return ["missing: _SUCCESS; the run has not finished: start the same command again"]
    counts = read_json(run_uri, "summary.json")["items"]
    expected = counts["total"] + counts.get("not_in_manifest", 0)
    return [] if items == expected else [f"missing: receipts account for {items} items, the summary for {expected}"]
