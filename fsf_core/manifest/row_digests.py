"""Digests of rows: short hashes of an item's address and pass-through columns, which tell whether a row has changed.

They are recorded beside results and compared by later versions: their values are names on disk and never change.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.keys import DIGEST_BYTES
from fsf_core.manifest.rows import LABEL_COLUMN

BYTES = pa.large_binary()

INTEGERS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}

NULL = b"n"
"""Encoding of a null; that of a value begins with a digit."""


def row_digests(rows: pa.Table, folder: str) -> pa.Array:
    """Return the digest of every row, binary(8).

    Args:
        rows: item_id, uri, and `extra` where the manifest has columns.
        folder: of the list. Addresses below it count from it, so that it does not matter how the folder is written.
    """
    encoded = [_encode(_addresses(_as_array(rows.column("uri")), folder))]
    if "extra" in rows.column_names:
        extra = _as_array(rows.column("extra"))
        for field, values in zip(extra.type, extra.flatten(), strict=True):
            encoded.append(_encode(_addresses(values, folder) if field.name == LABEL_COLUMN else values))
    digests = [hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in _concatenate(encoded).to_pylist()]
    return pa.array(digests, pa.binary(DIGEST_BYTES))


def _addresses(uris: pa.Array, folder: str) -> pa.Array:
    """Return what of each URI identifies its item; most never leave Arrow."""
    changing = pc.match_substring_regex(uris, r"(?i)^(file|span|cell)://|://.*[@?]")
    if pc.any(changing).as_py():
        changed = [*map(_address, uris.filter(changing).to_pylist())]
        uris = pc.replace_with_mask(uris, changing, pa.array(changed, uris.type))
    below = storage.join(_address(folder), "")
    return pc.if_else(pc.starts_with(uris, below), pc.utf8_slice_codeunits(uris, len(below)), uris)


def _address(uri: str) -> str:
    """Return a URI without `file://`, credentials, signature and the position inside a container."""
    container = storage.container_of(uri)
    if container != uri:
        member = uri.split("/", 4)[3] if storage.scheme(uri) == "cell" else ""
        return f"{_address(container)}|{storage.scheme(uri)}:{member}"
    return str(Path(storage.written_path(uri))) if storage.is_local(uri) else storage.without_credentials(uri)


def _encode(values: pa.Array) -> pa.Array:
    """Return each value as bytes that no other value of its type has, and that begin with their length."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _encode(values.storage)
    if pa.types.is_dictionary(kind):
        return _encode(values.dictionary_decode())
    if pa.types.is_null(kind):
        return pa.repeat(pa.scalar(NULL, BYTES), len(values))
    if pa.types.is_struct(kind):
        content = _concatenate([*map(_encode, values.flatten())] or [pa.repeat(pa.scalar(b"", BYTES), len(values))])
    elif pa.types.is_nested(kind):
        content = _encode_lists(values)
    else:
        content = _encode_flat(values)
    lengths = pc.binary_length(content).cast(pa.large_string()).cast(BYTES)
    colon, null = pa.scalar(b":", BYTES), pa.scalar(NULL, BYTES)
    return pc.if_else(pc.is_valid(values), pc.binary_join_element_wise(lengths, content, colon), null)


def _encode_lists(values: pa.Array) -> pa.Array:
    """Return the encoded elements of each list or map, one after the other."""
    kind = values.type
    element = pa.struct([kind.key_field, kind.item_field]) if pa.types.is_map(kind) else kind.value_type
    lists = values.cast(pa.large_list(element))
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    elements = pa.LargeListArray.from_arrays(offsets, _encode(lists.flatten()))
    return pc.binary_join(elements, pa.scalar(b"", BYTES))


def _encode_flat(values: pa.Array) -> pa.Array:
    """Return numbers and times as the digits of an integer, NaN as one value, text as it is; null stays null."""
    kind = values.type
    if pa.types.is_floating(kind):
        if kind != pa.float16():
            values = pc.if_else(pc.is_nan(values), pa.scalar(float("nan"), kind), values)
        values = values.view(INTEGERS[kind.bit_width])
    elif pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        values = values.view(INTEGERS[kind.bit_width])
    elif pa.types.is_interval(kind):
        values = values.view(pa.binary(kind.bit_width // 8))
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        values = values.cast(pa.large_string())
    return values.cast(BYTES)


def _concatenate(columns: Sequence[pa.Array]) -> pa.Array:
    """Return the bytes of several columns, row by row."""
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", BYTES))


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
