"""The project is written in the standard terms of its field: for each term of BANNED there is a better one.

Checked are comments, strings and names of all Python files, and all READMEs. ruff's D401 checks that docstrings of
fsf_core and jobs begin with an imperative.
"""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BANNED = {
    # pattern: what to write instead
    r"\bso (many|few|long|much)\b(?! (as|that)\b)": "the number and its unit, or N",
    r"\bof (ours|theirs)\b": "our, their, or the name of the owner",
    r"\bof its own accord\b": "by itself",
    r"\b(im)?patien(ce|t|tly)\b": "retries, backoff, timeout",
    r"\bsigns? of life\b": "heartbeat",
    r"\btells? (it|them|people|you|us)\b|\btold\b": "reports, passes, receives",
    r"\b(as|what) (it|they) (says?|said)\b|\bsaid\b": "the fact itself; output, message",
    r"\bin words\b": "as text; with a message",
    r"\bwhat(ever)? (is|was|lies) there\b": "the existing files",
    r"\b(lies?|lay)\b": "is, are",
    r"\b(stands?|stood)\b": "is, means",
    r"\b(standing|left standing)\b": "existing, current",
    r"\blook(s|ed|ing)? round\b": "poll, check",
    r"\bfilms?\b": "video, rendered video",
    r"\banswer(s|ed|ing)?\b": "returns, responds; logits, output, response",
    r"\bthe words of\b": "the messages of, the options of",
    r"\bbooks?\b": "ledger",
    r"\bmiss(es|ed)? (its|the|a|his|their) (limits?|gate|bound)\b": "violates",
    r"\b(any|every|no)body\b(?= (disturb|need))": "nothing, no job",
}
"""Pattern of a term, matched without regard to case, and the standard one."""

ALLOWED = {
    # file: terms, with the reason
    "tests/unit/test_language.py": (".*",),  # the table itself
    "fsf_core/cli/render.py": ('"films"',),  # a key of the JSON that scripts read
    "tests/e2e/test_rendered_videos.py": ('"films"',),  # the same
    "tests/support/assets.py": ('"answer.jpg"',),  # the name of a file, which its bytes follow from
}


def _texts(name: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of every comment, string and name of a Python file, or line of another."""
    source = (ROOT / name).read_text()
    if not name.endswith(".py"):
        yield from enumerate(source.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])
        elif token.type == tokenize.NAME:
            yield token.start[0], token.string.replace("_", " ")


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, int, str]]:
    """File, line number and text of everything that is checked."""
    files = subprocess.check_output(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "Makefile", ".ci"], cwd=ROOT, text=True
    )
    return [
        (name, number, text)
        for name in files.split()
        for number, text in _texts(name)
        if not any(re.fullmatch(allowed, text) for allowed in ALLOWED.get(name, ()))
    ]


@pytest.mark.parametrize(("pattern", "instead"), BANNED.items(), ids=BANNED.values())
def test_the_standard_term_is_used(pattern: str, instead: str, texts: list[tuple[str, int, str]]) -> None:
    term = re.compile(pattern, re.IGNORECASE)
    found = sorted({f"{name}:{number}: {text.strip()}" for name, number, text in texts if term.search(text)})

    assert not found, f"write instead: {instead}\n" + "\n".join(found)


def test_every_pattern_and_every_exception_matches_something() -> None:
    terms = (
        "so many, of ours, of its own accord, patience, sign of life, told, as it says, in words, what is there, lies, "
        "stands, standing, look round, film, answers, the words of, books, misses the gate, nobody disturbed"
    )
    texts = {name: [text for _, text in _texts(name)] for name in ALLOWED}

    assert [pattern for pattern in BANNED if not re.search(pattern, terms)] == []
    for name, allowed in ALLOWED.items():
        assert all(any(re.fullmatch(pattern, text) for text in texts[name]) for pattern in allowed), name
