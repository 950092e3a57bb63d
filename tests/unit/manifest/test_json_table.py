"""JSON lists: every object is an item, every value is the text that is written, or the row is named."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsf_core.manifest import json_table, open_manifest
from fsf_core.manifest.rows import BATCH_ROWS

VALUES = [
    ("12", "12"),
    ('"12"', "12"),
    ("12345678901234567890", "12345678901234567890"),
    ("1.10", "1.10"),
    ("1e400", "1e400"),
    ("-0", "-0"),
    ("true", "true"),
    ("null", None),
    ('""', ""),
    ('"2026-01-05"', "2026-01-05"),
    ('"a\\u00fc\\n"', "aü\n"),
    ("[1, 2.50, [ ] ]", "[1,2.50,[]]"),
    ('{ "b" : 1e3, "a": "ü\\"", "b": null }', '{"b":1e3,"a":"ü\\"","b":null}'),
    ("NaN", "NaN"),
]


@pytest.mark.parametrize(("written", "text"), VALUES)
def test_a_value_is_the_text_that_is_written(written, text, open_list, rows_of):
    """Kind: numbers, booleans and nested values were changed on their way through, or refused beside text."""
    manifest = open_list("l.jsonl", f'{{"uri": "a", "x": {written}}}\n{{"uri": "b", "x": "text"}}\n{{"uri": "c"}}\n')

    assert [row["x"] for row in rows_of(manifest)] == [text, "text", None]
    assert manifest.extra.field("x").type == pa.string()


def test_an_id_is_now_a_number_and_now_text(open_list, rows_of):
    content = '{"uri": "x", "id": 12}\n{"uri": "x", "id": "b"}\n{"uri": "x", "id": 1.10}\n'

    assert [row["id"] for row in rows_of(open_list("l.jsonl", content))] == ["12", "b", "1.10"]


ROWS = [{"uri": "a"}, {"uri": "b", "n": "ü"}]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=1),
        "\n\n" + "\n\n".join(json.dumps(row) for row in ROWS),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps(row) for row in ROWS),
        "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
        ("\ufeff" + json.dumps(ROWS, ensure_ascii=False)).encode("utf-16-le"),
        json.dumps(ROWS, ensure_ascii=False).encode("utf-16-be"),
    ],
    ids=["array", "indented", "lines", "pretty", "joined", "mark", "UTF-16 with a mark", "UTF-16"],
)
@pytest.mark.parametrize("name", ["l.json", "l.jsonl", "l.ndjson"])
def test_an_array_and_objects_of_any_layout_are_read(name, content, open_list, rows_of):
    rows = rows_of(open_list(name, content))

    assert [(row["id"], row["n"]) for row in rows] == [("a", None), ("b", "ü")]


@given(size=st.integers(1, 200), indent=st.sampled_from([None, 1]), is_array=st.booleans())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_do_not_depend_on_the_size_of_the_pieces(size, indent, is_array, tmp_path):
    rows = [{"id": f"ü{n}", "uri": f"{n}.jpg", "tags": ["a,]}"] * (n % 3), "at": "2024-01-01"} for n in range(9)]
    path = tmp_path / "l.json"
    path.write_text(
        json.dumps(rows, indent=indent) if is_array else "\n".join(json.dumps(r, indent=indent) for r in rows)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_table, "PIECE_BYTES", size)
        patch.setattr(json_table, "MAX_HELD_BYTES", size * 5)
        manifest = open_manifest(str(path))
        found = [row for batch in manifest.batches() for row in batch.to_pylist()]

    assert [row["item_id"] for row in found] == [row["id"] for row in rows]
    assert [row["extra"] for row in found] == [
        {"tags": json.dumps(row["tags"], separators=(",", ":")), "at": row["at"]} for row in rows
    ]


@pytest.mark.parametrize("held", [0, 64 << 20])
def test_columns_come_from_all_rows_and_long_lists_in_batches(held, open_list, monkeypatch):
    monkeypatch.setattr(json_table, "MAX_HELD_BYTES", held)
    rows = "".join(f'{{"uri": "{number}"}}\n' for number in range(BATCH_ROWS))
    manifest = open_list("l.jsonl", rows + '{"uri": "last", "late": 1}\n')

    assert manifest.extra.names == ["late"]
    assert [batch.num_rows for batch in manifest.batches()] == [BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"uri": "a"}\n["b"]\n', "an array was found, expected an object"),
        ('["a", "b"]', 'text was found, expected an object such as {"uri": "a.jpg"} in row 0'),
        ("12\n", "a number was found"),
        ("{}\n{}\n", "has no id in row 0"),
        (
            '{"uri": "a"}\n{"uri": "b", "n": 1, "n": 2}\n',
            "the name 'n' is there twice in row 1 (the first is 0), line 2",
        ),
        ('{"uri": "a"}\n{"uri": \n', "in row 1 (the first is 0), line"),
        ('[{"uri": "a"}', "expected a comma or the end of the array after this row in row 0"),
        ('[{"uri": "a"},', "the file ends inside the array"),
        ('[{"uri": "a"}]\n{"uri": "b"}', "text follows the array"),
        ('{"uri": "a"}\n{"uri": "b", "x": "\\ud800"}\n', "half of a surrogate pair in row 1"),
        ('{"uri": ' + "[" * 100_000, "nested too deep"),
        ("{'uri': 'a'}", "expecting property name enclosed in double quotes in row 0 (the first is 0), line 1"),
        ('{"uri": "süß"}'.encode("cp1252"), "line 1 has the byte 0xFC, expected UTF-8 or UTF-16"),
    ],
)
def test_what_is_no_row_is_named_with_its_number(content, message, message_of):
    assert message in message_of("l.json", content)


def test_the_search_for_the_end_of_an_object_is_bounded(message_of, monkeypatch):
    monkeypatch.setattr(json_table, "MAX_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(json_table, "PIECE_BYTES", 300)

    assert "unterminated string" in message_of("l.json", '{"uri": "' + "a" * 100_000)
