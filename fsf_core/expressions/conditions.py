"""What all expressions share: conditions under and, or, not; brackets are those of the language.

The recursion is bounded, because Python's and Arrow's are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fsf_core.errors import ConfigError
from fsf_core.expressions.tokens import Tokens

MAX_DEPTH = 100
"""Brackets and negations inside each other."""

MAX_CONDITIONS = 1000
"""Conditions of one `and` or `or`; Arrow recurses into them, and 10,000 end the process."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compound(Generic[T]):
    """Conditions under `and`, `or` or `not`."""

    operator: str
    parts: "tuple[T | Compound[T], ...]"


Leaf = Callable[[Tokens], T | Compound[T]]
"""Parses what `and`, `or` and `not` connect: a comparison, or something in brackets."""


def parse_condition(tokens: Tokens, leaf: Leaf[T]) -> T | Compound[T]:
    """Parse conditions up to the first token that belongs to none.

    Raises:
        ConfigError: the syntax is wrong, or the expression is too large.
    """
    return _parse_sequence(tokens, "or", lambda: _parse_sequence(tokens, "and", lambda: _parse_not(tokens, leaf)))


def _parse_sequence(tokens: Tokens, keyword: str, parse_part: Callable[[], T | Compound[T]]) -> T | Compound[T]:
    parts = [parse_part()]
    while tokens.accept(keyword):
        parts.append(parse_part())
        if len(parts) > MAX_CONDITIONS:
            raise ConfigError(
                f"{tokens.language.option} has more than {MAX_CONDITIONS} conditions under one `{keyword}`, expected "
                f"fewer; {tokens.language.too_many}"
            )
    return parts[0] if len(parts) == 1 else Compound(operator=keyword, parts=tuple(parts))


def _parse_not(tokens: Tokens, leaf: Leaf[T]) -> T | Compound[T]:
    tokens.depth += 1
    if tokens.depth > tokens.language.max_depth:
        raise ConfigError(
            f"{tokens.language.option} has brackets and negations more than {tokens.language.max_depth} deep at "
            f"character {tokens.at}, expected fewer; remove the superfluous ones"
        )
    try:
        if tokens.accept("not"):
            return Compound(operator="not", parts=(_parse_not(tokens, leaf),))
        return leaf(tokens)
    finally:
        tokens.depth -= 1
