"""The files of a run beside its tables, overlays and masks as TIFF: which of them no row names.

They are in their places before the part that names them is committed, and keep their names when an item is scored
anew. What stays of an attempt that was killed, or of an item that left the list, is named by no row.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from fsf_core import storage
from fsf_core.errors import OutputError
from fsf_core.keys import Keys, item_keys
from fsf_core.runs.folder import read_fingerprint
from fsf_core.runs.key_arrays import NO_KEYS, contained, sorted_unique
from fsf_core.runs.ledger import Ledger, load_ledger
from fsf_core.runs.mask_files import FOLDER as MASK_FILES
from fsf_core.runs.parquet import open_parquet

OVERLAYS = "overlays"
"""Folder of the overlays inside the run."""

FOLDERS = (OVERLAYS, MASK_FILES)

CONCURRENT_READS = 16
"""Parts of which a store is read at once."""

_AT_ONCE = 10_000
"""Files that are compared at once, and parts that wait to be read: a run may have millions of overlays."""

log = logging.getLogger("fsf")


def unnamed_files(ledger: Ledger, *, with_staged: bool) -> list[str]:
    """Return the paths of the files beside the tables that no row names, inside the run.

    None where a part is damaged, and what it names is not known. Nothing is read of a run whose options make no such
    files.

    Args:
        ledger: of the run.
        with_staged: whether rows that attempts have staged since the last publication count too.
    """
    fingerprint = read_fingerprint(ledger.uri)
    if not (fingerprint.get("overlays", True) or fingerprint.get("tile")):
        return []
    found: list[str] = []
    named: Keys | None = None
    listed = _files(ledger.uri)
    while some := [*itertools.islice(listed, _AT_ONCE)]:
        if named is None:
            try:
                named = _named([ledger, load_ledger(ledger.uri)] if with_staged else [ledger])
            except OutputError as error:
                log.warning(
                    "event=files_beside_tables_kept error=%r do='start the score command again, or run `fsf verify "
                    "--repair`'", str(error),
                )  # fmt: skip
                return []
        found += itertools.compress(some, ~contained(named, _keys(some)))
    return found


def _files(run_uri: str) -> Iterator[str]:
    """Yield the paths of all files beside the tables, hidden ones included."""
    for folder in FOLDERS:
        for entry in storage.list_in_any_order(storage.join(run_uri, folder)):
            yield f"{folder}/{entry.relative}"


def _named(ledgers: Iterable[Ledger]) -> Keys:
    """Return the sorted keys of the paths that rows of the ledgers name."""
    uri, tables = "", set[str]()
    for ledger in ledgers:
        uri = ledger.uri
        tables |= {receipt.files["masks"]["path"] for receipt in ledger.receipts() if "masks" in receipt.files}
    paths, found = sorted(tables), [NO_KEYS]
    with ThreadPoolExecutor(1 if storage.is_local(uri) else CONCURRENT_READS) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            found += pool.map(lambda path: _named_in(uri, path), paths[start : start + _AT_ONCE])
    return sorted_unique(found)


def _named_in(run_uri: str, path: str) -> Keys:
    """Return the keys of the paths that one file of masks names."""
    with open_parquet(run_uri, path) as parquet:
        rows = parquet.read(["overlay", "mask.path"], use_threads=False)
    columns = (rows.column("overlay"), *rows.column("mask").combine_chunks().flatten())
    return _keys(each for column in columns for each in column.to_pylist() if each)


def _keys(paths: Iterable[str]) -> Keys:
    """Return the keys of paths; names on a disk may hold bytes that are no text."""
    return item_keys(path.encode(errors="backslashreplace").decode() for path in paths)
