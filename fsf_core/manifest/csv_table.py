"""CSV and TSV files as lists, read as a stream."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.csv

from fsf_core import storage
from fsf_core.manifest.rows import OWN_COLUMNS


def read_csv(
    uri: str, delimiter: str, types: Mapping[str, pa.DataType], only: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file, after an empty table with its columns.

    Args:
        uri: the file.
        delimiter: between two values of a row.
        types: of the columns; Arrow infers the others from the first rows.
        only: the columns to read; without it, all.
    """
    with storage.open_binary(uri) as file:
        reader = pyarrow.csv.open_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            # Only text columns keep "" apart from null; without this an item named NA would lose its id.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=only, strings_can_be_null=False
            ),
        )
        yield reader.schema.empty_table()
        for batch in reader:
            yield pa.Table.from_batches([batch])


def csv_types(uri: str, delimiter: str) -> dict[str, pa.DataType]:
    """Return a type for every column that fits all rows; ids and URIs are text even where they look like numbers.

    Arrow infers types from the first rows. A column whose later rows do not fit becomes a number, or else text.
    """
    text = dict.fromkeys(OWN_COLUMNS, pa.string())
    types = {field.name: field.type for field in next(read_csv(uri, delimiter, text)).schema}
    if _parses(read_csv(uri, delimiter, types)):
        return types
    return {name: _widened(uri, delimiter, name, inferred) for name, inferred in types.items()}


def _widened(uri: str, delimiter: str, name: str, inferred: pa.DataType) -> pa.DataType:
    types = (inferred, pa.int64(), pa.float64())
    return next((kind for kind in types if _parses(read_csv(uri, delimiter, {name: kind}, only=[name]))), pa.string())


def _parses(tables: Iterator[pa.Table]) -> bool:
    try:
        return all(True for _ in tables)
    except pa.ArrowInvalid:
        return False
