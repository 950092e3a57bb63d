"""Records of the ledger: parts and their receipts, completed work, totals."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core.keys import Keys, RowKeys
from fsf_core.runs.key_arrays import contain_items, items_of, sorted_unique
from fsf_core.schema import UNITS, conform


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The content of one committed part."""

    part: str
    files: Mapping[str, Mapping[str, Any]]
    """Table name to the path inside the run, rows, bytes and sha256 of its file. The path is where the file is now: in
    the folder of its table once it is published, and in the folder of an attempt before."""
    frames: int
    """Rows of masks."""
    failed_units: int
    pixels: tuple[int, ...]
    """Pixels of each class id over all frames of the part."""
    units: pa.Table
    """One row per unit, schema UNITS."""
    timed_frames: int | None = None
    """Frames that have a time, that is, frames of videos: a part without any need not be searched for videos. None in
    receipts of older versions."""
    attempt: int = 0
    """Number of the attempt that wrote the part; 0 in receipts of older versions."""
    token: str = ""
    """Part of the names of its files before they are published, new with every try of a task."""
    stored: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Bytes and sha256 of the receipt itself, where it was read from its file."""

    def published_path(self, table: str) -> str:
        """Return the path that the file of a table has in a published run."""
        return f"{table}/{self.part}.parquet"

    def staged_path(self, table: str) -> str:
        """Return the path that the file of a table has in the folder of an attempt."""
        return f"{table}/{self.part}.{self.token}.parquet"


@dataclass(frozen=True, kw_only=True)
class Completed:
    """Committed work, which a resumed job skips."""

    rows: RowKeys
    """Sorted row keys of the items whose every segment is committed."""
    segments: Mapping[bytes, frozenset[int]]
    """Item key to committed segments, for videos that are partly committed."""
    begun_rows: RowKeys
    """Sorted row keys of these videos."""
    lost: Mapping[str, str]
    """Parts whose files are missing or have another size, with the reason; their units are not committed."""

    @property
    def items(self) -> Keys:
        """Sorted keys of the items whose every segment is committed."""
        return sorted_unique([items_of(self.rows)])

    def items_of_several_rows(self) -> Keys:
        """Return the keys of the items that have units of more than one row; only unfinished runs have any."""
        items = items_of(sorted_unique([self.rows, self.begun_rows]))
        return np.asarray(items[1:][items[1:] == items[:-1]])

    def holds(self, item_keys: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return for each item whether all of it is committed."""
        return contain_items(self.rows, item_keys)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts of a run against its manifest."""

    missing_items: int
    """Items of the manifest that are not completely committed."""
    foreign_items: int
    """Items of the run that the manifest no longer lists."""
    failed_items: int
    """Items with at least one failed unit."""
    frames: int
    pixels: tuple[int, ...]
    """Pixels of each class id."""
    statistics: Mapping[str, Mapping[str, Any] | None]
    """For each of FRAME_FIGURES items, mean and quantiles over items; None where no item has it."""
    items_sha256: str
    """SHA-256 over the sorted keys and row digests of the manifest's items: equal for equal ids, addresses and
    pass-through columns, in any order and any format of the list."""


def receipt_to_arrow(receipt: Receipt) -> bytes:
    """Serialize a receipt: its units as an Arrow table, the rest as JSON in the schema's metadata.

    The JSON keys are names on disk and never change.
    """
    facts = {
        "part": receipt.part,
        "files": {
            table: {
                "path": receipt.published_path(table),
                **{name: file[name] for name in ("rows", "bytes", "sha256")},
            }
            for table, file in receipt.files.items()
        },
        "frames": receipt.frames,
        "failed_units": receipt.failed_units,
        "pixels": list(receipt.pixels),
        "timed_frames": receipt.timed_frames,
        "attempt": receipt.attempt,
        "token": receipt.token,
    }
    labelled = receipt.units.replace_schema_metadata({"fsf_receipt": json.dumps(facts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, labelled.schema) as writer:
        writer.write_table(labelled)
    return bytes(sink.getvalue().to_pybytes())


def receipt_from_arrow(data: bytes) -> Receipt:
    """Parse the file of a receipt."""
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    facts = json.loads(table.schema.metadata[b"fsf_receipt"])
    present = table.column_names
    for column in UNITS:
        if column.nullable and column.name not in present:  # a receipt of an older version
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return Receipt(
        part=facts["part"],
        files=facts["files"],
        frames=facts["frames"],
        failed_units=facts["failed_units"],
        pixels=tuple(facts["pixels"]),
        timed_frames=facts.get("timed_frames"),
        attempt=facts.get("attempt", 0),
        token=facts.get("token", ""),
        units=conform(table, UNITS),
        stored={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
    )
