"""Lists without columns of their own: folders and globs of media, text files of paths, tar archives, one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.manifest import members
from fsf_core.manifest.results import ResultFolders
from fsf_core.manifest.rows import ITEM_SCHEMA, ReadBatches, as_manifest_error, batched, ids_from_names, unreadable
from fsf_core.manifest.suffixes import TABLE_SUFFIXES, kind_by_name, suffix_of
from fsf_core.manifest.utf8 import TextReader

PIECE_CHARACTERS = 1 << 20
"""Of a text file that are read at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderContents:
    """The files of a folder, sorted by what their names suggest."""

    prefix: str
    """What the names of media follow in their URIs."""
    media: list[pa.Array]
    """Names of images and videos below the folder, in batches."""
    tables: list[storage.Entry]
    archives: list[str]
    """Names of tar archives below the folder."""
    others: int
    """Number of other files."""


def list_folder(uri: str, results: ResultFolders) -> FolderContents:
    """List a folder once, without folders of results, and classify its files.

    Raises:
        StorageError: it cannot be listed.
        ManifestError: the name of an image or video is not UTF-8.
    """
    prefix, media, tables, archives, others = uri, [], [], [], 0
    for entries in batched(storage.list_files(uri, skip=results.skip)):
        names = []
        for entry in entries:
            if kind_by_name(entry.relative):
                names.append(entry.relative)
                prefix = entry.uri.removesuffix(entry.relative)
            elif (suffix := suffix_of(entry.relative)) in TABLE_SUFFIXES:
                tables.append(entry)
            elif suffix == ".tar":
                archives.append(entry.relative)
            else:
                others += 1
        if names:
            media.append(ids_from_names(uri, names))
    return FolderContents(prefix=prefix, media=media, tables=tables, archives=archives, others=others)


def named_files(prefix: str, names: list[pa.Array]) -> ReadBatches:
    """Return a reader of files whose names are known and held in memory: a second listing might differ."""

    def read() -> Iterator[pa.Table]:
        for ids in names:
            uris = pc.binary_join_element_wise(pa.scalar(prefix), ids, "")
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(ids), pa.string())}, schema=ITEM_SCHEMA)

    return read


def single_file(uri: str) -> ReadBatches:
    """Return a reader of one media file.

    Raises:
        FetchError: it cannot be opened: a mistake in the command, not a bad item.
    """
    with storage.open_binary(uri):
        name = PurePosixPath(storage.without_query(uri)).name
    columns = {"item_id": ids_from_names(uri, [name]), "uri": [uri], "kind": pa.nulls(1, pa.string())}
    table = pa.table(columns, schema=ITEM_SCHEMA)
    return lambda: iter([table])


def glob_files(pattern: str, results: ResultFolders) -> ReadBatches:
    """Return a reader of the files that match a pattern; where all are tar archives, of their members.

    Ids are paths below the folder before the first wildcard.
    """
    prefix = storage.join(storage.fixed_folder(pattern), "")
    names = results.without_results([uri.removeprefix(prefix) for uri in storage.glob(pattern)])
    if names and all(suffix_of(name) == ".tar" for name in names):
        return tar_archives(prefix, names)
    return named_files(prefix, [ids_from_names(pattern, batch) for batch in batched(names)])


def tar_archives(prefix: str, names: Sequence[str]) -> ReadBatches:
    """Return a reader of the media in tar archives.

    Headers are read here, one archive after the other, and the addresses of the members are held in memory.

    Args:
        prefix: what the names follow in the URIs of the archives.
        names: of the archives. Ids are the keys of the members, after the archive's name unless that is empty.

    Raises:
        FetchError: an archive cannot be opened.
        ManifestError: a file is not an uncompressed tar archive, or is truncated.
    """
    tables = []
    for name in names:
        id_prefix = f"{name.removesuffix('.tar')}/" if name else ""
        media = (member for member in members.tar_members(prefix + name) if kind_by_name(member.name))
        with as_manifest_error(prefix + name):
            for batch in batched(media):
                ids = ids_from_names(prefix + name, [id_prefix + member.key for member in batch])
                uris = pa.array([member.uri for member in batch])
                tables.append(pa.table([ids, uris, pa.nulls(len(batch), pa.string())], schema=ITEM_SCHEMA))
    return lambda: iter(tables)


def read_path_list(uri: str) -> Iterator[pa.Table]:
    """Yield the items of a text file with one path or URI a line: exactly as written, and the id too.

    Lines end with LF or CR LF, or with CR in a file without LF. Empty lines are no items.

    Raises:
        ManifestError: it is not UTF-8 or UTF-16, or its paths end with NUL.
    """
    base = storage.parent(uri)
    with storage.open_binary(uri) as file:
        for batch in batched(_lines(uri, TextReader(uri, file))):
            ids = ids_from_names(uri, map(storage.redact, batch))
            uris = pa.array([storage.as_listed(storage.absolute(path, base)) for path in batch], pa.string())
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(batch), pa.string())}, schema=ITEM_SCHEMA)


def _lines(uri: str, text: TextReader) -> Iterator[str]:
    """Yield the lines of a text that are not empty."""
    first = text.read(PIECE_CHARACTERS)
    end = "\n" if "\n" in first or "\r" not in first else "\r"
    rest, more = "", first
    while more:
        if "\0" in more:
            raise unreadable(
                uri, "it holds NUL, expected one path a line", "write it with `find … -print`, not -print0"
            )
        *lines, rest = (rest + more).split(end)
        yield from filter(None, (line.removesuffix("\r") for line in lines))
        more = text.read(PIECE_CHARACTERS)
    if last := rest.removesuffix("\r"):
        yield last
