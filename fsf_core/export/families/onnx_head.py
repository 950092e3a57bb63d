"""What an ONNX file has beside its weights: metadata, read without onnx, and its outputs. Knows no family."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ValueInfoProto

_IR_VERSION, _GRAPH, _OPSET, _METADATA = 1, 7, 8, 14
"""Numbers of fields of ModelProto in onnx.proto, which never change."""
_KEY, _VALUE = 1, 2
"""Fields of StringStringEntryProto."""

_LARGEST_ENTRY = 16 * 2**20
"""Bytes of an entry of metadata that is read; a field of the model that is longer is skipped."""
_MOST_FIELDS = 10_000
"""Fields of a model that are looked at: an ONNX file has about ten, and one for each entry of metadata and function."""


def metadata_of(path: Path) -> Mapping[str, str] | None:
    """Return the metadata of an ONNX file, or None for another file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            fields = list(_fields(stream, size, wanted={_IR_VERSION, _METADATA}))
    except (OSError, ValueError):
        return None
    numbers = {number for number, _ in fields}
    if not {_IR_VERSION, _GRAPH} <= numbers or not {_OPSET} & numbers:
        return None
    return dict(_entry(data) for number, data in fields if number == _METADATA)


def outputs_of(path: Path) -> "list[ValueInfoProto]":
    """Return the outputs that an ONNX file declares."""
    import onnx

    return list(onnx.load(str(path), load_external_data=False).graph.output)


def _entry(data: bytes) -> tuple[str, str]:
    """Return key and value of an entry; bytes that are no UTF-8 become marks, as nothing depends on them."""
    parts = dict(_fields(io.BytesIO(data), len(data), wanted={_KEY, _VALUE}))
    return tuple(parts.get(number, b"").decode("utf-8", "replace") for number in (_KEY, _VALUE))  # type: ignore[return-value] # two


def _fields(stream: IO[bytes], size: int, *, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each field of a protobuf message; of those not wanted, b"".

    Raises:
        ValueError: it is no such message.
    """
    for _ in range(_MOST_FIELDS):
        if stream.tell() == size:
            return
        number, kind = divmod(_varint(stream), 8)
        if kind == 0:
            _varint(stream)
            data = b""
        elif kind in {1, 5}:
            stream.seek(8 if kind == 1 else 4, 1)
            data = b""
        elif kind == 2:  # noqa: PLR2004 - length and bytes
            length = _varint(stream)
            if number == 0 or stream.tell() + length > size:
                raise ValueError
            take = number in wanted and length <= _LARGEST_ENTRY
            data = stream.read(length) if take else b""
            stream.seek(0 if take else length, 1)
        else:
            raise ValueError
        yield number, data
    raise ValueError


def _varint(stream: IO[bytes]) -> int:
    """Read an integer of variable length.

    Raises:
        ValueError: the file ends, or it is longer than 64 bits.
    """
    value = 0
    for position in range(10):
        byte = stream.read(1)
        if not byte:
            raise ValueError
        value |= (byte[0] & 0x7F) << (7 * position)
        if byte[0] < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
            return value
    raise ValueError
