"""Reading a run by its receipts: a part without a receipt does not exist."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.keys import Keys
from fsf_core.runs.folder import files_below, read_run_json
from fsf_core.runs.key_arrays import keys_of
from fsf_core.runs.parquet import open_parquet
from fsf_core.runs.records import Receipt, receipt_from_arrow
from fsf_core.schema import TABLES

FRAME_BATCH_ROWS = 256
"""Rows of masks that are in memory while frames are searched."""


def receipts(run_uri: str) -> Iterator[Receipt]:
    """Yield the receipts of all committed parts in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    yield from read_receipts(run_uri, list_parts(run_uri))


def list_parts(run_uri: str) -> list[str]:
    """List the names of the committed parts, sorted."""
    folder = storage.join(run_uri, "receipts")
    names = (entry.relative for entry in files_below(folder, hidden=False))
    return [name.removesuffix(".arrow") for name in names if name.endswith(".arrow")]


def read_receipts(run_uri: str, parts: Iterable[str]) -> Iterator[Receipt]:
    """Yield the receipts of some parts in the given order; several are read at once.

    Raises:
        OutputError: a receipt is missing or damaged.
    """
    for uri, read in storage.read_prefetched([receipt_uri(run_uri, part) for part in parts]):
        yield _parse_receipt(uri, read)


def item_keys_of(receipt: Receipt) -> Keys:
    """Return the item key of every unit of a part."""
    return keys_of(receipt.units.column("item_key"))


def failure_kinds(run_uri: str) -> Counter[str]:
    """Count the failures by error type."""
    return Counter(read_table(run_uri, "failures", columns=["error_type"]).column("error_type").to_pylist())


def read_table(
    run_uri: str, name: str, *, item_id: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the committed rows of one table, part by part in name order.

    Example:
        >>> stats = read_table("runs/today", "class_stats", columns=["item_id", "class_name", "ratio"])

    Args:
        run_uri: the run folder, a local path or a URI.
        name: masks, class_stats or failures.
        item_id: read only the rows of this item.
        columns: read only these columns, in this order.

    Returns:
        All rows in memory; to read a run that does not fit, use `open_run(uri).iter_batches(...)`.

    Raises:
        OutputError: there is no run, or a committed file is missing or damaged.
        ValueError: there is no table of this name.
    """
    require_table(name)
    read_run_json(run_uri)
    found = []
    for receipt in receipts(run_uri):
        if name not in receipt.files:
            continue
        if item_id is None:
            found.append(read_part(run_uri, receipt, name, columns))
        elif item_id in receipt.units.column("item_id").to_pylist():
            part = read_part(run_uri, receipt, name, columns and [*dict.fromkeys(("item_id", *columns))])
            chosen = part.filter(pc.equal(part.column("item_id"), item_id))
            found.append(chosen.select(columns) if columns else chosen)
    if not found:
        empty = TABLES[name].empty_table()
        return empty.select(columns) if columns else empty
    return pa.concat_tables(found, promote_options="default")


def read_receipt(run_uri: str, part: str) -> Receipt:
    """Read the receipt of one part.

    Raises:
        OutputError: it is missing or damaged.
    """
    uri = receipt_uri(run_uri, part)
    return _parse_receipt(uri, partial(storage.read_bytes, uri))


def read_part(run_uri: str, receipt: Receipt, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of one table in one part; only `columns`, in that order, where given.

    Raises:
        OutputError: the file is missing or damaged.
    """
    with open_parquet(run_uri, receipt.files[name]["path"]) as parquet:
        table = parquet.read(None if columns is None else [*columns])
    return table.select(columns) if columns else table


def video_parts(run_uri: str) -> Iterator[Receipt]:
    """Yield the parts that may hold frames of videos."""
    return (receipt for receipt in receipts(run_uri) if receipt.timed_frames != 0 and receipt.frames)


def read_frames(
    run_uri: str, paths: Iterable[str], *, item_id: str, first: int, last: int, columns: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield rows of masks for frames `first` to `last` (inclusive) of one item; memory holds a few of them.

    Args:
        run_uri: the run folder.
        paths: masks tables inside the run, as receipts list them; the rows come in this order.
        item_id: the item.
        first: frame_index of the first frame.
        last: frame_index of the last frame.
        columns: columns to read besides item_id and frame_index.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    for path in paths:
        with open_parquet(run_uri, path, streamed=True) as parquet:
            for batch in parquet.iter_batches(FRAME_BATCH_ROWS, columns=["item_id", "frame_index", *columns]):
                frames = batch.column("frame_index")
                inside = pc.and_(pc.greater_equal(frames, first), pc.less_equal(frames, last))
                yield from batch.filter(pc.and_(pc.equal(batch.column("item_id"), item_id), inside)).to_pylist()


def require_table(name: str) -> None:
    """Refuse a name that is not a table of parts.

    Raises:
        ValueError: found / expected.
    """
    if name not in TABLES:
        raise ValueError(f"table is {name!r}, expected one of {', '.join(TABLES)}")


def part_or_empty(run_uri: str, receipt: Receipt, name: str) -> pa.Table:
    """Read the rows of one table in one part; an empty table where the part has none."""
    return read_part(run_uri, receipt, name) if name in receipt.files else TABLES[name].empty_table()


def receipt_uri(run_uri: str, part: str) -> str:
    """Return the URI of a part's receipt."""
    return storage.join(run_uri, "receipts", f"{part}.arrow")


def _parse_receipt(uri: str, read: Callable[[], bytes]) -> Receipt:
    """Read and parse a receipt.

    Raises:
        OutputError: it is missing or damaged.
    """
    try:
        return receipt_from_arrow(read())
    except (FetchError, pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{storage.redact(uri)} is not a receipt: {error}; delete it, and its units are scored again"
        ) from error
