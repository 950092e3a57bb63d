"""Where masks and labels are: a run, a folder, a pattern, a file, or a manifest with label_uri.

Lists and names them. Opens no mask and no label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.analysis.metrics.groups import require_groupable
from fsf_core.analysis.metrics.pairing import Named, name_in_pattern, without_suffix
from fsf_core.errors import ConfigError, DecodeError, ItemError, ManifestError
from fsf_core.manifest import kind_by_name, open_manifest
from fsf_core.manifest.frame_labels import numbered_pngs
from fsf_core.manifest.rows import LABEL_COLUMN
from fsf_core.media import video
from fsf_core.schema import MASKS, is_own

_WEB = frozenset({"http", "https"})
_HEAD_BYTES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Properties of items that metrics can be grouped by."""

    known: tuple[str, ...] = ()
    values: pa.Table = field(default_factory=lambda: pa.table({"item_id": pa.array([], pa.string())}))
    """item_id and those that were asked for, one row per item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Masks:
    """The predicted masks."""

    named: list[Named]
    uris: list[str]
    """Of each; empty where they are rows of a run."""
    run: runs.RunReader | None = None
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The labels."""

    named: list[Named]
    uris: list[str]
    of_manifest: bool = False
    """Whether the names are ids of a manifest's items."""
    access: storage.Access | None = None
    """Which of the addresses may be opened; None for any: they are the user's own."""
    videos: dict[str, video.VideoIndex] = field(default_factory=dict)
    """Label videos by address; they are the address of each of their frames."""
    unreadable: list[tuple[str, str, ItemError]] = field(default_factory=list)
    """Item, address and error of labels of videos that cannot be listed."""
    columns: Columns = field(default_factory=Columns)


def find_masks(where: str, *, by: Sequence[str] = ()) -> Masks:
    """Find the masks of a run, a folder, a pattern or a file.

    Args:
        where: path or URI.
        by: columns that are read of a run.

    Raises:
        ConfigError: there is nothing of that name, or no PNG.
        OutputError: it is a run that cannot be read.
    """
    folder = runs.find_run(where)
    if storage.exists(storage.join(folder, "run.json")):
        return _masks_of_run(runs.open_run(folder), by)
    named, uris = _files_of(storage.absolute(where), where, "masks")
    return Masks(named=named, uris=uris)


def find_labels(where: str, *, by: Sequence[str] = (), access: storage.Access | None = None) -> Labels:
    """Find the labels of a folder, a pattern, a file or a manifest.

    Args:
        where: path or URI.
        by: columns that are read of a manifest.
        access: which addresses of a manifest may be opened.

    Raises:
        ConfigError: there is nothing of that name.
        ManifestError: it is a list without labels, or an unreadable one.
    """
    uri = storage.absolute(where)
    if _is_pattern(uri) or storage.is_folder(uri) or kind_by_name(uri) == "image":
        named, uris = _files_of(uri, where, "labels")
        return Labels(named=named, uris=uris)
    if not storage.exists(uri):
        raise _nothing(where, "labels")
    return _labels_of_manifest(uri, by, access)


def are_same(masks: str, labels: str) -> bool:
    """Return whether both are one place, where every mask would be its own label."""
    return storage.canonical(storage.absolute(masks)) == storage.canonical(storage.absolute(labels))


def _masks_of_run(run: runs.RunReader, by: Sequence[str]) -> Masks:
    """Name the masks of a run, in the order of its tables."""
    named: list[Named] = []
    paged = runs.paged_items(run.uri)
    for batch in run.iter_batches("masks", columns=["item_id", "frame_index", "pts_s", "uri"], batch_rows=1 << 16):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        named += [
            Named(item_id, None if time_s is None and item_id not in paged else frame, uri)
            for item_id, frame, time_s, uri in rows
        ]
    return Masks(named=named, uris=[], run=run, columns=columns_of_run(run, by) if by else Columns())


def columns_of_run(run: runs.RunReader, by: Sequence[str]) -> Columns:
    """Return the columns that a run's manifest passed through, and the values of those asked for."""
    schema = next((batch.schema for batch in run.iter_batches("masks", batch_rows=1)), MASKS)
    known = tuple(each.name for each in schema if not is_own(each))
    wanted = [name for name in by if name in known]
    if not wanted:
        return Columns(known=known)
    require_groupable(schema, wanted)
    rows = run.masks(columns=["item_id", *wanted])
    firsts = rows.group_by("item_id", use_threads=False).aggregate([(name, "first") for name in wanted])
    return Columns(known=known, values=firsts.rename_columns({f"{name}_first": name for name in wanted}))


def _labels_of_manifest(uri: str, by: Sequence[str], access: storage.Access | None) -> Labels:
    """Name the labels of a manifest by its ids, those of videos frame by frame.

    Raises:
        ManifestError: it has no column of labels.
        ConfigError: groups cannot be made of a column.
    """
    manifest = open_manifest(uri)
    if not manifest.has_labels:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {['uri', *manifest.extra.names]}, expected one named "
            f"`{LABEL_COLUMN}` with the path or URI of each item's label; add it, or pass a folder of labels"
        )
    known = tuple(name for name in manifest.extra.names if name != LABEL_COLUMN)
    wanted = [name for name in by if name in known]
    require_groupable(manifest.extra, wanted)
    labels = Labels(named=[], uris=[], of_manifest=True, access=access)
    tables: list[pa.Table] = []
    for batch in manifest.batches():
        rows = zip(*(batch.column(name).to_pylist() for name in ("item_id", "uri", LABEL_COLUMN)), strict=True)
        for item_id, source, label in rows:
            try:
                for frame, address in _labels_of_item(label, labels) if label else ():
                    labels.named.append(Named(item_id, frame, source))
                    labels.uris.append(address)
            except ItemError as error:
                labels.unreadable.append((item_id, label, error))
        values = {"item_id": batch.column("item_id").combine_chunks()}
        if wanted:
            extra = batch.column("extra").combine_chunks()
            values |= {name: extra.field(name) for name in wanted}
        tables.append(pa.table(values))
    columns = Columns(known=known, values=pa.concat_tables(tables))
    return replace(labels, columns=columns)


def _labels_of_item(uri: str, labels: Labels) -> Iterator[tuple[int | None, str]]:
    """Yield frame and address of each label of an item: one for an image, one per frame of a video.

    Raises:
        ItemError: the address may not be opened, or the label video is unreadable or changes values.
    """
    if labels.access is not None:
        labels.access.require(uri)
    if kind_by_name(uri) == "image":
        yield None, uri
    elif storage.scheme(uri) not in _WEB and storage.is_folder(uri):
        yield from ((frame, storage.join(uri, name)) for frame, name in numbered_pngs(uri).items())
    elif index := _index_video(uri, labels.access):
        labels.videos[uri] = index
        yield from ((frame, uri) for frame in range(index.frames))
    else:
        yield None, uri


def _index_video(uri: str, access: storage.Access | None) -> video.VideoIndex | None:
    """Return the frames of a label video; None if the file is no video.

    Raises:
        ItemError: it cannot be read, is incomplete, or does not keep values.
    """
    with storage.open_binary(uri, access) as file:
        if not video.sniff_container(file.read(_HEAD_BYTES)):
            return None
        source = storage.path_or_file(uri, file)
        video.require_stored_values(source)
        index = video.index_video(source)
    if index.shortfall:
        raise DecodeError(f"the label video {storage.redact(uri)} is incomplete: {index.shortfall}")
    return index


def _files_of(uri: str, shown: str, what: str) -> tuple[list[Named], list[str]]:
    """Return names and URIs of the PNGs of a folder, the files of a pattern, or one file.

    Raises:
        ConfigError: there are none.
    """
    found = sorted(_named_files(uri, shown, what))
    if not found:
        raise ConfigError(
            f"{storage.redact(shown)} holds no PNG, expected {what} as PNG files; check the path, or pass a pattern "
            "such as 'folder/*.label.png'"
        )
    return [Named(name, may_be_frame=True) for name, _ in found], [address for _, address in found]


def _named_files(uri: str, shown: str, what: str) -> Iterator[tuple[str, str]]:
    """Yield names and URIs. A file's kind is read from its content later: a pattern may match any suffix.

    Raises:
        ConfigError: there is nothing of that name.
    """
    if _is_pattern(uri):
        base = storage.join(storage.fixed_folder(uri), "")
        for found in storage.glob(uri):
            yield name_in_pattern(uri.removeprefix(base), found.removeprefix(base)), found
    elif storage.is_folder(uri):
        images = [each for each in storage.list_files(uri) if kind_by_name(each.relative) == "image"]
        pngs = [each for each in images if each.relative.lower().endswith(".png")]
        for each in pngs or images:
            yield without_suffix(each.relative), each.uri
    elif storage.exists(uri):
        yield without_suffix(uri.rpartition("/")[2]), uri
    else:
        raise _nothing(shown, what)


def _is_pattern(uri: str) -> bool:
    return any(sign in storage.without_query(uri) for sign in "*?[") and not storage.exists(uri)


def _nothing(where: str, what: str) -> ConfigError:
    kinds = {"masks": "a run, a folder of PNGs", "labels": "a folder of PNGs, a manifest with label_uri"}
    return ConfigError(
        f"found nothing at {storage.redact(where)}, expected {kinds[what]}, a pattern or a file; check the path"
    )
