"""--column-types: columns of text lists in the types that were asked for, or the row that does not fit."""

import datetime as dt
import decimal

import pyarrow as pa
import pytest

from fsf_core.errors import ConfigError
from fsf_core.manifest import column_types

NOON = dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC)

CASES = [
    ("int64", pa.int64(), ["0012", " 7 ", "NA", ""], [12, 7, None, None]),
    ("uint64", pa.uint64(), ["18446744073709551615"], [2**64 - 1]),
    ("float64", pa.float64(), ["1.10", "1e3", "nan", "-0"], [1.1, 1000.0, None, 0.0]),
    ("double", pa.float64(), ["0.5"], [0.5]),
    ("bool", pa.bool_(), ["true", "FALSE", "1", ""], [True, False, True, None]),
    ("date32", pa.date32(), ["2026-01-05"], [dt.date(2026, 1, 5)]),
    ("date32[day]", pa.date32(), ["2026-01-05"], [dt.date(2026, 1, 5)]),
    ("timestamp[us]", pa.timestamp("us"), ["2026-01-05 10:00:00.5"], [NOON.replace(microsecond=500_000, tzinfo=None)]),
    ("timestamp[s, tz=UTC]", pa.timestamp("s", "UTC"), ["2026-01-05T10:00Z"], [NOON]),
    ("time32[s]", pa.time32("s"), ["11:30", "07:00:01"], [dt.time(11, 30), dt.time(7, 0, 1)]),
    ("decimal128(10, 2)", pa.decimal128(10, 2), ["1.10"], [decimal.Decimal("1.10")]),
    ("string", pa.string(), ["NA", ""], ["NA", ""]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "texts", "values"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_column_has_the_type_that_was_asked_for(suffix, name, kind, texts, values, open_list, rows_of):
    lines = {
        "csv": "uri,x,other\n" + "".join(f"{row},{text},0012\n" for row, text in enumerate(texts)),
        "jsonl": "".join(f'{{"uri": "{row}", "x": "{text}", "other": 12}}\n' for row, text in enumerate(texts)),
    }
    manifest = open_list(f"l.{suffix}", lines[suffix], types=(f"x={name}",))

    assert manifest.extra.field("x").type == kind
    assert manifest.extra.field("other").type == pa.string()
    assert [row["x"] for row in rows_of(manifest)] == values
    assert column_types.option_of({"x": str(kind)}) in {f"x={kind}", f"'x={kind}'"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", "1.5"),
        ("int8", "300"),
        ("date32", "5.1.2026"),
        ("time32[s]", "noon"),
        ("bool", "yes"),
        ("float32", "1,5"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_row(suffix, kind, value, message_of):
    before = 70_000 if kind == "int64" else 3  # beyond the first batch
    rows = [(f"{row}", "") for row in range(before)] + [("last", value), ("later", value)]
    lines = {
        "csv": "uri,x\n" + "".join(f'{uri},"{text}"\n' for uri, text in rows),
        "jsonl": "".join(f'{{"uri": "{uri}", "x": "{text}"}}\n' for uri, text in rows),
    }
    message = message_of(f"l.{suffix}", lines[suffix], types=(f"x={kind}",))

    expected = column_types.parse([f"x={kind}"])["x"]
    assert f"has {value!r} in the column 'x' in row {before} (the first is 0), expected {expected}" in message


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "x=",
        "=int64",
        "x=number",
        "x=list<item: int64>",
        "x=duration[s]",
        "x=binary",
        "x=null",
        "x=timestamp[s, tz=Nowhere]",
    ],
)
def test_what_is_no_type_for_text_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected name=type with a type such as .+; correct it"):
        column_types.parse([text])


@pytest.mark.parametrize("texts", [["id=int64"], ["x=int64", "x=string"]])
def test_types_of_own_columns_and_two_types_are_refused(texts):
    with pytest.raises(ConfigError, match=r"--column-types has .+; (leave|give)"):
        column_types.parse(texts)


def test_a_column_that_the_list_lacks_is_named(open_list):
    with pytest.raises(
        ConfigError, match=r"names the column 'polt', the manifest has .*, did you mean plot\?; correct"
    ):
        open_list("l.csv", "uri,plot\na,1\n", types=("polt=int64",))


@pytest.mark.parametrize("name", ["l.txt", "l.tar"])
def test_a_list_without_text_columns_takes_no_types(name, open_list):
    with pytest.raises(ConfigError, match=r"--column-types is for lists in CSV, TSV or JSON, .* is none; leave it out"):
        open_list(name, b"", types=("x=int64",))
