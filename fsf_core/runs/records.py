"""What the ledger of a run says: parts and their receipts, what is done, the totals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core.keys import Keys
from fsf_core.runs.key_arrays import contained
from fsf_core.schema import UNITS, conform


@dataclass(frozen=True, kw_only=True)
class Run:
    """An output folder that this process may write to."""

    uri: str
    run_id: str
    """Made when the folder was first used; a resumed run keeps it."""
    attempt: int
    """How often this run was started, counting this start."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What one committed part holds."""

    part: str
    files: Mapping[str, Mapping[str, Any]]
    """Table name to path (inside the run), rows, bytes and sha256."""
    frames: int
    failed_units: int
    pixels: tuple[int, ...]
    """Pixels of each class over all frames of the part."""
    units: pa.Table
    """Schema UNITS."""
    timed_frames: int | None = None
    """How many frames are a video's, so that nobody need look for films among pictures; None of an older version."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What need not be done again."""

    items: Keys
    """Keys of the items of which every segment is committed, sorted."""
    segments: Mapping[bytes, frozenset[int]]
    """Item key to committed segments, for videos that are partly done."""

    def holds(self, item_keys: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of these items are done."""
        return contained(self.items, item_keys)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The books of a run against its manifest."""

    missing_items: int
    """Items of the manifest that are not finished."""
    foreign_items: int
    """Items of the run that the manifest no longer lists."""
    failed_items: int
    """Items with at least one failed unit."""
    frames: int
    pixels: tuple[int, ...]
    """Pixels of each class."""


def receipt_to_arrow(receipt: Receipt) -> bytes:
    """Return the file of a receipt: its units as an Arrow table, the rest as JSON in the schema's metadata.

    The keys are names on disk: they stay, whatever the fields are called.
    """
    facts = {
        "part": receipt.part,
        "files": {
            table: {name: file[name] for name in ("path", "rows", "bytes", "sha256")}
            for table, file in receipt.files.items()
        },
        "frames": receipt.frames,
        "failed_units": receipt.failed_units,
        "pixels": list(receipt.pixels),
        "timed_frames": receipt.timed_frames,
    }
    labelled = receipt.units.replace_schema_metadata({"fsf_receipt": json.dumps(facts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, labelled.schema) as writer:
        writer.write_table(labelled)
    return bytes(sink.getvalue().to_pybytes())


def receipt_from_arrow(data: bytes) -> Receipt:
    """Read a receipt out of its file."""
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    facts = json.loads(table.schema.metadata[b"fsf_receipt"])
    return Receipt(
        part=facts["part"],
        files=facts["files"],
        frames=facts["frames"],
        failed_units=facts["failed_units"],
        pixels=tuple(facts["pixels"]),
        timed_frames=facts.get("timed_frames"),
        units=conform(table, UNITS),
    )
