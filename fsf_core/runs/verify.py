"""Checking every file of a run against its receipt, and the receipts against the list of files and the summary."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.runs.beside import FOLDERS as BESIDE
from fsf_core.runs.beside import unnamed_files
from fsf_core.runs.folder import LAYOUT_VERSION, RECEIPTS, find_manifest, is_finished, read_document, read_run_json
from fsf_core.runs.ledger import Ledger, load_ledger
from fsf_core.runs.mask_files import find_mask_problem
from fsf_core.runs.parquet import read_checked
from fsf_core.runs.reconcile import unwanted_units
from fsf_core.runs.records import Receipt
from fsf_core.runs.resume import find_completed
from fsf_core.runs.spool import read_receipt, spooled_receipts
from fsf_core.runs.staging import attempt_numbers, list_sizes


def verify(run_uri: str) -> list[str]:
    """Check a run: every file intact and listed, every unit in one part, every item accounted for.

    Returns:
        One line per problem, which begins with missing, torn, orphan or duplicate and a colon; none for a sound run.

    Raises:
        OutputError: there is no run.
    """
    read_run_json(run_uri)
    with spooled_receipts(run_uri):
        return _problems(load_ledger(run_uri, staged=not is_finished(run_uri)))


def _problems(ledger: Ledger) -> list[str]:
    """Return what `verify` returns."""
    problems = [problem for _, problem in _part_problems(ledger)]
    problems += ledger.lost.values()
    problems += _list_problems(ledger.uri)
    problems += [f"orphan: {path} belongs to no part of the run" for path in _orphans(ledger)]
    # What damaged parts name is not known, nor what an attempt will commit.
    if is_finished(ledger.uri) and not problems and not attempt_numbers(ledger.uri):
        problems += [
            f"orphan: {path} is named by no row of the run" for path in unnamed_files(ledger, with_staged=False)
        ]
    for receipt, duplicate in unwanted_units(ledger):
        for unit in receipt.units.filter(pa.array(duplicate)).to_pylist():
            name = f"segment {unit['segment']} of {unit['item_id']!r}"
            problems.append(f"duplicate: {name} is in {receipt.part} and in a preferred part")
    completed = find_completed(ledger)
    problems += _video_problems(ledger, completed.segments)
    return problems + _summary_problems(ledger, len(completed.items) + len(completed.segments))


def damaged_parts(ledger: Ledger) -> dict[str, str]:
    """Return a problem of each part whose files differ from receipts, or whose overlays or masks are lost or torn."""
    return {receipt.part: problem for receipt, problem in _part_problems(ledger)} | ledger.lost


def require_sound(ledger: Ledger, *, before: int) -> None:
    """Compare the files of earlier attempts' parts with their receipts, before their rows are copied elsewhere.

    Args:
        ledger: of the run.
        before: number of the attempt whose own parts need not be read again.

    Raises:
        DamagedPartError: a part is damaged.
    """
    for receipt in ledger.receipts():
        for file in receipt.files.values() if receipt.attempt < before else ():
            read_checked(ledger.uri, receipt.part, file)


def _part_problems(ledger: Ledger) -> Iterator[tuple[Receipt, str]]:
    """Yield every problem of the files of a part, and of overlays and masks outside of them, with its receipt."""
    beside = cache(lambda: list_sizes(ledger.uri, BESIDE))
    for receipt in ledger.receipts():
        for table, file in receipt.files.items():
            problem, parquet = _read_file(ledger.uri, table, file)
            if problem:
                yield receipt, problem
            elif parquet and table == "masks":
                rows = parquet.read(["overlay", "mask.path", "height_px", "width_px"], use_threads=False)
                for wrong in _problems_beside(ledger.uri, rows, beside, named_in=file["path"]):
                    yield receipt, wrong


def _problems_beside(
    run_uri: str, rows: pa.Table, beside: Callable[[], Collection[str]], *, named_in: str
) -> Iterator[str]:
    """Yield every problem of the overlays and masks outside of the tables.

    Args:
        run_uri: the run.
        rows: of masks.
        beside: returns the paths of such files.
        named_in: the file of these rows.
    """
    paths = (rows.column("overlay"), pc.struct_field(rows.column("mask"), "path"))
    for row in rows.filter(pc.or_(*map(pc.is_valid, paths))).to_pylist():
        path = row["mask"]["path"]
        lost = [each for each in (row["overlay"], path) if each and each not in beside()]
        yield from (f"missing: {each} is named in {named_in} and does not exist" for each in lost)
        if path and path not in lost:
            problem = find_mask_problem(run_uri, path, height_px=row["height_px"], width_px=row["width_px"])
            if problem:
                yield f"torn: {problem}"


def _read_file(
    run_uri: str, table: str, file: Mapping[str, Any]
) -> tuple[str | None, pyarrow.parquet.ParquetFile | None]:
    """Compare a file with its entry in a receipt: existence, digest, rows; return the problem, or the sound file."""
    try:
        data = storage.read_bytes(storage.join(run_uri, file["path"]))
    except FetchError:
        return f"missing: {file['path']} has a receipt and does not exist", None
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        found = "another checksum" if len(data) == file["bytes"] else f"{len(data)} bytes, expected {file['bytes']}"
        return f"torn: {file['path']} differs from its receipt ({found})", None
    parquet = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    if parquet.metadata.num_rows != file["rows"]:
        return f"torn: {file['path']} of {table} has {parquet.metadata.num_rows} rows, its receipt {file['rows']}", None
    return None, parquet


def _list_problems(run_uri: str) -> list[str]:
    """Compare the receipts, and the files that no receipt describes, with manifest.json."""
    manifest = find_manifest(run_uri)
    if manifest is None or manifest["layout"] < LAYOUT_VERSION or not is_finished(run_uri):
        return []
    problems = []
    for entry in manifest[RECEIPTS]:
        try:
            data = read_receipt(run_uri, entry["path"])
        except FetchError:
            continue  # reported as lost
        # One of another size is reported as lost.
        if len(data) == entry["bytes"] and hashlib.sha256(data).hexdigest() != entry["sha256"]:
            problems.append(f"torn: {entry['path']} differs from manifest.json")
    summary = manifest["summary"] or {}
    rows = sum(file["rows"] for file in manifest["files"] if file["table"] == "masks")
    if summary.get("frames") not in {None, rows}:
        problems.append(f"missing: manifest.json lists {rows} rows of masks, its summary {summary['frames']} frames")
    if read_document(run_uri, "summary.json") != summary:
        problems.append("torn: summary.json differs from the summary in manifest.json")
    return problems


def _orphans(ledger: Ledger) -> list[str]:
    """Return the files that readers of the tables find and that are not part of the run, sorted."""
    manifest = find_manifest(ledger.uri)
    if manifest is None or manifest["layout"] < LAYOUT_VERSION:
        found = ledger.strangers()
    else:
        found = [*{*ledger.published_files()} - {entry["path"] for entry in (*manifest["files"], *manifest[RECEIPTS])}]
    return sorted(path for path in found if "/." not in path)


def _video_problems(ledger: Ledger, incomplete: Mapping[bytes, frozenset[int]]) -> list[str]:
    """Name the videos that lack segments.

    Args:
        ledger: of the run.
        incomplete: item key to committed segments.
    """
    wanted = pa.array(sorted(incomplete), pa.binary(16))
    problems = {}
    for receipt in ledger.receipts() if incomplete else ():
        for unit in receipt.units.filter(pc.is_in(receipt.units.column("item_key"), wanted)).to_pylist():
            found = len(incomplete[unit["item_key"]])
            problems[unit["item_key"]] = f"missing: {unit['item_id']!r} has {found} of {unit['segments']} segments"
    return list(problems.values())


def _summary_problems(ledger: Ledger, items: int) -> list[str]:
    """Compare the items of the receipts with the summary: a published run accounts for every item of its manifest."""
    if not is_finished(ledger.uri):
        return ["missing: _SUCCESS; the run has not finished: start the same command again"]
    counts = read_document(ledger.uri, "summary.json")["items"]
    expected = counts["total"] + counts.get("not_in_manifest", 0)
    return [] if items == expected else [f"missing: receipts account for {items} items, the summary for {expected}"]
