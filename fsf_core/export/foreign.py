"""What the user's own network raises, in one line. Imports and calls of it may raise anything, SystemExit included."""

import re

FOREIGN = (Exception, SystemExit)
"""What code of others may raise where it is called; an interrupt of the user is none of it."""

_MAX_CHARACTERS = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_one_line(error: BaseException) -> str:
    """Return type and message of an error: its first paragraph, as one line; torch prints graphs below it."""
    text = " ".join(_COLOUR.sub("", str(error)).strip().split("\n\n", 1)[0].split())
    kind = type(error).__name__
    return f"{kind}: {text[:_MAX_CHARACTERS]}{'…' if len(text) > _MAX_CHARACTERS else ''}" if text else kind
