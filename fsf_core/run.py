"""The ledger of a run: parts, receipts, resume, publication.

A part is the rows of some work units in every table. It exists when its receipt does: the receipt is written last, and
readers go by receipts. Knows files and keys; knows no pictures, no Ray.

    run.json                      what this run is: its fingerprint and its attempts
    masks/ class_stats/ failures/ part-<key>.parquet
    receipts/                     part-<key>.arrow: the units of the part, and the sha256 of its files
    manifest.json summary.json    the committed files and the totals, written at the end
    _SUCCESS                      written last of all
"""

import contextlib
import datetime as dt
import hashlib
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from fsf_core import lease, storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.ids import Keys, part_name
from fsf_core.schema import TABLES, UNITS, conform

LAYOUT_VERSION = 1
BUNDLE_FOLDER = "bundle"
"""Where a job that exports first keeps its bundle, inside the run."""

_NO_KEYS: Keys = np.empty(0, "S16")
_NO_SEGMENTS = np.empty(0, [("item", "S16"), ("segment", np.int32), ("segments", np.int32)])


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
class Done:
    """What need not be done again."""

    items: Keys
    """Keys of the items of which every segment is committed, sorted."""
    segments: Mapping[bytes, frozenset[int]]
    """Item key to committed segments, for videos that are partly done."""

    def holds(self, item_keys: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of these items are done."""
        return _among(self.items, item_keys)


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


def require_usable(uri: str) -> None:
    """Refuse a folder that holds something other than a run, or a store that takes no files.

    Raises:
        OutputError: found / expected / do.
        StorageError: the store refuses.
    """
    if not storage.is_local(uri):
        storage.require_writable(uri)
    if storage.exists(storage.join(uri, "run.json")):
        return
    if storage.is_local(uri) and storage.exists(uri) and not storage.is_folder(uri):
        raise OutputError(f"{uri} is a file, expected a folder; give another --out")
    # The bundle of a job that exports first is there before the run is.
    others = (entry for entry in _files(uri, hidden=False) if not entry.relative.startswith(f"{BUNDLE_FOLDER}/"))
    first = next(iter(others), None)
    if first is not None:
        raise OutputError(
            f"{storage.redact(uri)} holds {first.relative} and no run.json: it is not a run; give a new or empty folder"
        )


@contextlib.contextmanager
def open_run(uri: str, *, fingerprint: Mapping[str, Any], details: Mapping[str, Any]) -> Iterator[Run]:
    """Claim a folder for a run, new or resumed, for as long as the block lasts.

    Args:
        uri: the output folder.
        fingerprint: all that defines the result; a folder with another one is refused.
        details: what else is worth knowing of this attempt; never compared.

    Raises:
        OutputError: the folder holds something else, belongs to another run, or is in use by a running job.
    """
    require_usable(uri)
    with lease.held(uri):
        known = _known(uri)
        if known is not None:
            _refuse_other(uri, known["fingerprint"], dict(fingerprint))
        attempts = [*(known["attempts"] if known else []), {"started_at": _now(), **details}]
        run_id = known["run_id"] if known else f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        facts = {"layout": LAYOUT_VERSION, "run_id": run_id, "fingerprint": dict(fingerprint), "attempts": attempts}
        _write_json(storage.join(uri, "run.json"), facts)
        yield Run(uri=uri, run_id=run_id, attempt=len(attempts))


def commit(run_uri: str, tables: Mapping[str, pa.Table], units: pa.Table) -> Receipt:
    """Write one part: its files first, then the receipt that makes them exist.

    The name follows from the units, so a task that is done again finds its part there and leaves it. Only where fewer
    units failed this time is the part replaced, and then its receipt goes first: no receipt ever describes other bytes.

    Args:
        run_uri: the run folder.
        tables: rows by table name; an empty table writes no file. `failures` holds one row for every failed unit, in
            the order of the units.
        units: the units that these rows are all of, schema UNITS.

    Raises:
        StorageError: a file cannot be written; without the receipt the part does not exist.
    """
    units = conform(units, UNITS)
    failed_units = pc.sum(units.column("failed")).as_py() or 0
    assert tables["failures"].num_rows == failed_units
    part = part_name(units.column("unit_key").to_pylist())
    if storage.exists(_receipt_uri(run_uri, part)):
        there = read_receipt(run_uri, part)
        if there.failed_units <= failed_units:
            return there
        _drop(run_uri, there)
    files = {name: _write_table(run_uri, name, part, table) for name, table in sorted(tables.items()) if table.num_rows}
    receipt = Receipt(
        part=part,
        files=files,
        frames=tables["masks"].num_rows,
        failed_units=failed_units,
        pixels=_pixels_by_class(tables["class_stats"]),
        units=units,
        timed_frames=tables["masks"].num_rows - tables["masks"].column("pts_s").null_count,
    )
    storage.write_bytes(_receipt_uri(run_uri, part), _receipt_to_arrow(receipt), durable=True)
    return receipt


def join(run_uri: str, several: Sequence[Receipt]) -> Receipt:
    """One part in place of several. Killed in between, the run holds units twice, and settle removes them.

    Args:
        run_uri: the run folder.
        several: parts of good units, or parts of failed ones; never both, for failures are taken back part by part.
    """
    tables = {
        name: pa.concat_tables([_part_or_empty(run_uri, each, name) for each in several], promote_options="default")
        for name in TABLES
    }
    joined = commit(run_uri, tables, pa.concat_tables([each.units for each in several]))
    for each in several:
        if each.part != joined.part:
            _drop(run_uri, each)
    return joined


def receipts(run_uri: str) -> Iterator[Receipt]:
    """All committed parts in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    folder = storage.join(run_uri, "receipts")
    if not storage.exists(folder):
        return
    uris = [entry.uri for entry in storage.list_files(folder) if entry.relative.endswith(".arrow")]
    for uri, read in storage.read_ahead(uris):
        yield _read_receipt(uri, read)


def item_keys(receipt: Receipt) -> Keys:
    """The item key of every unit of a part."""
    return _keys(receipt.units.column("item_key"))


def fingerprint(run_uri: str) -> dict[str, Any]:
    """All that defines the results of a run, as it was given when the run was first opened.

    Raises:
        OutputError: no run is there.
    """
    return dict(_run_facts(run_uri)["fingerprint"])


def done(run_uri: str) -> Done:
    """What the receipts say is finished. Holds 16 bytes an image and 24 a segment, whatever the length of the ids."""
    whole, several = [_NO_KEYS], [_NO_SEGMENTS]
    for receipt in receipts(run_uri):
        single = pc.equal(receipt.units.column("segments"), 1)
        whole.append(_keys(receipt.units.column("item_key").filter(single)))
        several.append(_segments(receipt.units.filter(pc.invert(single))))
    finished, begun = _videos(np.concatenate(several))
    whole.append(finished)
    items = _in_order(whole)
    # A video that failed as a whole after some of its segments were done has nothing left to do.
    over = _among(items, _as_keys(begun))
    return Done(items=items, segments={key: begun[key] for key, ended in zip(begun, over, strict=True) if not ended})


def forget_failures(run_uri: str) -> dict[bytes, int]:
    """Take back the parts that hold failed units, so that these are tried again.

    Failed units are committed apart from good ones, so nothing good is taken back with them.

    Returns:
        Item key to how often it was tried.
    """
    tried: dict[bytes, int] = {}
    for receipt in receipts(run_uri):
        if receipt.failed_units:
            failures = read_part(run_uri, receipt, "failures", ["item_id", "attempts"]).to_pylist()
            keys = dict(zip(*(receipt.units.column(name).to_pylist() for name in ("item_id", "item_key")), strict=True))
            for row in failures:
                key = keys[row["item_id"]]
                tried[key] = max(tried.get(key, 0), row["attempts"])
            _drop(run_uri, receipt)
    return tried


def totals(run_uri: str, manifest_keys: Iterable[Keys]) -> Totals:
    """Count what the receipts hold against the items of a manifest."""
    finished = done(run_uri)
    known = _in_order([finished.items, _as_keys(finished.segments)])
    missing = listed = 0
    for keys in manifest_keys:
        missing += len(keys) - int(finished.holds(keys).sum())
        listed += int(_among(known, keys).sum())
    failed = [_NO_KEYS]
    frames, pixels = 0, np.zeros(0, np.int64)
    for receipt in receipts(run_uri):
        frames += receipt.frames
        size = max(len(pixels), len(receipt.pixels))
        pixels = np.pad(pixels, (0, size - len(pixels)))
        pixels[: len(receipt.pixels)] += np.asarray(receipt.pixels, np.int64)
        if receipt.failed_units:
            failed.append(_keys(receipt.units.column("item_key").filter(receipt.units.column("failed"))))
    return Totals(
        missing_items=missing,
        foreign_items=len(known) - listed,
        failed_items=len(_in_order(failed)),
        frames=frames,
        pixels=tuple(pixels.tolist()),
    )


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
    _run_facts(run_uri)
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
    uri = _receipt_uri(run_uri, part)
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


def unpublish(run_uri: str) -> None:
    """Take the mark of completion away before anything changes."""
    storage.remove(storage.join(run_uri, "_SUCCESS"))


def settle(run_uri: str) -> Counter[str]:
    """Leave every unit in exactly one part and no file without a receipt.

    Returns:
        How many `doubled_units` and `orphan_files` were removed.
    """
    removed: Counter[str] = Counter()
    # From the last part to the first: what is left of one may be the very part that a later one was.
    for receipt, repeated in reversed(_doubles(run_uri)):
        removed["doubled_units"] += int(repeated.sum())
        _without(run_uri, receipt, repeated)
    for path in _orphans(run_uri, hidden=True):
        storage.remove(storage.join(run_uri, path))
        removed["orphan_files"] += 1
    return removed


def publish(
    run_uri: str, summary: Mapping[str, Any], *, success: bool, others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the list of committed files and the totals, then the mark of completion.

    Args:
        run_uri: the run folder.
        summary: the totals.
        success: whether the run is complete.
        others: files that were made of the committed ones, as the list names them.
    """
    unpublish(run_uri)
    listed = [{"part": r.part, "table": table, **facts} for r in receipts(run_uri) for table, facts in r.files.items()]
    _write_json(storage.join(run_uri, "manifest.json"), {"layout": LAYOUT_VERSION, "files": [*listed, *others]})
    _write_json(storage.join(run_uri, "summary.json"), summary)
    if success:
        storage.write_bytes(storage.join(run_uri, "_SUCCESS"), b"", durable=True)


def verify(run_uri: str) -> list[str]:
    """Check every committed file against its receipt; returns what is wrong, in words.

    Raises:
        OutputError: no run is there, or a receipt cannot be read.
    """
    _run_facts(run_uri)
    wrong = [
        line
        for receipt in receipts(run_uri)
        for table, facts in receipt.files.items()
        for line in _wrong_with_file(run_uri, table, facts)
    ]
    wrong += [f"orphan: {path} has no receipt; it is not part of the run" for path in _orphans(run_uri, hidden=False)]
    for receipt, repeated in _doubles(run_uri):
        for unit in receipt.units.filter(pa.array(repeated)).to_pylist():
            which = f"segment {unit['segment']} of {unit['item_id']!r}"
            wrong.append(f"doubled: {which} is in {receipt.part} and in a part before it")
    finished = done(run_uri)
    wrong += _wrong_with_videos(run_uri, finished.segments)
    return wrong + _wrong_with_summary(run_uri, len(finished.items) + len(finished.segments))


def read_json(run_uri: str, name: str) -> dict[str, Any]:
    """One of the JSON documents of a run.

    Raises:
        OutputError: it is missing or damaged.
    """
    uri = storage.join(run_uri, name)
    try:
        return dict(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}; give the --out of a score job") from error


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


def _orphans(run_uri: str, *, hidden: bool) -> list[str]:
    """Files beside the parts that no receipt lists: what tasks left behind that died."""
    # The files first: a part that is committed in between must not look like an orphan.
    found = [
        f"{name}/{entry.relative}"
        for name in (*TABLES, "receipts")
        for entry in _files(storage.join(run_uri, name), hidden=hidden)
    ]
    listed: set[str] = set()
    for receipt in receipts(run_uri):
        listed.add(f"receipts/{receipt.part}.arrow")
        listed.update(facts["path"] for facts in receipt.files.values())
    return [path for path in found if path not in listed]


def _doubles(run_uri: str) -> list[tuple[Receipt, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """Parts that repeat units of a part before them in name order, and which of their units these are."""
    parts = [(receipt.part, _keys(receipt.units.column("unit_key"))) for receipt in receipts(run_uri)]
    keys = np.concatenate([_NO_KEYS, *(keys for _, keys in parts)])
    order = np.argsort(keys, kind="stable")
    repeated = np.zeros(len(keys), bool)
    repeated[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    ends = np.cumsum([len(keys) for _, keys in parts])
    by_part = {part: repeated[end - len(keys) : end] for (part, keys), end in zip(parts, ends, strict=True)}
    losers = {part: flags for part, flags in by_part.items() if flags.any()}
    return [(receipt, losers[receipt.part]) for receipt in receipts(run_uri) if receipt.part in losers]


def _without(run_uri: str, receipt: Receipt, unwanted: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Replace a part by one that lacks some units."""
    kept = receipt.units.filter(pa.array(~unwanted))
    if kept.num_rows:
        tables = {name: _rows_of(_part_or_empty(run_uri, receipt, name), kept) for name in ("masks", "class_stats")}
        failed = receipt.units.column("failed").to_numpy()
        tables["failures"] = _part_or_empty(run_uri, receipt, "failures").filter(pa.array(~unwanted[failed]))
        commit(run_uri, tables, kept)
    _drop(run_uri, receipt)


def _rows_of(table: pa.Table, units: pa.Table) -> pa.Table:
    """The rows of frames that belong to these units."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for unit in units.to_pylist():
        if unit["frames"]:
            spans[unit["item_id"]].append((unit["first_frame"], unit["last_frame"]))
    rows = zip(table.column("item_id").to_pylist(), table.column("frame_index").to_pylist(), strict=True)
    keep = [any(first <= frame <= last for first, last in spans.get(item_id, ())) for item_id, frame in rows]
    return table.filter(pa.array(keep, pa.bool_()))


def _part_or_empty(run_uri: str, receipt: Receipt, name: str) -> pa.Table:
    return read_part(run_uri, receipt, name) if name in receipt.files else TABLES[name].empty_table()


def _drop(run_uri: str, receipt: Receipt) -> None:
    """The receipt goes first: from then on the part does not exist, whatever happens to its files."""
    unpublish(run_uri)
    storage.remove(_receipt_uri(run_uri, receipt.part))
    for facts in receipt.files.values():
        storage.remove(storage.join(run_uri, facts["path"]))


def _write_table(run_uri: str, name: str, part: str, table: pa.Table) -> dict[str, Any]:
    small = [column for column in table.column_names if column != "mask"]
    sink = pa.BufferOutputStream()
    # PNG streams neither compress nor repeat, and their minimum and maximum help nobody.
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=small, write_statistics=small)
    data = sink.getvalue().to_pybytes()
    path = f"{name}/{part}.parquet"
    storage.write_bytes(storage.join(run_uri, path), data, durable=True)
    return {"path": path, "rows": table.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _receipt_to_arrow(receipt: Receipt) -> bytes:
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


def _receipt_from_arrow(data: bytes) -> Receipt:
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


def _read_receipt(uri: str, read: Callable[[], bytes]) -> Receipt:
    try:
        return _receipt_from_arrow(read())
    except (FetchError, pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{storage.redact(uri)} is not a receipt: {error}; delete it, and its units are scored again"
        ) from error


def _receipt_uri(run_uri: str, part: str) -> str:
    return storage.join(run_uri, "receipts", f"{part}.arrow")


def _pixels_by_class(stats: pa.Table) -> tuple[int, ...]:
    if not stats.num_rows:
        return ()
    ids = stats.column("class_id").to_numpy()
    pixels = np.zeros(int(ids.max()) + 1, np.int64)
    np.add.at(pixels, ids, stats.column("pixels").to_numpy())
    return tuple(pixels.tolist())


def _keys(column: pa.ChunkedArray) -> Keys:
    """A binary(16) column as an array of S16, without a Python object for every row."""
    chunks = [_NO_KEYS]
    for chunk in column.chunks:
        if len(chunk):
            start = chunk.offset * 16
            chunks.append(np.frombuffer(chunk.buffers()[1], "S16", count=len(chunk), offset=start))
    return np.concatenate(chunks)


def _as_keys(keys: Iterable[bytes]) -> Keys:
    return np.asarray([*keys], "S16")


def _in_order(parts: list[Keys]) -> Keys:
    """All keys sorted, each once; takes the parts out of the list, so that they do not stay in memory beside it."""
    every = np.concatenate(parts)
    parts.clear()
    every.sort()  # np.unique goes by hashes since NumPy 2.3: 26 s instead of 7 s for 9 million keys
    again = every[1:] == every[:-1]
    return every[np.concatenate([[True], ~again])] if again.any() else every


def _among(every: Keys, keys: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the keys are in a sorted array."""
    if not len(every):
        return np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(every, keys), len(every) - 1)
    return np.asarray(every[at] == keys)


def _segments(units: pa.Table) -> NDArray[np.void]:
    found = np.empty(units.num_rows, _NO_SEGMENTS.dtype)
    found["item"] = _keys(units.column("item_key"))
    for name in ("segment", "segments"):
        found[name] = units.column(name).to_numpy()
    return found


def _videos(units: NDArray[np.void]) -> tuple[Keys, dict[bytes, frozenset[int]]]:
    """Items of which every segment is there, sorted, and the segments of the others."""
    units = units[np.lexsort((units["segment"], units["item"]))]
    same = (units["item"][1:] == units["item"][:-1]) & (units["segment"][1:] == units["segment"][:-1])
    units = units[~np.concatenate([[False], same])[: len(units)]]
    items, first, counts = np.unique(units["item"], return_index=True, return_counts=True)
    whole = counts == units["segments"][first]
    # As void: NumPy would cut zero bytes off the end of a key.
    keys = np.ascontiguousarray(items[~whole]).view("V16").tolist()
    begun = {
        key: frozenset(units["segment"][start : start + count].tolist())
        for key, start, count in zip(keys, first[~whole], counts[~whole], strict=True)
    }
    return items[whole], begun


def _files(folder: str, *, hidden: bool) -> Iterable[storage.Entry]:
    return storage.list_files(folder, hidden=hidden) if storage.exists(folder) else ()


def _known(uri: str) -> dict[str, Any] | None:
    """What run.json says, or None where no run was begun."""
    if not storage.exists(storage.join(uri, "run.json")):
        return None
    known = read_json(uri, "run.json")
    if known.get("layout") != LAYOUT_VERSION:
        raise OutputError(
            f"{storage.redact(uri)} has run layout {known.get('layout')}, this program writes {LAYOUT_VERSION}; "
            "give another --out"
        )
    return known


def _run_facts(run_uri: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        OutputError: no run was begun there.
    """
    known = _known(run_uri)
    if known is None:
        raise OutputError(
            f"{storage.redact(run_uri)} holds no run (run.json is missing); give the --out of a score job"
        )
    return known


def _refuse_other(uri: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    new = json.loads(json.dumps(new))
    changed = [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]
    if changed:
        raise OutputError(
            f"{storage.redact(uri)} is another run ({'; '.join(changed)}); give another --out or the old settings"
        )


@contextlib.contextmanager
def held_finished(uri: str) -> Iterator[None]:
    """Keep jobs out of a finished run for as long as the block lasts.

    Raises:
        OutputError: no run is there, it has not finished, or a job is at it.
    """
    if _known(uri) is None or not storage.exists(storage.join(uri, "_SUCCESS")):
        raise OutputError(
            f"{storage.redact(uri)} holds no finished run (_SUCCESS is missing); start the command that began it again"
        )
    with lease.held(uri):
        yield


def _write_json(uri: str, facts: Mapping[str, Any]) -> None:
    storage.write_bytes(uri, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(), durable=True)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
