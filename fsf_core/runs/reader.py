"""Reading a run from Python: its tables as Arrow, its masks as NumPy arrays.

Everything is read by receipts, so a run can be read while it is being written. Knows no Ray and no model.
"""

import contextlib
import difflib
import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import ItemNotFoundError, OutputError
from fsf_core.keys import Keys, item_key
from fsf_core.masks import ClassMap
from fsf_core.runs import video_stats
from fsf_core.runs.folder import is_finished, read_document, read_run_json
from fsf_core.runs.key_arrays import as_keys, contained
from fsf_core.runs.latest import find_run
from fsf_core.runs.ledger import Ledger, item_keys_of, open_ledger
from fsf_core.runs.mask_files import class_map_of
from fsf_core.runs.parquet import open_parquet
from fsf_core.runs.reading import read_frames, read_table, require_table, table_of, with_ledger
from fsf_core.runs.records import Receipt
from fsf_core.safe_text import printable
from fsf_core.schema import PART_TABLES, VIDEO_STATS, complete

TableName = Literal["masks", "class_stats", "failures", "confusion", "regions"]

T = TypeVar("T")

IDS_COMPARED = 10_000
"""Ids of the run that are compared letter by letter with an id that was not found."""

MIN_SIMILARITY = 0.7
"""Share of equal letters, 0 to 1, from which on an id counts as similar."""

IDS_SHOWN = 3
"""Similar ids that such a message names."""


def open_run(uri: str) -> "RunReader":
    """Open a run for reading: finished or not, on a disk or in a bucket.

    Example:
        >>> run = open_run("runs/today")
        >>> run.class_stats(columns=["item_id", "class_name", "ratio"]).to_pandas()
        >>> run.mask("orchard/img236.jpg")  # uint8, H×W: the class of every pixel

    Args:
        uri: the --out of a score job: a path, or a URI such as s3://bucket/runs/today; s3://bucket/runs/latest is the
            newest finished run of a series.

    Raises:
        OutputError: there is no run, or it has a layout that this version does not read.
        StorageError: the store refuses.
    """
    uri = find_run(uri)
    return RunReader(uri, read_run_json(uri))


def read_ledger(ledger: Ledger) -> "RunReader":
    """Return a reader of the parts of a ledger, as a job reads what it is about to publish.

    Args:
        ledger: reconciled; it may not change while the reader is used.
    """
    return RunReader(ledger.uri, read_run_json(ledger.uri), ledger=ledger)


class RunReader:
    """A run opened with `open_run`.

    Each call reads what is committed at that moment; nothing is kept open. Of a finished run that is what manifest.json
    lists. While a job is running, a retried unit may be in the tables twice: the job removes duplicates at its end.
    """

    def __init__(self, uri: str, run_json: dict[str, Any], *, ledger: Ledger | None = None) -> None:
        self.uri: str = uri
        """The run folder."""
        self.run_id: str = run_json["run_id"]
        """Id of the run, as in the column run_id; a resumed run keeps it."""
        self.classes: tuple[str, ...] = tuple(run_json["fingerprint"]["classes"])
        """Class names in the order of the class ids."""
        self.palette: tuple[tuple[int, int, int], ...] = tuple(
            (red, green, blue) for red, green, blue in run_json["fingerprint"]["palette"]
        )
        """RGB colour of each class, 0 to 255: `np.uint8(run.palette)[run.mask(item)]` is an RGB image."""
        self._keys_by_part: dict[str, Keys] = {}
        """Sorted item keys of the parts whose receipts were read; 16 bytes per work unit."""
        self._ledger = ledger
        """What is read; None for what is committed at each call."""

    @property
    def finished(self) -> bool:
        """Whether the run is complete: every item has a result or a failure. Looked up at each access."""
        return is_finished(self.uri)

    @property
    def summary(self) -> dict[str, Any] | None:
        """The totals of summary.json, or None until the run has finished. Read at each access."""
        return read_document(self.uri, "summary.json") if self.finished else None

    def masks(self, *, columns: Sequence[str] | None = None, item_id: str | None = None) -> pa.Table:
        """Read the table masks: one row per scored frame.

        The column mask holds a PNG per row; leave it out of `columns`, or use `iter_batches`, for large runs.

        Args:
            columns: read only these columns, in this order.
            item_id: read only the rows of this item.

        Raises:
            OutputError: a committed file is missing or damaged.
        """
        return self._table("masks", item_id, columns)

    def class_stats(self, *, columns: Sequence[str] | None = None, item_id: str | None = None) -> pa.Table:
        """Read the table class_stats: one row per scored frame and class. Arguments and errors as for `masks`."""
        return self._table("class_stats", item_id, columns)

    def failures(self, *, columns: Sequence[str] | None = None, item_id: str | None = None) -> pa.Table:
        """Read the table failures: one row per failed item or video segment. Arguments and errors as for `masks`."""
        return self._table("failures", item_id, columns)

    def confusion(self, *, columns: Sequence[str] | None = None, item_id: str | None = None) -> pa.Table:
        """Read the table confusion: pixels by label class and predicted class of every labelled item.

        Arguments and errors as for `masks`; no rows for a run without labels.
        """
        return self._table("confusion", item_id, columns)

    def regions(self, *, columns: Sequence[str] | None = None, item_id: str | None = None) -> pa.Table:
        """Read the table regions: one row per connected region of a class other than 0.

        Arguments and errors as for `masks`; no rows for a run without --regions.
        """
        return self._table("regions", item_id, columns)

    def _table(self, name: str, item_id: str | None, columns: Sequence[str] | None) -> pa.Table:
        if self._ledger is None:
            return read_table(self.uri, name, item_id=item_id, columns=columns)
        return table_of(self._ledger, name, item_id=item_id, columns=columns)

    def _open_ledger(self) -> Ledger:
        return self._ledger or open_ledger(self.uri)

    def _with_ledger(self, read: Callable[[Ledger], T]) -> T:
        return read(self._ledger) if self._ledger else with_ledger(self.uri, read)

    def video_stats(self) -> pa.Table:
        """Read the class ratios of every video per second; no rows for a run without videos.

        Raises:
            OutputError: the run has not finished, which is when the table is written; or the table is damaged.
        """
        if not self.finished:
            raise OutputError(
                f"{storage.redact(self.uri)} has not finished, expected a finished run: video_stats is written at its "
                "end; start the score command again, or read class_stats and the column pts_s of masks"
            )
        if not video_stats.manifest_entries(self.uri):
            return VIDEO_STATS.empty_table()
        with open_parquet(self.uri, video_stats.PATH) as parquet:
            return parquet.read(use_threads=False)

    def iter_batches(
        self, table: TableName, *, columns: Sequence[str] | None = None, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Read a table in batches, for runs that do not fit in memory.

        Example:
            >>> for batch in run.iter_batches("masks", columns=["item_id", "mask"]):
            ...     for row in batch.to_pylist():
            ...         Path(f"{row['item_id']}.png").write_bytes(row["mask"]["bytes"])

        Args:
            table: masks, class_stats, failures, confusion or regions.
            columns: read only these columns, in this order.
            batch_rows: maximum rows per batch.

        Raises:
            OutputError: a committed file is missing or damaged.
            ValueError: there is no table of this name.
        """
        require_table(table)
        return self._iter_batches(table, None if columns is None else [*columns], batch_rows)

    def _iter_batches(self, table: str, columns: list[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table part by part."""
        for part in self._open_ledger().parts:
            opened = self._with_ledger(partial(self._open_table, part, table))
            if opened is not None:
                stack, parquet = opened
                with stack:
                    for batch in parquet.iter_batches(batch_rows, columns=columns, use_threads=False):
                        whole = complete(batch, PART_TABLES[table], columns)
                        yield whole if columns is None else whole.select(columns)

    def _open_table(
        self, part: str, table: str, ledger: Ledger
    ) -> tuple[contextlib.ExitStack, pyarrow.parquet.ParquetFile] | None:
        """Open a table of a part, wherever its file is now; return None where the part has no rows of it.

        Raises:
            OutputError: the part is damaged, or was replaced since it was listed.
        """
        receipt = next(ledger.receipts([part]), None)
        if receipt is None and ledger is self._ledger:
            return None  # failures that this job has tried again
        if receipt is None:
            raise OutputError(f"{storage.redact(self.uri)} was published again while it was read; read the table again")
        if table not in receipt.files:
            return None
        stack = contextlib.ExitStack()
        return stack, stack.enter_context(open_parquet(self.uri, receipt.files[table]["path"], streamed=True))

    def mask(self, item_id: str, frame: int = 0) -> ClassMap:
        """Read one mask as a class map.

        The first call reads all receipts, to know which part holds which item; later calls read only new ones.

        Args:
            item_id: id of an image or video.
            frame: frame_index of a video's frame, counted in the source; 0 for an image.

        Returns:
            The class id of every pixel, H×W: uint8, or uint16 with more than 255 classes.

        Raises:
            ItemNotFoundError: the run has no mask of this item or frame; the message names similar ids, the frames
                that exist, or the failure.
            OutputError: a committed file is missing or damaged.
        """
        found = self._with_ledger(lambda ledger: self._find_mask(ledger, item_id, frame))
        if found is None:
            self._raise_not_found(item_id, frame)
        return class_map_of(self.uri, found)

    def _find_mask(self, ledger: Ledger, item_id: str, frame: int) -> dict[str, Any] | None:
        """Return the cell of the column `mask` of a frame, or None."""
        self._index_receipts(ledger)
        key = as_keys([item_key(item_id)])
        for receipt in ledger.receipts([part for part, keys in self._keys_by_part.items() if contained(keys, key)[0]]):
            if not _may_hold(receipt, item_id, frame):
                continue
            rows = read_frames(
                self.uri, [receipt.files["masks"]["path"]], item_id=item_id, first=frame, last=frame, columns=["mask"]
            )
            for row in rows:
                return dict(row["mask"])
        return None

    def _index_receipts(self, ledger: Ledger) -> None:
        """Index the parts that were committed since the last call, and forget those that are gone."""
        kept = {part: self._keys_by_part[part] for part in ledger.parts if part in self._keys_by_part}
        new = ledger.receipts([part for part in ledger.parts if part not in kept])
        self._keys_by_part = kept | {receipt.part: np.sort(item_keys_of(receipt)) for receipt in new}

    def _raise_not_found(self, item_id: str, frame: int) -> NoReturn:
        """Raise the error that says why there is no such mask.

        Raises:
            ItemNotFoundError: always.
        """
        run = storage.redact(self.uri)
        state = "" if self.finished else "; the run has not finished, so it may be scored later"
        failures = self.failures(item_id=item_id).to_pylist()
        frames = self.masks(columns=["frame_index"], item_id=item_id).column("frame_index")
        if len(frames):
            first, last = pc.min_max(frames).as_py().values()
            expected = (
                f"frame {first}" if first == last else f"one of {len(frames)} scored frames from {first} to {last}"
            )
            raise ItemNotFoundError(
                f"item {item_id!r} has no frame {frame} in {run}, expected {expected}; see the column frame_index of "
                f"masks(item_id=...){state}"
            )
        if failures:
            reason = f"{failures[0]['error_type']}: {failures[0]['error_message']}"
            raise ItemNotFoundError(
                f"item {item_id!r} has no mask in {run}, expected a scored item; it failed in {failures[0]['stage']} "
                f"({reason})"
            )
        similar = self._similar_ids(item_id)
        hint = f"similar ids: {', '.join(map(repr, similar))}" if similar else "see the column item_id of masks()"
        raise ItemNotFoundError(f"no item {item_id!r} in {run}, expected the id of a scored item; {hint}{state}")

    def _similar_ids(self, item_id: str) -> list[str]:
        """Return ids like this one: first those that end with it, then those that are spelled alike."""
        # The whole id, or its file name without suffix, behind a slash or at the beginning.
        pattern = rf"(^|/){re.escape(item_id)}(\.[^./]*)?$"
        ending: list[str] = []
        compared: dict[str, None] = {}
        for receipt in self._open_ledger().receipts():
            ids = pc.unique(receipt.units.column("item_id"))
            ending += ids.filter(pc.match_substring_regex(ids, pattern)).to_pylist()
            compared |= dict.fromkeys(ids[: max(0, IDS_COMPARED - len(compared))].to_pylist())
        alike = difflib.get_close_matches(item_id, compared, n=IDS_SHOWN, cutoff=MIN_SIMILARITY)
        return [*itertools.islice(dict.fromkeys([*ending, *alike]), IDS_SHOWN)]

    def __repr__(self) -> str:
        return f"<RunReader {self.run_id} at {printable(storage.redact(self.uri))}, {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        """Return the run as an HTML table for notebooks: its state, and colour and pixel share of every class."""
        summary = self.summary
        if summary is None:
            state, ratios = "not finished", {}
        else:
            items = summary["items"]
            state = f"{items['scored']:,} items scored, {items['failed']:,} failed, {summary['frames']:,} frames"
            ratios = {each["id"]: each["ratio"] for each in summary["classes"]}
        rows = "".join(
            f'<tr><td style="background:rgb{colour}">&emsp;</td><td>{class_id}</td><td>{_as_html(name)}</td>'
            f"<td>{f'{ratios[class_id]:.2%}' if class_id in ratios else ''}</td></tr>"
            for class_id, (name, colour) in enumerate(zip(self.classes, self.palette, strict=True))
        )
        return (
            f"<b>{_as_html(self.run_id)}</b> <code>{_as_html(storage.redact(self.uri))}</code><br>{state}"
            f"<table><tr><th></th><th>id</th><th>class</th><th>pixels</th></tr>{rows}</table>"
        )


def _as_html(text: str) -> str:
    return html.escape(printable(text))


def _may_hold(receipt: Receipt, item_id: str, frame: int) -> bool:
    """Return whether a unit of the part covers this frame of the item."""
    units = receipt.units.filter(pc.equal(receipt.units.column("item_id"), item_id)).to_pylist()
    return any(unit["frames"] and unit["first_frame"] <= frame <= unit["last_frame"] for unit in units)
