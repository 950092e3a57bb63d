"""--where on lists whose values are text: numbers compare as numbers, text as text, and what is no number is named."""

import pytest

from fsf_core.errors import ConfigError

ROWS = [
    # id, trust, plot, day, good, note
    ("a", "0.93", "0012", "2026-11-01", "true", "x"),
    ("b", "5e-1", "7", "2026-11-02", "FALSE", ""),
    ("c", "", "A7", "2026-11-03", "", "NA"),
    ("d", "NA", "100", "", "true", "5"),
]
NAMES = ("id", "trust", "plot", "day", "good", "note")

CONDITIONS = [
    ("trust > 0.5", "a"),
    ("trust >= 0.5", "ab"),
    ("not trust > 0.5", "b"),
    ("trust in (0.5, 0.93)", "ab"),
    ("trust == 0.5", "b"),
    ("trust == '5e-1'", "b"),
    ("trust is null", "c"),
    ("plot == '0012' or trust < 0.6", "ab"),
    ("good == true and day >= '2026-11-01'", "a"),
    ("good != true", "b"),
    ("day >= '2026-11-02' and day < '2026-12-01'", "bc"),
    ("note is not null", "acd"),
    ("note == ''", "b"),
    ("id in ('a', 'd') and trust > 0", "a"),
]


@pytest.mark.parametrize(("where", "expected"), CONDITIONS)
def test_a_condition_on_text_chooses_the_rows_that_its_readers_expect(where, expected, open_list, rows_of):
    content = "\n".join(",".join(row) for row in [(*NAMES, "uri"), *((*row, "x") for row in ROWS)])

    assert "".join(row["id"] for row in rows_of(open_list("l.csv", content, where=where))) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("n > 1", "abc"),
        ("n > 1.5", "bc"),
        ("n == 1.10", "a"),
        ("n is null", "d"),
        ("good == false", "b"),
        ("n == '2'", "b"),
        ("s is null or n is null", "d"),
    ],
)
def test_numbers_and_booleans_of_json_compare_too(where, expected, open_list, rows_of):
    values = [("1.10", "true"), ("2", "false"), ('"3"', "true"), ("null", "null")]
    lines = [
        f'{{"id": "{item}", "uri": "x", "n": {number}, "good": {good}, "s": ""}}\n'
        for item, (number, good) in zip("abcd", values, strict=True)
    ]
    assert "".join(row["id"] for row in rows_of(open_list("l.jsonl", "".join(lines), where=where))) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "plot > 5",
            "has 'A7' in the column 'plot' in row 2 (the first is 0), expected a number, because --where compares",
        ),
        ("note == true", "has 'x' in the column 'note' in row 0 (the first is 0), expected true or false"),
    ],
)
def test_a_text_that_is_no_number_is_named_with_its_row(where, message, message_of):
    content = "\n".join(",".join(row) for row in [(*NAMES, "uri"), *((*row, "x") for row in ROWS)])

    assert message in message_of("l.csv", content, where=where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (f"n == {2**53}", "expected a number below 2**53; quote it"),
        ("n in (1, 'a')", "write a value of that type"),
        ("m == 1", r"--where names the column 'm', the manifest has \['uri', 'n'\]"),
    ],
)
def test_a_condition_that_does_not_fit_text_is_refused_before_the_list_is_read(where, message, open_list):
    with pytest.raises(ConfigError, match=message.replace("**", r"\*\*")):
        open_list("l.csv", "uri,n\na,1\n", where=where)


def test_a_column_with_a_type_compares_as_its_type(open_list, rows_of):
    content = "uri,tag\na,12345678901234567890\nb,12345678901234567891\n"
    manifest = open_list("l.csv", content, where=f"tag == {12345678901234567891}", types=("tag=uint64",))

    assert [row["id"] for row in rows_of(manifest)] == ["b"]
