"""How the values of options are read: lists of names and numbers, colours, shards, ranges of actors."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from fsf_core.class_names import parse_names
from fsf_core.errors import ConfigError


def flag(name: str) -> str:
    """Return the flag of a field."""
    return f"--{name.replace('_', '-')}"


def _split_names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the names of `a,b,c`, of a repeated flag, or of a YAML list.

    Raises:
        ConfigError: a name is empty; every name after it would get another id.
    """
    names = tuple(part.strip() for token in tokens for part in str(token.value).split(","))
    if not all(names):
        raise ConfigError(f"found an empty name in {names}, expected names between the commas; remove the extra comma")
    return names


def _split_types(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the entries of `plot=int64,price=decimal128(10, 2)`, of a repeated flag, or of a YAML list."""
    parts = (part.strip() for token in tokens for part in re.split(r",(?![^(\[]*[)\]])", str(token.value)))
    return tuple(filter(None, parts))


def _unsplit(_: Any, value: str, *, delimiter: str | None = None) -> list[str]:  # noqa: ARG001 - cyclopts passes it
    """Return the value of a variable as one token: a name may have spaces."""
    return [value]


def _class_names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return parse_names([str(token.value) for token in tokens])


def _whole(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the values of a repeated flag or of a YAML list, each as it is."""
    return tuple(str(token.value) for token in tokens)


CONDITIONS = Parameter(converter=_whole, n_tokens=1, negative=(), show_default=False, env_var_split=_unsplit)
NAMES = Parameter(converter=_split_names, n_tokens=1, negative=(), show_default=False)
CLASS_NAMES = Parameter(converter=_class_names, n_tokens=1, negative=(), show_default=False, env_var_split=_unsplit)
TYPES = Parameter(converter=_split_types, n_tokens=1, negative=(), show_default=False)
Names = Annotated[tuple[str, ...], NAMES]
"""A list of names; commas separate them on the command line."""


def _split_numbers(_: Any, tokens: Sequence[Token]) -> tuple[float, ...]:
    """Return the numbers of `1,2,3`, of a repeated flag, or of a YAML list.

    Raises:
        ConfigError: one is no number.
    """
    numbers: list[float] = []
    for part in (part.strip() for token in tokens for part in str(token.value).split(",")):
        try:
            numbers.append(float(part))
        except ValueError as error:
            raise ConfigError(f"found {part!r}, expected numbers between the commas; correct it") from error
    return tuple(numbers)


Numbers = Annotated[tuple[float, ...], Parameter(converter=_split_numbers, n_tokens=1, negative=(), show_default=False)]
"""A list of numbers; commas separate them on the command line."""

Colours = tuple[tuple[int, int, int], ...]
"""One RGB colour per class."""


def parse_colours(palette: tuple[str, ...]) -> Colours:
    """Return the colours of their hexadecimal form.

    Raises:
        ConfigError: an entry is not six hexadecimal digits.
    """
    malformed = [colour for colour in palette if not re.fullmatch("#?[0-9a-fA-F]{6}", colour)]
    if malformed:
        raise ConfigError(f"--palette has {malformed}, expected six hexadecimal digits per colour, such as 800000")
    rgb = [bytes.fromhex(colour.removeprefix("#")) for colour in palette]
    return tuple((red, green, blue) for red, green, blue in rgb)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return number and count of a shard of the form i/n.

    Raises:
        ConfigError: it has another form, or i is not in 1 to n.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f"--shard is {text!r}, expected i/n with i from 1 to n, such as 1/8")
    return number, count


def parse_actors(actors: str | int | None) -> tuple[int, int] | None:
    """Return the least and the greatest number of actors of `8` or `4-32`.

    Raises:
        ConfigError: it has another form, or its numbers are not in order.
    """
    if actors is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", str(actors))
    if match is None:
        raise ConfigError(f"--actors is {actors!r}, expected a number such as 8, or a range such as 4-32")
    least, most = int(match[1]), int(match[2] or match[1])
    if not 1 <= least <= most:
        raise ConfigError(f"--actors is {actors!r}, expected at least 1, and the smaller number first")
    return least, most
