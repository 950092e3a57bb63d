"""CSV and TSV files as lists: every value is text as it is written. Strict, and read as a stream.

TSV has no quotes (IANA, text/tab-separated-values): every line is a row.
"""

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.csv

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import csv_rows
from fsf_core.manifest.rows import slices, unreadable
from fsf_core.manifest.utf8 import Utf8Reader, decoded

DELIMITERS = (",", ";", "\t")
"""Of CSV files, in this order: the first that gives a column `uri`. Spreadsheets write all three."""

HEAD_BYTES = 1 << 16
"""Of a file, in which the header is looked for to find the delimiter."""

_SEPARATOR_LINE = re.compile(rb"sep=([^\r\n])(?:\r\n|\r|\n)")
"""First line of a CSV file that names its delimiter, as Excel reads and writes it."""

CLOSE_IT = "close the quote, or double it where it is part of the text"


def read_csv(uri: str, *, quoted: bool) -> Iterator[pa.Table]:
    """Yield the rows of a file as text, after an empty table with its columns.

    Args:
        uri: the file.
        quoted: whether it is CSV; TSV has tabs and no quotes.

    Raises:
        ManifestError: it is not UTF-8 or UTF-16, or a row is not CSV or has other cells than the header.
    """
    with storage.open_binary(uri) as file:
        reader = Utf8Reader(file)
        first = reader.read(HEAD_BYTES)
        delimiter, begin = _dialect(first) if quoted else ("\t", 0)
        rows = _Rows(uri, delimiter, quoted=quoted, lines=csv_rows.lines_of(first[:begin]))
        for piece in csv_rows_of(rows, first[begin:] or b"\n", reader):
            yield from rows.parse(piece)


def csv_rows_of(rows: "_Rows", first: bytes, reader: Utf8Reader) -> Iterator[bytes]:
    """Yield pieces of whole rows, or raise the error with the number of the row."""
    try:
        yield from csv_rows.pieces(first, reader.read, delimiter=rows.delimiter, quoted=rows.quoted)
    except csv_rows.RowError as error:
        raise rows.error(error.rows_before, str(error), CLOSE_IT, line=error.line) from None


def delimiter_of(uri: str) -> str:
    """Return the delimiter of a CSV file."""
    with storage.open_binary(uri) as file:
        return _dialect(Utf8Reader(file).read(HEAD_BYTES))[0]


def _dialect(first: bytes) -> tuple[str, int]:
    """Return the delimiter of a CSV file, and where its header begins."""
    match = _SEPARATOR_LINE.match(first)
    if match:
        return match[1].decode("latin-1"), match.end()
    head = first.decode(errors="replace")
    return next((delimiter for delimiter in DELIMITERS if "uri" in _cells(head, delimiter)), ","), 0


def _cells(text: str, delimiter: str) -> list[str]:
    """Return the cells of the first row of a text."""
    try:
        return next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])
    except csv.Error:  # a cell of more than 131,072 characters
        return []


class _Rows:
    """The rows of one file: its columns, and how many rows and lines were parsed so far."""

    def __init__(self, uri: str, delimiter: str, *, quoted: bool, lines: int) -> None:
        self.delimiter, self.quoted = delimiter, quoted
        self._uri = uri
        self._names: Sequence[str] | None = None
        self._rows, self._lines = 0, lines

    def parse(self, piece: bytes) -> Iterator[pa.Table]:
        """Yield the rows of a piece of whole rows; before those of the first, an empty table."""
        if self._names is None:
            end = csv_rows.first_row_end(piece, self.delimiter, quoted=self.quoted)
            header = decoded(self._uri, piece[:end], lines_before=self._lines)
            names = _cells(header, self.delimiter) if self.quoted else header.strip("\r\n").split(self.delimiter)
            if not header.strip("\r\n"):
                raise unreadable(self._uri, "it is empty, expected a header with the names of the columns")
            self._names = names
            yield pa.schema([(name, pa.string()) for name in names]).empty_table()
            self._lines += csv_rows.lines_of(piece[:end])
            piece = piece[end:]
        if piece:
            table = self._parsed(piece)
            yield from slices(table)
            self._rows += table.num_rows
            self._lines += csv_rows.lines_of(piece)

    def error(self, row: int, found: str, do: str, *, line: int | None = None) -> ManifestError:
        """Return the error of a row.

        Args:
            row: number of rows of the piece before it, the header among them in the first piece.
            found: what was found.
            do: what to do about it.
            line: number of lines of the piece before it, if it is known.
        """
        number = self._rows + row - (self._names is None)
        where = f"row {number} (the first is 0)" if number >= 0 else "the header"
        where += f", line {self._lines + line + 1}" if line is not None else ""
        return unreadable(self._uri, f"{found} in {where}", do)

    def _parsed(self, piece: bytes) -> pa.Table:
        try:
            return self._read(piece, pyarrow.csv.ParseOptions(**self._options()), use_threads=True)
        except pa.ArrowInvalid:
            decoded(self._uri, piece, lines_before=self._lines)
            raise self._ragged(piece) from None

    def _ragged(self, piece: bytes) -> ManifestError:
        """Return the error of the first row that has other cells than the header."""
        invalid: list[pyarrow.csv.InvalidRow] = []

        def note(row: pyarrow.csv.InvalidRow) -> str:
            invalid.append(row)
            return "error"

        options = pyarrow.csv.ParseOptions(invalid_row_handler=note, **self._options())
        with contextlib.suppress(pa.ArrowInvalid):
            self._read(piece, options, use_threads=False)
        row = invalid[0]
        found = f"{row.actual_columns} cells, expected {row.expected_columns} as in the header,"
        return self.error(row.number - 1, found, "put text that holds the delimiter in quotes, or fill the row")

    def _options(self) -> dict[str, object]:
        quote = '"' if self.quoted else False
        return {"delimiter": self.delimiter, "quote_char": quote, "newlines_in_values": self.quoted}

    def _read(self, piece: bytes, options: pyarrow.csv.ParseOptions, *, use_threads: bool) -> pa.Table:
        assert self._names is not None
        return pyarrow.csv.read_csv(
            pa.BufferReader(piece),
            read_options=pyarrow.csv.ReadOptions(
                column_names=self._names, block_size=len(piece), use_threads=use_threads
            ),
            parse_options=options,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(self._names, pa.string()), strings_can_be_null=False
            ),
        )
