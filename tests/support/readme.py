"""The console blocks of READMEs: their commands, and the output that they show."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EXECUTED = (
    "fsf export --net fastsegformer-e --checkpoint demo/",
    "fsf score --bundle bundles/oranges --manifest demo/", "fsf report runs/first", "duckdb -c",
)  # fmt: skip
"""Commands of README.md that a test runs, by their beginnings; all others are parsed as their program would."""


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced code blocks of one language, also those within lists."""
    fenced = re.findall(rf"^( *)```{language}\n(.*?)^\1```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in fenced]


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Return every command of the console blocks with the lines of output below it; indented lines continue one."""
    found: list[tuple[str, list[str]]] = []
    for line in "\n".join(block.rstrip() for block in blocks(path, "console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("    ") and not found[-1][1]:
            found[-1] = (f"{found[-1][0].removesuffix(chr(92))} {line.strip()}", [])
        else:
            found[-1][1].append(line)
    return found


def has_shape_of(shown: list[str], real: list[str]) -> bool:
    """Whether real output equals the shown one but for numbers, the widths that follow from them, and what … hides."""
    return len(shown) == len(real) and all(
        re.fullmatch(_shape(line), other) for line, other in zip(shown, real, strict=True)
    )


def _shape(line: str) -> str:
    """Return the pattern of a shown line: any digest, number or width of a gap or rule for one, anything for …."""
    patterns = {r"\d{8}T\d{6}Z-[0-9a-f]{8}": None, r"[0-9a-f]{12,}": r"[0-9a-f]+", r"\d[\d.,]*": None, r"\s+": None,
                "─+": None, "…": ".*"}  # fmt: skip
    pattern, at = "", 0
    for match in re.finditer("|".join(patterns), line):
        kind = next(kind for kind in patterns if re.fullmatch(kind, match[0]))
        pattern, at = pattern + re.escape(line[at : match.start()]) + (patterns[kind] or kind), match.end()
    return pattern + re.escape(line[at:])
