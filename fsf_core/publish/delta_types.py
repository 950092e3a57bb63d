"""Arrow types in the form that Delta has: every value fits, only nanoseconds are cut to microseconds.

Delta has signed integers, decimals of 38 digits, microseconds, and no times of day, durations or intervals; it compares
names without regard to case. Knows types and tables of Arrow; opens nothing.
"""

from collections import defaultdict
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_OTHERS = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
}

MAX_DIGITS = 38
"""Most digits of a decimal."""

DO = "leave it out of the manifest, or give it a type that Delta has"


def delta_schema(schema: pa.Schema, existing: pa.Schema | None = None) -> pa.Schema:
    """Return the columns of a table as Delta has them.

    Args:
        schema: the columns.
        existing: columns of the Delta table, where there is one: integers there keep their width, because earlier
            versions wrote unsigned integers in it.

    Raises:
        ValueError: Delta has no such type, or takes two names for one; the message names the column.
    """
    same: dict[str, list[str]] = defaultdict(list)
    for name in schema.names:
        same[name.lower()].append(name)
    for names in same.values():
        if len(names) > 1:
            raise ValueError(f"its columns {names} are one name in Delta, which ignores case; rename them")
    return pa.schema([field.with_type(_column_type(field, existing)) for field in schema])


def as_delta(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in the columns of `delta_schema`.

    Raises:
        ValueError: a value does not fit; the message names the column.
    """
    columns = []
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            column = _cast(column, field)
        columns.append(column)
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        if _has_nanoseconds(column.type):
            return pc.cast(column, field.type, safe=False)  # 64 bits of nanoseconds always fit
        return pc.cast(column, field.type)
    except pa.ArrowInvalid as error:
        raise ValueError(f"its column {field.name!r} has a value that does not fit {field.type}: {error}") from error


def _column_type(field: pa.Field, existing: pa.Schema | None) -> pa.DataType:
    found = existing.field(field.name).type if existing is not None and field.name in existing.names else None
    if found is not None and pa.types.is_unsigned_integer(field.type) and pa.types.is_signed_integer(found):
        return found
    try:
        return _type(field.type)
    except TypeError as error:
        raise ValueError(f"its column {field.name!r} is {field.type}, and {error}; {DO}") from None


def _type(kind: pa.DataType) -> pa.DataType:
    """Return a type in the form that Delta has.

    Raises:
        TypeError: it has none.
    """
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind in _OTHERS:
        return _OTHERS[kind]
    if pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise TypeError(f"Delta has no {kind}")
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if pa.types.is_decimal(kind):
        return _decimal(kind)
    return _nested(kind) if pa.types.is_nested(kind) else kind


def _decimal(kind: pa.DataType) -> pa.DataType:
    digits, scale = kind.precision - min(0, kind.scale), max(0, kind.scale)
    if digits > MAX_DIGITS:
        raise TypeError(f"Delta has decimals of up to {MAX_DIGITS} digits")
    return pa.decimal128(digits, scale)


def _nested(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        _require_names(kind)
        return pa.struct([field.with_type(_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_type(kind.key_type), _type(kind.item_type))
    if isinstance(kind, pa.RunEndEncodedType) or not hasattr(kind, "value_type"):
        raise TypeError("Delta has no such type")
    inner = _type(kind.value_type)
    return kind if inner == kind.value_type else pa.list_(inner)


def _require_names(kind: pa.StructType) -> None:
    names = [field.name.lower() for field in kind]
    if not names or len({*names}) < len(names):
        raise TypeError("Delta has no structs without fields, nor with two names that differ in case alone")


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return bool(kind.unit == "ns")
    return any(_has_nanoseconds(inner) for inner in _inner_types(kind))


def _inner_types(kind: pa.DataType) -> Iterable[pa.DataType]:
    if not pa.types.is_nested(kind):
        return []
    return [kind.field(index).type for index in range(kind.num_fields)]
