"""Files that are read whole, within a limit of bytes. Knows no formats."""

import contextlib
import os
from typing import BinaryIO

from fsf_core import storage
from fsf_core.errors import FetchError, LimitError


def size_of(file: BinaryIO) -> int | None:
    """Return the size of an open file; None for a web server that does not send it, and cannot seek either."""
    with contextlib.suppress(FetchError, OSError):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return size
    return None


def read_whole(file: BinaryIO, uri: str, *, size: int | None, max_bytes: int, head: bytes = b"") -> bytes:
    """Return all bytes of a file.

    Args:
        file: after its head; one with a size is read from its beginning, into one object.
        uri: its address.
        size: as `size_of` returned it.
        max_bytes: the limit.
        head: what was read of it already.

    Raises:
        LimitError: the file is larger than the limit; not more than that is read.
        FetchError: it has more or fewer bytes than it had when it was opened.
    """
    if size is None:
        data = head + file.read(max_bytes + 1 - len(head))
        if len(data) > max_bytes:
            raise LimitError(f"found more than {max_bytes} bytes, which is the limit; raise --max-bytes")
        return data
    if size > max_bytes:
        raise LimitError(
            f"found {size} bytes, the limit is {max_bytes}; raise --max-bytes, or score a TIFF with --tile"
        )
    file.seek(0)  # head + the rest would be a second copy
    data = file.read(size)  # read(n) allocates n bytes, however short the file
    if len(data) != size or file.read(1):
        found = "more" if len(data) >= size else len(data)
        raise FetchError(
            f"{storage.redact(uri)} has a size of {size} bytes, found {found}; is it still being written? Copy it, or "
            "leave it out of the manifest"
        )
    return data
