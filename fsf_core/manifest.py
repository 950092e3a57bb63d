"""The list of what is to be scored: read from a table, a text file, a folder or a glob, and checked.

Knows item ids, URIs and kinds. Opens no picture.
"""

import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from fsf_core import members, storage, where
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.ids import Keys, item_keys
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
_NO_EXTRA = pa.schema([])

ROWS = pa.schema([("item_id", pa.string()), ("uri", pa.string()), ("kind", pa.string())])
"""The columns that every batch of items begins with; a struct `extra` with the other columns may follow."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which items of a list are meant; in this order."""

    where: str | None = None
    """A condition on the columns."""
    shard: tuple[int, int] | None = None
    """Number i of n, from 1: the items fall to the shards by a hash of their ids."""
    sample: float | None = None
    """Share of the items, 0 to 1, chosen by a hash of their ids."""
    sample_seed: int = 0
    """Another seed, another sample."""
    limit: int | None = None
    """The first so many."""

    def facts(self) -> dict[str, Any]:
        """What is chosen, without what is left open."""
        chosen = {"where": self.where, "shard": self.shard and list(self.shard), "sample": self.sample}
        chosen |= {"sample_seed": self.sample_seed if self.sample is not None else None, "limit": self.limit}
        return {name: value for name, value in chosen.items() if value is not None}


EVERYTHING = Selection()


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


def open_manifest(uri: str, selection: Selection = EVERYTHING) -> Manifest:
    """Read the whole list once and check it.

    Args:
        uri: Parquet, CSV/TSV, JSON Lines or text file of paths; a folder of Parquet files or of media, a glob, or one
            media file.
        selection: which of its items are meant; the others are not checked.

    Raises:
        ManifestError: unreadable, empty, without a `uri` column, ids missing or not unique, an unknown kind.
        ConfigError: the condition does not fit the columns.
    """
    uri = storage.absolute(uri)
    condition = where.parse(selection.where) if selection.where else None
    try:
        every, extra, left_out = _reader(uri, condition)
        read = _selected(every, selection)
        items = _check_ids(uri, read)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ManifestError(
            f"{storage.redact(uri)} is not a readable {_suffix(uri)} list: {error}; repair or replace it"
        ) from error
    if not items:
        hint = f" ({left_out} files are not media by name)" if left_out else ""
        chosen = f" under {selection.facts()}" if selection.facts() else ""
        raise ManifestError(
            f"{storage.redact(uri)} lists no items{chosen}{hint}, expected at least one; check the path"
            + (" and the selection" if chosen else "")
        )
    return Manifest(uri=uri, items=items, extra=extra, left_out=left_out, _read=read)


def whole_addresses(listed: Manifest, items: Collection[str]) -> dict[str, str]:
    """Item id to URI of those of some items whose address holds a credential, which no table of a run does."""
    wanted = pa.array(sorted(items), pa.string())
    found: dict[str, str] = {}
    for batch in listed.batches() if items else ():
        rows = batch.select(["item_id", "uri"]).filter(pc.is_in(batch.column("item_id"), wanted)).to_pylist()
        found |= {row["item_id"]: row["uri"] for row in rows if storage.redact(row["uri"]) != row["uri"]}
    return found


def kind_by_name(uri: str) -> str | None:
    """What the name suggests: image, video, or nothing. A hint for planning; content decides."""
    suffix = _suffix(uri)
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _suffix(uri: str) -> str:
    return PurePosixPath(storage.without_query(uri)).suffix.lower()


Read = Callable[[], Iterator[pa.Table]]
Reader = tuple[Read, pa.Schema, int]
"""How to read the list, its pass-through columns, and how many files were left out."""


def _reader(uri: str, condition: where.Condition | None) -> Reader:
    if _is_pattern(uri) and not storage.exists(uri):
        return _filtered(_glob(uri), condition), _NO_EXTRA, 0
    if storage.is_folder(uri):
        return _folder_reader(uri, condition)
    plain = _plain(uri)
    if plain is not None:
        return _filtered(plain, condition), _NO_EXTRA, 0
    return _table(uri, storage.parent(uri), _table_reader(uri), condition)


def _plain(uri: str) -> Read | None:
    """How to read a file that has no columns of its own; None where it is a table."""
    suffix = _suffix(uri)
    if suffix in {".txt", ".lst", ".list"}:
        return lambda: _text(uri)
    if suffix == ".tar":
        return _tars(uri, [""])
    return _one(uri) if kind_by_name(uri) else None


def _folder_reader(uri: str, condition: where.Condition | None) -> Reader:
    """The media of a folder; where it has none, its Parquet files, or else its tar archives."""
    read, left_out = _folder(uri)
    if next(read(), None) is not None:
        return _filtered(read, condition), _NO_EXTRA, left_out
    if parts := _parts(uri):
        return _table(uri, storage.join(uri, ""), _partitioned(parts, condition), condition)
    tars = [entry.relative for entry in storage.list_files(uri) if _suffix(entry.relative) == ".tar"]
    return _filtered(_tars(storage.join(uri, ""), tars), condition), _NO_EXTRA, left_out


def _table(uri: str, base: str, raw: Read, condition: where.Condition | None) -> Reader:
    schema = next(raw()).schema
    extra = _extra_columns(uri, schema)
    if condition is not None:
        raw = _where(raw, where.expression(condition, schema))
    return (lambda: _normalised(uri, base, raw, extra)), extra, 0


def _where(read: Read, chosen: pc.Expression) -> Read:
    return lambda: (table.filter(chosen) for table in read())


def _filtered(read: Read, condition: where.Condition | None) -> Read:
    """A list without columns of its own, where a condition may ask for id, uri and kind."""
    if condition is None:
        return read
    named = pa.schema([field.with_name(name) for field, name in zip(ROWS, _OWN, strict=True)])
    chosen = where.expression(condition, named)
    return lambda: (table.rename_columns([*_OWN]).filter(chosen).rename_columns(ROWS.names) for table in read())


def _selected(read: Read, selection: Selection) -> Read:
    """The items of the shard and of the sample, up to the limit."""
    if selection.shard is None and selection.sample is None and selection.limit is None:
        return read

    def chosen() -> Iterator[pa.Table]:
        left = selection.limit
        for table in read():
            some = table
            if selection.shard is not None or selection.sample is not None:
                some = table.filter(pa.array(_by_hash(item_keys(_some_ids(table)), selection)))
            if left is not None:
                some = some.slice(0, left)
                left -= some.num_rows
            yield some
            if left == 0:
                return

    return chosen


def _by_hash(keys: Keys, selection: Selection) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which items fall to the shard and to the sample; the two go by different halves of the key."""
    halves = keys.view(">u8").reshape(-1, 2)
    chosen = np.ones(len(keys), bool)
    if selection.shard is not None:
        number, count = selection.shard
        chosen &= halves[:, 0] % np.uint64(count) == np.uint64(number - 1)
    if selection.sample is not None:
        mixed = _mixed(halves[:, 1].astype(np.uint64) ^ _mixed(np.asarray([selection.sample_seed], np.uint64)))
        chosen &= (mixed >> np.uint64(11)) < np.uint64(int(selection.sample * 2**53))
    return chosen


def _mixed(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The finalizer of SplitMix64: every bit of the input moves every bit of the output."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _some_ids(table: pa.Table) -> list[str]:
    """Ids to hash; one that is missing counts as empty here, and is refused later where it was chosen."""
    return [text or "" for text in table.column("item_id").to_pylist()]


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


def _parquet(uri: str, name: str = "") -> Iterator[pa.Table]:
    """The rows of a file; where it holds pictures and no addresses, with the address of each cell instead.

    Args:
        uri: the file.
        name: stands before the row numbers that are the ids of pictures without any.
    """
    with storage.open_binary(uri) as file:
        parts = pyarrow.parquet.ParquetFile(file)
        schema = parts.schema_arrow
        pictures = [] if "uri" in schema.names else members.picture_columns(schema)
        if len(pictures) == 1:
            yield from _cells(uri, parts, pictures[0], name)
            return
        yield schema.empty_table()
        for batch in parts.iter_batches(batch_size=BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _cells(uri: str, parts: pyarrow.parquet.ParquetFile, column: str, name: str) -> Iterator[pa.Table]:
    """Row groups without the pictures, which are not read."""
    others = [each for each in parts.schema_arrow.names if each != column]
    before = 0
    if not parts.num_row_groups:
        yield pa.table({"uri": pa.array([], pa.string())})
    for group in range(parts.num_row_groups):
        rows = parts.metadata.row_group(group).num_rows
        table = parts.read_row_group(group, columns=others).append_column(
            "uri", members.cell_uris(uri, column, group, rows)
        )
        if "id" not in others:
            ids = pa.array([f"{name}{before + row}" for row in range(rows)], pa.string())
            table = table.append_column("id", ids)
        if group == 0:
            yield table.slice(0, 0)
        yield from _slices(table)
        before += rows


Part = tuple[str, str, Mapping[str, str]]
"""A Parquet file, its path in the folder, and the columns that folders stand for: split=test/day=2026-11-01/."""


def _parts(uri: str) -> list[Part]:
    entries = [entry for entry in storage.list_files(uri) if _suffix(entry.relative) in {".parquet", ".pq"}]
    return [(entry.uri, entry.relative, _folder_columns(entry.relative)) for entry in entries]


def _folder_columns(relative: str) -> dict[str, str]:
    pairs = (name.partition("=") for name in relative.split("/")[:-1] if "=" in name)
    given = {name: unquote(value) for name, _, value in pairs if not name.startswith("_")}
    return {name: value for name, value in given.items() if value != "__HIVE_DEFAULT_PARTITION__"}  # Hive's null


def _partitioned(parts: Sequence[Part], condition: where.Condition | None) -> Read:
    """The rows of all files in name order; a file whose folders rule it out is not opened."""
    kinds = _folder_types([columns for *_, columns in parts])
    chosen = [part for part in parts if _may_hold(part[2], kinds, condition)]

    def read() -> Iterator[pa.Table]:
        schema: pa.Schema | None = None
        for uri, relative, columns in chosen or parts[:1]:
            for table in _parquet(uri, f"{relative.rpartition('.')[0]}/"):
                for name, kind in kinds.items():
                    value = pa.scalar(columns.get(name)).cast(kind)
                    if name not in table.column_names:
                        table = table.append_column(name, pa.repeat(value, table.num_rows))  # noqa: PLW2901
                if schema is None:
                    schema = table.schema.remove_metadata()
                elif table.num_rows == 0:
                    continue
                yield _like(table, schema, uri)
            if not chosen:
                return

    return read


def _like(table: pa.Table, schema: pa.Schema, uri: str) -> pa.Table:
    """The table in the columns of the first file; one that it lacks is null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    over = [name for name in table.column_names if name not in schema.names]
    if over:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {over}, which the files before it lack; give all files one schema"
        )
    return pa.table(columns, schema=schema)


def _folder_types(parts: Sequence[Mapping[str, str]]) -> dict[str, pa.DataType]:
    """Whole numbers where all values are; text otherwise."""
    names = [*dict.fromkeys(name for columns in parts for name in columns)]
    values = {name: [columns[name] for columns in parts if name in columns] for name in names}
    whole = {name: all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) for value in values[name]) for name in names}
    return {name: pa.int64() if whole[name] else pa.string() for name in names}


def _may_hold(columns: Mapping[str, str], kinds: Mapping[str, pa.DataType], condition: where.Condition | None) -> bool:
    """Whether no part of the condition that speaks of folders alone rules the file out."""
    known = [each for each in (where.conjuncts(condition) if condition else ()) if where.columns(each) <= {*kinds}]
    row = pa.table({name: pa.array([columns.get(name)]).cast(kind) for name, kind in kinds.items()}) if known else None
    return row is None or all(row.filter(where.expression(each, row.schema)).num_rows for each in known)


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


def _normalised(uri: str, base: str, raw: Read, extra: pa.Schema) -> Iterator[pa.Table]:
    """Give every batch the common columns: ids as text, absolute URIs, checked kinds, the rest in one struct."""
    for table in raw():
        if not table.num_rows:
            continue
        given = table.column("uri").cast(pa.string()).combine_chunks()
        ids = _text_column(table, "id", default=_redacted(given))
        kinds = _text_column(table, "kind", default=pa.nulls(len(given), pa.string()))
        columns = {"item_id": ids, "uri": _absolute(given, base), "kind": _checked_kinds(uri, kinds)}
        if len(extra):
            rest = [table.column(field.name).cast(field.type).combine_chunks() for field in extra]
            columns["extra"] = pa.StructArray.from_arrays(rest, fields=list(extra))
        yield pa.table(columns)


def _redacted(given: pa.Array) -> pa.Array:
    """URIs as ids, without credentials; a null becomes empty. Only what may hold some is looked at row by row."""
    given = pc.fill_null(given, "")
    doubtful = pc.and_(pc.match_substring(given, "://"), pc.match_substring_regex(given, "[@?]"))
    return _one_by_one(given, doubtful, storage.redact)


def _absolute(given: pa.Array, base: str) -> pa.Array:
    """URIs as every process understands them. Addresses, and plain absolute paths, are so already."""
    given = pc.fill_null(given, "")
    settled = pc.or_(
        pc.match_substring_regex(given, r"^[a-zA-Z][a-zA-Z0-9+.\-]+://"),
        pc.and_(pc.starts_with(given, "/"), pc.invert(pc.match_substring_regex(given, r"//|/\.(/|$)|/$"))),
    )
    return _one_by_one(given, pc.invert(settled), lambda text: storage.absolute(text, base) if text else "")


def _one_by_one(given: pa.Array, chosen: pa.Array, change: Callable[[str], str]) -> pa.Array:
    if not pc.any(chosen).as_py():
        return given
    return pc.replace_with_mask(given, chosen, pa.array([*map(change, given.filter(chosen).to_pylist())], pa.string()))


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
    """Ids of a glob are paths below the folder before the first wildcard; tar archives alone are opened."""
    prefix = storage.join(storage.fixed_folder(pattern), "")
    found = [uri.removeprefix(prefix) for uri in storage.glob(pattern)]
    if found and all(_suffix(name) == ".tar" for name in found):
        return _tars(prefix, found)
    return _listed(prefix, [_names(pattern, some) for some in _batched(found)])


def _tars(prefix: str, names: Sequence[str]) -> Read:
    """The media of tar archives. Their ids are their keys; behind the archive's name where there may be several.

    Headers are read once, one archive after the other, and what they say is held in memory.
    """
    tables = []
    for name in names:
        before = f"{name.removesuffix('.tar')}/" if name else ""
        for some in _batched(each for each in members.tar_members(prefix + name) if kind_by_name(each.name)):
            keys = _names(prefix + name, [before + each.key for each in some])
            kinds = pa.nulls(len(some), pa.string())
            tables.append(pa.table([keys, pa.array([each.uri for each in some]), kinds], schema=ROWS))
    return lambda: iter(tables)


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
        ids = table.column("item_id")
        empty = pc.index(pc.equal(pc.fill_null(ids, ""), ""), value=True).as_py()
        if empty >= 0:
            raise ManifestError(
                f"{storage.redact(uri)} has no id in row {rows + empty} (the first is 0), expected one in every row; "
                "fill the `id` column, or leave it out where every row has a uri"
            )
        keys.append(item_keys(ids.to_pylist()))
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
