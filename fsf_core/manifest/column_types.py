"""Types for the columns of lists whose values are text (CSV, JSON): `plot=int64,day=date32`. Reads no files."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ConfigError, ManifestError, did_you_mean
from fsf_core.manifest.rows import OWN_COLUMNS

NULLS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
    "NaN", "n/a", "nan", "null",
)  # fmt: skip
"""Cells of a column with a type that are null: those of Arrow and pandas. In a column of text they are text."""

SHOWN_CHARACTERS = 40
"""Most characters of a value that a message shows."""

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), ?tz=([^\]]+)\]")
_DECIMAL = re.compile(r"decimal(?:128)?\((\d{1,2}), ?(\d{1,2})\)")
_TIME = r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?"

_KINDS = (
    pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_date,
    pa.types.is_time, pa.types.is_timestamp, pa.types.is_string, pa.types.is_large_string,
)  # fmt: skip
"""What text can be converted to."""

ColumnTypes = Mapping[str, pa.DataType]


def parse(texts: Iterable[str]) -> dict[str, pa.DataType]:
    """Return column to type of texts of the form name=type.

    Raises:
        ConfigError: one has another form or an unknown type, names `id`, `uri` or `kind`, or is given twice.
    """
    types: dict[str, pa.DataType] = {}
    for text in texts:
        match = re.fullmatch(r"(.+?)=((?:timestamp\[.*\])|[^=]+)", text, re.DOTALL)
        kind = _type(match[2]) if match else None
        if match is None or kind is None:
            raise ConfigError(
                f"--column-types has {text!r}, expected name=type with a type such as int64, float64, bool, date32, "
                "timestamp[us], time64[us], decimal128(10, 2) or string; correct it"
            )
        name = match[1]
        if name in OWN_COLUMNS:
            raise ConfigError(f"--column-types has {name!r}, which is always text; leave it out")
        if name in types:
            raise ConfigError(f"--column-types has {name!r} twice, expected one type; give it once")
        types[name] = kind
    return types


def option_of(types: Mapping[str, str]) -> str | None:
    """Return the value of --column-types that gives these types, by their names; None if none does."""
    texts = [f"{name}={kind}" for name, kind in types.items()]
    try:
        parsed = parse(texts)
    except ConfigError:
        return None
    same = {name: str(kind) for name, kind in parsed.items()} == dict(types)
    return shlex.quote(",".join(texts)) if same else None


def require_columns(uri: str, types: ColumnTypes, names: Iterable[str] | None) -> None:
    """Check that a list has the columns that are given types.

    Args:
        uri: the list.
        types: as they were asked for.
        names: its columns of text; None where it has types of its own, or no columns.

    Raises:
        ConfigError: it lacks one.
    """
    if types and names is None:
        raise ConfigError(
            f"--column-types is for lists in CSV, TSV or JSON, and {storage.redact(uri)} is none; leave it out"
        )
    for name in types:
        known = [*(names or ())]
        if name not in known:
            raise ConfigError(
                f"--column-types names the column {name!r}, the manifest has {known}{did_you_mean(name, known)}; "
                "correct the name"
            )


def with_types(uri: str, tables: Iterator[pa.Table], types: ColumnTypes) -> Iterator[pa.Table]:
    """Yield tables of text with some columns in other types.

    Raises:
        ManifestError: a value does not fit.
    """
    first = 0
    for table in tables:
        typed = table
        for name, kind in types.items():
            column = _converted(uri, name, table.column(name).combine_chunks(), kind, first)
            typed = typed.set_column(typed.column_names.index(name), pa.field(name, kind), column)
        yield typed
        first += table.num_rows


def convert(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return text as values of a type.

    Raises:
        pa.ArrowInvalid: one does not fit.
    """
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return texts.cast(kind)
    present = pc.if_else(pc.is_in(texts, pa.array(NULLS)), pa.scalar(None, pa.string()), texts)
    trimmed = pc.utf8_trim_whitespace(present)
    if not pa.types.is_time(kind):
        return trimmed.cast(kind)
    if not pc.all(pc.match_substring_regex(trimmed, f"^{_TIME}$"), skip_nulls=True, min_count=0).as_py():
        raise pa.ArrowInvalid("expected hours and minutes")
    return pc.binary_join_element_wise("1970-01-01", trimmed, " ").cast(pa.timestamp(kind.unit)).cast(kind)


def row_that_fails(texts: pa.Array, kind: pa.DataType) -> int:
    """Return the first row whose text does not fit a type, of an array in which one does not."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(texts[low:middle], kind) else (low, middle)
    return low


def shown(value: str) -> str:
    """Return a value as a message shows it."""
    return repr(value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "…")


def _converted(uri: str, name: str, texts: pa.Array, kind: pa.DataType, first: int) -> pa.Array:
    try:
        return convert(texts, kind)
    except pa.ArrowInvalid:
        row = row_that_fails(texts, kind)
        raise ManifestError(
            f"{storage.redact(uri)} has {shown(texts[row].as_py())} in the column {name!r} in row {first + row} (the "
            f"first is 0), expected {kind} as --column-types asks; correct the value or the type"
        ) from None


def _fits(texts: pa.Array, kind: pa.DataType) -> bool:
    try:
        convert(texts, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _type(text: str) -> pa.DataType | None:
    """Return the type of a name, if text can be converted to it."""
    try:
        if match := _ZONED.fullmatch(text):
            zone = match[2] if re.fullmatch(r"[+-]\d\d:\d\d", match[2]) else ZoneInfo(match[2]).key
            kind = pa.timestamp(match[1], zone)
        elif match := _DECIMAL.fullmatch(text):
            kind = pa.decimal128(int(match[1]), int(match[2]))
        else:
            kind = pa.type_for_alias(text.strip())
        convert(pa.array([], pa.string()), kind)
    except (pa.ArrowException, ValueError, KeyError):  # KeyError: an unknown time zone
        return None
    return kind if any(is_kind(kind) for is_kind in _KINDS) else None
