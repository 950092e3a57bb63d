"""The columns of a table of items: ids and addresses made uniform, the others passed through."""

from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest.rows import KINDS, NAMES_SHOWN, OWN_COLUMNS, Read
from fsf_core.schema import MASKS


def extra_columns(uri: str, schema: pa.Schema) -> pa.Schema:
    """The pass-through columns of a table that has what it needs."""
    if "uri" not in schema.names:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {schema.names}, expected one named `uri`; rename the column"
        )
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise ManifestError(f"{storage.redact(uri)} has the columns {twice} more than once; rename or drop them")
    extra = pa.schema([_extra_field(field) for field in schema if field.name not in OWN_COLUMNS])
    taken = sorted({*extra.names} & {*MASKS.names})
    if taken:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {taken}, which the masks table has too; rename them, since all "
            "columns but id, uri and kind are passed through"
        )
    return extra


def _extra_field(field: pa.Field) -> pa.Field:
    """A pass-through column as it is written: values in plain types, and text where there is not a single value."""
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind)


def normalised(uri: str, base: str, raw: Read, extra: pa.Schema) -> Iterator[pa.Table]:
    """Give every batch the common columns: ids as text, absolute URIs, checked kinds, the rest in one struct."""
    for table in raw():
        if not table.num_rows:
            continue
        given = table.column("uri").cast(pa.string()).combine_chunks()
        ids = _text_column(table, "id", default=_redacted(given))
        kinds = _text_column(table, "kind", default=pa.nulls(len(given), pa.string()))
        columns = {"item_id": ids, "uri": _absolute(given, base), "kind": _checked_kinds(uri, kinds)}
        if len(extra):
            rest = [table.column(field.name).cast(field.type).combine_chunks() for field in extra]
            columns["extra"] = pa.StructArray.from_arrays(rest, fields=list(extra))
        yield pa.table(columns)


def _redacted(given: pa.Array) -> pa.Array:
    """URIs as ids, without credentials; a null becomes empty. Only what may hold some is looked at row by row."""
    given = pc.fill_null(given, "")
    doubtful = pc.and_(pc.match_substring(given, "://"), pc.match_substring_regex(given, "[@?]"))
    return _one_by_one(given, doubtful, storage.redact)


def _absolute(given: pa.Array, base: str) -> pa.Array:
    """URIs as every process understands them. Addresses, and plain absolute paths, are so already."""
    given = pc.fill_null(given, "")
    settled = pc.or_(
        pc.match_substring_regex(given, r"^[a-zA-Z][a-zA-Z0-9+.\-]+://"),
        pc.and_(pc.starts_with(given, "/"), pc.invert(pc.match_substring_regex(given, r"//|/\.(/|$)|/$"))),
    )
    return _one_by_one(given, pc.invert(settled), lambda text: storage.absolute(text, base) if text else "")


def _one_by_one(given: pa.Array, chosen: pa.Array, change: Callable[[str], str]) -> pa.Array:
    if not pc.any(chosen).as_py():
        return given
    return pc.replace_with_mask(given, chosen, pa.array([*map(change, given.filter(chosen).to_pylist())], pa.string()))


def _text_column(table: pa.Table, name: str, *, default: pa.Array) -> pa.ChunkedArray:
    return table.column(name).cast(pa.string()) if name in table.column_names else pa.chunked_array([default])


def _checked_kinds(uri: str, kinds: pa.ChunkedArray) -> pa.ChunkedArray:
    kinds = pc.if_else(pc.equal(kinds, ""), None, kinds)
    unknown = sorted(set(pc.unique(kinds).to_pylist()) - {*KINDS, None})
    if unknown:
        raise ManifestError(
            f"{storage.redact(uri)} has the kinds {unknown[:NAMES_SHOWN]}, expected image, video or nothing; correct "
            "the column, or rename it"
        )
    return kinds
