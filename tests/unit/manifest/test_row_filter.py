"""Row filters mean what SQL means, and are never run as code."""

import contextlib
import datetime as dt
import operator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core.errors import ConfigError
from fsf_core.manifest.row_filter import columns, conjuncts, expression, parse

TABLE = pa.table(
    {
        "split": ["test", "train", "test", None],
        "size": [1, 2, 3, None],
        "share": [0.5, 1.5, None, 2.5],
        "good": [True, False, True, None],
        "day": pa.array([dt.date(2026, 11, day) for day in (1, 2, 3)] + [None]),
        "camera": pa.array(["l", "r", "l", None]).dictionary_encode(),
        "a b": ["it's", "x", "y", "z"],
    }
)

COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def rows(text: str) -> list[int]:
    numbered = TABLE.append_column("row", pa.array(range(4)))
    return numbered.filter(expression(parse(text), TABLE.schema)).column("row").to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("split == 'test'", [0, 2]),
        ("split = \"test\" and day >= '2026-11-02'", [2]),
        ("split != 'test'", [1]),
        ("split <> 'test' or size = 1", [0, 1]),
        ("size > 1", [1, 2]),
        ("size >= 1.5", [1, 2]),
        ("share < 2", [0, 1]),
        ("size in (1, 3)", [0, 2]),
        ("size not in (1, 3)", [1, 3]),
        ("split is null", [3]),
        ("split is not null and not size = 2", [0, 2]),
        ("good == true", [0, 2]),
        ("NOT (good == true OR size == 2)", []),
        ("camera == 'l'", [0, 2]),
        ("`a b` == 'it''s'", [0]),
        ("size == 1 or size == 2 and split == 'test'", [0]),
        ("(size == 1 or size == 2) and split == 'train'", [1]),
    ],
)
def test_a_condition_chooses_the_matching_rows(text, expected):
    assert rows(text) == expected


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64()], ids=str)
@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
def test_whole_numbers_of_any_size_are_compared_with_fractions_exactly(kind, sign):
    """Arrow refused numbers above 2**24 beside 1.5, and the list was called unreadable."""
    low = 0 if pa.types.is_unsigned_integer(kind) else -(1 << kind.bit_width - 1)
    values = [low, low + 1, 0, 1, 2, low + (1 << kind.bit_width) - 1, None]
    table = pa.table({"n": pa.array(values, kind), "row": range(7)})
    for number in ("1.5", "1e0", "-0.5", "1e6", "-1e30", "1e30", "1e999", "9223372036854775808.0"):
        chosen = table.filter(expression(parse(f"n {sign} {number}"), table.schema)).column("row").to_pylist()
        holds = COMPARE[sign]
        expected = [row for row, each in enumerate(values) if each is not None and holds(each, float(number))]
        assert chosen == expected, number


def test_a_fraction_is_equal_to_no_whole_number():
    """`size in (1.5)` chose the rows of size 1."""
    assert rows("size in (1.5)") == []
    assert rows("size in (1.5, 2.0, 3)") == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "split",
        "split ==",
        "== 'test'",
        "split == test",
        "split == 'test",
        "split == 'test' and",
        "split == 'test' size = 1",
        "(split == 'test'",
        "size in ()",
        "size in 1",
        "split is test",
        "size not 3",
        "__import__('os').system('x')",
        "size == 1; drop table",
    ],
)
def test_a_syntax_error_is_refused_with_its_position(text):
    with pytest.raises(ConfigError, match=r"at character \d+, expected .+; write it like"):
        parse(text)


@pytest.mark.parametrize("text", ["nothing == 1", "size == 'one'", "split == 1", "day > 'yesterday'", "good == 3"])
def test_a_condition_that_does_not_fit_the_columns_is_refused(text):
    with pytest.raises(ConfigError, match=r"--where .+; (correct|write)"):
        rows(text)


def test_a_condition_gives_its_columns_and_conjuncts():
    condition = parse("a = 1 and (b = 2 or c = 3) and d is null")

    assert columns(condition) == {"a", "b", "c", "d"}
    assert [sorted(columns(part)) for part in conjuncts(condition)] == [["a"], ["b", "c"], ["d"]]


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ConfigError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 3000 + "size = 1" + ")" * 3000, "more than 100 deep at character 100"),
        ("not " * 3000 + "size = 1", "more than 100 deep"),
        (" or ".join(["size = 3"] * 10_000), "more than 1000 conditions under one `or`"),
        (f"size = {10**30}", "compares the column 'size'"),
        ("size = 1" + "0" * 5000, "expected a shorter number"),
    ],
)
def test_what_is_too_deep_or_too_large_is_refused_with_a_message(text, message):
    with pytest.raises(ConfigError, match=message):
        rows(text)


def test_conditions_within_the_limits_work():
    assert rows(" or ".join(["size = 3"] * 1000)) == [2]
    assert rows("(" * 90 + "size = 3" + ")" * 90) == [2]
    assert rows(f"size in ({', '.join(map(str, range(3, 50_000)))})") == [2]
