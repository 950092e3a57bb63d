"""Lists without columns of their own: folders and globs of media, texts of paths, tar archives, one file."""

import io
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.manifest import members
from fsf_core.manifest.rows import ROWS, Read, batched, id_array
from fsf_core.manifest.suffixes import kind_by_name, suffix_of


def _listed(prefix: str, names: list[pa.Array]) -> Read:
    """A reader over names below a prefix. They are held in memory, because a second listing might differ."""

    def read() -> Iterator[pa.Table]:
        for ids in names:
            uris = pc.binary_join_element_wise(pa.scalar(prefix), ids, "")
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(ids), pa.string())}, schema=ROWS)

    return read


def one_file(uri: str) -> Read:
    """A single media file; one that cannot be opened is a mistake in the command, not a bad item."""
    with storage.open_binary(uri):
        name = PurePosixPath(storage.without_query(uri)).name
    table = pa.table({"item_id": id_array(uri, [name]), "uri": [uri], "kind": pa.nulls(1, pa.string())}, schema=ROWS)
    return lambda: iter([table])


def media_folder(uri: str) -> tuple[Read, int]:
    """The media of a folder by their names below it, and how many other files there are."""
    prefix, names, left_out = uri, [], 0
    for entries in batched(storage.list_files(uri)):
        media = [entry for entry in entries if kind_by_name(entry.relative)]
        left_out += len(entries) - len(media)
        if media:
            prefix = media[0].uri.removesuffix(media[0].relative)
            names.append(id_array(uri, [entry.relative for entry in media]))
    return _listed(prefix, names), left_out


def media_glob(pattern: str) -> Read:
    """Ids of a glob are paths below the folder before the first wildcard; tar archives alone are opened."""
    prefix = storage.join(storage.fixed_folder(pattern), "")
    found = [uri.removeprefix(prefix) for uri in storage.glob(pattern)]
    if found and all(suffix_of(name) == ".tar" for name in found):
        return tar_archives(prefix, found)
    return _listed(prefix, [id_array(pattern, some) for some in batched(found)])


def tar_archives(prefix: str, names: Sequence[str]) -> Read:
    """The media of tar archives. Their ids are their keys; behind the archive's name where there may be several.

    Headers are read once, one archive after the other, and what they say is held in memory.
    """
    tables = []
    for name in names:
        before = f"{name.removesuffix('.tar')}/" if name else ""
        for some in batched(each for each in members.tar_members(prefix + name) if kind_by_name(each.name)):
            keys = id_array(prefix + name, [before + each.key for each in some])
            kinds = pa.nulls(len(some), pa.string())
            tables.append(pa.table([keys, pa.array([each.uri for each in some]), kinds], schema=ROWS))
    return lambda: iter(tables)


def text_of_paths(uri: str) -> Iterator[pa.Table]:
    """One path or URI a line; empty lines and lines that start with # are left out. The line is the id."""
    base = storage.parent(uri)
    with storage.open_binary(uri) as file, io.TextIOWrapper(file, "utf-8-sig") as lines:
        for some in batched(lines):
            given = [line.strip() for line in some if line.strip() and not line.lstrip().startswith("#")]
            ids = id_array(uri, map(storage.redact, given))
            uris = pa.array([storage.absolute(line, base) for line in given], pa.string())
            yield pa.table({"item_id": ids, "uri": uris, "kind": pa.nulls(len(given), pa.string())}, schema=ROWS)
