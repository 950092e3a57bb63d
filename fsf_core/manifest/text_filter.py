"""Row filters over lists whose values are text (CSV, JSON): numbers are compared with the numbers that are written.

A comparison with a number or with true or false reads the text as such; one with text compares the text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ConfigError, ManifestError
from fsf_core.expressions import Compound
from fsf_core.manifest import row_filter
from fsf_core.manifest.column_types import convert, row_that_fails, shown
from fsf_core.manifest.row_filter import Comparison, Condition
from fsf_core.manifest.rows import TextColumns

_EXACT = 1 << 53
"""Integers below it are exact as float64."""

_NUMBER, _BOOLEAN = "\0number", "\0boolean"
"""What the names of the columns end in that hold the text of others as numbers and as booleans."""

_KINDS = {_NUMBER: pa.float64(), _BOOLEAN: pa.bool_()}
_EXPECTED = {_NUMBER: "a number", _BOOLEAN: "true or false"}


def matching(uri: str, tables: Iterable[pa.Table], condition: Condition, texts: TextColumns) -> Iterator[pa.Table]:
    """Yield the rows that match a condition.

    Args:
        uri: the list, for messages.
        tables: all of its rows, in order; the first may be empty.
        condition: on its columns.
        texts: those of them that are text.

    Raises:
        ConfigError: the condition does not fit the columns.
        ManifestError: a text that is compared with a number is none.
    """
    rewritten = _rewritten(condition, texts)
    read = sorted(name for name in row_filter.columns(rewritten) if name.endswith((_NUMBER, _BOOLEAN)))
    chosen = None
    first = 0
    for table in tables:
        wide = table
        for name in read:
            column, _, suffix = name.rpartition("\0")
            wide = wide.append_column(name, _as_values(uri, table.column(column), f"\0{suffix}", column, first))
        chosen = row_filter.expression(rewritten, wide.schema) if chosen is None else chosen
        yield wide.filter(chosen).select(table.column_names)
        first += table.num_rows


def require_fit(condition: Condition, schema: pa.Schema, texts: TextColumns) -> None:
    """Check that a condition fits the columns.

    Raises:
        ConfigError: it does not.
    """
    missing = sorted(row_filter.columns(condition) - {*schema.names})
    if missing:
        row_filter.expression(condition, schema)  # raises
    for _ in matching("", [schema.empty_table()], condition, texts):
        pass


def _rewritten(condition: Condition, texts: TextColumns) -> Condition:
    """Let comparisons of text with numbers and booleans name the columns that hold them."""
    if isinstance(condition, Compound):
        return replace(condition, parts=tuple(_rewritten(part, texts) for part in condition.parts))
    if condition.column not in texts.names:
        return condition
    if condition.operator == "null":
        empty = Comparison(column=condition.column, operator="==", values=("",))
        return Compound(operator="or", parts=(condition, empty)) if texts.empty_is_null else condition
    if all(isinstance(value, bool) for value in condition.values):
        return replace(condition, column=condition.column + _BOOLEAN)
    if any(isinstance(value, bool | str) for value in condition.values):
        return condition
    too_large = [value for value in condition.values if isinstance(value, int) and abs(value) >= _EXACT]
    if too_large:
        raise ConfigError(
            f"--where compares the text column {condition.column!r} with {too_large[0]}, expected a number below "
            "2**53; quote it to compare the text, or give the column a type with --column-types"
        )
    return replace(condition, column=condition.column + _NUMBER)


def _as_values(uri: str, column: pa.ChunkedArray, suffix: str, name: str, first: int) -> pa.ChunkedArray:
    """Return the text of a column as numbers or booleans."""
    kind, values = _KINDS[suffix], column.combine_chunks()
    try:
        return pa.chunked_array([convert(values, kind)])
    except pa.ArrowInvalid:
        row = row_that_fails(values, kind)
        raise ManifestError(
            f"{storage.redact(uri)} has {shown(values[row].as_py())} in the column {name!r} in row {first + row} (the "
            f"first is 0), expected {_EXPECTED[suffix]}, because --where compares it with one; correct the value, or "
            "quote the value of --where to compare text"
        ) from None
