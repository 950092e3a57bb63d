"""Reading a run by its receipts: what has no receipt does not exist."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.keys import Keys
from fsf_core.runs.folder import run_facts
from fsf_core.runs.key_arrays import keys_of
from fsf_core.runs.records import Receipt, receipt_from_arrow
from fsf_core.schema import TABLES


def receipts(run_uri: str) -> Iterator[Receipt]:
    """All committed parts in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    folder = storage.join(run_uri, "receipts")
    if not storage.exists(folder):
        return
    uris = [entry.uri for entry in storage.list_files(folder) if entry.relative.endswith(".arrow")]
    for uri, read in storage.read_prefetched(uris):
        yield _read_receipt(uri, read)


def item_keys_of(receipt: Receipt) -> Keys:
    """The item key of every unit of a part."""
    return keys_of(receipt.units.column("item_key"))


def failure_kinds(run_uri: str) -> Counter[str]:
    """How many failures there are of every error type."""
    return Counter(read_table(run_uri, "failures", columns=["error_type"]).column("error_type").to_pylist())


def read_table(run_uri: str, name: str, *, item_id: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """The committed rows of one table, part by part in name order.

    Args:
        run_uri: the run folder.
        name: masks, class_stats or failures.
        item_id: only the rows of this item.
        columns: only these columns.

    Raises:
        OutputError: no run is there, or a file of a receipt is missing.
    """
    run_facts(run_uri)
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
    """The receipt of one part.

    Raises:
        OutputError: it is not there, or damaged.
    """
    uri = receipt_uri(run_uri, part)
    return _read_receipt(uri, partial(storage.read_bytes, uri))


def read_part(run_uri: str, receipt: Receipt, name: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of one table in one part; `columns` alone, in that order, where they are given.

    Raises:
        OutputError: the file is missing or damaged.
    """
    uri = storage.join(run_uri, receipt.files[name]["path"])
    try:
        with storage.open_binary(uri) as file:
            table = pyarrow.parquet.ParquetFile(file).read(columns)
    except (FetchError, pa.ArrowException, OSError) as error:
        raise OutputError(
            f"{storage.redact(uri)} has a receipt but cannot be read: {error}; run `fsf verify`"
        ) from error
    return table.select(columns) if columns else table


def video_parts(run_uri: str) -> Iterator[Receipt]:
    """The parts that may have frames of videos."""
    return (receipt for receipt in receipts(run_uri) if receipt.timed_frames != 0 and receipt.frames)


def read_frames(
    run_uri: str, paths: Iterable[str], *, item_id: str, first: int, last: int, columns: list[str]
) -> Iterator[dict[str, Any]]:
    """Rows of the frames first to last (inclusive) of one video, part by part; memory holds a few of them.

    Args:
        run_uri: the run folder.
        paths: of masks tables inside the run, as receipts list them.
        item_id: the video.
        first: number of a frame.
        last: number of a frame.
        columns: what is wanted beside item_id and frame_index.

    Raises:
        OutputError: a file of a receipt is missing.
    """
    for path in paths:
        uri = storage.join(run_uri, path)
        try:
            with storage.open_binary(uri) as file:
                # Unbuffered it would hold a whole part, which may be gigabytes.
                parquet = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
                for batch in parquet.iter_batches(256, columns=["item_id", "frame_index", *columns]):
                    frames = batch.column("frame_index")
                    inside = pc.and_(pc.greater_equal(frames, first), pc.less_equal(frames, last))
                    chosen = batch.filter(pc.and_(pc.equal(batch.column("item_id"), item_id), inside))
                    yield from chosen.to_pylist()
        except (FetchError, pa.ArrowException, OSError) as error:
            raise OutputError(
                f"{storage.redact(uri)} has a receipt but cannot be read: {error}; run `fsf verify`"
            ) from error


def part_or_empty(run_uri: str, receipt: Receipt, name: str) -> pa.Table:
    """Return the rows of one table in one part; an empty table where the part has none."""
    return read_part(run_uri, receipt, name) if name in receipt.files else TABLES[name].empty_table()


def _read_receipt(uri: str, read: Callable[[], bytes]) -> Receipt:
    try:
        return receipt_from_arrow(read())
    except (FetchError, pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{storage.redact(uri)} is not a receipt: {error}; delete it, and its units are scored again"
        ) from error


def receipt_uri(run_uri: str, part: str) -> str:
    """Return where the receipt of a part lies."""
    return storage.join(run_uri, "receipts", f"{part}.arrow")
