"""Which parts of a run count, and where their files are.

A finished run has the parts of manifest.json, the pointer that a publication replaces. A run in progress has those and
the parts that attempts have staged since. A part counts only if all of its files have the sizes of its receipt.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.keys import Keys, RowKeys
from fsf_core.runs import spool, staging
from fsf_core.runs.folder import (
    LAYOUT_VERSION,
    RECEIPTS,
    decided_of,
    find_manifest,
    find_run_json,
    is_finished,
    read_run_json,
)
from fsf_core.runs.key_arrays import NO_ROWS, contained, keys_of, rows_of
from fsf_core.runs.records import Receipt, receipt_from_arrow
from fsf_core.schema import PART_TABLES

FOLDERS = (*PART_TABLES, RECEIPTS)
"""Folders that hold published parts."""

DO = "start the score command again, which scores its items anew, or run `fsf verify --repair`"
"""What to do about a part that is lost."""

ALL_FAILURES = 1 << 62
"""Greater than the number of every attempt."""


class _LostFileError(Exception):
    """A file of a part is missing, or has another size; the message is the problem as `fsf verify` prints it."""


class Ledger:
    """The parts of a run that count at one moment; changed only in memory, by the job that holds the run."""

    def __init__(self, uri: str, paths: Mapping[str, str], *, sizes: Mapping[str, int] | None, strict: bool) -> None:
        """Hold the parts.

        Args:
            uri: the run folder.
            paths: part to the path of its receipt inside the run.
            sizes: bytes of every file by path inside the run; None to trust that published files are in their places.
            strict: whether a lost part is an error, as it is for readers, or is left out, as for a job that resumes.
        """
        self.uri = uri
        self._paths = dict(sorted(paths.items()))
        self._sizes = sizes
        self._strict = strict
        self._folders = sorted(
            {path.partition("/")[0] for path in sizes or () if path.startswith(staging.PREFIX)}, reverse=True
        )
        self.retry_before = 0
        """Failed parts of attempts below this number do not count: their units are tried again."""
        self.superseded: RowKeys = NO_ROWS
        """Sorted keys of rows whose units do not count: the list now holds something else of their items."""
        self.lost: dict[str, str] = {}
        """Lost parts that `receipts` has found so far, with the problem as `fsf verify` prints it."""
        self._names = {*paths}

    @property
    def parts(self) -> list[str]:
        """Names of the parts, sorted; lost ones and failed ones to be retried are among them."""
        return [*self._paths]

    def drop(self, part: str) -> None:
        """Leave a part out from now on."""
        self._paths.pop(part, None)

    def add(self, part: str, path: str, sizes: Mapping[str, int]) -> None:
        """Add a part that was just staged.

        Args:
            part: its name.
            path: of its receipt, inside the run.
            sizes: of its files and its receipt, by path inside the run.
        """
        self._paths = dict(sorted({**self._paths, part: path}.items()))
        self._sizes = {**(self._sizes or {}), **sizes}
        self._folders = sorted({*self._folders, path.partition("/")[0]}, reverse=True)

    def receipt_path(self, part: str) -> str:
        """Return the path of the receipt of a part inside the run."""
        return self._paths[part]

    def receipts(self, parts: Iterable[str] | None = None) -> Iterator[Receipt]:
        """Yield the receipts of the parts that count, in name order.

        Args:
            parts: only these, in this order.

        Raises:
            OutputError: a part is lost, and the ledger is strict.
        """
        wanted = [part for part in (self._paths if parts is None else parts) if part in self._paths]
        reads = spool.read_receipts(self.uri, [self._paths[part] for part in wanted])
        for part, (read, is_copy) in zip(wanted, reads, strict=True):
            try:
                receipt = self._parsed(self._paths[part], read, is_copy=is_copy)
            except OutputError as error:
                self._lose(part, f"torn: {error}")
                continue
            except _LostFileError as error:
                self._lose(part, str(error))
                continue
            if not (receipt.failed_units and receipt.attempt < self.retry_before):
                yield receipt

    def counts(self, receipt: Receipt) -> NDArray[np.bool_]:
        """Return for each unit of a part whether it counts."""
        if not len(self.superseded):
            return np.ones(receipt.units.num_rows, bool)
        return ~contained(self.superseded, rows_of(receipt.units))

    def published_files(self) -> list[str]:
        """Return paths of all files in the folders of published parts, hidden ones included."""
        return [path for path in self._sizes or () if path.partition("/")[0] in FOLDERS]

    def strangers(self) -> list[str]:
        """Return those of them that belong to no part."""
        known = self._names | {*self.lost}
        return [path for path in self.published_files() if path.rpartition("/")[2].rpartition(".")[0] not in known]

    def _parsed(self, path: str, read: Callable[[], bytes], *, is_copy: bool) -> Receipt:
        """Return a receipt with the paths where its files are now.

        Raises:
            OutputError: it is missing or damaged.
            _LostFileError: one of its files is missing, or has another size.
        """
        uri = storage.join(self.uri, path)
        try:
            return self._located(parse_receipt(uri, read))
        except (OutputError, _LostFileError):
            if not is_copy:
                raise
        # A try of a task may have replaced the receipt since it was copied, because its files were missing.
        return self._located(parse_receipt(uri, partial(spool.read_receipt, self.uri, path, anew=True)))

    def _lose(self, part: str, problem: str) -> None:
        """Record that a part does not count.

        Raises:
            OutputError: the ledger is strict.
        """
        if self._strict:
            raise OutputError(f"{storage.redact(self.uri)} has a damaged part ({problem}); {DO}")
        self.lost[part] = problem

    def _located(self, receipt: Receipt) -> Receipt:
        """Return the receipt with the paths where its files are now.

        Raises:
            _LostFileError: one of them is missing, or has another size.
        """
        files = {}
        for table, file in receipt.files.items():
            candidates = [receipt.published_path(table)]
            candidates += [f"{folder}/{receipt.staged_path(table)}" for folder in self._folders]
            sizes = {candidates[0]: file["bytes"]} if self._sizes is None else self._sizes
            path = next((each for each in candidates if sizes.get(each) == file["bytes"]), None)
            if path is None:
                found = next((sizes[each] for each in candidates if each in sizes), None)
                raise _LostFileError(
                    f"missing: {candidates[0]} has a receipt and does not exist"
                    if found is None
                    else f"torn: {candidates[0]} differs from its receipt ({found} bytes, expected {file['bytes']})"
                )
            files[table] = {**file, "path": path}
        return replace(receipt, files=files)


def load_ledger(run_uri: str, *, strict: bool = False, staged: bool = True) -> Ledger:
    """Load what a job resumes from: the parts that count, looked up in one listing of the run.

    Args:
        run_uri: the run folder.
        strict: whether a lost part is an error, or is left out.
        staged: whether parts count that were committed since the last publication.

    Raises:
        OutputError: run.json or manifest.json is damaged.
    """
    numbers = staging.attempt_numbers(run_uri)
    # Staged files first: one that is published in between is found in its place.
    sizes = staging.list_sizes(run_uri, [*map(staging.folder_name, numbers), *FOLDERS])
    spool.forget_replaced(run_uri, sizes)
    known, manifest = find_run_json(run_uri), find_manifest(run_uri)
    paths: dict[str, str] = {}
    lost: dict[str, str] = {}
    decided = decided_of(manifest)
    if manifest is not None and manifest["layout"] >= LAYOUT_VERSION:
        for entry in manifest[RECEIPTS]:
            path = _find_receipt(entry, numbers, sizes)
            if path is None:
                lost[entry["part"]] = (
                    f"torn: {entry['path']} differs from manifest.json ({sizes[entry['path']]} bytes, expected "
                    f"{entry['bytes']})"
                    if entry["path"] in sizes
                    else f"missing: {entry['path']} is listed in manifest.json and does not exist"
                )
            else:
                paths[entry["part"]] = path
    elif known and known["layout"] < LAYOUT_VERSION:
        paths = {part_of(path): path for path in sizes if path.startswith(f"{RECEIPTS}/") and path.endswith(".arrow")}
    for path in staging.staged_receipts(run_uri, numbers, sizes) if staged and known else ():
        # What a publication left out of the parts of its own and earlier attempts never counts again.
        if part_of(path) not in paths and attempt_of(path) > decided:
            paths[part_of(path)] = path
    if lost and strict:
        raise OutputError(f"{storage.redact(run_uri)} has a damaged part ({next(iter(lost.values()))}); {DO}")
    ledger = Ledger(run_uri, paths, sizes=sizes, strict=strict)
    ledger.lost.update(lost)
    return ledger


def open_ledger(run_uri: str) -> Ledger:
    """Load what readers read: for a finished run what manifest.json lists, otherwise what is committed so far.

    Raises:
        OutputError: there is no run, or run.json or manifest.json is damaged.
    """
    read_run_json(run_uri)
    if not is_finished(run_uri):
        return load_ledger(run_uri, strict=True)
    manifest = find_manifest(run_uri)
    if manifest is None:
        raise OutputError(f"{storage.redact(run_uri)} has _SUCCESS and no manifest.json; start the score command again")
    # A part may have no rows and so no files; manifests of layout 1 list the files only.
    listed = manifest.get(RECEIPTS, manifest["files"])
    parts = {entry["part"] for entry in listed if entry["part"]}
    return Ledger(run_uri, {part: receipt_path(part) for part in parts}, sizes=None, strict=True)


def receipts(run_uri: str) -> Iterator[Receipt]:
    """Yield the receipts of all committed parts in name order.

    Raises:
        OutputError: a part is lost, or its receipt cannot be read.
    """
    yield from open_ledger(run_uri).receipts()


def receipt_path(part: str) -> str:
    """Return the path that the receipt of a part has in a published run."""
    return f"{RECEIPTS}/{part}.arrow"


def part_of(path: str) -> str:
    """Return the name of the part of a receipt, from its path."""
    return path.rpartition("/")[2].removesuffix(".arrow")


def attempt_of(path: str) -> int:
    """Return the number of the attempt that wrote a staged receipt, from its name; 0 for another name."""
    named = re.fullmatch(r"part-[0-9a-f]+-(\d+)", part_of(path))
    return int(named[1]) if named else 0


def item_keys_of(receipt: Receipt) -> Keys:
    """Return the item key of every unit of a part."""
    return keys_of(receipt.units.column("item_key"))


def parse_receipt(uri: str, read: Callable[[], bytes]) -> Receipt:
    """Read and parse a receipt.

    Raises:
        OutputError: it is missing or damaged.
    """
    try:
        return receipt_from_arrow(read())
    except (FetchError, pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} is not a receipt: {error}; {DO}") from error


def _find_receipt(entry: Mapping[str, Any], numbers: Iterable[int], sizes: Mapping[str, int]) -> str | None:
    """Return where the receipt of a published part is: in its place, or staged if the publication was interrupted."""
    candidates = [entry["path"], *(f"{staging.folder_name(number)}/{entry['path']}" for number in numbers)]
    return next((path for path in candidates if sizes.get(path) == entry["bytes"]), None)
