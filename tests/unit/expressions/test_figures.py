"""The language of gates: what it takes, what it refuses and where, and what is true of figures without a value."""

import contextlib
import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core.errors import ConfigError
from fsf_core.expressions import figures
from fsf_core.expressions.figures import parse, written

VALUES = {
    ("miou",): 0.8,
    ("failed",): 2,
    ("items",): 10,
    ("iou", "wind scarring"): 0.5,
    ("iou", "wind scarring", "low"): 0.4,
    ("iou", "ø.1"): 0.25,
    ("ratio", "3"): 0.1,
    ("psi", "peel"): 0.3,
    ("psi", "peel", "limit"): 0.2,
    ("psi", "leaf"): 0.1,
    ("psi", "leaf", "limit"): 0.2,
    ("absent",): None,
    ("odd",): float("nan"),
}


def judged(text):
    expression = parse(text).with_limits(lambda parts: parts[0] == "psi" and len(parts) == 2)
    return expression.judge(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("miou < 0.85", True),
        ("miou<.85".replace(".85", "0.85"), True),
        ("miou >= 0.8 and failed = 2", True),
        ("miou <> 0.8", False),
        ("failed / items > 0.1", True),
        ("failed / items > 15%", True),
        ("failed/items>25 %", False),
        ("1 - miou < 0.3", True),
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("10 - 4 - 3 == 3", True),
        ("16 / 4 / 2 == 2", True),
        ("-failed + 3 == 1", True),
        ("- - failed == 2", True),
        ("-(failed + 1) == -3", True),
        ("1e-3 < miou", True),
        ('iou."wind scarring" < 0.7', True),
        ("iou.'wind scarring'.low < 0.45", True),
        ("iou.`wind scarring` > 0.45", True),
        ('iou."ø.1" == 0.25', True),
        ("ratio.3 > 0.05", True),
        ("0.2 < miou < 0.9", True),
        ("0.2 < miou < 0.5", False),
        ("not miou < 0.85", False),
        ("not (miou < 0.85) or failed > 1", True),
        ("(miou < 0.5 or failed > 1) and items > 9", True),
        ("((miou)) < ((0.85))", True),
        ("psi.peel > limit", True),
        ("limit < psi.peel", True),
        ("psi.leaf > limit", False),
        ("psi.peel > 2 * limit", False),
        ("psi.leaf > limit or psi.peel > limit", True),
        ("psi.peel > psi.peel.limit", True),
        ("MIOU < 1".lower(), True),
        ("miou < 0.85 AND NOT failed > 3", True),
    ],
)
def test_a_condition_is_judged_on_the_figures(text, expected):
    assert judged(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("absent < 1", None),
        ("odd < 1", None),
        ("absent == absent", None),
        ("1 / 0 > 1", None),
        ("miou / (failed - 2) > 1", None),
        ("not absent < 1", None),
        ("absent < 1 and miou > 0.9", False),
        ("absent < 1 and miou < 0.9", None),
        ("absent < 1 or miou < 0.9", True),
        ("absent < 1 or miou > 0.9", None),
        ("absent is null", True),
        ("absent is not null and absent < 1", False),
        ("absent is null or absent < 1", True),
        ("miou is null", False),
        ("0.9 < miou < absent", False),
    ],
)
def test_a_figure_without_a_value_leaves_open_what_depends_on_it(text, expected):
    assert judged(text) is expected


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("", 0, "a number, a name or `(`"),
        ("miou", 0, "expected a condition"),
        ("miou + 1", 5, "expected a condition"),
        ("not miou", 4, "expected a condition"),
        ("miou < < 0.85", 7, "has '<'"),
        ("miou < 0.85 miou", 12, "the end"),
        ("iou.wind scarring < 0.85", 9, "(a name with spaces is quoted)"),
        ("miou < 0.85)", 11, "the end"),
        ("(miou < 0.85", 12, "an operator or `)`"),
        ("miou < 0.85 and", 15, "has the end"),
        ("miou < 0.85 and failed", 16, "expected a condition"),
        ("miou & 1", 5, "a number, a name"),
        ("miou < 0.85x", 7, "a number, a name"),
        ("iou. < 1", 5, "the rest of a name"),
        ('"iou".a < 1', 0, "a name"),
        ("miou is 3", 8, "`null`"),
        ("3 is null", 0, "expected a name"),
        ("(miou < 1) < 2", 1, "expected a number"),
        ("-(miou < 1)", 2, "expected a number"),
        ("miou < 1e999", 7, "a smaller number"),
        ("miou < null", 7, "a number, a name"),
        ("__import__('os').system('x')", 10, "the end"),
        ("miou < 1; drop", 8, "or a comparison"),
    ],
)
def test_a_syntax_error_shows_its_place(text, at, expected):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message, (note,) = str(caught.value), caught.value.__notes__
    assert f"at character {at}" in message
    assert expected in message
    line, caret = note.split("\n")
    assert caret == f"  {' ' * at}^"
    assert line == f"  {text}"


@pytest.mark.parametrize("text", ["miou > limit", "psi.peel > psi.leaf + limit", "limit is null", "limit > 1"])
def test_a_limit_belongs_to_the_one_figure_beside_it(text):
    with pytest.raises(ConfigError, match="the alarm limit of the one psi or js"):
        judged(text)


def test_the_caret_is_below_wide_characters_and_in_long_texts():
    text = "iou.'橙子' < < 1"
    with pytest.raises(ConfigError) as caught:
        parse(text)
    line, caret = caught.value.__notes__[0].split("\n")
    columns = sum(2 if unicodedata.east_asian_width(each) == "W" else 1 for each in line[: line.index("< <") + 2])
    assert caret.index("^") == columns
    with pytest.raises(ConfigError) as caught:
        parse(" or ".join(["miou < 1"] * 100) + " or")
    line, caret = caught.value.__notes__[0].split("\n")
    assert line.startswith("  …")
    assert len(line) < 100
    assert caret.index("^") == len(line)


@pytest.mark.parametrize(
    "text",
    ["(" * 200 + "miou" + ")" * 200 + " < 1", "not " * 200 + "miou < 1", " + ".join(["1"] * 200) + " < 1",
     " or ".join(["miou < 1"] * 2000)],
)  # fmt: skip
def test_what_is_too_deep_or_too_large_is_refused(text):
    with pytest.raises(ConfigError, match=r"more than \d+"):
        parse(text)


def test_many_signs_and_brackets_within_the_limits_work():
    assert judged("- " * 5000 + "miou < 1") is True
    assert judged("(" * 25 + "miou" + ")" * 25 + " < 1") is True


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_a_name_is_read_as_it_is_written(parts):
    name = ("iou", *parts)
    assert [found.parts for found in parse(f"{written(name)} < 1").names()] == [name]


@given(st.text())
def test_any_text_is_a_condition_or_refused(text):
    with contextlib.suppress(ConfigError):
        parse(text)


TRUTH = {"t": True, "f": False, "u": None}


@pytest.mark.parametrize(("left", "right"), [*itertools.product(TRUTH, repeat=2)])
def test_and_or_and_not_follow_the_logic_of_unknown_values(left, right):
    """As in SQL: unknown only where the other side does not decide."""
    words = {"t": "miou < 1", "f": "miou > 1", "u": "absent < 1"}
    cases = {
        f"{words[left]} and {words[right]}": min(TRUTH[left] is not False, TRUTH[right] is not False)
        and (None if None in {TRUTH[left], TRUTH[right]} else True),
        f"{words[left]} or {words[right]}": (TRUTH[left] is True or TRUTH[right] is True)
        or (None if None in {TRUTH[left], TRUTH[right]} else False),
    }
    for text, expected in cases.items():
        assert judged(text) is expected, text
    assert figures.parse(f"not {words[left]}").judge(VALUES.__getitem__) is {"t": False, "f": True, "u": None}[left]
