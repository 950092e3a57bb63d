"""One HTML file from what was read: template, style and script in one, and nothing that a browser would fetch.

The templates escape every text. The policy of the page allows its own style and script by their hashes, and images
that are in the page; everything else is refused by the browser.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fsf_core.report import colours
from fsf_core.report.pictures import data_uri
from fsf_core.safe_text import printable, redact_document, redact_message

_HOME = Path(__file__).parent / "page"


def render_page(
    data: dict[str, Any],
    *,
    palette: list[colours.Rgb],
    rows: dict[str, Any] | None,
    template: str = "report.html.j2",
) -> str:
    """Return the page.

    Args:
        data: what the template names.
        template: of the page; the others have the same style, script and policy.
        palette: of the classes.
        rows: of the table of items, for the script; None without a table.
    """
    style = _read("report.css") + f":root{{{colours.class_variables(palette)}}}" + colours.heat_rules()
    script = _read("report.js")
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            **data,
            style=Markup(style),  # noqa: S704 - the project's own, and numbers
            script=Markup(script),  # noqa: S704 - the project's own
            policy=policy,
            rows=None if rows is None else json_for_html(rows),
        )
    )


def json_for_html(document: Any) -> Markup:
    """Return a document as JSON that can be inside a script element."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character that begins a tag is left


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, in percent with three significant digits."""
    if share is None or share != share:  # noqa: PLR0124 - nan
        return "–"
    value = 100 * share
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004 - percent
        return f"{value:.0f} %"
    if abs(value) < 0.001:  # noqa: PLR2004 - too many zeros to be read
        return "< 0.001 %"
    digits = 2 if abs(value) >= 1 else 3 if abs(value) >= 0.1 else 4  # noqa: PLR2004 - three significant digits
    if abs(value) >= 10:  # noqa: PLR2004 - as above
        digits = 1
    return f"{value:.{digits}f} %"


def number(value: float | None) -> str:
    """Return a number with separators, and three significant digits below 1,000."""
    if value is None or value != value:  # noqa: PLR0124 - nan
        return "–"
    if abs(value) >= 1000 or float(value).is_integer():  # noqa: PLR2004 - digits that people read
        return f"{value:,.0f}"
    return f"{value:.3g}"


def metric(value: float | None) -> str:
    """Return a metric, 0 to 1, with three decimals."""
    return "–" if value is None else f"{value:.3f}"


def clock(seconds: float | None) -> str:
    """Return a time in a video as minutes and seconds."""
    if seconds is None:
        return ""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def duration(seconds: float | None) -> str:
    """Return a length of time as people read it."""
    if seconds is None:
        return "–"
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"


def _text(value: object) -> str:
    """Return a text of the data without credentials and without characters that act on a reader."""
    return printable(redact_message(str(value)))


def _pretty(document: Any) -> str:
    return printable(json.dumps(redact_document(document), indent=2, ensure_ascii=False), lines=True)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HOME),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "number": number, "metric": metric, "clock": clock, "duration": duration, "text": _text,
        "pretty": _pretty, "webp": lambda data: data_uri("webp", data), "png": lambda data: data_uri("png", data),
    }  # fmt: skip
    return environment


def _read(name: str) -> str:
    return (_HOME / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
