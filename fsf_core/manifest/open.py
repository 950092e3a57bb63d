"""Opening a list of any kind: recognize it, read it once and check it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.manifest import row_filter
from fsf_core.manifest.readers import item_reader
from fsf_core.manifest.rows import ReadBatches, as_manifest_error
from fsf_core.manifest.selection import EVERYTHING, Selection, select_items
from fsf_core.manifest.unique_ids import check_ids


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked list of items that can be read again and again."""

    uri: str
    """Absolute URI of the list."""
    items: int
    """Number of items."""
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
        with as_manifest_error(uri):
            reader = item_reader(uri, condition)
            read = select_items(reader.read, selection)
            items = check_ids(uri, read)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error
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
