"""Which reader a list needs: a folder, a glob, a table or a file without columns, by its URI and its content."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import column_types, row_filter, text_filter
from fsf_core.manifest.columns import normalize_batches, pass_through_schema
from fsf_core.manifest.csv_table import delimiter_of, read_csv
from fsf_core.manifest.files import named_files, read_path_list, single_file, tar_archives
from fsf_core.manifest.folders import FolderContents, Kind, kind_of, list_folder, list_glob, require_plain_tables
from fsf_core.manifest.frames import one_row_per_item
from fsf_core.manifest.json_table import open_json
from fsf_core.manifest.left_out import Rules
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.partitions import read_table_files, table_file
from fsf_core.manifest.rows import ITEM_SCHEMA, OWN_COLUMNS, ItemReader, ReadBatches, TextColumns
from fsf_core.manifest.selection import Selection
from fsf_core.manifest.suffixes import COMPRESSED, TABLE_SUFFIXES, kind_by_name, suffix_of

log = logging.getLogger("fsf")

Place: TypeAlias = Literal["glob", "folder", "file"]


def locate(uri: str) -> tuple[Place, str]:
    """Return what a list is, and the folder that its relative paths and its ids count from."""
    if _is_pattern(uri) and not storage.exists(uri):
        return "glob", storage.fixed_folder(uri)
    return ("folder", uri) if storage.is_folder(uri) else ("file", storage.parent(uri))


def item_reader(
    uri: str,
    place: Place,
    condition: row_filter.Condition | None,
    *,
    selection: Selection,
    rules: Rules,
    types: column_types.ColumnTypes,
) -> ItemReader:
    """Find out what kind of list the URI names, and return how to read it.

    Args:
        uri: the list.
        place: as `locate` returns it.
        condition: which items to read.
        selection: how to read folders, archives and Parquet tables.
        rules: which files of a folder, a glob or an archive to leave out.
        types: of columns whose values are text.

    Raises:
        ConfigError: the condition or the types do not fit the columns.
    """
    suffix = suffix_of(uri)
    if place == "file":
        selection.require_fit(uri, "archives" if suffix == ".tar" else "table" if suffix in TABLE_SUFFIXES else "file")
        if texts := _text_table(uri, condition, types):
            return texts
    column_types.require_columns(uri, types, None)
    if place == "glob":
        kind, found = list_glob(uri, rules)
        if kind == "tables":
            require_plain_tables(storage.fixed_folder(uri), found.tables)
        return _list_of_files(uri, kind, found, condition, selection, rules)
    if place == "folder":
        found = list_folder(uri, rules)
        kind = kind_of(uri, found, rules, selection.image_column)
        return _list_of_files(uri, kind, found, condition, selection, rules)
    if suffix == ".tar":
        return _filtered(tar_archives(uri, [""], rules, selection.tar_ids), condition)
    read = _file_without_columns(uri)
    if read is not None:
        return ItemReader(read=_filter_items(read, condition))
    return _table_reader(uri, storage.parent(uri), _read_table(uri, condition, selection.image_column), condition)


def _is_pattern(uri: str) -> bool:
    return any(sign in storage.without_query(uri) for sign in "*?[")


def _list_of_files(
    uri: str,
    kind: Kind,
    found: FolderContents,
    condition: row_filter.Condition | None,
    selection: Selection,
    rules: Rules,
) -> ItemReader:
    """Return a reader of the media, or the tables, or the archives of a folder or a glob."""
    selection.require_fit(uri, kind)
    if kind == "media":
        return ItemReader(read=_filter_items(named_files(found.prefix, found.media), condition))
    if kind == "tables":
        files = [*map(table_file, found.tables)]
        read = read_table_files(files, condition, image_column=selection.image_column)
        return _table_reader(uri, found.prefix, read, condition)
    return _filtered(tar_archives(found.prefix, found.archives, rules, selection.tar_ids), condition)


def _filtered(reader: ItemReader, condition: row_filter.Condition | None) -> ItemReader:
    return replace(reader, read=_filter_items(reader.read, condition))


def _file_without_columns(uri: str) -> ReadBatches | None:
    """Return how to read a file that has no columns of its own; None for a table."""
    suffix = suffix_of(uri)
    if suffix in {".txt", ".lst", ".list"}:
        return lambda: read_path_list(uri)
    return single_file(uri) if kind_by_name(uri) or (suffix not in TABLE_SUFFIXES and _is_media(uri)) else None


def _is_media(uri: str) -> bool:
    """Return whether the first bytes of a file are those of an image or a video."""
    from fsf_core.media import images, video  # loads FFmpeg, which other lists do not need

    with storage.open_binary(uri) as file:
        head = file.read(images.HEAD_BYTES)
    return bool(images.sniff(head) or video.sniff_container(head))


def _text_table(uri: str, condition: row_filter.Condition | None, types: column_types.ColumnTypes) -> ItemReader | None:
    """Return a reader of a table whose values are text; None for any other file."""
    suffix = suffix_of(uri)
    if suffix in {".csv", ".tsv"}:
        if suffix == ".csv" and (delimiter := delimiter_of(uri)) != ",":
            log.info("event=delimiter_found delimiter=%r list=%r", delimiter, storage.redact(uri))
        return _text_reader(uri, lambda: read_csv(uri, quoted=suffix == ".csv"), condition, types, empty_is_null=True)
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return _text_reader(uri, open_json(uri), condition, types, empty_is_null=False)
    return None


def _text_reader(
    uri: str,
    read: ReadBatches,
    condition: row_filter.Condition | None,
    types: column_types.ColumnTypes,
    *,
    empty_is_null: bool,
) -> ItemReader:
    """Return a reader of the matching rows of a table whose values are text, but for the columns with types."""
    schema = next(read()).schema
    column_types.require_columns(uri, types, schema.names)
    schema = pa.schema([field.with_type(types.get(field.name, field.type)) for field in schema])
    extra = pass_through_schema(uri, schema)
    texts = TextColumns(names=frozenset(schema.names) - types.keys(), empty_is_null=empty_is_null)
    if condition is not None:
        text_filter.require_fit(condition, schema, texts)

    def rows() -> Iterator[pa.Table]:
        tables = column_types.with_types(uri, read(), types) if types else read()
        return tables if condition is None else text_filter.matching(uri, tables, condition, texts)

    base, items = storage.parent(uri), one_row_per_item(rows, schema)
    return ItemReader(read=lambda: normalize_batches(uri, base, items, extra), extra=extra, texts=texts)


def _read_table(uri: str, condition: row_filter.Condition | None, image_column: str | None) -> ReadBatches:
    """Return how to read a table file, whose first batch is empty and has its columns.

    Raises:
        ManifestError: its suffix is unknown.
        FetchError: it does not exist.
    """
    suffix = suffix_of(uri)
    if suffix in TABLE_SUFFIXES:
        return lambda: read_parquet(uri, condition=condition, image_column=image_column)
    with storage.open_binary(uri):  # a file that does not exist is reported as missing
        if COMPRESSED.search(storage.without_query(uri)):
            raise ManifestError(
                f"{storage.redact(uri)} is a compressed archive or file, expected an uncompressed .tar, whose members "
                "are read in place, or a folder; unpack it, and pass what that gives"
            )
        raise ManifestError(
            f"{storage.redact(uri)} has the suffix {suffix!r}, and its bytes are no image and no video, expected "
            ".parquet, .csv, .tsv, .jsonl, a .txt of paths, .tar, a folder, a glob or a media file; convert it, or "
            "rename it to what it is"
        )


def _table_reader(uri: str, base: str, read: ReadBatches, condition: row_filter.Condition | None) -> ItemReader:
    """Return a reader of the matching rows of a table as items; relative URIs count from the base."""
    schema = next(read()).schema
    extra = pass_through_schema(uri, schema)
    chosen = None if condition is None else row_filter.expression(condition, schema)
    rows = read if chosen is None else lambda: (table.filter(chosen) for table in read())
    rows = one_row_per_item(rows, schema)
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
