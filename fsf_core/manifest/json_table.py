"""JSON Lines files as lists, parsed piece by piece."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json

from fsf_core import storage
from fsf_core.manifest.rows import slices

JSON_BYTES = 16 << 20
"""Size of the pieces that are parsed, so that a long list is never in memory whole."""


def read_json_lines(uri: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of a JSON Lines file in the columns of a schema, after an empty table with these columns."""
    yield schema.empty_table()
    for piece in _json_pieces(uri):
        yield from slices(_parsed(piece, schema))


def json_schema(uri: str) -> pa.Schema:
    """Unify the columns of all pieces; a piece may lack some, or hold integers where another has fractions."""
    schemas = [_parsed(piece).schema for piece in _json_pieces(uri)]
    untimed = [pa.schema([field.with_type(_times_as_text(field.type)) for field in schema]) for schema in schemas]
    return pa.unify_schemas(untimed or [pa.schema([("uri", pa.string())])], promote_options="permissive")


def _json_pieces(uri: str) -> Iterator[bytes]:
    """Split a file into pieces of whole lines."""
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


def _times_as_text(kind: pa.DataType) -> pa.DataType:
    """Replace timestamps by text: Arrow parses an id such as 2024-01-01 as a time, and would print it differently."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_times_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_times_as_text(field.type)) for field in kind])
    return kind
