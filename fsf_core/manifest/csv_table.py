"""CSV and TSV files as lists, streamed."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.csv

from fsf_core import storage
from fsf_core.manifest.rows import OWN_COLUMNS


def read_csv(
    uri: str, delimiter: str, kinds: Mapping[str, pa.DataType], only: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Stream a CSV file; columns without a kind get the one that their first rows suggest."""
    with storage.open_binary(uri) as file:
        reader = pyarrow.csv.open_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            # Only text columns keep "" apart from null; without this an item named NA would lose its id.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds, include_columns=only, strings_can_be_null=False
            ),
        )
        yield reader.schema.empty_table()
        for batch in reader:
            yield pa.Table.from_batches([batch])


def csv_types(uri: str, delimiter: str) -> dict[str, pa.DataType]:
    """The type of every column; ids and URIs are text even where they look like numbers.

    Arrow goes by the first rows. A column whose later rows do not fit becomes a number, or else text.
    """
    text = dict.fromkeys(OWN_COLUMNS, pa.string())
    kinds = {field.name: field.type for field in next(read_csv(uri, delimiter, text)).schema}
    if _fits(read_csv(uri, delimiter, kinds)):
        return kinds
    return {name: _widened(uri, delimiter, name, kind) for name, kind in kinds.items()}


def _widened(uri: str, delimiter: str, name: str, suggested: pa.DataType) -> pa.DataType:
    kinds = (suggested, pa.int64(), pa.float64())
    return next((kind for kind in kinds if _fits(read_csv(uri, delimiter, {name: kind}, only=[name]))), pa.string())


def _fits(tables: Iterator[pa.Table]) -> bool:
    try:
        return all(True for _ in tables)
    except pa.ArrowInvalid:
        return False
