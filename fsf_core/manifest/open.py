"""Opening a list of any kind: recognize it, read it once and check it."""

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ConfigError, FetchError, ManifestError, StorageError
from fsf_core.manifest import row_filter
from fsf_core.manifest.column_types import ColumnTypes
from fsf_core.manifest.left_out import FILES, LeftOut, Rules, exclusion
from fsf_core.manifest.readers import Place, item_reader, locate
from fsf_core.manifest.results import ResultFolders
from fsf_core.manifest.row_digests import row_digests
from fsf_core.manifest.rows import LABEL_COLUMN, NAMES_SHOWN, ReadBatches, TextColumns, as_manifest_error
from fsf_core.manifest.selection import EVERYTHING, Selection, select_items
from fsf_core.manifest.unique_ids import check_ids

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked list of items that can be read again and again."""

    uri: str
    """Absolute URI of the list."""
    address: str
    """The same text however the list is named, for comparing: links resolved, without credentials and signatures."""
    items: int
    """Number of items."""
    extra: pa.Schema
    """Pass-through columns: all but id, uri and kind."""
    texts: TextColumns | None
    """Which columns of the list are text as it is written; None for a list with types of its own, or no columns."""
    omissions: tuple[LeftOut, ...]
    """Files of a folder, a glob or an archive that are no items, by reason."""
    _folder: str
    _read: ReadBatches

    @property
    def left_out(self) -> int:
        """Number of files of a folder, a glob or an archive that are no items."""
        return sum(one.count for one in self.omissions if one.reason in FILES)

    @property
    def has_labels(self) -> bool:
        """Whether the list has a column of labels, which may be empty for some items or all."""
        return LABEL_COLUMN in self.extra.names

    def batches(self) -> Iterator[pa.Table]:
        """Yield tables of at most 65,536 items: item_id, uri (absolute), kind (null: by content), extra (struct).

        A list with labels has the column label_uri besides: absolute, null for an item without a label.
        """
        return self._read()

    def digests(self, rows: pa.Table) -> pa.Array:
        """Return the digest of each of the rows, binary(8): it changes with the item's address and columns."""
        return row_digests(rows, self._folder)


def open_manifest(
    uri: str,
    selection: Selection = EVERYTHING,
    *,
    outputs: Collection[str] = (),
    column_types: ColumnTypes = MappingProxyType({}),
) -> Manifest:
    """Read a whole list once and check it. Runs below a folder or glob are left out.

    Args:
        uri: a Parquet, CSV, TSV or JSON Lines file, a text file of paths, a tar archive, a media file, a glob, or a
            folder of media, Parquet files or tar archives.
        selection: the items to score; the others are not checked.
        outputs: folders that the job writes, which are left out too, whether they exist or not.
        column_types: of pass-through columns of a CSV, TSV or JSON list, whose values are text otherwise.

    Raises:
        ManifestError: the list is unreadable, empty or without a `uri` column, or has missing or repeated ids or an
            unknown kind.
        ConfigError: the condition or the types do not fit the columns.
    """
    uri = storage.absolute(uri)
    if storage.is_stream(uri):
        raise ManifestError(
            f"{uri} is a pipe or a device, expected a file: a job reads its list several times, and again when it is "
            "resumed; write the list to a file first (`find photos -type f > list.txt`) and pass that"
        )
    condition = row_filter.parse(selection.where) if selection.where else None
    try:
        with as_manifest_error(uri):
            place, folder = locate(uri)
            rules = _rules(folder, outputs, selection)
            results = rules.results
            reader = item_reader(uri, place, condition, selection=selection, rules=rules, types=column_types)
            read = select_items(reader.read, selection)
            items = check_ids(uri, read, reader.explain_repeated)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
    if results.found:
        shown = [storage.redact(found) for found in results.found[:NAMES_SHOWN]]
        log.info("event=results_left_out folders=%d first=%r", len(results.found), shown)
    omissions = rules.omissions.found()
    for one in omissions:
        log.info("event=files_left_out reason=%s files=%d first=%r", one.reason, one.count, one.first)
    if not items:
        hint = f" (left out: {'; '.join(map(str, omissions))})" if omissions else ""
        hint += f" ({len(results.found)} folders are runs or outputs of this job)" if results.found else ""
        chosen = f" under {selection.facts()}" if selection.facts() else ""
        raise ManifestError(
            f"{storage.redact(uri)} lists no items{chosen}{hint}, expected at least one; check the path"
            + (" and the selection" if chosen else "")
        )
    return Manifest(
        uri=uri,
        address=_address(uri, place, folder),
        items=items,
        extra=reader.extra,
        texts=reader.texts,
        omissions=omissions,
        _folder=folder,
        _read=read,
    )


def _rules(folder: str, outputs: Collection[str], selection: Selection) -> Rules:
    """Return what leaves files of a folder out.

    Raises:
        ConfigError: a pattern of --exclude is none.
    """
    try:
        exclusion(selection.exclude)
    except (ValueError, re.error) as error:
        raise ConfigError(
            f"--exclude is {','.join(selection.exclude)}, expected patterns with *, ** between slashes, ? and [...]: "
            f"{error}; correct it"
        ) from error
    return Rules(results=ResultFolders(folder, outputs), exclude=selection.exclude)


def _address(uri: str, place: Place, folder: str) -> str:
    """Return the address of a list; a link to a file keeps its name, because relative paths count from its folder."""
    if place == "folder" or not storage.is_local(uri):
        return storage.canonical(uri)
    return storage.join(storage.canonical(folder), uri.removeprefix(storage.join(folder, "")))


def list_address(uri: str) -> str:
    """Return the address of a list; see Manifest."""
    absolute = storage.absolute(uri)
    return _address(absolute, *locate(absolute))


def unredacted_uris(manifest: Manifest, item_ids: Collection[str]) -> dict[str, str]:
    """Return item id to URI for those of the given items whose URI holds a credential; tables of a run never do."""
    wanted = pa.array(sorted(item_ids), pa.string())
    found: dict[str, str] = {}
    for batch in manifest.batches() if item_ids else ():
        rows = batch.select(["item_id", "uri"]).filter(pc.is_in(batch.column("item_id"), wanted)).to_pylist()
        found |= {row["item_id"]: row["uri"] for row in rows if storage.redact(row["uri"]) != row["uri"]}
    return found
