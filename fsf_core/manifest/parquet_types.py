"""Arrow types of Parquet columns: views as plain types, and the type that holds the values of two. Reads no files."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.manifest.rows import OWN_COLUMNS


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema without view types, for which Arrow lacks functions such as take and filter."""
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema])


def as_plain(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in the types of a schema with the same columns."""
    for at, field in enumerate(schema):
        if table.field(at).type != field.type:
            chunks = [_plain_array(chunk, field.type) for chunk in table.column(at).chunks]
            table = table.set_column(at, field, pa.chunked_array(chunks, field.type))
    return table


def _plain_array(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return values in their plain type.

    Raises:
        ArrowInvalid: Arrow converts them wrongly.
    """
    if values.type == kind:
        return values
    if pa.types.is_struct(kind):
        inner = [_plain_array(child, field.type) for child, field in zip(values.flatten(), kind, strict=True)]
        return pa.StructArray.from_arrays(inner, fields=[*kind], mask=values.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        # Arrow 25 casts a list view that ends with an empty or null list to an array without its last offset.
        lengths = pc.fill_null(pc.list_value_length(values), 0)
        index = pa.int32() if pa.types.is_list(kind) else pa.int64()
        offsets = pa.concat_arrays([pa.array([0], index), pc.cumulative_sum(lengths).cast(index)])
        lists = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        child = _plain_array(values.flatten(), kind.value_type)
        return lists.from_arrays(offsets, child, type=kind, mask=values.is_null())
    plain = values.cast(kind)
    plain.validate()
    return plain


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with the same values that is not, and does not hold, a view."""
    return next((plain(kind) for holds, plain in _PLAIN if holds(kind)), kind)


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


_PLAIN: tuple[tuple[Callable[[Any], bool], Callable[[Any], pa.DataType]], ...] = (
    (pa.types.is_string_view, lambda _: pa.string()),
    (pa.types.is_binary_view, lambda _: pa.binary()),
    (pa.types.is_struct, lambda kind: pa.struct([_plain_field(field) for field in kind])),
    (
        pa.types.is_map,
        lambda kind: pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field), keys_sorted=kind.keys_sorted),
    ),
    (pa.types.is_fixed_size_list, lambda kind: pa.list_(_plain_field(kind.value_field), kind.list_size)),
    (pa.types.is_large_list, lambda kind: pa.large_list(_plain_field(kind.value_field))),
    (pa.types.is_large_list_view, lambda kind: pa.large_list(_plain_field(kind.value_field))),
    (pa.types.is_list, lambda kind: pa.list_(_plain_field(kind.value_field))),
    (pa.types.is_list_view, lambda kind: pa.list_(_plain_field(kind.value_field))),
)
"""Tests of types, and the plain type of those that pass; others are plain."""


def common_type(name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of a column that has two types; None if there is none.

    Whole numbers and text are text; the columns of the item itself become text in the end, whatever they are.
    """
    one, other = _stored(one), _stored(other)
    if one == other:
        return one
    fields = [pa.schema([pa.field(name, kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        kinds = (one, other)
        as_text = any(map(pa.types.is_integer, kinds)) and any(map(_is_text, kinds))
        return pa.string() if as_text or name in OWN_COLUMNS else None


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of an extension or dictionary type."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
