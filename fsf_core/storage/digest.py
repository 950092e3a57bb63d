"""Digests of files too large to hold in memory."""

import hashlib
from typing import IO


def file_sha256(file: IO[bytes]) -> str:
    """Return the hexadecimal SHA-256 of everything from the file's position to its end, read in blocks."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # every open file has readinto
