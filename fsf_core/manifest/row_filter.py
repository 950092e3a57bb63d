"""Row filters as text: `split == 'test' and day >= '2026-11-01'`, parsed by hand and never evaluated as code.

Knows names, literals and comparisons: == != < <= > >=, in, not in, is null, and, or, not, brackets. Knows no files.
What it shares with the gates of a run is in `fsf_core.expressions`.
"""

import decimal
import functools
import math
import operator
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.errors import ConfigError
from fsf_core.expressions import MAX_DEPTH, Compound, Language, Tokens, parse_condition

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)"""
    r"""|(?P<symbol>==|!=|<>|<=|>=|[=<>(),])|`(?P<quoted>[^`]+)`|(?P<word>[^\W\d][\w.]*))"""
)
_KEYWORDS = frozenset(("and", "or", "not", "in", "is", "null", "true", "false"))
_OPERATORS = {"==": "==", "=": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_LANGUAGE = Language(
    option="--where",
    pattern=_TOKEN,
    anything="a name, a value in quotes, a number or a comparison",
    example="\"split == 'test' and size > 3\"",
    too_many="compare a column with several values, as in \"split in ('a', 'b')\"",
    max_depth=MAX_DEPTH,
)

_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

Literal = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A comparison of one column with literals."""

    column: str
    operator: str
    """One of == != < <= > >= in null."""
    values: tuple[Literal, ...] = ()


Condition = Comparison | Compound[Comparison]


def parse(text: str) -> Condition:
    """Parse a condition.

    Raises:
        ConfigError: the syntax is wrong, with the position.
    """
    tokens = Tokens(text, _LANGUAGE)
    condition = parse_condition(tokens, _parse_leaf)
    if tokens.kind:
        raise tokens.unexpected("`and`, `or`, or the end")
    return condition


def columns(condition: Condition) -> set[str]:
    """Return the names of the columns in a condition."""
    if isinstance(condition, Comparison):
        return {condition.column}
    return {name for part in condition.parts for name in columns(part)}


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """Split a condition into the conditions that must all hold."""
    if isinstance(condition, Compound) and condition.operator == "and":
        return tuple(conjunct for part in condition.parts for conjunct in conjuncts(part))
    return (condition,)


def expression(condition: Condition, schema: pa.Schema) -> pc.Expression:
    """Convert a condition to Arrow, with every literal in the type of its column; null compares as in SQL.

    Raises:
        ConfigError: a column is missing, or a literal does not fit its type.
    """
    if isinstance(condition, Comparison):
        return _comparison(condition, schema)
    parts = [expression(part, schema) for part in condition.parts]
    if condition.operator == "not":
        return ~parts[0]
    return functools.reduce(operator.and_ if condition.operator == "and" else operator.or_, parts)


def _comparison(condition: Comparison, schema: pa.Schema) -> pc.Expression:
    if condition.column not in schema.names:
        raise ConfigError(
            f"--where names the column {condition.column!r}, the manifest has {schema.names}; correct the name"
        )
    kind = schema.field(condition.column).type
    field = pc.field(condition.column)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        field = field.cast(kind)
    if condition.operator == "null":
        return field.is_null()
    given = condition.values
    if pa.types.is_integer(kind) and isinstance(given[0], float) and condition.operator != "in":
        return _compare_whole(field, condition.operator, given[0], kind)
    if pa.types.is_integer(kind):  # a fraction equals none of them, and Arrow would cut it off
        given = tuple(int(each) if isinstance(each, float) and each.is_integer() else each for each in given)
        given = tuple(each for each in given if not isinstance(each, float))
    values = [_scalar(value, kind, condition.column) for value in given]
    if condition.operator == "in":
        kind = kind if not pa.types.is_decimal(kind) else None
        return field.isin(pa.array([value.as_py() for value in values], kind))
    return _COMPARE[condition.operator](field, values[0])


def _compare_whole(field: pc.Expression, sign: str, value: float, kind: pa.DataType) -> pc.Expression:
    """Compare whole numbers with a float, exactly: Arrow would cast them, and refuses those above 2**24."""
    low = 0 if pa.types.is_unsigned_integer(kind) else -(1 << kind.bit_width - 1)
    high = low + (1 << kind.bit_width) - 1
    value = min(max(value, low - 1), high + 1)
    always, never = field == field, field != field  # noqa: PLR0124 # null where the value is
    if sign in {"==", "!="}:
        if value != math.floor(value) or not low <= value <= high:
            return always if sign == "!=" else never
        return _COMPARE[sign](field, pa.scalar(int(value), kind))
    below = sign in {"<", "<="}
    limit = math.floor(value) if sign in {"<=", ">"} else math.ceil(value) - 1
    if not low <= limit <= high:
        return always if below == (limit > high) else never
    return field <= pa.scalar(limit, kind) if below else field > pa.scalar(limit, kind)


def _scalar(value: Literal, kind: pa.DataType, column: str) -> pa.Scalar:
    try:
        if pa.types.is_boolean(kind) != isinstance(value, bool):
            raise pa.ArrowInvalid("true and false compare only with each other")
        if _is_text(kind) != isinstance(value, str) and not pa.types.is_temporal(kind):
            raise pa.ArrowInvalid("text and numbers do not compare")
        if pa.types.is_decimal(kind):
            return pa.scalar(decimal.Decimal(str(value)))
        return pa.scalar(value, kind) if pa.types.is_integer(kind) else pa.scalar(value).cast(kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--where compares the column {column!r} of type {kind} with {value!r}: {error}; write a value of that type"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a type holds text; some programs write it as bytes."""
    return any(
        holds(kind)
        for holds in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _parse_leaf(tokens: Tokens) -> Condition:
    if tokens.accept("("):
        condition = parse_condition(tokens, _parse_leaf)
        if not tokens.accept(")"):
            raise tokens.unexpected("`)`")
        return condition
    return _parse_comparison(tokens)


def _parse_comparison(tokens: Tokens) -> Condition:
    if tokens.kind not in {"word", "quoted"} or (tokens.kind == "word" and tokens.token.lower() in _KEYWORDS):
        raise tokens.unexpected("the name of a column")
    column = tokens.advance()
    if tokens.accept("is"):
        negated = tokens.accept("not")
        if not tokens.accept("null"):
            raise tokens.unexpected("`null`")
        return _negate_if(Comparison(column=column, operator="null"), negated=negated)
    negated = tokens.accept("not")
    if tokens.accept("in"):
        return _negate_if(Comparison(column=column, operator="in", values=_parse_values(tokens)), negated=negated)
    if negated or tokens.kind != "symbol" or tokens.token not in _OPERATORS:
        raise tokens.unexpected("a comparison")
    comparison = _OPERATORS[tokens.advance()]
    return Comparison(column=column, operator=comparison, values=(_parse_value(tokens),))


def _negate_if(condition: Condition, *, negated: bool) -> Condition:
    return Compound(operator="not", parts=(condition,)) if negated else condition


def _parse_values(tokens: Tokens) -> tuple[Literal, ...]:
    if not tokens.accept("("):
        raise tokens.unexpected("`(`")
    values = [_parse_value(tokens)]
    while tokens.accept(","):
        values.append(_parse_value(tokens))
    if not tokens.accept(")"):
        raise tokens.unexpected("`,` or `)`")
    return tuple(values)


def _parse_value(tokens: Tokens) -> Literal:
    if tokens.kind == "text":
        quote = tokens.token[0]
        return tokens.advance()[1:-1].replace(quote * 2, quote)
    if tokens.kind == "number":
        digits = tokens.advance()
        try:
            return int(digits) if re.fullmatch(r"-?\d+", digits) else float(digits)
        except ValueError as error:  # Python reads no integer of thousands of digits
            raise tokens.unexpected("a shorter number") from error
    if tokens.accept("true"):
        return True
    if tokens.accept("false"):
        return False
    raise tokens.unexpected("a value")
