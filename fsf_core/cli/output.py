"""What the command prints: one function per channel, none of which shows credentials or acts on a terminal."""

import sys
from typing import Any

from fsf_core import logs
from fsf_core.safe_text import json_line, printable, redact_message


def show(text: str, *, lines: bool = False) -> None:
    """Print text on stdout, for people.

    Args:
        text: without line breaks.
        lines: whether it has several lines, whose parts that others chose are escaped already.
    """
    print(printable(redact_message(text), lines=lines), flush=True)


def show_error(text: str, *, lines: bool = False, **fields: Any) -> None:
    """Print an error on stderr, in the format of the log.

    Args:
        text: `Type: message`, or a message.
        lines: whether it has several lines.
        fields: further fields of a JSON line.
    """
    line = logs.error_line(text, **fields)
    print(line if logs.is_json() else printable(redact_message(line), lines=lines), file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """Print the result as the last line on stdout, for programs."""
    print(json_line(document))
