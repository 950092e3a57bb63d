"""Opening a list, whatever it is: found, read once and checked."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.keys import item_keys
from fsf_core.manifest import row_filter
from fsf_core.manifest.columns import extra_columns, normalised
from fsf_core.manifest.csv_table import csv_types, read_csv
from fsf_core.manifest.files import media_folder, media_glob, one_file, tar_archives, text_of_paths
from fsf_core.manifest.json_table import json_schema, read_json_lines
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.partitions import parquet_parts, partitioned
from fsf_core.manifest.rows import NAMES_SHOWN, NO_EXTRA, Read, Reader, filtered, matching
from fsf_core.manifest.selection import EVERYTHING, Selection, selected
from fsf_core.manifest.suffixes import kind_by_name, suffix_of


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
    condition = row_filter.parse(selection.where) if selection.where else None
    try:
        every, extra, left_out = _reader(uri, condition)
        read = selected(every, selection)
        items = _check_ids(uri, read)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ManifestError(
            f"{storage.redact(uri)} is not a readable {suffix_of(uri)} list: {error}; repair or replace it"
        ) from error
    if not items:
        hint = f" ({left_out} files are not media by name)" if left_out else ""
        chosen = f" under {selection.facts()}" if selection.facts() else ""
        raise ManifestError(
            f"{storage.redact(uri)} lists no items{chosen}{hint}, expected at least one; check the path"
            + (" and the selection" if chosen else "")
        )
    return Manifest(uri=uri, items=items, extra=extra, left_out=left_out, _read=read)


def unredacted_uris(listed: Manifest, items: Collection[str]) -> dict[str, str]:
    """Item id to URI of those of some items whose address holds a credential, which no table of a run does."""
    wanted = pa.array(sorted(items), pa.string())
    found: dict[str, str] = {}
    for batch in listed.batches() if items else ():
        rows = batch.select(["item_id", "uri"]).filter(pc.is_in(batch.column("item_id"), wanted)).to_pylist()
        found |= {row["item_id"]: row["uri"] for row in rows if storage.redact(row["uri"]) != row["uri"]}
    return found


def _reader(uri: str, condition: row_filter.Condition | None) -> Reader:
    if _is_pattern(uri) and not storage.exists(uri):
        return filtered(media_glob(uri), condition), NO_EXTRA, 0
    if storage.is_folder(uri):
        return _folder_reader(uri, condition)
    plain = _plain(uri)
    if plain is not None:
        return filtered(plain, condition), NO_EXTRA, 0
    return _table(uri, storage.parent(uri), _table_reader(uri), condition)


def _plain(uri: str) -> Read | None:
    """How to read a file that has no columns of its own; None where it is a table."""
    suffix = suffix_of(uri)
    if suffix in {".txt", ".lst", ".list"}:
        return lambda: text_of_paths(uri)
    if suffix == ".tar":
        return tar_archives(uri, [""])
    return one_file(uri) if kind_by_name(uri) else None


def _folder_reader(uri: str, condition: row_filter.Condition | None) -> Reader:
    """The media of a folder; where it has none, its Parquet files, or else its tar archives."""
    read, left_out = media_folder(uri)
    if next(read(), None) is not None:
        return filtered(read, condition), NO_EXTRA, left_out
    if parts := parquet_parts(uri):
        return _table(uri, storage.join(uri, ""), partitioned(parts, condition), condition)
    tars = [entry.relative for entry in storage.list_files(uri) if suffix_of(entry.relative) == ".tar"]
    return filtered(tar_archives(storage.join(uri, ""), tars), condition), NO_EXTRA, left_out


def _table(uri: str, base: str, raw: Read, condition: row_filter.Condition | None) -> Reader:
    schema = next(raw()).schema
    extra = extra_columns(uri, schema)
    if condition is not None:
        raw = matching(raw, row_filter.expression(condition, schema))
    return (lambda: normalised(uri, base, raw, extra)), extra, 0


def _is_pattern(uri: str) -> bool:
    return any(sign in storage.without_query(uri) for sign in "*?[")


def _table_reader(uri: str) -> Read:
    """How to read a table; its first batch is empty and shows the columns."""
    suffix = suffix_of(uri)
    if suffix in {".parquet", ".pq"}:
        return lambda: read_parquet(uri)
    if suffix in {".csv", ".tsv"}:
        delimiter = "\t" if suffix == ".tsv" else ","
        kinds = csv_types(uri, delimiter)
        return lambda: read_csv(uri, delimiter, kinds)
    if suffix in {".jsonl", ".ndjson", ".json"}:
        schema = json_schema(uri)
        return lambda: read_json_lines(uri, schema)
    with storage.open_binary(uri):  # what is not there at all is said to be missing
        raise ManifestError(
            f"{storage.redact(uri)} has the suffix {suffix!r}, expected .parquet, .csv, .tsv, .jsonl, a .txt of paths, "
            "a folder, a glob or a media file; convert it, or rename it to what it is"
        )


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
        names = _names_of(repeated[:NAMES_SHOWN], read)
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
