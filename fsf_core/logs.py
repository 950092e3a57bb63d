"""Log lines, as text or as JSON: one event per line, without credentials, and nothing in it acts on a terminal.

Events are logged as templates of `event=noun_verb key=%s …`. A JSON line has the values under these keys, typed, after
`time` (RFC 3339, UTC), `level` and `event`, and with the id of the run in every line of a job. What other libraries log
is the event `log`, and an error that ends a command the event `error`.
"""

import ast
import contextlib
import datetime as dt
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TextIO

from fsf_core.safe_text import json_line, printable, redact_message

LogFormat = Literal["text", "json"]

_PAIR = re.compile(
    r"(?P<key>[A-Za-z_][\w.]*)="
    r"(?P<value>%(?P<conversion>(?:\.\d+)?[a-z])|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s'\"%]\S*)(?:\s+|$)"
)
_PLACEHOLDER = re.compile(r"%(?:\.(?P<digits>\d+))?(?P<type>[a-z])")
_ERROR = re.compile(r"(?P<unexpected>unexpected )?(?P<type>\w*(?:Error|Exception|Exit)): (?P<message>.*)", re.DOTALL)
_RESERVED = ("time", "level", "event", "message", "logger", "traceback")


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How a process logs; plain values, which are sent to workers."""

    format: LogFormat = "text"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of every JSON line."""


class _Current:
    """The settings of this process."""

    settings = LogSettings()


def current() -> LogSettings:
    """Return how this process logs."""
    return _Current.settings


def is_json() -> bool:
    """Return whether log lines are JSON."""
    return _Current.settings.format == "json"


def set_fields(**fields: str) -> None:
    """Set the fields of every later JSON line of this process."""
    _Current.settings = replace(_Current.settings, fields=fields)


def configure(settings: LogSettings) -> None:
    """Write log events to stderr: those of fsf, and the warnings of others."""
    _Current.settings = settings
    formatter = _JsonFormatter() if settings.format == "json" else _TextFormatter()
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler.formatter, _JsonFormatter | _TextFormatter):  # of an earlier command in this process
            handler.setFormatter(formatter)
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        root.addHandler(handler)
        root.setLevel(logging.WARNING)
    logging.getLogger("fsf").setLevel(logging.INFO)
    logging.captureWarnings(settings.format == "json")
    logging.raiseExceptions = False  # a handler that fails would print the record as it is


def follow(settings: LogSettings) -> None:
    """Log in this worker as the driver does, to the file that Ray keeps of its stderr; done once per run."""
    if settings != _Current.settings:
        _Current.settings = settings
        handlers = [handler for handler in logging.getLogger("fsf").handlers if type(handler) is _WorkerHandler]
        if not handlers:
            handlers = [_WorkerHandler()]
            logging.getLogger("fsf").addHandler(handlers[0])
        handlers[0].setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter(shown_fields=True))
        logging.getLogger("fsf").setLevel(logging.INFO)
        logging.getLogger("fsf").propagate = False
        logging.raiseExceptions = False


def error_line(text: str, **fields: Any) -> str:
    """Return the line that reports why a command ended: the text, or a JSON object with its type and message.

    Args:
        text: `Type: message`, or a message.
        fields: further fields of the object.
    """
    if not is_json():
        return text
    found = _ERROR.fullmatch(text)
    error = {"message": text}
    if found:
        error = {"error_type": found["type"], "message": (found["unexpected"] or "") + found["message"]}
    return _line(dt.datetime.now(dt.UTC), "ERROR", "error", {**error, **fields})


def event_fields(template: str, arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    """Return the typed values of a template and its arguments by key; None for a text of another form.

    Example:
        >>> event_fields("event=progress items=%d frames_per_s=%.1f do='wait a bit'", (3, 2.04))
        {'event': 'progress', 'items': 3, 'frames_per_s': 2.0, 'do': 'wait a bit'}
    """
    found: dict[str, Any] = {}
    left = list(arguments)
    at = 0
    while at < len(template):
        pair = _PAIR.match(template, at)
        if not pair or pair["key"] in found or (pair["conversion"] and not left):
            return None
        found[pair["key"]] = _value(pair["value"], left.pop(0)) if pair["conversion"] else _literal(pair["value"])
        at = pair.end()
    return found if not left and "event" in found else None


def _value(placeholder: str, argument: Any) -> Any:
    """Return an argument as JSON, with as many digits as its placeholder shows."""
    form = _PLACEHOLDER.fullmatch(placeholder)
    if isinstance(argument, bool | str | None):
        return argument
    if isinstance(argument, int | float):
        if not (form and form["digits"]) or isinstance(argument, int):
            return argument
        return round(argument, int(form["digits"])) if int(form["digits"]) else round(argument)
    return [*map(str, argument)] if isinstance(argument, list | tuple | set | frozenset) else str(argument)


def _literal(text: str) -> Any:
    """Return a value that is written in the template."""
    if text[0] in "'\"":
        return ast.literal_eval(text)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _line(time: dt.datetime, level: str, event: str, fields: Mapping[str, Any]) -> str:
    """Return one JSON object on one line."""
    own = {f"{key}_" if key in _RESERVED[:3] else key: value for key, value in fields.items()}
    head = {"time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "level": level, "event": event}
    return json_line({**head, **_Current.settings.fields, **own})


class _TextFormatter(logging.Formatter):
    """Formats a message on one line; only tracebacks of others have several."""

    def __init__(self, *, shown_fields: bool = False) -> None:
        super().__init__("%(asctime)s level=%(levelname)s %(message)s")
        self._shown_fields = shown_fields

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        text = super().format(record)
        if self._shown_fields:
            text += "".join(f" {key}={value}" for key, value in _Current.settings.fields.items())
        return printable(redact_message(text), lines=bool(record.exc_info or record.stack_info))


class _JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        found = None
        if record.name == "fsf":  # a template of another form may still make a message of this form
            found = event_fields(str(record.msg), arguments) or event_fields(record.getMessage(), ())
        fields: dict[str, Any] = {**found} if found else {"message": record.getMessage(), "logger": record.name}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        event = str(fields.pop("event", "log"))
        return _line(dt.datetime.fromtimestamp(record.created, dt.UTC), record.levelname, event, fields)


class _WorkerHandler(logging.StreamHandler[TextIO]):
    """Writes to the stderr that the process has at the time: Ray replaces it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.setStream(sys.stderr)
        super().emit(record)
