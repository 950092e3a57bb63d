"""Conditions on figures, for gates: `miou < 0.85 or iou."wind scarring".low < 0.6`. Knows no names and no run.

    condition   comparisons under and, or, not; brackets
    comparison  sum < sum, also <= > >= == != and chains such as 0.2 < ratio.peel < 0.4; name is null, name is not null
    sum         + - * / over numbers, names, brackets; 5% is 0.05
    name        words, numbers or quoted texts between dots

A figure may have no value (null). Then what is computed from it has none, and a comparison is neither true nor false,
unless the rest of the condition decides.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fsf_core.errors import ConfigError
from fsf_core.expressions.conditions import Compound, parse_condition
from fsf_core.expressions.tokens import Language, Tokens

NameParts: TypeAlias = tuple[str, ...]
"""A name, split at its dots."""

Value: TypeAlias = float | int | None
"""A figure; None where it has no value."""

LIMIT = "limit"
"""Name of the limit of the figure that it is compared with."""

_WORD = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*'|`[^`]+`)|(?P<number>(?>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?!\w))"""
    r"""|(?P<symbol>==|!=|<>|<=|>=|[-+*/=<>().%])|(?P<word>[^\W\d]\w*))"""
)
_KEYWORDS = frozenset(("and", "or", "not", "is", "null", "true", "false"))
_OPERATORS = {"=": "==", "<>": "!=", **{each: each for each in ("==", "!=", "<", "<=", ">", ">=")}}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_COMPUTE: dict[str, Callable[[Any, Any], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_SIGNS = frozenset("+-")
_OPERAND = "a number, a name or `(`"

_LANGUAGE = Language(
    option="--fail-if",
    pattern=_TOKEN,
    anything=f"{_OPERAND}, or a comparison",
    example="'failed_share > 0.01' or 'iou.\"wind scarring\" < 0.7'",
    too_many="give several --fail-if",
    max_depth=30,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number."""

    value: float | int
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """The name of a figure."""

    parts: NameParts
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sum:
    """Two operands under + - * or /."""

    operator: str
    left: "Operand"
    right: "Operand"
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Operands with a comparison between each two."""

    operands: "tuple[Operand, ...]"
    operators: tuple[str, ...]
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """Whether a figure has no value."""

    name: Name
    at: int


Operand: TypeAlias = Number | Name | Sum
Condition: TypeAlias = Comparison | Missing | Compound[Any]
_Node: TypeAlias = Operand | Condition


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A parsed condition."""

    text: str
    root: Condition

    def names(self) -> list[Name]:
        """Return every name in it, in order; one that occurs twice is there twice."""
        return [*_names(self.root)]

    def with_limits(self, has_limit: Callable[[NameParts], bool]) -> "Expression":
        """Return the expression with the limit of a figure instead of the word `limit`.

        Args:
            has_limit: whether a figure has a limit.

        Raises:
            ConfigError: `limit` is not compared with exactly one figure that has one.
        """
        return replace(self, root=_with_limits(self.root, self, has_limit))

    def judge(self, value: Callable[[NameParts], Value]) -> bool | None:
        """Return whether the condition holds; None where that depends on figures that have no value."""
        return _judge(self.root, value)

    def error(self, problem: str, at: int) -> ConfigError:
        """Return an error that shows the place."""
        return Tokens(self.text, _LANGUAGE).error(problem, at)


def parse(text: str) -> Expression:
    """Parse a condition.

    Raises:
        ConfigError: the syntax is wrong, with the position, and the place in its note.
    """
    tokens = Tokens(text, _LANGUAGE)
    root = parse_condition(tokens, _parse_comparison)
    if tokens.kind:
        spaces = " (a name with spaces is quoted)" if tokens.kind == "word" else ""
        raise tokens.unexpected(f"`and`, `or`, an operator or the end{spaces}")
    return Expression(text=text, root=_require_condition(root, tokens))


def written(parts: NameParts) -> str:
    """Return a name as it is written in an expression."""
    return ".".join(
        part if _WORD.fullmatch(part) or re.fullmatch("[0-9]+", part) else '"' + part.replace('"', '""') + '"'
        for part in parts
    )


def _parse_comparison(tokens: Tokens) -> _Node:
    at = tokens.at
    operands, operators = [_parse_sum(tokens)], list[str]()
    if tokens.accept("is"):
        negated = tokens.accept("not")
        if not isinstance(operands[0], Name):
            raise tokens.error(f"has `is` after something else than a name at character {at}, expected a name", at)
        if not tokens.accept("null"):
            raise tokens.unexpected("`null`")
        missing = Missing(name=operands[0], at=at)
        return Compound(operator="not", parts=(missing,)) if negated else missing
    while tokens.kind == "symbol" and tokens.token in _OPERATORS:
        operators.append(_OPERATORS[tokens.advance()])
        operands.append(_parse_sum(tokens))
    if not operators:
        return operands[0]  # for brackets around it; where a condition belongs it is refused
    for operand in operands:
        _require_number(operand, tokens)
    return Comparison(operands=tuple(operands), operators=tuple(operators), at=at)  # type: ignore[arg-type] # checked


def _parse_sum(tokens: Tokens) -> _Node:
    return _parse_series(tokens, "+-", lambda: _parse_series(tokens, "*/", lambda: _parse_operand(tokens)))


def _parse_series(tokens: Tokens, operators: str, parse_part: Callable[[], _Node]) -> _Node:
    """Parse operands with these operators between them, from left to right."""
    left, length = parse_part(), 0
    while tokens.kind == "symbol" and tokens.token in operators:
        at, symbol = tokens.at, tokens.advance()
        right = parse_part()
        length += 1
        if length > tokens.language.max_depth:
            raise tokens.error(f"has more than {tokens.language.max_depth} operands in a row at character {at}", at)
        left = Sum(operator=symbol, left=_require_number(left, tokens), right=_require_number(right, tokens), at=at)
    return left


def _parse_operand(tokens: Tokens) -> _Node:
    at, negative = tokens.at, False
    while tokens.kind == "symbol" and tokens.token in _SIGNS:
        negative ^= tokens.advance() == "-"
    if tokens.accept("("):
        found: _Node = parse_condition(tokens, _parse_comparison)
        if not tokens.accept(")"):
            raise tokens.unexpected("an operator or `)`")
    elif tokens.kind == "number":
        found = _parse_number(tokens)
    elif tokens.kind == "word" and tokens.token.lower() not in _KEYWORDS:
        found = _parse_name(tokens)
    else:
        raise tokens.unexpected(_OPERAND)
    if negative:
        zero = Number(value=0, at=at)
        return Sum(operator="-", left=zero, right=_require_number(found, tokens), at=at)
    return found


def _parse_number(tokens: Tokens) -> Number:
    at, digits = tokens.at, tokens.token
    value = float(digits)
    if not math.isfinite(value):
        raise tokens.unexpected("a smaller number")
    tokens.advance()
    if tokens.accept("%"):
        return Number(value=value / 100, at=at)
    return Number(value=int(value) if value.is_integer() and abs(value) < 2**53 else value, at=at)


def _parse_name(tokens: Tokens) -> Name:
    at, parts = tokens.at, [tokens.advance()]
    while tokens.accept("."):
        if tokens.kind == "quoted":
            quote = tokens.token[0]
            parts.append(tokens.token[1:-1].replace(quote * 2, quote) if quote != "`" else tokens.token[1:-1])
        elif tokens.kind in {"word", "number"}:
            parts += tokens.token.split(".")  # iou.3.low is read with the number 3, iou.1.2 with the number 1.2
        else:
            raise tokens.unexpected("the rest of a name, in quotes if it has other characters than letters and digits")
        tokens.advance()
    return Name(parts=tuple(parts), at=at)


def _require_number(node: _Node, tokens: Tokens) -> Operand:
    """Check that something is a number.

    Raises:
        ConfigError: it is a condition.
    """
    if isinstance(node, Number | Name | Sum):
        return node
    at = _place(node)
    raise tokens.error(f"has a condition at character {at}, expected a number there", at)


def _require_condition(node: _Node, tokens: Tokens) -> Condition:
    """Check that something is a condition, and so is what is in it.

    Raises:
        ConfigError: it is a number.
    """
    if isinstance(node, Number | Name | Sum):
        raise tokens.error(f"has a number without a comparison at character {node.at}, expected a condition", node.at)
    for part in node.parts if isinstance(node, Compound) else ():
        _require_condition(part, tokens)
    return node


def _place(node: _Node) -> int:
    return _place(node.parts[0]) if isinstance(node, Compound) else node.at


def _names(node: _Node) -> Iterator[Name]:
    if isinstance(node, Name):
        yield node
    for child in _children(node):
        yield from _names(child)


def _children(node: _Node) -> "tuple[_Node, ...]":
    if isinstance(node, Compound):
        return node.parts
    if isinstance(node, Comparison):
        return node.operands
    if isinstance(node, Missing):
        return (node.name,)
    return (node.left, node.right) if isinstance(node, Sum) else ()


def _with_limits(node: Any, whole: Expression, has_limit: Callable[[NameParts], bool]) -> Any:
    if isinstance(node, Compound):
        return replace(node, parts=tuple(_with_limits(part, whole, has_limit) for part in node.parts))
    names = [*_names(node)]
    limits = [name for name in names if name.parts == (LIMIT,)]
    if not limits:
        return node
    limited = {name.parts for name in names if has_limit(name.parts)}
    if not isinstance(node, Comparison) or len(limited) != 1:
        raise whole.error(
            f"has `{LIMIT}` at character {limits[0].at}, which is the alarm limit of the one psi or js that it is "
            f"compared with; expected one such name beside it, as in psi.peel > {LIMIT}",
            limits[0].at,
        )
    [of] = limited
    operands = tuple(_replaced(operand, (*of, LIMIT)) for operand in node.operands)
    return replace(node, operands=operands)


def _replaced(operand: Operand, limit: NameParts) -> Operand:
    if isinstance(operand, Name) and operand.parts == (LIMIT,):
        return replace(operand, parts=limit)
    if isinstance(operand, Sum):
        return replace(operand, left=_replaced(operand.left, limit), right=_replaced(operand.right, limit))
    return operand


def _judge(node: Condition, value: Callable[[NameParts], Value]) -> bool | None:
    if isinstance(node, Missing):
        return _compute(node.name, value) is None
    if isinstance(node, Comparison):
        found = [_compute(operand, value) for operand in node.operands]
        pairs = zip(node.operators, found, found[1:], strict=False)
        return _all(
            None if left is None or right is None else _COMPARE[sign](left, right) for sign, left, right in pairs
        )
    parts = [_judge(part, value) for part in node.parts]
    if node.operator == "not":
        return None if parts[0] is None else not parts[0]
    if node.operator == "and":
        return _all(iter(parts))
    any_false = _all(None if part is None else not part for part in parts)
    return None if any_false is None else not any_false


def _all(parts: Iterator[bool | None]) -> bool | None:
    """Return whether all are true; None where that depends on unknown ones."""
    found = [*parts]
    return False if False in found else None if None in found else True


def _compute(node: Operand, value: Callable[[NameParts], Value]) -> Value:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        found = value(node.parts)
        return found if found is not None and math.isfinite(found) else None
    left, right = _compute(node.left, value), _compute(node.right, value)
    if left is None or right is None or (node.operator == "/" and not right):
        return None
    result = _COMPUTE[node.operator](left, right)
    return result if math.isfinite(result) else None
