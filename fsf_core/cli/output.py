"""What the command prints: one function per channel, none of which shows credentials or acts on a terminal."""

import logging
import sys
from typing import Any

from fsf_core.safe_text import json_line, printable, redact_message


def show(text: str, *, lines: bool = False) -> None:
    """Print text on stdout, for people.

    Args:
        text: without line breaks.
        lines: whether it has several lines, whose parts that others chose are escaped already.
    """
    print(printable(redact_message(text), lines=lines), flush=True)


def show_error(text: str, *, lines: bool = False) -> None:
    """Print text on stderr."""
    print(printable(redact_message(text), lines=lines), file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """Print the result as the last line on stdout, for programs."""
    print(json_line(document))


def configure_logging() -> None:
    """Write log events to stderr: those of fsf, and the warnings of others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter("%(asctime)s level=%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("fsf").setLevel(logging.INFO)
    logging.raiseExceptions = False  # a handler that fails would print the record as it is


class _SafeFormatter(logging.Formatter):
    """Formats a message on one line; only tracebacks of others have several."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(redact_message(super().format(record)), lines=bool(record.exc_info or record.stack_info))
