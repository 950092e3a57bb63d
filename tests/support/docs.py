"""The generated parts of README.md: `python -m tests.support.docs` writes them, and a test compares."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsf_core import config, schema

COMMANDS = (
    ("export", config.ExportConfig),
    ("score", config.ScoreConfig),
    ("render", config.RenderConfig),
    ("bench", config.BenchConfig),
)
README = Path(__file__).parents[2] / "README.md"


def tables() -> str:
    """Every column of every table."""
    lines = []
    for name, table in {**schema.TABLES, **schema.DERIVED}.items():
        lines += [f"`{name}/`", "", "| column | type | unit | what it is |", "|---|---|---|---|"]
        lines += [_column(field) for field in table]
        lines.append("")
    return "\n".join(lines).rstrip()


def _column(field: pa.Field) -> str:
    words = {key.decode(): value.decode() for key, value in field.metadata.items()}
    kind = "struct{bytes, path}" if pa.types.is_struct(field.type) else str(field.type)
    return f"| `{field.name}` | {kind} | {words.get('unit', '')} | {words['description']} |"


def options() -> str:
    """Every option of every job, from the docstrings of its fields."""
    lines = []
    for command, record in COMMANDS:
        lines += [f"`fsf {command}`", "", "| option | default | what it does |", "|---|---|---|"]
        said = _field_docstrings(record)
        for field in dataclasses.fields(record):
            lines.append(f"| `--{field.name.replace('_', '-')}` | {_default(field)} | {said[field.name]} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default in (None, ()):
        return ""
    return f"`{','.join(field.default) if isinstance(field.default, tuple) else field.default}`".lower()


def _field_docstrings(record: type) -> dict[str, str]:
    """Return the string below every field, its own and inherited, from the source, as the help has it."""
    found: dict[str, str] = {}
    for part in reversed(record.__mro__[:-1]):
        pairs = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', inspect.getsource(part), re.MULTILINE | re.DOTALL)
        found |= {name: " ".join(text.split()) for name, text in pairs}
    return found


def rendered(text: str) -> str:
    """The README with its generated parts as they should be."""
    for name, content in (("tables", tables()), ("options", options())):
        text = re.sub(
            rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)",
            lambda m, c=content: f"{m[1]}\n{c}\n\n{m[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
    sys.stdout.write(f"wrote {README}\n")
