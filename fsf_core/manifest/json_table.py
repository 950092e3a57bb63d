"""JSON Lines files as lists, parsed in pieces."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json

from fsf_core import storage
from fsf_core.manifest.rows import slices

JSON_BYTES = 16 << 20
"""JSON Lines are parsed in pieces of this size, so that a long list never lies in memory whole."""


def read_json_lines(uri: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Stream a JSON Lines file in the columns of a schema; the first batch is empty and shows them."""
    yield schema.empty_table()
    for piece in _json_pieces(uri):
        yield from slices(_parsed(piece, schema))


def json_schema(uri: str) -> pa.Schema:
    """The columns of all pieces; a piece may lack some, or hold whole numbers where another has fractions."""
    schemas = [_parsed(piece).schema for piece in _json_pieces(uri)]
    plain = [pa.schema([field.with_type(_without_times(field.type)) for field in schema]) for schema in schemas]
    return pa.unify_schemas(plain or [pa.schema([("uri", pa.string())])], promote_options="permissive")


def _json_pieces(uri: str) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    rest = b""
    with storage.open_binary(uri) as file:
        while data := file.read(JSON_BYTES):
            lines, newline, rest = (rest + data).removeprefix(b"\xef\xbb\xbf").rpartition(b"\n")
            if lines.strip():
                yield lines + newline
    if rest.strip():
        yield rest


def _parsed(piece: bytes, schema: pa.Schema | None = None) -> pa.Table:
    return pyarrow.json.read_json(
        io.BytesIO(piece),
        read_options=pyarrow.json.ReadOptions(block_size=len(piece)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema),
    )


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Text stays text: Arrow takes an id such as 2024-01-01 for a time, and would write it in another way."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_times(field.type)) for field in kind])
    return kind
