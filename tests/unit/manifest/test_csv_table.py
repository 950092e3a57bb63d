"""CSV and TSV lists: every row is there, every value is the text that is written, or the row is named.

The reference is Python's strict `csv`.
"""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsf_core.manifest import csv_rows, open_manifest

MANY = 30_000  # rows of 200 bytes: more than one piece
LONG = "x" * 180

# --- values ---

CODES = {
    "plot": ["0012", "0007", "A7"],
    "batch": ["12E3", "4E10", "1E05"],
    "tag": ["12345678901234567890", "12345678901234567891", "98765432109876543210"],
    "country": ["NA", "null", "NaN"],
    "day": ["2026-01-05", "05.01.2026", ""],
    "clock": ["11:30", "1.10", "1,5"],
    "flag": ["true", "TRUE", "1"],
    "sign": ["+5", "-0", " 7 "],
    "other": ["\\N", "\0", "0x10"],
}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_values_are_the_text_that_is_written(suffix, open_list, rows_of):
    """Kind: a value that looks like a number, a date, a boolean or a null was changed on its way through."""
    text = io.StringIO()
    if suffix == "csv":
        writer = csv.writer(text)
        writer.writerows([["uri", *CODES], *zip("abc", *CODES.values(), strict=True)])
    else:
        text.write("\n".join("\t".join(row) for row in [["uri", *CODES], *zip("abc", *CODES.values(), strict=True)]))
    manifest = open_list(f"l.{suffix}", text.getvalue())

    assert {field.type for field in manifest.extra} == {pa.string()}
    assert {name: [row[name] for row in rows_of(manifest)] for name in CODES} == CODES


def test_a_value_does_not_depend_on_other_rows(open_list, rows_of):
    rows = "".join(f"{number}{LONG}.jpg,0012\n" for number in range(MANY))
    manifest = open_list("l.csv", f"uri,plot\n{rows}last.jpg,A7\n")

    assert manifest.items == MANY + 1
    assert {row["plot"] for row in rows_of(manifest)} == {"0012", "A7"}


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffuri,n\na.jpg,1\nb.jpg,2\n",
        "uri,n\r\na.jpg,1\r\nb.jpg,2\r\n",
        "uri,n\ra.jpg,1\rb.jpg,2\r",
        "uri,n\na.jpg,1\nb.jpg,2",
        "\n\nuri,n\n\na.jpg,1\n\n\nb.jpg,2\n\n",
        "uri;n\na.jpg;1\nb.jpg;2\n",
        "uri\tn\na.jpg\t1\nb.jpg\t2\n",
        "sep=;\r\nuri;n\r\na.jpg;1\r\nb.jpg;2\r\n",
        "sep=|\nuri|n\na.jpg|1\nb.jpg|2\n",
        '"uri","n"\n"a.jpg","1"\n"b.jpg","2"\n',
        "\ufeffuri\tn\r\na.jpg\t1\r\nb.jpg\t2\r\n".encode("utf-16-le"),
        "\ufeffuri,n\na.jpg,1\nb.jpg,2\n".encode("utf-16-be"),
        "uri,n\na.jpg,1\nb.jpg,2\n".encode("utf-16-le"),
        "\ufeffuri,n\na.jpg,1\nb.jpg,2\n".encode("utf-32-le"),
    ],
    ids=lambda content: repr(content)[:24],
)
def test_files_of_any_editor_and_spreadsheet_are_read(content, open_list, rows_of):
    """Kind: UTF-16, `;`, tabs and `sep=` as spreadsheets write them; line ends and empty lines as editors do."""
    assert [(row["id"], row["n"]) for row in rows_of(open_list("l.csv", content))] == [("a.jpg", "1"), ("b.jpg", "2")]


def test_a_comma_separates_where_the_header_has_uri_between_commas(open_list, rows_of):
    rows = rows_of(open_list("l.csv", "uri,a;b,x.y\na;b.jpg,1;2,3\n"))

    assert [(row["id"], row["a;b"]) for row in rows] == [("a;b.jpg", "1;2")]


# --- quotes ---


def test_quoted_commas_quotes_and_line_ends_are_part_of_a_value(open_list, rows_of):
    rows = "".join(f'"a,""{number}"".jpg","two\r\n{LONG}"\n' for number in range(MANY))
    found = rows_of(open_list("l.csv", "uri,note\n" + rows))

    assert len(found) == MANY
    assert found[MANY - 1]["id"] == f'a,"{MANY - 1}".jpg'
    assert {row["note"] for row in found} == {f"two\r\n{LONG}"}


def test_a_quote_in_the_middle_of_a_cell_is_text(open_list, rows_of):
    rows = rows_of(open_list("l.csv", 'uri,note\na,5" pot\nb,"6"" pot"\nc,x"y"z\nd,""\n'))

    assert [row["note"] for row in rows] == ['5" pot', '6" pot', 'x"y"z', ""]


NOT_CLOSED = "a quote opens and is never closed in row 1 (the first is 0), line 3; close the quote"


@pytest.mark.parametrize("after", ["", "c.jpg,y\n", "c.jpg,y\n" * 900_000], ids=["end", "row", "many pieces"])
def test_a_quote_that_is_not_closed_is_refused_with_its_row(after, message_of):
    """Kind: the rows up to the next quote, or to the end of the file, became the text of one cell."""
    assert NOT_CLOSED in message_of("l.csv", f'uri,caption\na.jpg,x\nb.jpg,"never closed\n{after}')


def test_the_search_for_the_end_of_a_quote_is_bounded(message_of, monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(csv_rows, "PIECE_BYTES", 300)

    assert "is not closed within 0 MiB in row 1 (the first is 0), line 3" in message_of(
        "l.csv", 'uri,caption\na.jpg,x\nb.jpg,"never closed\n' + "c.jpg,y\n" * 20_000
    )


@pytest.mark.parametrize("cell", ['"x"y', '"x" ', '"x" y"', '"a""b"c', '""x'])
def test_text_after_a_closing_quote_is_refused_with_its_row(cell, message_of):
    """Kind: the quotes vanished, and the text behind was appended."""
    with pytest.raises(csv.Error):
        list(csv.reader(io.StringIO(f"b,{cell}\n"), strict=True))

    assert (
        "text follows a closing quote in row 2 (the first is 0), line 5; close the quote, or double it"
        in message_of("l.csv", f'uri,n\na,1\n"b","two\nlines"\nc,{cell}\nd,2\n')
    )


def test_tsv_has_no_quotes_and_every_line_is_a_row(open_list, rows_of):
    """Kind: quotes in TSV swallowed the lines up to the next quote."""
    content = 'uri\tcaption\na\t"open at the start\nb\tplain\nc\tends here"\nd\t"Big one", he says\ne\t5" pot\n'

    assert [row["caption"] for row in rows_of(open_list("l.tsv", content))] == [
        '"open at the start', "plain", 'ends here"', '"Big one", he says', '5" pot',
    ]  # fmt: skip


TEXTS = st.text(st.sampled_from('ab",;\n\r\t 0é'), max_size=6)


@given(
    rows=st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=8),
    style=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
    size=st.integers(1, 64),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_csv_writes_is_read_whatever_the_size_of_the_pieces(rows, style, size, tmp_path):
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=style[0], quoting=style[1])
    writer.writerow(["id", "uri", "one", "two", "three"])
    writer.writerows([[number, "x", *row] for number, row in enumerate(rows)])
    (tmp_path / "l.csv").write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "PIECE_BYTES", size)
        manifest = open_manifest(str(tmp_path / "l.csv"))
        found = [row for batch in manifest.batches() for row in batch.to_pylist()]

    assert [[row["item_id"], *row["extra"].values()] for row in found] == [
        [str(number), *row] for number, row in enumerate(rows)
    ]


# --- rows and headers ---


@pytest.mark.parametrize(("row", "cells"), [("b", 1), ("b,1,2", 3)])
@pytest.mark.parametrize("before", [1, MANY])
def test_a_row_with_other_cells_than_the_header_is_refused_with_its_number(row, cells, before, message_of):
    rows = "".join(f"{number}{LONG},1\n\n" for number in range(before))
    message = message_of("l.csv", f"uri,n\n{rows}{row}\nc,1\n")

    assert f"{cells} cells, expected 2 as in the header, in row {before} (the first is 0)" in message


def test_very_long_cells_are_read(open_list, rows_of):
    text = "long, " * 2_000_000

    assert rows_of(open_list("l.csv", f'uri,n\na,"{text}"\nb,1\n'))[0]["n"] == text


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id, uri", "the column ' uri' has blanks around its name; remove them, in the cells of the column too"),
        ("id,URI", "expected one named `uri`; rename the column 'URI'"),
        ("uri,id ", "the column 'id ' has blanks around its name; remove them"),
        ("uri,n,n", "has the columns ['n'] more than once"),
        ("uri,,", "has the columns [''] more than once"),
        ("uri,Mask,Height_px,RUN_ID", "has the columns ['Height_px', 'Mask', 'RUN_ID'], which the masks table has too"),
    ],
)
def test_names_of_columns_that_would_be_mistaken_are_refused(header, message, message_of):
    """Kind: names that differ in blanks or case; DuckDB and Delta take `Mask` and `mask` for one."""
    assert message in message_of("l.csv", f"{header}\n{','.join('x' * len(header.split(',')))}\n")


@pytest.mark.parametrize("content", ["uri,caption\na,süß\n".encode("cp1252"), "uri,süß\na,x\n".encode("cp1252")])
def test_a_list_of_code_page_1252_is_refused_with_its_line_and_a_way_to_convert_it(content, message_of):
    """Kind: its text columns were carried as bytes."""
    line = 1 + content.index(b"\xfc") // 12
    message = message_of("l.csv", content)

    assert (
        f"line {line} has the byte 0xFC, expected UTF-8 or UTF-16; if the list is of Windows code page 1252" in message
    )
    assert "iconv -f CP1252 -t UTF-8" in message


def test_the_line_of_a_byte_that_is_not_utf8_counts_over_pieces(message_of):
    rows = "".join(f"{number}{LONG},7\n" for number in range(MANY)).encode()

    assert f"line {MANY + 2} has the byte 0xFF" in message_of("l.csv", b"uri,n\n" + rows + b"\xff,8\n")
