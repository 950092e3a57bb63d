"""The columns of a table of items: ids and URIs in one form, the others passed through. Reads no files."""

from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import members
from fsf_core.manifest.frames import not_passed
from fsf_core.manifest.rows import LABEL_COLUMN, NAMES_SHOWN, OWN_COLUMNS, ReadBatches
from fsf_core.schema import LATER_COLUMNS, MASKS

KINDS = ("image", "video")
"""Values of the column `kind`; empty or null leaves it to the content."""


def pass_through_schema(uri: str, schema: pa.Schema) -> pa.Schema:
    """Return the pass-through columns of a table of items.

    Raises:
        ManifestError: there is no `uri` column, a name occurs twice, `label_uri` is not text, or the masks table has a
            column of that name, in capitals or not.
    """
    read = (*OWN_COLUMNS, LABEL_COLUMN)
    blank = [name for name in schema.names if name not in read and name.strip() in read]
    if blank:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {schema.names}, expected names without blanks around them: the "
            f"column {blank[0]!r} has blanks around its name; remove them, in the cells of the column too"
        )
    if "uri" not in schema.names:
        meant = "".join(f" {name!r}" for name in schema.names if name.lower() == "uri")
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {schema.names}, expected one named `uri`; rename the column{meant}"
        )
    repeated = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if repeated:
        raise ManifestError(f"{storage.redact(uri)} has the columns {repeated} more than once; rename or drop them")
    own = {*OWN_COLUMNS, *not_passed(schema.names)}
    extra = pa.schema([_pass_through_field(field) for field in schema if field.name not in own])
    _require_label_column(uri, extra)
    # Without regard to case, as DuckDB and Delta compare names.
    reserved = sorted(name for name in extra.names if name.lower() in MASKS.names)
    if reserved:
        later = ", ".join(f"`{name}`" for name in reserved if name.lower() in LATER_COLUMNS)
        newer = f"; a run that an earlier version began with a column {later} keeps it, and is finished by that version"
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {reserved}, which the masks table has too; rename them, since all "
            f"columns but id, uri and kind are passed through{newer if later else ''}"
        )
    return extra


def _require_label_column(uri: str, extra: pa.Schema) -> None:
    """Check that a column that names labels is read as one: a misspelt one would leave every item unlabelled.

    Raises:
        ManifestError: its name has capitals, or it does not hold text.
    """
    for field in extra:
        if field.name.lower() != LABEL_COLUMN:
            continue
        if field.name != LABEL_COLUMN:
            raise ManifestError(
                f"{storage.redact(uri)} has the column {field.name!r}, expected the name `{LABEL_COLUMN}` for the "
                "addresses of labels; rename it"
            )
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            raise ManifestError(
                f"{storage.redact(uri)} has the column `{LABEL_COLUMN}` of the type {field.type}, expected text: the "
                "path or the URI of each item's label; correct the column, or rename it"
            )


def _pass_through_field(field: pa.Field) -> pa.Field:
    """Unpack extension and dictionary types; a column of nulls becomes text."""
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind)


def normalize_batches(uri: str, base: str, read: ReadBatches, extra: pa.Schema) -> Iterator[pa.Table]:
    """Yield the batches of a table in the columns of all lists.

    Args:
        uri: the list, for messages.
        base: folder that relative URIs count from.
        read: the table.
        extra: its pass-through columns, which become one struct.

    Raises:
        ManifestError: a kind is neither image nor video.
    """
    for table in read():
        if not table.num_rows:
            continue
        uris = pc.fill_null(table.column("uri").cast(pa.string()).combine_chunks(), "")
        ids = _text_column(table, "id", default=_redacted(uris))
        kinds = _text_column(table, "kind", default=pa.nulls(len(uris), pa.string()))
        uris = _replace_where(uris, members.names_part(uris), members.trusted)
        columns = {"item_id": ids, "uri": _absolute(uris, base), "kind": _checked_kinds(uri, kinds)}
        if len(extra):
            values = {field.name: table.column(field.name).cast(field.type).combine_chunks() for field in extra}
            if LABEL_COLUMN in values:
                columns[LABEL_COLUMN] = _label_addresses(values[LABEL_COLUMN], base)
                values[LABEL_COLUMN] = _redacted(values[LABEL_COLUMN])
            columns["extra"] = pa.StructArray.from_arrays([*values.values()], fields=list(extra))
        yield pa.table(columns)


def _label_addresses(written: pa.Array, base: str) -> pa.Array:
    """Return absolute addresses of labels; null where there is none. A list never names a part of a file."""
    uris = pc.fill_null(written.cast(pa.string()), "")
    uris = _absolute(_replace_where(uris, members.names_part(uris), storage.as_listed), base)
    return pc.if_else(pc.equal(uris, ""), pa.scalar(None, pa.string()), uris)


def _redacted(uris: pa.Array) -> pa.Array:
    """Remove credentials from URIs that are written to tables. Only URIs that may hold one leave Arrow."""
    suspects = pc.and_(pc.match_substring(uris, "://"), pc.match_substring_regex(uris, "[@?]"))
    return _replace_where(uris, suspects, storage.redact)


def _absolute(uris: pa.Array, base: str) -> pa.Array:
    """Make URIs absolute; an empty one stays empty. Only relative and untidy paths leave Arrow."""
    complete = pc.or_(
        pc.and_not(
            pc.match_substring_regex(uris, r"^[a-z][a-z0-9+.\-]+://"),
            pc.match_substring_regex(uris, r"^file://([^/]|$)"),
        ),
        pc.and_(pc.starts_with(uris, "/"), pc.invert(pc.match_substring_regex(uris, r"//|/\.(/|$)|/$"))),
    )
    return _replace_where(uris, pc.invert(complete), lambda uri: storage.absolute(uri, base) if uri else "")


def _replace_where(values: pa.Array, mask: pa.Array, change: Callable[[str], str]) -> pa.Array:
    if not pc.any(mask).as_py():
        return values
    return pc.replace_with_mask(values, mask, pa.array([*map(change, values.filter(mask).to_pylist())], values.type))


def _text_column(table: pa.Table, name: str, *, default: pa.Array) -> pa.ChunkedArray:
    return table.column(name).cast(pa.string()) if name in table.column_names else pa.chunked_array([default])


def _checked_kinds(uri: str, kinds: pa.ChunkedArray) -> pa.ChunkedArray:
    kinds = pc.if_else(pc.equal(kinds, ""), None, kinds)
    unknown = sorted(set(pc.unique(kinds).to_pylist()) - {*KINDS, None})
    if unknown:
        raise ManifestError(
            f"{storage.redact(uri)} has the kinds {unknown[:NAMES_SHOWN]}, expected image, video or an empty cell; "
            "correct the column, or rename it"
        )
    return kinds
