"""Lists without columns of their own: media of folders and globs, text files of paths, tar archives, one file."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.manifest import tar
from fsf_core.manifest.left_out import Rules
from fsf_core.manifest.rows import (
    ITEM_SCHEMA,
    ItemReader,
    ReadBatches,
    as_manifest_error,
    batched,
    ids_from_names,
    unreadable,
)
from fsf_core.manifest.suffixes import kind_by_name
from fsf_core.manifest.utf8 import TextReader
from fsf_core.options import TarIds

PIECE_CHARACTERS = 1 << 20
"""Of a text file that are read at once."""


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


def tar_archives(prefix: str, names: Sequence[str], rules: Rules, tar_ids: TarIds) -> ItemReader:
    """Return a reader of the media in tar archives.

    Headers are read here, one archive after the other, and the addresses of the members are held in memory.

    Args:
        prefix: what the names follow in the URIs of the archives.
        names: of the archives.
        rules: which members to leave out.
        tar_ids: whether the ids are the keys or the names of the members; after the archive's name unless that is
            empty.

    Raises:
        FetchError: an archive cannot be opened.
        ManifestError: a file is not an uncompressed tar archive, or is truncated.
    """
    tables = []
    for name in names:
        id_prefix = f"{name.removesuffix('.tar')}/" if name else ""
        with as_manifest_error(prefix + name):
            for batch in batched(_media_members(prefix, name, rules)):
                keys = [member.key if tar_ids == "key" else member.name for member in batch]
                ids = ids_from_names(prefix + name, [id_prefix + key for key in keys])
                uris = ids_from_names(prefix + name, [member.uri for member in batch])
                tables.append(pa.table([ids, uris, pa.nulls(len(batch), pa.string())], schema=ITEM_SCHEMA))
    return ItemReader(read=lambda: iter(tables), explain_repeated=lambda item: _explain_repeated(tables, item))


def _media_members(prefix: str, archive: str, rules: Rules) -> Iterator[tar.Member]:
    """Yield the images and videos of an archive that the rules keep."""
    shown = f"{archive}/" if archive else ""
    for batch in batched(tar.tar_members(prefix + archive, lambda name: rules.omissions.add("loops", shown + name))):
        wanted = {*rules.keep(rules.outside_system_folders([member.name for member in batch]), prefix=shown)}
        others = [shown + member.name for member in batch if member.name in wanted and not kind_by_name(member.name)]
        rules.omissions.add("other_members", *others)
        yield from (member for member in batch if member.name in wanted and kind_by_name(member.name))


def _explain_repeated(tables: Sequence[pa.Table], item: str) -> str:
    """Return what to do about a key that several members of archives share, by the names of the first two."""
    found = (table.filter(pc.equal(table.column("item_id"), item)).column("uri").to_pylist() for table in tables)
    names = [storage.name_of_range(uri) for uris in found for uri in uris][:2]
    if len({*names}) == 1:
        return f"it holds {names[0]} more than once; pack it again without the older one"
    endings = [f"*.{name.rpartition('/')[2].partition('.')[2]}" for name in names]
    return (
        f"{' and '.join(names)} share a key; leave one kind out, as with --exclude '{endings[-1]}', or pass --tar-ids "
        "name for ids with the ending"
    )


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
                uri,
                "it holds NUL, expected one path a line, in UTF-16 only with a byte order mark",
                "write it with `find … -print`, not -print0",
            )
        *lines, rest = (rest + more).split(end)
        yield from filter(None, (line.removesuffix("\r") for line in lines))
        more = text.read(PIECE_CHARACTERS)
    if last := rest.removesuffix("\r"):
        yield last
