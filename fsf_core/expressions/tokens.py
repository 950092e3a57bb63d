"""The tokens of an expression, and errors that show the place. Knows no grammar."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from fsf_core.errors import ConfigError

MAX_SHOWN = 60
"""Characters of an expression that the line with the caret shows before and after the place."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """What the expressions of one option are made of."""

    option: str
    """Its flag."""
    pattern: re.Pattern[str]
    """One token after any space, in a group that is named by its kind: text, number, symbol, quoted, word."""
    anything: str
    """What the text may go on with, for a character that begins no token."""
    example: str
    """A correct expression."""
    too_many: str
    """What to do about too many conditions."""
    max_depth: int
    """Brackets and negations inside each other; Python recurses into them."""


class Tokens:
    """The tokens of a text, with the current one."""

    def __init__(self, text: str, language: Language) -> None:
        """Read the first token.

        Raises:
            ConfigError: the text begins with none.
        """
        self.text, self.language = text, language
        self._rest = self._scan()
        self.at = self.depth = 0
        self.kind = self.token = ""
        self.advance()

    def advance(self) -> str:
        """Go on to the next token; return the previous one."""
        before = self.token
        self.at, self.kind, self.token = next(self._rest, (len(self.text), "", ""))
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
        return self.error(f"has {found} at character {self.at}, expected {expected}", self.at)

    def error(self, problem: str, at: int) -> ConfigError:
        """Return an error, with the text and a caret as its note."""
        error = ConfigError(f"{self.language.option} {self.text!r} {problem}; write it like {self.language.example}")
        error.add_note(caret(self.text, at))
        return error

    def _scan(self) -> Iterator[tuple[int, str, str]]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = self.language.pattern.match(self.text, at)
            if match is None:
                space = len(self.text[at:]) - len(self.text[at:].lstrip())
                self.at, self.kind, self.token = at + space, "?", self.text[at:].strip()[:10]
                raise self.unexpected(self.language.anything)
            kind = str(match.lastgroup)
            yield match.start(kind), kind, match.group(kind)
            at = match.end()


def caret(text: str, at: int) -> str:
    """Return two lines: the text around a place, and a caret below it."""
    first = max(0, at - MAX_SHOWN)
    before, after = text[first:at], text[at : at + MAX_SHOWN]
    line = f"{'…' if first else ''}{before}{after}{'…' if at + MAX_SHOWN < len(text) else ''}"
    line = "".join(each if each.isprintable() else " " for each in line)
    width = sum(_width(each) for each in line[: len(before) + bool(first)])
    return f"  {line}\n  {' ' * width}^"


def _width(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
