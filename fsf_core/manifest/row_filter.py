"""Row filters in words: `split == 'test' and day >= '2026-11-01'`, parsed by hand and never evaluated as code.

Knows names, literals and comparisons: == != < <= > >=, in, not in, is null, and, or, not, brackets. Knows no files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.errors import ConfigError

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)"""
    r"""|(?P<sign>==|!=|<>|<=|>=|[=<>(),])|`(?P<quoted>[^`]+)`|(?P<word>[^\W\d][\w.]*))"""
)
_WORDS = frozenset(("and", "or", "not", "in", "is", "null", "true", "false"))
_SIGNS = {"==": "==", "=": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

Literal = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One column against literals."""

    column: str
    sign: str
    """One of == != < <= > >= in null."""
    values: tuple[Literal, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """Conditions under `and`, `or` or `not`."""

    how: str
    parts: "tuple[Condition, ...]"


Condition = Comparison | Joined


def parse(text: str) -> Condition:
    """The condition that a text says.

    Raises:
        ConfigError: it says none; shows where.
    """
    tokens = _Tokens(text)
    found = _either(tokens)
    if tokens.kind:
        raise tokens.unexpected("`and`, `or`, or the end")
    return found


def columns(condition: Condition) -> set[str]:
    """The names that a condition asks for."""
    if isinstance(condition, Comparison):
        return {condition.column}
    return {name for part in condition.parts for name in columns(part)}


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """Conditions that must all hold; together they are the condition."""
    if isinstance(condition, Joined) and condition.how == "and":
        return tuple(each for part in condition.parts for each in conjuncts(part))
    return (condition,)


def expression(condition: Condition, schema: pa.Schema) -> pc.Expression:
    """The condition for Arrow, with every literal in the type of its column; null compares as in SQL.

    Raises:
        ConfigError: a column is missing, or a literal does not fit its type.
    """
    if isinstance(condition, Comparison):
        return _comparison(condition, schema)
    parts = [expression(part, schema) for part in condition.parts]
    if condition.how == "not":
        return ~parts[0]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole & part if condition.how == "and" else whole | part
    return whole


def _comparison(condition: Comparison, schema: pa.Schema) -> pc.Expression:
    if condition.column not in schema.names:
        raise ConfigError(
            f"--where asks for the column {condition.column!r}, the manifest has {schema.names}; correct the name"
        )
    kind = schema.field(condition.column).type
    field = pc.field(condition.column)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        field = field.cast(kind)
    if condition.sign == "null":
        return field.is_null()
    values = [_as(value, kind, condition.column) for value in condition.values]
    if condition.sign == "in":
        return field.isin(pa.array([value.as_py() for value in values], kind))
    compare = {"==": pc.Expression.__eq__, "!=": pc.Expression.__ne__, "<": pc.Expression.__lt__}
    compare |= {"<=": pc.Expression.__le__, ">": pc.Expression.__gt__, ">=": pc.Expression.__ge__}
    return compare[condition.sign](field, values[0])


def _as(value: Literal, kind: pa.DataType, column: str) -> pa.Scalar:
    try:
        if pa.types.is_boolean(kind) != isinstance(value, bool):
            raise pa.ArrowInvalid("only true and false compare with each other")
        if pa.types.is_string(kind) != isinstance(value, str) and not pa.types.is_temporal(kind):
            raise pa.ArrowInvalid("text and numbers do not compare")
        whole = pa.types.is_integer(kind) and isinstance(value, float)
        return pa.scalar(value) if whole else pa.scalar(value).cast(kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"--where compares the column {column!r} of type {kind} with {value!r}: {error}; write a value of that type"
        ) from error


class _Tokens:
    """A text in pieces, of which one is looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rest = self._pieces()
        self.at = 0
        self.kind = self.piece = ""
        self.advance()

    def advance(self) -> str:
        """Go on to the next piece; returns the one before."""
        before = self.piece
        self.at, self.kind, self.piece = next(self._rest, (len(self._text), "", ""))
        return before

    def takes(self, *words: str) -> bool:
        """Whether the piece is one of these words or signs, which are then done with."""
        found = self.kind in {"word", "sign"} and self.piece.lower() in words
        if found:
            self.advance()
        return found

    def unexpected(self, expected: str) -> ConfigError:
        found = repr(self.piece) if self.kind else "the end"
        return ConfigError(
            f"--where {self._text!r} has {found} at character {self.at}, expected {expected}; write it like "
            "\"split == 'test' and size > 3\""
        )

    def _pieces(self) -> Iterator[tuple[int, str, str]]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None:
                self.at, self.kind, self.piece = at, "?", self._text[at:].strip()[:10]
                raise self.unexpected("a name, a value in quotes, a number or a comparison")
            kind = str(match.lastgroup)
            yield match.start(kind), kind, match.group(kind)
            at = match.end()


def _either(tokens: _Tokens) -> Condition:
    return _several(tokens, "or")


def _several(tokens: _Tokens, how: str) -> Condition:
    part = _negated if how == "and" else lambda tokens: _several(tokens, "and")
    parts = [part(tokens)]
    while tokens.takes(how):
        parts.append(part(tokens))
    return parts[0] if len(parts) == 1 else Joined(how=how, parts=tuple(parts))


def _negated(tokens: _Tokens) -> Condition:
    if tokens.takes("not"):
        return Joined(how="not", parts=(_negated(tokens),))
    if tokens.takes("("):
        found = _either(tokens)
        if not tokens.takes(")"):
            raise tokens.unexpected("`)`")
        return found
    return _compared(tokens)


def _compared(tokens: _Tokens) -> Condition:
    if tokens.kind not in {"word", "quoted"} or (tokens.kind == "word" and tokens.piece.lower() in _WORDS):
        raise tokens.unexpected("the name of a column")
    column = tokens.advance()
    if tokens.takes("is"):
        negative = tokens.takes("not")
        if not tokens.takes("null"):
            raise tokens.unexpected("`null`")
        return _maybe_not(Comparison(column=column, sign="null"), negative=negative)
    negative = tokens.takes("not")
    if tokens.takes("in"):
        return _maybe_not(Comparison(column=column, sign="in", values=_values(tokens)), negative=negative)
    if negative or tokens.kind != "sign" or tokens.piece not in _SIGNS:
        raise tokens.unexpected("a comparison")
    sign = _SIGNS[tokens.advance()]
    return Comparison(column=column, sign=sign, values=(_value(tokens),))


def _maybe_not(condition: Condition, *, negative: bool) -> Condition:
    return Joined(how="not", parts=(condition,)) if negative else condition


def _values(tokens: _Tokens) -> tuple[Literal, ...]:
    if not tokens.takes("("):
        raise tokens.unexpected("`(`")
    values = [_value(tokens)]
    while tokens.takes(","):
        values.append(_value(tokens))
    if not tokens.takes(")"):
        raise tokens.unexpected("`,` or `)`")
    return tuple(values)


def _value(tokens: _Tokens) -> Literal:
    if tokens.kind == "text":
        quote = tokens.piece[0]
        return tokens.advance()[1:-1].replace(quote * 2, quote)
    if tokens.kind == "number":
        digits = tokens.advance()
        return int(digits) if re.fullmatch(r"-?\d+", digits) else float(digits)
    if tokens.takes("true"):
        return True
    if tokens.takes("false"):
        return False
    raise tokens.unexpected("a value")
