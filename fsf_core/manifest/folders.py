"""Folders and globs: what kind of list their files are, and which files that leaves out."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.manifest import parquet_table, tar
from fsf_core.manifest.left_out import Rules
from fsf_core.manifest.rows import NAMES_SHOWN, as_manifest_error, batched, ids_from_names
from fsf_core.manifest.suffixes import COMPRESSED, TABLE_SUFFIXES, kind_by_name, suffix_of

Kind: TypeAlias = Literal["media", "tables", "archives"]

FOLDERS_TRIED = 4
"""Folders of tables below a list that are looked at for a table format."""

FILES_TRIED = 16
"""Tables, and members of the first archive, that are looked at before they count as no list of items."""

MARKS_OF_WRITERS = ("_SUCCESS", "_metadata", "_common_metadata", "_committed_", "_started_")
"""Beginnings of the names of files that writers of tables leave beside them; no account is given of these."""

TABLE_FORMATS = {
    "Delta": re.compile(r"(?:(.*)/)?_delta_log/[^/]+\.(?:json|parquet)"),
    "Iceberg": re.compile(r"(?:(.*)/)?metadata/[^/]+\.metadata\.json"),
}
"""Name of a table format to the files that show it; what comes before them is the folder of the table."""


@dataclass(kw_only=True, slots=True)
class FolderContents:
    """The files of a folder or a glob, sorted by what their names suggest."""

    prefix: str
    """What the names follow in the URIs of the files."""
    media: list[pa.Array] = field(default_factory=list)
    """Names of images and videos, in batches."""
    tables: list[storage.Entry] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    """Folder of a Delta or Iceberg table below the list to the name of its format."""


def list_folder(uri: str, rules: Rules) -> FolderContents:
    """List a folder once and classify its files.

    Raises:
        StorageError: it cannot be listed.
        ManifestError: the name of an image or video is not UTF-8.
    """
    found = FolderContents(prefix=storage.join(uri, ""))
    for entries in batched(storage.list_files(uri, skip=rules.skip, cut=rules.cut)):
        kept = {*rules.keep([entry.relative for entry in entries])} if rules.exclude else None
        names = []
        for entry in entries:
            if kept is not None and entry.relative not in kept:
                continue
            if kind_by_name(entry.relative):
                names.append(entry.relative)
                found.prefix = entry.uri.removesuffix(entry.relative)
            else:
                _sort(entry, found, rules)
        if names:
            found.media.append(ids_from_names(uri, names))
    return found


def _sort(entry: storage.Entry, found: FolderContents, rules: Rules) -> None:
    """Add a file that is no image or video to what was found."""
    suffix = suffix_of(entry.relative)
    for name, pattern in TABLE_FORMATS.items():
        if match := pattern.fullmatch(entry.relative):
            found.formats[match[1] or ""] = name
            return
    if suffix in TABLE_SUFFIXES:
        if _is_private(entry.relative):
            rules.omissions.add("tables", entry.relative)
        else:
            found.tables.append(entry)
    elif suffix == ".tar":
        found.archives.append(entry.relative)
    elif not entry.relative.rpartition("/")[2].startswith(MARKS_OF_WRITERS):
        rules.omissions.add("compressed" if COMPRESSED.search(entry.relative) else "not_media", entry.relative)


def _is_private(name: str) -> bool:
    """Return whether a table is one that a writer of tables keeps for itself: in _temporary/, not in _day=1/."""
    return any(part.startswith("_") and "=" not in part for part in name.split("/"))


def list_glob(pattern: str, rules: Rules) -> tuple[Kind, FolderContents]:
    """List the files that match a pattern: all of them are items, unless all are Parquet tables or tar archives.

    Ids are paths below the folder before the first wildcard.
    """
    prefix = storage.join(storage.fixed_folder(pattern), "")
    names = [uri.removeprefix(prefix) for uri in storage.glob(pattern, cut=rules.cut)]
    names = rules.results.without_results(rules.keep(rules.outside_system_folders(names, pattern=pattern)))
    found = FolderContents(prefix=prefix)
    suffixes = {suffix_of(name) for name in names}
    if suffixes == {".tar"}:
        found.archives = names
        return "archives", found
    if suffixes and suffixes <= TABLE_SUFFIXES:
        public = [name for name in names if not _is_private(name)]
        found.tables = [storage.Entry(uri=prefix + name, relative=name, size_bytes=0) for name in public]
        return "tables", found
    found.media = [ids_from_names(pattern, batch) for batch in batched(names)]
    return "media", found


def kind_of(uri: str, found: FolderContents, rules: Rules, image_column: str | None) -> Kind:
    """Return which files of a folder are its list, and count the others.

    Raises:
        ManifestError: there are several kinds of list, or tables whose files hold more than the live rows.
    """
    plain = [entry for entry in found.tables if not any(_is_below(entry.relative, root) for root in found.formats)]
    kinds = _kinds(found, plain, image_column)
    if len(kinds) > 1:
        raise _several(uri, found, plain, kinds)
    kind = kinds[0] if kinds else "tables" if found.tables else "archives"
    if kind == "tables":
        for folder, name in found.formats.items():
            raise _not_plain(storage.join(uri, folder) if folder else uri, name)
        require_plain_tables(uri, found.tables)
    else:
        rules.omissions.add("tables", *(entry.relative for entry in found.tables))
    if kind != "archives":
        rules.omissions.add("archives", *found.archives)
    return kind


def _kinds(found: FolderContents, plain: Sequence[storage.Entry], image_column: str | None) -> list[Kind]:
    """Return the kinds of list in a folder; what is alone is not opened here."""
    kinds: list[Kind] = ["media"] if found.media else []
    alone = not kinds and not (plain and found.archives)
    if plain and (alone or any(_lists_items(entry.uri, image_column) for entry in plain[:FILES_TRIED])):
        kinds.append("tables")
    if found.archives and (alone or _holds_media(found.prefix + found.archives[0])):
        kinds.append("archives")
    return kinds


def _lists_items(uri: str, image_column: str | None) -> bool:
    """Return whether a Parquet file has addresses or images; not if it cannot be read."""
    try:
        with as_manifest_error(uri):
            return parquet_table.may_list_items(uri, image_column)
    except (FetchError, ManifestError):
        return False


def _holds_media(uri: str) -> bool:
    """Return whether one of the first members of an archive is an image or a video; not if it cannot be read."""
    try:
        with as_manifest_error(uri):
            return any(kind_by_name(member.name) for member in itertools.islice(tar.tar_members(uri), FILES_TRIED))
    except (FetchError, ManifestError):
        return False


def _several(uri: str, found: FolderContents, plain: Sequence[storage.Entry], kinds: Sequence[Kind]) -> ManifestError:
    """Return the error of a folder of several kinds of list."""
    media = [name for batch in found.media for name in batch[:NAMES_SHOWN].to_pylist()]
    count = sum(map(len, found.media))
    facts: dict[Kind, tuple[str, str]] = {}
    if media:
        patterns = [f"*{suffix_of(entry.relative)}" for entry in plain] + ["*.tar"] * bool(found.archives)
        others = ",".join(dict.fromkeys(patterns))
        facts["media"] = (
            f"{count} images or videos ({_some(media)})",
            f"--exclude '{others}' for the images and videos",
        )
    if plain:
        names = [entry.relative for entry in plain]
        facts["tables"] = (f"{len(names)} Parquet tables ({_some(names)})", _glob_words(uri, names[0], "tables"))
    if found.archives:
        names = found.archives
        facts["archives"] = (f"{len(names)} tar archives ({_some(names)})", _glob_words(uri, names[0], "archives"))
    chosen = [facts[kind] for kind in kinds]
    return ManifestError(
        f"{storage.redact(uri)} holds {' and '.join(what for what, _ in chosen)}, expected one kind of list; pass "
        + ", or ".join(do for _, do in chosen)
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")  # noqa: PLR2004 - two examples


def _glob_words(uri: str, name: str, what: str) -> str:
    return f"'{storage.redact(storage.join(uri, '**'))}/*{suffix_of(name)}' for the {what}"


def _is_below(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def require_plain_tables(uri: str, tables: Sequence[storage.Entry]) -> None:
    """Check that Parquet files are all of their rows: those of table formats hold deleted ones too.

    Args:
        uri: the folder that was listed, which may be a part of a table.
        tables: its files.

    Raises:
        ManifestError: they are, or are a part of, a Delta, Iceberg or Hudi table.
    """
    below = dict.fromkeys(_without_columns(entry.uri.rpartition("/")[0]) for entry in tables)
    for folder in dict.fromkeys(
        [uri.rstrip("/"), _without_columns(uri.rstrip("/")), *itertools.islice(below, FOLDERS_TRIED)]
    ):
        if name := _format_of(folder):
            raise _not_plain(folder, name)


def _without_columns(folder: str) -> str:
    """Return the folder above those that a table's writer makes: day=1/, and Iceberg's data/."""
    head, slash, name = folder.rpartition("/")
    return _without_columns(head) if slash and ("=" in name or name == "data") else folder


def _format_of(folder: str) -> str | None:
    """Return the table format of a folder by what it holds; None where that cannot be seen."""
    try:
        if storage.exists(storage.join(folder, ".hoodie")):
            return "Hudi"
        if storage.exists(storage.join(folder, "_delta_log")):
            return "Delta"
        names = storage.list_names(storage.join(folder, "metadata"), "")
        return "Iceberg" if any(name.endswith(".metadata.json") for name in names) else None
    except StorageError:
        return None


def _not_plain(folder: str, name: str) -> ManifestError:
    shown = storage.redact(folder)
    examples = {
        "Delta": f"pq.write_table(deltalake.DeltaTable('{shown}').to_pyarrow_table(), 'list.parquet')",
        "Iceberg": f"DuckDB: COPY (FROM iceberg_scan('{shown}')) TO 'list.parquet'",
        "Hudi": f"Spark: spark.read.format('hudi').load('{shown}').write.parquet('list')",
    }
    return ManifestError(
        f"{shown} is a {name} table, whose Parquet files also hold rows that were deleted or replaced, expected plain "
        f"Parquet; write its live rows to a Parquet file and pass that, for example with {examples[name]}"
    )
