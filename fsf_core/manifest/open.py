"""Opening a list of any kind: recognise it, read it once and check it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.keys import item_keys
from fsf_core.manifest import row_filter
from fsf_core.manifest.columns import normalize_batches, pass_through_schema
from fsf_core.manifest.csv_table import csv_types, read_csv
from fsf_core.manifest.files import (
    glob_files,
    list_folder,
    named_files,
    read_path_list,
    single_file,
    tar_archives,
)
from fsf_core.manifest.json_table import json_schema, read_json_lines
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.partitions import read_table_files, table_file
from fsf_core.manifest.rows import ITEM_SCHEMA, NAMES_SHOWN, OWN_COLUMNS, ItemReader, ReadBatches
from fsf_core.manifest.selection import EVERYTHING, Selection, select_items
from fsf_core.manifest.suffixes import TABLE_SUFFIXES, kind_by_name, suffix_of


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked list of items that can be read again and again."""

    uri: str
    items: int
    extra: pa.Schema
    """Pass-through columns: all but id, uri and kind."""
    left_out: int
    """Files of a folder that are not items by name."""
    _read: ReadBatches

    def batches(self) -> Iterator[pa.Table]:
        """Yield tables of at most 65,536 items: item_id, uri (absolute), kind (null: by content), extra (struct)."""
        return self._read()


def open_manifest(uri: str, selection: Selection = EVERYTHING) -> Manifest:
    """Read a whole list once and check it.

    Args:
        uri: a Parquet, CSV, TSV or JSON Lines file, a text file of paths, a tar archive, a media file, a glob, or a
            folder of media, Parquet files or tar archives.
        selection: the items to score; the others are not checked.

    Raises:
        ManifestError: the list is unreadable, empty or without a `uri` column, or has missing or repeated ids or an
            unknown kind.
        ConfigError: the condition does not fit the columns.
    """
    uri = storage.absolute(uri)
    condition = row_filter.parse(selection.where) if selection.where else None
    try:
        reader = _item_reader(uri, condition)
        read = select_items(reader.read, selection)
        items = _check_ids(uri, read)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ManifestError(
            f"{storage.redact(uri)} is not a readable {suffix_of(uri)} list: {error}; repair or replace it"
        ) from error
    if not items:
        hint = f" ({reader.left_out} files are not media by name)" if reader.left_out else ""
        chosen = f" under {selection.facts()}" if selection.facts() else ""
        raise ManifestError(
            f"{storage.redact(uri)} lists no items{chosen}{hint}, expected at least one; check the path"
            + (" and the selection" if chosen else "")
        )
    return Manifest(uri=uri, items=items, extra=reader.extra, left_out=reader.left_out, _read=read)


def unredacted_uris(manifest: Manifest, item_ids: Collection[str]) -> dict[str, str]:
    """Return item id to URI for those of the given items whose URI holds a credential; tables of a run never do."""
    wanted = pa.array(sorted(item_ids), pa.string())
    found: dict[str, str] = {}
    for batch in manifest.batches() if item_ids else ():
        rows = batch.select(["item_id", "uri"]).filter(pc.is_in(batch.column("item_id"), wanted)).to_pylist()
        found |= {row["item_id"]: row["uri"] for row in rows if storage.redact(row["uri"]) != row["uri"]}
    return found


def _item_reader(uri: str, condition: row_filter.Condition | None) -> ItemReader:
    """Find out what kind of list the URI names, and return how to read it."""
    if _is_pattern(uri) and not storage.exists(uri):
        return ItemReader(read=_filter_items(glob_files(uri), condition))
    if storage.is_folder(uri):
        return _folder_reader(uri, condition)
    read = _file_without_columns(uri)
    if read is not None:
        return ItemReader(read=_filter_items(read, condition))
    return _table_reader(uri, storage.parent(uri), _read_table(uri, condition), condition)


def _is_pattern(uri: str) -> bool:
    return any(sign in storage.without_query(uri) for sign in "*?[")


def _folder_reader(uri: str, condition: row_filter.Condition | None) -> ItemReader:
    """Return a reader of the media of a folder, or of its Parquet files, or of its tar archives: of the first found."""
    found = list_folder(uri)
    if found.media:
        read = named_files(found.prefix, found.media)
        left_out = found.others + len(found.tables) + len(found.archives)
        return ItemReader(read=_filter_items(read, condition), left_out=left_out)
    base = storage.join(uri, "")
    if found.tables:
        return _table_reader(uri, base, read_table_files([*map(table_file, found.tables)], condition), condition)
    return ItemReader(read=_filter_items(tar_archives(base, found.archives), condition), left_out=found.others)


def _file_without_columns(uri: str) -> ReadBatches | None:
    """Return how to read a file that has no columns of its own; None for a table."""
    suffix = suffix_of(uri)
    if suffix in {".txt", ".lst", ".list"}:
        return lambda: read_path_list(uri)
    if suffix == ".tar":
        return tar_archives(uri, [""])
    return single_file(uri) if kind_by_name(uri) else None


def _read_table(uri: str, condition: row_filter.Condition | None) -> ReadBatches:
    """Return how to read a table file, whose first batch is empty and has its columns.

    Raises:
        ManifestError: its suffix is unknown.
        FetchError: it does not exist.
    """
    suffix = suffix_of(uri)
    if suffix in TABLE_SUFFIXES:
        return lambda: read_parquet(uri, condition=condition)
    if suffix in {".csv", ".tsv"}:
        delimiter = "\t" if suffix == ".tsv" else ","
        types = csv_types(uri, delimiter)
        return lambda: read_csv(uri, delimiter, types)
    if suffix in {".jsonl", ".ndjson", ".json"}:
        schema = json_schema(uri)
        return lambda: read_json_lines(uri, schema)
    with storage.open_binary(uri):  # a file that does not exist is reported as missing
        raise ManifestError(
            f"{storage.redact(uri)} has the suffix {suffix!r}, expected .parquet, .csv, .tsv, .jsonl, a .txt of paths, "
            "a folder, a glob or a media file; convert it, or rename it to what it is"
        )


def _table_reader(uri: str, base: str, read: ReadBatches, condition: row_filter.Condition | None) -> ItemReader:
    """Return a reader of the matching rows of a table as items; relative URIs count from the base."""
    schema = next(read()).schema
    extra = pass_through_schema(uri, schema)
    chosen = None if condition is None else row_filter.expression(condition, schema)
    rows = read if chosen is None else lambda: (table.filter(chosen) for table in read())
    return ItemReader(read=lambda: normalize_batches(uri, base, rows, extra), extra=extra)


def _filter_items(read: ReadBatches, condition: row_filter.Condition | None) -> ReadBatches:
    """Return a reader of the matching items of a list without columns: the condition may name id, uri and kind."""
    if condition is None:
        return read
    schema = pa.schema([field.with_name(name) for field, name in zip(ITEM_SCHEMA, OWN_COLUMNS, strict=True)])
    chosen = row_filter.expression(condition, schema)
    return lambda: (
        table.rename_columns([*OWN_COLUMNS]).filter(chosen).rename_columns(ITEM_SCHEMA.names) for table in read()
    )


def _check_ids(uri: str, read: ReadBatches) -> int:
    """Count the items, and refuse missing and repeated ids; holds 16 bytes an item, not the ids."""
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
    ordered = np.concatenate(keys)
    keys.clear()
    ordered.sort()
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated):
        names = _ids_with_keys(repeated[:NAMES_SHOWN], read)
        raise ManifestError(
            f"{storage.redact(uri)} has {len(repeated)} ids more than once, e.g. {names}; ids must be unique: "
            "give an `id` column that tells the rows apart"
        )
    return rows


def _ids_with_keys(wanted: np.ndarray[Any, np.dtype[np.bytes_]], read: ReadBatches) -> list[str]:
    found: set[str] = set()
    for table in read():
        ids = table.column("item_id").to_pylist()
        found.update(np.asarray(ids, object)[np.isin(item_keys(ids), wanted)].tolist())
    return sorted(map(storage.redact, found))
