"""Reading the tables of a run by its receipts: a part without a receipt does not exist."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.errors import OutputError
from fsf_core.runs.ledger import Ledger, open_ledger
from fsf_core.runs.parquet import open_parquet, read_checked
from fsf_core.runs.records import Receipt
from fsf_core.schema import PART_TABLES, complete

FRAME_BATCH_ROWS = 256
"""Rows of masks that are in memory while frames are searched."""

MAX_READS = 5
"""Times that a table is read again because its files were moved while it was read."""

READ_AGAIN_S = 0.1
"""Time between two of them."""

T = TypeVar("T")


def failure_kinds(ledger: Ledger) -> Counter[str]:
    """Count the failures by error type."""
    return Counter(table_of(ledger, "failures", columns=["error_type"]).column("error_type").to_pylist())


def failure_reasons(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the failures by stage and error type, the most frequent first.

    Returns:
        stage, error_type, units (images and segments of videos), and the least id of an item as example_item_id.
    """
    failures = table_of(ledger, "failures", columns=["stage", "error_type", "item_id"])
    groups = failures.group_by(["stage", "error_type"]).aggregate([("item_id", "count"), ("item_id", "min")])
    found = [
        {
            "stage": row["stage"],
            "error_type": row["error_type"],
            "units": row["item_id_count"],
            "example_item_id": row["item_id_min"],
        }
        for row in groups.to_pylist()
    ]
    return sorted(found, key=lambda each: (-each["units"], each["stage"], each["error_type"]))


def read_table(
    run_uri: str, name: str, *, item_id: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the committed rows of one table, part by part in name order.

    Example:
        >>> stats = read_table("runs/today", "class_stats", columns=["item_id", "class_name", "ratio"])

    Args:
        run_uri: the run folder, a local path or a URI.
        name: masks, class_stats, failures, confusion or regions.
        item_id: read only the rows of this item.
        columns: read only these columns, in this order.

    Returns:
        All rows in memory; to read a run that does not fit, use `open_run(uri).iter_batches(...)`.

    Raises:
        OutputError: there is no run, or a committed file is missing or damaged.
        ValueError: there is no table of this name.
    """
    require_table(name)
    return with_ledger(run_uri, lambda ledger: table_of(ledger, name, item_id=item_id, columns=columns))


def with_ledger(run_uri: str, read: Callable[[Ledger], T]) -> T:
    """Return what a function reads from the parts of a run; again if a job published the run meanwhile.

    Files that are moved while they are read cause an error once, damaged ones cause the same error twice.

    Raises:
        OutputError: there is no run, or a committed file is missing or damaged.
    """
    last = ""
    for _ in range(MAX_READS - 1):
        try:
            return read(open_ledger(run_uri))
        except OutputError as error:
            if str(error) == last:
                raise
            last = str(error)
            time.sleep(READ_AGAIN_S)
    return read(open_ledger(run_uri))


def table_of(
    ledger: Ledger, name: str, *, item_id: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the rows of one table from the parts of a ledger; arguments and errors as for `read_table`."""
    found = []
    for receipt in ledger.receipts():
        if name not in receipt.files:
            continue
        if item_id is None:
            found.append(read_part(ledger.uri, receipt, name, columns))
        elif item_id in receipt.units.column("item_id").to_pylist():
            part = read_part(ledger.uri, receipt, name, columns and [*dict.fromkeys(("item_id", *columns))])
            chosen = part.filter(pc.equal(part.column("item_id"), item_id))
            found.append(chosen.select(columns) if columns else chosen)
    if not found:
        empty = PART_TABLES[name].empty_table()
        return empty.select(columns) if columns else empty
    return pa.concat_tables(found, promote_options="default")


def read_part(
    run_uri: str, receipt: Receipt, name: str, columns: Sequence[str] | None = None, *, checked: bool = False
) -> pa.Table:
    """Read the rows of one table in one part.

    Args:
        run_uri: the run folder.
        receipt: of the part.
        name: of the table.
        columns: read only these, in this order.
        checked: whether the bytes of the file are compared with the receipt first; for rows that are copied elsewhere.

    Returns:
        The columns of this version; those that the part's version did not write hold nulls.

    Raises:
        OutputError: the file is missing or damaged.
    """
    wanted = None if columns is None else [*columns]
    if checked:
        with read_checked(run_uri, receipt.part, receipt.files[name]) as parquet:
            table = parquet.read(wanted, use_threads=False)
    else:
        with open_parquet(run_uri, receipt.files[name]["path"]) as parquet:
            table = parquet.read(wanted, use_threads=False)
    table = complete(table, PART_TABLES[name], columns)
    return table.select(columns) if columns else table


def video_parts(ledger: Ledger) -> Iterator[Receipt]:
    """Yield the parts that may hold frames of videos."""
    return (receipt for receipt in ledger.receipts() if receipt.timed_frames != 0 and receipt.frames)


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
            for batch in parquet.iter_batches(
                FRAME_BATCH_ROWS, columns=["item_id", "frame_index", *columns], use_threads=False
            ):
                frames = batch.column("frame_index")
                inside = pc.and_(pc.greater_equal(frames, first), pc.less_equal(frames, last))
                yield from batch.filter(pc.and_(pc.equal(batch.column("item_id"), item_id), inside)).to_pylist()


def require_table(name: str) -> None:
    """Refuse a name that is not a table of parts.

    Raises:
        ValueError: found / expected.
    """
    if name not in PART_TABLES:
        raise ValueError(f"table is {name!r}, expected one of {', '.join(PART_TABLES)}")


def part_or_empty(run_uri: str, receipt: Receipt, name: str, *, checked: bool = False) -> pa.Table:
    """Read the rows of one table in one part; an empty table where the part has none. Arguments as for `read_part`."""
    if name not in receipt.files:
        return PART_TABLES[name].empty_table()
    return read_part(run_uri, receipt, name, checked=checked)
