"""The list of what is to be scored: read from a table, a text file, a folder or a glob, and checked.

Knows item ids, URIs and kinds. Opens no picture.
"""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.ids import item_keys
from fsf_core.schema import MASKS

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jxl",
))
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv",
))
# fmt: on
KINDS = ("image", "video")
BATCH_ROWS = 65_536
JSON_BYTES = 16 << 20
"""JSON Lines are parsed in pieces of this size, so that a long list never lies in memory whole."""

_NAMES_SHOWN = 5
_OWN = ("id", "uri", "kind")

ROWS = pa.schema([("item_id", pa.string()), ("uri", pa.string()), ("kind", pa.string())])
"""The columns that every batch of items begins with; a struct `extra` with the other columns may follow."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked list of items that can be read again and again."""

    uri: str
    items: int
    extra: pa.Schema
    """Pass-through columns: everything but id, uri and kind."""
    left_out: int
    """Files of a folder that are not media by name."""
    _read: Callable[[], Iterator[pa.Table]]

    def batches(self) -> Iterator[pa.Table]:
        """Tables of at most 65,536 items: item_id, uri (absolute), kind (null: by content), extra (struct)."""
        return self._read()


def open_manifest(uri: str) -> Manifest:
    """Read the whole list once and check it.

    Args:
        uri: Parquet, CSV/TSV, JSON Lines or text file of paths; a folder, a glob, or one media file.

    Raises:
        ManifestError: unreadable, empty, without a `uri` column, ids missing or not unique, an unknown kind.
    """
    uri = storage.absolute(uri)
    try:
        read, extra, left_out = _reader(uri)
        items = _check_ids(uri, read)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ManifestError(
            f"{storage.redact(uri)} is not a readable {_suffix(uri)} list: {error}; repair or replace it"
        ) from error
    if not items:
        hint = f" ({left_out} files are not media by name)" if left_out else ""
        raise ManifestError(f"{storage.redact(uri)} lists no items{hint}, expected at least one; check the path")
    return Manifest(uri=uri, items=items, extra=extra, left_out=left_out, _read=read)


def kind_by_name(uri: str) -> str | None:
    """What the name suggests: image, video, or nothing. A hint for planning; content decides."""
    suffix = _suffix(uri)
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _suffix(uri: str) -> str:
    return PurePosixPath(storage.without_query(uri)).suffix.lower()


Read = Callable[[], Iterator[pa.Table]]
Reader = tuple[Read, pa.Schema, int]
"""How to read the list, its pass-through columns, and how many files were left out."""


def _reader(uri: str) -> Reader:
    no_extra = pa.schema([])
    if _is_pattern(uri) and not storage.exists(uri):
        return _glob(uri), no_extra, 0
    if storage.is_folder(uri):
        read, left_out = _folder(uri)
        return read, no_extra, left_out
    if _suffix(uri) in {".txt", ".lst", ".list"}:
        return (lambda: _text(uri)), no_extra, 0
    if kind_by_name(uri):
        return _one(uri), no_extra, 0
    raw = _table_reader(uri)
    extra = _extra_columns(uri, next(raw()).schema)
    return (lambda: _normalised(uri, raw, extra)), extra, 0


def _is_pattern(uri: str) -> bool:
    return any(sign in storage.without_query(uri) for sign in "*?[")


def _extra_columns(uri: str, schema: pa.Schema) -> pa.Schema:
    """The pass-through columns of a table that has what it needs."""
    if "uri" not in schema.names:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {schema.names}, expected one named `uri`; rename the column"
        )
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise ManifestError(f"{storage.redact(uri)} has the columns {twice} more than once; rename or drop them")
    extra = pa.schema([_extra_field(field) for field in schema if field.name not in _OWN])
    taken = sorted({*extra.names} & {*MASKS.names})
    if taken:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {taken}, which the masks table has too; rename them, since all "
            "columns but id, uri and kind are passed through"
        )
    return extra


def _extra_field(field: pa.Field) -> pa.Field:
    """A pass-through column as it is written: values in plain types, and text where there is not a single value."""
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind)


def _table_reader(uri: str) -> Read:
    """How to read a table; its first batch is empty and shows the columns."""
    suffix = _suffix(uri)
    if suffix in {".parquet", ".pq"}:
        return lambda: _parquet(uri)
    if suffix in {".csv", ".tsv"}:
        delimiter = "\t" if suffix == ".tsv" else ","
        kinds = _csv_types(uri, delimiter)
        return lambda: _csv(uri, delimiter, kinds)
    if suffix in {".jsonl", ".ndjson", ".json"}:
        schema = _json_schema(uri)
        return lambda: _json(uri, schema)
    with storage.open_binary(uri):  # what is not there at all is said to be missing
        raise ManifestError(
            f"{storage.redact(uri)} has the suffix {suffix!r}, expected .parquet, .csv, .tsv, .jsonl, a .txt of paths, "
            "a folder, a glob or a media file; convert it, or rename it to what it is"
        )


def _parquet(uri: str) -> Iterator[pa.Table]:
    with storage.open_binary(uri) as file:
        parts = pyarrow.parquet.ParquetFile(file)
        yield parts.schema_arrow.empty_table()
        for batch in parts.iter_batches(batch_size=BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _csv(
    uri: str, delimiter: str, kinds: Mapping[str, pa.DataType], only: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Stream a CSV file; columns without a kind get the one that their first rows suggest."""
    with storage.open_binary(uri) as file:
        reader = pyarrow.csv.open_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            # Only text columns keep "" apart from null; without this an item named NA would lose its id.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds, include_columns=only, strings_can_be_null=False
            ),
        )
        yield reader.schema.empty_table()
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _csv_types(uri: str, delimiter: str) -> dict[str, pa.DataType]:
    """The type of every column; ids and URIs are text even where they look like numbers.

    Arrow goes by the first rows. A column whose later rows do not fit becomes a number, or else text.
    """
    text = dict.fromkeys(_OWN, pa.string())
    kinds = {field.name: field.type for field in next(_csv(uri, delimiter, text)).schema}
    if _fits(_csv(uri, delimiter, kinds)):
        return kinds
    return {name: _widened(uri, delimiter, name, kind) for name, kind in kinds.items()}


def _widened(uri: str, delimiter: str, name: str, suggested: pa.DataType) -> pa.DataType:
    kinds = (suggested, pa.int64(), pa.float64())
    return next((kind for kind in kinds if _fits(_csv(uri, delimiter, {name: kind}, only=[name]))), pa.string())


def _fits(tables: Iterator[pa.Table]) -> bool:
    try:
        return all(True for _ in tables)
    except pa.ArrowInvalid:
        return False


def _json(uri: str, schema: pa.Schema) -> Iterator[pa.Table]:
    yield schema.empty_table()
    for piece in _json_pieces(uri):
        yield from _slices(_parsed(piece, schema))


def _json_schema(uri: str) -> pa.Schema:
    """The columns of all pieces; a piece may lack some, or hold whole numbers where another has fractions."""
    schemas = [_parsed(piece).schema for piece in _json_pieces(uri)]
    plain = [pa.schema([field.with_type(_without_times(field.type)) for field in schema]) for schema in schemas]
    return pa.unify_schemas(plain or [pa.schema([("uri", pa.string())])], promote_options="permissive")


def _json_pieces(uri: str) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    rest = b""
    with storage.open_binary(uri) as file:
        while data := file.read(JSON_BYTES):
            lines, newline, rest = (rest + data).removeprefix(b"\xef\xbb\xbf").rpartition(b"\n")
            if lines.strip():
                yield lines + newline
    if rest.strip():
        yield rest


def _parsed(piece: bytes, schema: pa.Schema | None = None) -> pa.Table:
    return pyarrow.json.read_json(
        io.BytesIO(piece),
        read_options=pyarrow.json.ReadOptions(block_size=len(piece)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema),
    )


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Text stays text: Arrow takes an id such as 2024-01-01 for a time, and would write it in another way."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_times(field.type)) for field in kind])
    return kind


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(start, BATCH_ROWS)


def _normalised(uri: str, raw: Read, extra: pa.Schema) -> Iterator[pa.Table]:
    """Give every batch the common columns: ids as text, absolute URIs, checked kinds, the rest in one struct."""
    base = storage.parent(uri)
    for table in raw():
        if not table.num_rows:
            continue
        given = [text or "" for text in table.column("uri").cast(pa.string()).to_pylist()]
        ids = _text_column(table, "id", default=_names(uri, map(storage.redact, given)))
        kinds = _text_column(table, "kind", default=pa.nulls(len(given), pa.string()))
        columns = {
            "item_id": ids,
            "uri": pa.array([storage.absolute(text, base) if text else "" for text in given], pa.string()),
            "kind": _checked_kinds(uri, kinds),
        }
        if len(extra):
            rest = [table.column(field.name).cast(field.type).combine_chunks() for field in extra]
            columns["extra"] = pa.StructArray.from_arrays(rest, fields=list(extra))
        yield pa.table(columns)


def _text_column(table: pa.Table, name: str, *, default: pa.Array) -> pa.ChunkedArray:
    return table.column(name).cast(pa.string()) if name in table.column_names else pa.chunked_array([default])


def _checked_kinds(uri: str, kinds: pa.ChunkedArray) -> pa.ChunkedArray:
    kinds = pc.if_else(pc.equal(kinds, ""), None, kinds)
    unknown = sorted(set(pc.unique(kinds).to_pylist()) - {*KINDS, None})
    if unknown:
        raise ManifestError(
            f"{storage.redact(uri)} has the kinds {unknown[:_NAMES_SHOWN]}, expected image, video or nothing; correct "
            "the column, or rename it"
        )
    return kinds


def _listed(prefix: str, names: list[pa.Array]) -> Read:
    """A reader over names below a prefix. They are held in memory, because a second listing might differ."""

    def read() -> Iterator[pa.Table]:
        for ids in names:
            uris = pc.binary_join_element_wise(pa.scalar(prefix), ids, "")
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(ids), pa.string())}, schema=ROWS)

    return read


def _one(uri: str) -> Read:
    """A single media file; one that cannot be opened is a mistake in the command, not a bad item."""
    with storage.open_binary(uri):
        name = PurePosixPath(storage.without_query(uri)).name
    table = pa.table({"item_id": _names(uri, [name]), "uri": [uri], "kind": pa.nulls(1, pa.string())}, schema=ROWS)
    return lambda: iter([table])


def _folder(uri: str) -> tuple[Read, int]:
    """The media of a folder by their names below it, and how many other files there are."""
    prefix, names, left_out = uri, [], 0
    for entries in _batched(storage.list_files(uri)):
        media = [entry for entry in entries if kind_by_name(entry.relative)]
        left_out += len(entries) - len(media)
        if media:
            prefix = media[0].uri.removesuffix(media[0].relative)
            names.append(_names(uri, [entry.relative for entry in media]))
    return _listed(prefix, names), left_out


def _glob(pattern: str) -> Read:
    """Ids of a glob are paths below the folder before the first wildcard."""
    prefix = storage.join(storage.fixed_folder(pattern), "")
    found = (uri.removeprefix(prefix) for uri in storage.glob(pattern))
    return _listed(prefix, [_names(pattern, some) for some in _batched(found)])


def _text(uri: str) -> Iterator[pa.Table]:
    """One path or URI a line; empty lines and lines that start with # are left out. The line is the id."""
    base = storage.parent(uri)
    with storage.open_binary(uri) as file, io.TextIOWrapper(file, "utf-8-sig") as lines:
        for some in _batched(lines):
            given = [line.strip() for line in some if line.strip() and not line.lstrip().startswith("#")]
            ids = _names(uri, map(storage.redact, given))
            uris = pa.array([storage.absolute(line, base) for line in given], pa.string())
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(given), pa.string())}, schema=ROWS)


Each = TypeVar("Each")


def _batched(rows: Iterable[Each]) -> Iterator[list[Each]]:
    rest = iter(rows)
    while some := list(itertools.islice(rest, BATCH_ROWS)):
        yield some


def _names(uri: str, names: Iterable[str]) -> pa.Array:
    """Ids as Arrow text, which is UTF-8; names of files need not be."""
    try:
        return pa.array(list(names), pa.string())
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{storage.redact(uri)} holds {error.object!a}, expected names in UTF-8; rename the file"
        ) from error


def _check_ids(uri: str, read: Read) -> int:
    """Count the items and refuse missing and repeated ids; holds 16 bytes an item, not the ids."""
    keys, rows = [np.empty(0, "S16")], 0
    for table in read():
        ids = table.column("item_id").to_pylist()
        empty = next((row for row, text in enumerate(ids, rows) if not text), None)
        if empty is not None:
            raise ManifestError(
                f"{storage.redact(uri)} has no id in row {empty} (the first is 0), expected one in every row; fill the "
                "`id` column, or leave it out where every row has a uri"
            )
        keys.append(item_keys(ids))
        rows += len(ids)
    every = np.concatenate(keys)
    keys.clear()
    every.sort()
    repeated = np.unique(every[1:][every[1:] == every[:-1]])
    if len(repeated):
        names = _names_of(repeated[:_NAMES_SHOWN], read)
        raise ManifestError(
            f"{storage.redact(uri)} has {len(repeated)} ids more than once, e.g. {names}; ids must be unique: "
            "give an `id` column that tells the rows apart"
        )
    return rows


def _names_of(wanted: np.ndarray[Any, np.dtype[np.bytes_]], read: Read) -> list[str]:
    found: set[str] = set()
    for table in read():
        ids = table.column("item_id").to_pylist()
        found.update(np.asarray(ids, object)[np.isin(item_keys(ids), wanted)].tolist())
    return sorted(map(storage.redact, found))
