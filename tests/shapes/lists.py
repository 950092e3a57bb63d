"""Lists in CSV, TSV, JSON and plain text, by several writers, in several encodings, whole and broken.

The references: Python's strict `csv` reads what the product reads, and the values are those that were written.
"""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from fsf_core.errors import RunError
from fsf_core.manifest import Manifest, column_types, csv_rows, json_table, open_manifest
from tests.shapes.findings import Finding

Rng = np.random.Generator

TEXTS = (
    "0012", "12E3", "12345678901234567890", "1.10", "+5", "-0", "1,5", "1e400", "0x10", "007", "NA", "NaN", "null", "",
    "None", "true", "FALSE", "2026-01-05", "11:30", "2026-01-05T10:00Z", "\\N", " blanks ", "tab\there", "two\nlines",
    "crlf\r\nhere", "cr\rhere", '"quoted"', '5" pot', 'a "b" c', '"', '""', "a,b", "a;b", "a|b", "süß", "Mu\u0308ller",
    "柿 🍊", "#", "=1+1", "'", "\\", 'a\\"b', "{}", "[1, 2]", "%20", "\0", "x" * 3000, "-", "\u2028", "\u00a0",
)  # fmt: skip

NAMES = ("plot", "photo taken (UTC)", "a;b", "x.y", "Straße", "0", "Note", "tag,s", 'q"q', " blank", "\\N")

JSON_VALUES = (
    ("12", "12"), ("1.10", "1.10"), ("-0", "-0"), ("1e400", "1e400"), ("12345678901234567890", "12345678901234567890"),
    ("true", "true"), ("false", "false"), ("null", None),
    ("[1, 2.0 ]", "[1,2.0]"), ('{"b" : 1, "a": [ ]}', '{"b":1,"a":[]}'),
    ('"\\u00fc\\n"', "ü\n"), ('"\\ud83c\\udf4a"', "🍊"), ("NaN", "NaN"), ('"2026-01-05"', "2026-01-05"),
)  # fmt: skip

ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
"""`utf-16` and `utf-32` have a byte order mark, `utf-16-le` and `-be` have none."""

LINE_ENDS = ("\n", "\n", "\r\n", "\r")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A list, and what it holds."""

    text: str
    """Description."""
    suffix: str
    data: bytes
    rows: list[dict[str, object]] | None
    """Rows as the product should give them: id and the pass-through columns; None for a refusal."""
    refusal: str = ""
    """Part of the message of the refusal."""
    types: tuple[str, ...] = ()
    """Value of --column-types."""


def check(seed: int, count: int, folder: Path) -> Iterator[Finding]:
    """Draw lists, open them with pieces of any size, and yield every mismatch."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = MAKERS[int(rng.integers(len(MAKERS)))](rng)
        path = folder / f"{seed}-{number:04d}{shape.suffix}"
        path.write_bytes(shape.data)
        size = int(rng.choice([1, 7, 64, 1000, 1 << 20]))
        expected = f"a refusal with {shape.refusal!r}" if shape.rows is None else repr(shape.rows)
        with _pieces_of(size):
            found = _opened(path, shape)
        if found is not None:
            yield Finding(case=f"{path.name}: {shape.text}, pieces of {size}", expected=expected, found=found)


def _opened(path: Path, shape: Shape) -> str | None:
    """Return what the product makes of a list, if that is wrong."""
    try:
        manifest = open_manifest(str(path), column_types=column_types.parse(shape.types))
    except RunError as error:
        return None if shape.rows is None and shape.refusal in str(error) else f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - a traceback is a finding too
        return f"{type(error).__name__}: {error}"
    rows = _rows(manifest)
    return None if rows == shape.rows else repr(rows)


def _rows(manifest: Manifest) -> list[dict[str, object]]:
    found = [row for batch in manifest.batches() for row in batch.to_pylist()]
    return [{"id": row["item_id"], **(row.get("extra") or {})} for row in found]


@contextmanager
def _pieces_of(size: int) -> Iterator[None]:
    before = csv_rows.PIECE_BYTES, json_table.PIECE_BYTES
    csv_rows.PIECE_BYTES = json_table.PIECE_BYTES = size
    try:
        yield
    finally:
        csv_rows.PIECE_BYTES, json_table.PIECE_BYTES = before


def _one(rng: Rng, choices: tuple) -> object:
    return choices[int(rng.integers(len(choices)))]


def _table(rng: Rng, *, texts: tuple[str, ...] = TEXTS) -> tuple[list[str], list[list[str]]]:
    """Draw names and rows of text: id, uri, and up to four columns."""
    extra = [str(name) for name in rng.choice(NAMES, int(rng.integers(5)), replace=False)]
    rows = [[f"i{row}", f"{row}.jpg", *(_one(rng, texts) for _ in extra)] for row in range(int(rng.integers(1, 12)))]
    return ["id", "uri", *extra], rows


def _dicts(names: list[str], rows: list[list[str]]) -> list[dict[str, object]]:
    return [{"id": row[0], **dict(zip(names[2:], row[2:], strict=True))} for row in rows]


def _encoded(text: str, encoding: str) -> bytes | None:
    """Return a text in an encoding; None where that has no such character."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return None


# --- CSV ---


def _by_csv(names: list[str], rows: list[list[str]], delimiter: str, rng: Rng) -> str:
    text = io.StringIO(newline="")
    end = str(_one(rng, LINE_ENDS))
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" and rng.random() < 0.5 else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _by_pandas(names: list[str], rows: list[list[str]], delimiter: str, rng: Rng) -> str:
    quoting = csv.QUOTE_ALL if rng.random() < 0.5 else csv.QUOTE_NONNUMERIC
    text: str = pd.DataFrame(rows, columns=names).to_csv(
        index=False, sep=delimiter, quoting=quoting, lineterminator=str(_one(rng, LINE_ENDS))
    )
    return text


def _by_polars(names: list[str], rows: list[list[str]], delimiter: str, rng: Rng) -> str:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.write_csv(separator=delimiter, quote_style="necessary" if rng.random() < 0.5 else "always")


def _by_duckdb(names: list[str], rows: list[list[str]], delimiter: str, rng: Rng) -> str:
    table = pa.table({name: [row[column] for row in rows] for column, name in enumerate(names)})
    quotes = ", FORCE_QUOTE *" if rng.random() < 0.5 else ""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.register("shape", table)
        options = f"FORMAT csv, HEADER, DELIMITER '{delimiter}'{quotes}"
        connection.execute(f"COPY shape TO '{folder}/shape.csv' ({options})")
        return Path(folder, "shape.csv").read_bytes().decode()


CSV_WRITERS: tuple[Callable[[list[str], list[list[str]], str, Rng], str], ...] = (
    _by_csv, _by_csv, _by_pandas, _by_polars, _by_duckdb,
)  # fmt: skip


def _whole_csv(rng: Rng) -> Shape:
    """A list as a writer leaves it, in any encoding, with any delimiter that the product finds out."""
    names, rows = _table(rng)
    delimiter = str(_one(rng, (",", ",", ";", "\t", "|")))
    writer = CSV_WRITERS[int(rng.integers(len(CSV_WRITERS)))]
    written = writer(names, rows, delimiter, rng)
    text = f"sep={delimiter}\r\n{written}" if delimiter == "|" or rng.random() < 0.1 else written
    text = text.rstrip("\r\n") if rng.random() < 0.2 and len(names) > 2 and rows[-1][-1].strip() else text
    return _csv_shape(f"CSV by {writer.__name__}, {delimiter!r}", text, written, delimiter, _dicts(names, rows), rng)


def _broken_csv(rng: Rng) -> Shape:
    """A list of which one row was damaged by hand; the strict reader of Python is the judge."""
    names, rows = _table(rng)
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([names, *rows])
    lines = written.getvalue().rstrip("\n").split("\n")
    at = int(rng.integers(1, len(lines)))
    damage = str(_one(rng, ('"', ",", ',"x"y', ',"x" ', "\n", "\n\n", '\n"', ',"x', "cut", "lost quote", ' "', "\r")))
    if damage == "cut":
        lines[at] = lines[at].rpartition(",")[0]
    elif damage == "lost quote":
        lines[at] = lines[at].replace('"', "", 1)
    else:
        lines[at] += damage
    text = "\n".join(lines) + "\n"
    return _csv_shape(f"CSV with {damage!r} in line {at}", text, text, ",", None, rng)


def _csv_shape(
    what: str, text: str, written: str, delimiter: str, rows: list[dict[str, object]] | None, rng: Rng
) -> Shape:
    encoding = str(_one(rng, ENCODINGS))
    data = _encoded(text, encoding)
    if data is None:
        encoding, data = "utf-8", text.encode()
    right, refusal = _by_strict_csv(written, delimiter)
    assert rows is None or right == rows, f"{what} left another table"
    if encoding == "cp1252" and not data.isascii():
        right, refusal = None, "expected UTF-8 or UTF-16" if right is not None else " is not a readable .csv list: "
    return Shape(text=f"{what}, {encoding}", suffix=".csv", data=data, rows=right, refusal=refusal)


def _by_strict_csv(text: str, delimiter: str) -> tuple[list[dict[str, object]] | None, str]:
    """Return the rows by Python's strict reader; or None and the row that is wrong, as the product names it."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            rows += [row] if row else []
    except csv.Error:
        return None, f"in row {len(rows) - 1} (the first is 0)"
    names, *rows = rows
    wrong = next((number for number, row in enumerate(rows) if len(row) != len(names)), None)
    return (_dicts(names, rows), "") if wrong is None else (None, f"in row {wrong} (the first is 0)")


def _typed_csv(rng: Rng) -> Shape:
    """Columns with types that were asked for."""
    numbers = [int(number) for number in rng.integers(-1000, 1000, 5)]
    texts = {
        "int64": [f" {number:05d} " if rng.random() < 0.3 and number >= 0 else str(number) for number in numbers],
        "float64": [repr(number / 8) for number in numbers],
        "bool": [str(number % 2 == 0).lower() for number in numbers],
        "string": [f"{number:05d}" for number in numbers],
    }
    right: dict[str, list[object]] = {
        "int64": list(numbers),
        "float64": [number / 8 for number in numbers],
        "bool": [number % 2 == 0 for number in numbers],
        "string": list(texts["string"]),
    }
    kind = str(_one(rng, tuple(right)))
    lost = int(rng.integers(5)) if rng.random() < 0.3 else None
    if lost is not None and kind != "string":
        texts[kind][lost], right[kind][lost] = str(_one(rng, ("", "NA", "NULL", "nan"))), None
    wrong = int(rng.integers(5)) if rng.random() < 0.3 and kind != "string" else None
    if wrong is not None:
        texts[kind][wrong] = "seven"
    text = "id,uri,x\n" + "".join(f"i{row},a,{value}\n" for row, value in enumerate(texts[kind]))
    rows: list[dict[str, object]] | None = [{"id": f"i{row}", "x": value} for row, value in enumerate(right[kind])]
    refusal = "" if wrong is None else f"in row {wrong} (the first is 0), expected "
    return Shape(
        text=f"CSV with a column of {kind}", suffix=".csv", data=text.encode(), rows=rows if wrong is None else None,
        refusal=refusal, types=(f"x={kind}",),
    )  # fmt: skip


def _tsv(rng: Rng) -> Shape:
    """Quotes mean nothing, and every line is a row."""
    texts = tuple(text for text in TEXTS if not {*text} & {*"\t\n\r"})
    names, rows = _table(rng, texts=texts)
    end, encoding = str(_one(rng, LINE_ENDS)), str(_one(rng, ENCODINGS))
    lines = ["\t".join(row) for row in [names, *rows]]
    right, refusal, what = _dicts(names, rows), "", ""
    if rng.random() < 0.2:
        at = int(rng.integers(len(rows)))
        lines[at + 1] += "\tmore"
        right, refusal, what = None, f"in row {at} (the first is 0)", f", a cell more in row {at}"
    data = _encoded(end.join(lines) + end, encoding)
    if data is None:
        encoding, data = "utf-8", (end.join(lines) + end).encode()
    if encoding == "cp1252" and not data.isascii():
        right, refusal = None, "expected UTF-8 or UTF-16"
    return Shape(text=f"TSV, {end!r}, {encoding}{what}", suffix=".tsv", data=data, rows=right, refusal=refusal)


# --- JSON and plain text ---


def _json(rng: Rng) -> Shape:
    """Objects on lines, indented, joined or in an array, of values of every kind; some miss columns."""
    names, table = _table(rng)
    objects, rows = [], []
    for row in table:
        pairs = [(json.dumps(name), json.dumps(value), name, value) for name, value in zip(names, row, strict=True)]
        for column in range(2, len(names)):
            if rng.random() < 0.5:
                written, value = _one(rng, JSON_VALUES)  # type: ignore[misc]
                pairs[column] = (pairs[column][0], written, names[column], value)
        kept = pairs[:2] + [pair for pair in pairs[2:] if rng.random() < 0.8]
        order = [int(place) for place in rng.permutation(len(kept))]
        objects.append([kept[place][:2] for place in order])
        rows.append({name: value for _, _, name, value in kept})
    layout = str(_one(rng, ("lines", "indented", "joined", "array", "indented array")))
    text = _layout(objects, layout, str(_one(rng, ("\n", "\r\n"))))
    found = [name for name in names[2:] if any(name in row for row in rows)]
    right: list[dict[str, object]] | None = [
        {"id": row["id"], **{name: row.get(name) for name in found}} for row in rows
    ]
    refusal = ""
    if rng.random() < 0.2:
        at = int(rng.integers(len(objects)))
        broken = [*objects[:at], [('"uri"', '"x"'), ('"uri"', '"y"')], *objects[at:]]
        text, right, refusal = _layout(broken, layout, "\n"), None, f"in row {at} (the first is 0)"
    encoding = str(_one(rng, ENCODINGS[:-1]))
    # Columns come in the order of the objects' names, which is drawn: they are compared by name.
    return Shape(
        text=f"JSON {layout}, {encoding}", suffix=str(_one(rng, (".json", ".jsonl", ".ndjson"))),
        data=text.encode(encoding), rows=right, refusal=refusal,
    )  # fmt: skip


def _layout(objects: list[list[tuple[str, str]]], layout: str, end: str) -> str:
    gap = f"{end} " if layout.startswith("indented") else ""
    texts = ["{" + gap + f",{gap}".join(f"{name}: {value}" for name, value in pairs) + gap + "}" for pairs in objects]
    if layout.endswith("array"):
        return f"[{gap}" + f" ,{gap}".join(texts) + f"{gap}]{end}"
    return ("" if layout == "joined" else end).join(texts) + end


def _json_by_writers(rng: Rng) -> Shape:
    """What pandas and polars write."""
    names, rows = _table(rng)
    if rng.random() < 0.5:
        lines = bool(rng.random() < 0.5)
        text = pd.DataFrame(rows, columns=names).to_json(orient="records", lines=lines)
        what = "pandas"
    else:
        text = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row").write_ndjson()
        what = "polars"
    return Shape(text=f"JSON by {what}", suffix=".json", data=text.encode(), rows=_dicts(names, rows))


def _paths(rng: Rng) -> Shape:
    """Every line is a path."""
    texts = [text for text in TEXTS if text and not {*text} & {*"\n\r\0"}]
    names = [str(name) for name in rng.choice(texts, int(rng.integers(1, 12)), replace=False)]
    names = [*dict.fromkeys(names)]
    end, encoding = str(_one(rng, LINE_ENDS)), str(_one(rng, ENCODINGS))
    lines = [line for name in names for line in ([name, ""] if rng.random() < 0.2 else [name])]
    text = end.join(lines) + (end if rng.random() < 0.8 else "")
    data = _encoded(text, encoding)
    if data is None:
        encoding, data = "utf-8", text.encode()
    if (encoding == "utf-16-le" and len(text) < 2) or (encoding.startswith("utf-16-") and not text[:2].isascii()):
        encoding, data = "utf-16", text.encode("utf-16")  # without a mark, two characters of ASCII show the encoding
    refused = encoding == "cp1252" and not data.isascii()
    return Shape(
        text=f"paths, {end!r}, {encoding}", suffix=str(_one(rng, (".txt", ".lst", ".list"))), data=data,
        rows=None if refused else [{"id": name} for name in names], refusal="expected UTF-8" if refused else "",
    )  # fmt: skip


MAKERS: tuple[Callable[[Rng], Shape], ...] = (
    _whole_csv, _whole_csv, _broken_csv, _broken_csv, _typed_csv, _tsv, _json, _json, _json_by_writers, _paths,
)  # fmt: skip
