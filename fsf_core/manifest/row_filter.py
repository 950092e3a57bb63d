"""Row filters as text: `split == 'test' and day >= '2026-11-01'`, parsed by hand and never evaluated as code.

Knows names, literals and comparisons: == != < <= > >=, in, not in, is null, and, or, not, brackets. Knows no files.
"""

import decimal
import functools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.errors import ConfigError

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)"""
    r"""|(?P<symbol>==|!=|<>|<=|>=|[=<>(),])|`(?P<quoted>[^`]+)`|(?P<word>[^\W\d][\w.]*))"""
)
_KEYWORDS = frozenset(("and", "or", "not", "in", "is", "null", "true", "false"))
_OPERATORS = {"==": "==", "=": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

MAX_DEPTH = 100
"""Brackets and negations inside each other; Python recurses into them."""

MAX_CONDITIONS = 1000
"""Conditions of one `and` or `or`; Arrow recurses into them, and 10,000 end the process."""

Literal = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A comparison of one column with literals."""

    column: str
    operator: str
    """One of == != < <= > >= in null."""
    values: tuple[Literal, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Compound:
    """Conditions under `and`, `or` or `not`."""

    operator: str
    parts: "tuple[Condition, ...]"


Condition = Comparison | Compound


def parse(text: str) -> Condition:
    """Parse a condition.

    Raises:
        ConfigError: the syntax is wrong, with the position.
    """
    tokens = _Tokens(text)
    condition = _parse_or(tokens)
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
    values = [_scalar(value, kind, condition.column) for value in condition.values]
    if condition.operator == "in":
        kind = kind if not pa.types.is_decimal(kind) else None
        return field.isin(pa.array([value.as_py() for value in values], kind))
    return _COMPARE[condition.operator](field, values[0])


def _scalar(value: Literal, kind: pa.DataType, column: str) -> pa.Scalar:
    try:
        if pa.types.is_boolean(kind) != isinstance(value, bool):
            raise pa.ArrowInvalid("true and false compare only with each other")
        if _is_text(kind) != isinstance(value, str) and not pa.types.is_temporal(kind):
            raise pa.ArrowInvalid("text and numbers do not compare")
        if pa.types.is_decimal(kind):
            return pa.scalar(decimal.Decimal(str(value)))
        fraction = pa.types.is_integer(kind) and isinstance(value, float)
        if pa.types.is_integer(kind) and not fraction:
            return pa.scalar(value, kind)
        return pa.scalar(value) if fraction else pa.scalar(value).cast(kind)
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


class _Tokens:
    """The tokens of a text, with the current one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rest = self._scan()
        self.at = self.depth = 0
        self.kind = self.token = ""
        self.advance()

    def advance(self) -> str:
        """Go on to the next token; return the previous one."""
        before = self.token
        self.at, self.kind, self.token = next(self._rest, (len(self._text), "", ""))
        return before

    def accept(self, *tokens: str) -> bool:
        """Return whether the current token is one of these, and if so, go on to the next."""
        accepted = self.kind in {"word", "symbol"} and self.token.lower() in tokens
        if accepted:
            self.advance()
        return accepted

    def unexpected(self, expected: str) -> ConfigError:
        """Return the error of the current token."""
        found = repr(self.token) if self.kind else "the end"
        return ConfigError(
            f"--where {self._text!r} has {found} at character {self.at}, expected {expected}; write it like "
            "\"split == 'test' and size > 3\""
        )

    def _scan(self) -> Iterator[tuple[int, str, str]]:
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None:
                self.at, self.kind, self.token = at, "?", self._text[at:].strip()[:10]
                raise self.unexpected("a name, a value in quotes, a number or a comparison")
            kind = str(match.lastgroup)
            yield match.start(kind), kind, match.group(kind)
            at = match.end()


def _parse_or(tokens: _Tokens) -> Condition:
    return _parse_sequence(tokens, "or", _parse_and)


def _parse_and(tokens: _Tokens) -> Condition:
    return _parse_sequence(tokens, "and", _parse_not)


def _parse_sequence(tokens: _Tokens, keyword: str, parse_part: Callable[[_Tokens], Condition]) -> Condition:
    parts = [parse_part(tokens)]
    while tokens.accept(keyword):
        parts.append(parse_part(tokens))
        if len(parts) > MAX_CONDITIONS:
            raise ConfigError(
                f"--where has more than {MAX_CONDITIONS} conditions under one `{keyword}`, expected fewer; compare a "
                "column with several values, as in \"split in ('a', 'b')\""
            )
    return parts[0] if len(parts) == 1 else Compound(operator=keyword, parts=tuple(parts))


def _parse_not(tokens: _Tokens) -> Condition:
    tokens.depth += 1
    if tokens.depth > MAX_DEPTH:
        raise ConfigError(
            f"--where has brackets and negations more than {MAX_DEPTH} deep at character {tokens.at}, expected fewer; "
            "remove the superfluous ones"
        )
    try:
        return _parse_negation(tokens)
    finally:
        tokens.depth -= 1


def _parse_negation(tokens: _Tokens) -> Condition:
    if tokens.accept("not"):
        return Compound(operator="not", parts=(_parse_not(tokens),))
    if tokens.accept("("):
        condition = _parse_or(tokens)
        if not tokens.accept(")"):
            raise tokens.unexpected("`)`")
        return condition
    return _parse_comparison(tokens)


def _parse_comparison(tokens: _Tokens) -> Condition:
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


def _parse_values(tokens: _Tokens) -> tuple[Literal, ...]:
    if not tokens.accept("("):
        raise tokens.unexpected("`(`")
    values = [_parse_value(tokens)]
    while tokens.accept(","):
        values.append(_parse_value(tokens))
    if not tokens.accept(")"):
        raise tokens.unexpected("`,` or `)`")
    return tuple(values)


def _parse_value(tokens: _Tokens) -> Literal:
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
