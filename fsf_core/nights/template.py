"""Dates in folder names: what a template becomes on a date, and which date a folder has. Opens nothing."""

import datetime as dt
import hashlib
import re
import zoneinfo
from dataclasses import dataclass
from functools import cached_property

from fsf_core.errors import ConfigError

DAY_FORMAT = "%Y-%m-%d"

_PLACEHOLDER = re.compile(r"\{date(?::([^{}]*))?\}")
_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)

_COMPOSED = {"%F": DAY_FORMAT, "%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y"}
"""Directives that are written out first."""

_VALUES = {
    **dict.fromkeys("YG", "[0-9]{4}"),
    **dict.fromkeys("mdHMSyV", "[0-9]{2}"),
    **dict.fromkeys("bBaA", r"[^\W\d_]+"),
    "j": "[0-9]{3}",
    "u": "[1-7]",
}
"""Directive to what it becomes. Others cannot be read back: what they become is padded, shortened or ambiguous."""

_YEARS, _MONTHS, _TIMES = {"Y", "y", "G"}, {"m", "b", "B"}, {"H", "M", "S"}


def has_date(text: str) -> bool:
    """Return whether a text holds `{date}` or `{date:FORMAT}`."""
    return bool(_PLACEHOLDER.search(text))


def fill(text: str, moment: dt.datetime) -> str:
    """Return a text in which `{date}` is the day, and `{date:FORMAT}` what strftime makes of it; other braces stay."""
    return _PLACEHOLDER.sub(lambda match: moment.strftime(match[1] or DAY_FORMAT), text)


def require_known_names(out: str) -> None:
    """Refuse an output folder with another name in braces.

    Raises:
        ConfigError: there is one.
    """
    if unknown := re.findall(r"\{\w*(?::[^{}]*)?\}", _PLACEHOLDER.sub("", out)):
        raise ConfigError(f"--out has {unknown}, expected {{date}} or {{date:FORMAT}}; correct it")


@dataclass(frozen=True)
class Template:
    """The folders of a series of runs: a fixed one, and a path below it that holds the date."""

    root: str
    """URI of the folder above the first name with a date."""
    path: str
    """The path below it: names, `{date:FORMAT}` with every format written out, and `/`."""

    @property
    def uri(self) -> str:
        """The template as one address, in the form that `--out` takes."""
        return f"{self.root.rstrip('/')}/{self.written}"

    @property
    def written(self) -> str:
        """The path below the root, in the form that `--out` takes."""
        return self.path.replace(f"{{date:{DAY_FORMAT}}}", "{date}")

    @property
    def pointer(self) -> str:
        """Name, below the root, of what points to the newest finished run: the path with `latest` for the date.

        Keys of Hive partitions are left out: `date={date}` gives `latest`, `orchard-{date}` gives `orchard-latest`.
        """
        name = re.sub(r"(?:(?<=/)|^)\w+=(?=\{date:)", "", self.path)
        name = re.sub(r"\{date:[^{}]*\}(?:[^\w{}]*\{date:[^{}]*\})*", "latest", name)
        return name.replace("/", "-")

    @property
    def identity(self) -> str:
        """A name for files of the series, different for every template of one root."""
        return f"{self.pointer}-{hashlib.sha256(self.path.encode()).hexdigest()[:8]}"

    @cached_property
    def names(self) -> list[str]:
        """The names of the path as formats of strftime."""
        parts = re.split(r"\{date:([^{}]*)\}", self.path)  # text and formats alternate
        return "".join(part if at % 2 else part.replace("%", "%%") for at, part in enumerate(parts)).split("/")

    @property
    def directives(self) -> set[str]:
        """The directives of its formats."""
        return {*_DIRECTIVE.findall("/".join(self.names))} - {"%"}

    @property
    def readable(self) -> bool:
        """Whether a folder of the series has one date, or the first of its month or year."""
        found = self.directives
        day = "j" in found or {"V", "u"} <= found or ("d" in found and bool(found & _MONTHS))
        return bool(found & _YEARS) and found <= {*_VALUES} and (day or not found & {"d", "u", *_TIMES})

    @property
    def has_times(self) -> bool:
        """Whether several of its folders may belong to one day."""
        return bool(self.directives & _TIMES)

    def folder(self, moment: dt.datetime) -> str:
        """Return the URI of the run of a date."""
        return f"{self.root.rstrip('/')}/{fill(self.path, moment)}"

    def moment(self, path: str) -> dt.datetime | None:
        """Return the date of a folder below the root; None if the template does not make this path of any date."""
        match = re.fullmatch("/".join(name_pattern(name, capture=True) for name in self.names), path)
        if match is None:
            return None
        values: dict[str, str] = {}
        for directive, value in zip(self._in_order(), match.groups(), strict=True):
            values.setdefault(directive, value)
        if "G" in values:
            values.setdefault("V", "01")
            values.setdefault("u", "1")
        try:
            moment = dt.datetime.strptime(" ".join(values.values()), " ".join(f"%{name}" for name in values))  # noqa: DTZ007 - folders have no zone
        except ValueError:
            return None
        return moment if fill(self.path, moment) == path else None

    def _in_order(self) -> list[str]:
        return [name for name in _DIRECTIVE.findall("/".join(self.names)) if name != "%"]


def name_pattern(name: str, *, capture: bool = False) -> str:
    """Return the regular expression of what a name of a readable template may become.

    Args:
        name: one of Template.names.
        capture: whether every directive is a group.
    """
    found, at = "", 0
    for match in _DIRECTIVE.finditer(name):
        value = re.escape("%") if match[1] == "%" else f"({'' if capture else '?:'}{_VALUES[match[1]]})"
        found += re.escape(name[at : match.start()]) + value
        at = match.end()
    return found + re.escape(name[at:])


def parse_template(uri: str) -> Template | None:
    """Return the template in an absolute URI; None if it holds no date, or holds it in the name of a bucket."""
    match = _PLACEHOLDER.search(uri)
    root, slash, _ = uri[: match.start()].rpartition("/") if match else ("", "", "")
    if not slash or re.fullmatch(r"[\w+.-]+:/?", root):
        return None
    path = _PLACEHOLDER.sub(lambda match: f"{{date:{_written_out(match[1] or DAY_FORMAT)}}}", uri[len(root) + 1 :])
    return Template(root or "/", path.rstrip("/"))


def _written_out(form: str) -> str:
    return _DIRECTIVE.sub(lambda match: _COMPOSED.get(match[0], match[0]), form)


# --- the option --date ---

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d(?::\d\d){0,2})?", re.ASCII)
_WORDS = {"today": 0, "yesterday": 1}
_UTC = {"UTC", "ETC/UTC"}
"""Names of the zone that needs no tzdata."""


def now_in(timezone: str) -> dt.datetime:
    """Return the time in a time zone.

    Raises:
        ConfigError: there is no such zone.
    """
    try:
        return dt.datetime.now(dt.UTC if timezone.upper() in _UTC else zoneinfo.ZoneInfo(timezone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"--timezone is {timezone!r}, expected UTC or a zone that this machine knows, such as Europe/Berlin; "
            "correct it, or install tzdata"
        ) from error


def is_range(date: str | None) -> bool:
    """Return whether the option --date names several dates."""
    return date is not None and ".." in date


def parse_date(text: str, now: dt.datetime) -> dt.datetime:
    """Return the moment that the option --date names.

    Args:
        text: YYYY-MM-DD, with THH, THH:MM or THH:MM:SS for templates with hours, or today or yesterday.
        now: the time in the time zone of the series.

    Raises:
        ConfigError: it is none of these, there is no such day, or it is in the future.
    """
    if text in _WORDS:
        return now - dt.timedelta(days=_WORDS[text])
    try:
        moment = dt.datetime.fromisoformat(text).replace(tzinfo=now.tzinfo) if _MOMENT.fullmatch(text) else None
    except ValueError as error:
        raise ConfigError(f"--date has {text!r}, and there is no such day; correct it") from error
    if moment is None:
        raise ConfigError(
            f"--date has {text!r}, expected a day such as 2026-11-20, today or yesterday, or two days as FIRST..LAST; "
            "correct it"
        )
    if moment > now:
        raise ConfigError(
            f"--date has {text!r}, which is in the future: it is {now:%Y-%m-%d %H:%M} in the time zone {now.tzname()}; "
            "give an earlier day, or pass --timezone"
        )
    return moment


def parse_range(text: str, now: dt.datetime) -> list[dt.datetime]:
    """Return the days that the option --date names as FIRST..LAST, both included; without LAST, up to today.

    Raises:
        ConfigError: an end is no day or is in the future, or the first is after the last.
    """
    first, _, last = text.partition("..")
    if "T" in text:
        raise ConfigError(f"--date is {text}, expected days in a range; give one date with its time, or days alone")
    begin, end = (parse_date(day, now).replace(hour=0, minute=0) for day in (first, last or "today"))
    if begin > end:
        raise ConfigError(f"--date is {text}, whose first day is after its last; exchange them")
    return [begin + dt.timedelta(days=number) for number in range((end.date() - begin.date()).days + 1)]
