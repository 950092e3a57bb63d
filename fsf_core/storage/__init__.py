"""The only package that knows URIs: local paths and whatever fsspec opens.

Knows no formats. Errors leave as FetchError (one item cannot be read) or StorageError (a store refuses altogether);
what passes by itself, throttling above all, was tried again before.
"""

from fsf_core.storage.filesystems import CONNECT_S, S3_TRIES, SILENCE_S
from fsf_core.storage.listing import Entry, exists, fixed_folder, glob, is_folder, list_files, list_names, require_known
from fsf_core.storage.prefetching import AHEAD_BYTES, AHEAD_FILES, open_ahead, read_ahead
from fsf_core.storage.reading import BLOCK_BYTES, Opening, open_binary, read_bytes, version
from fsf_core.storage.retry import Given
from fsf_core.storage.uris import (
    HIDDEN,
    SCHEMES,
    SHORTEST_PASSWORD,
    absolute,
    holder,
    is_local,
    is_redacted,
    join,
    local_path,
    parent,
    redact,
    require_scheme,
    scheme,
    span,
    without_query,
)
from fsf_core.storage.writing import create, remove, remove_folder, require_writable, write_bytes, write_file

__all__ = [
    "AHEAD_BYTES",
    "AHEAD_FILES",
    "BLOCK_BYTES",
    "CONNECT_S",
    "HIDDEN",
    "S3_TRIES",
    "SCHEMES",
    "SHORTEST_PASSWORD",
    "SILENCE_S",
    "Entry",
    "Given",
    "Opening",
    "absolute",
    "create",
    "exists",
    "fixed_folder",
    "glob",
    "holder",
    "is_folder",
    "is_local",
    "is_redacted",
    "join",
    "list_files",
    "list_names",
    "local_path",
    "open_ahead",
    "open_binary",
    "parent",
    "read_ahead",
    "read_bytes",
    "redact",
    "remove",
    "remove_folder",
    "require_known",
    "require_scheme",
    "require_writable",
    "scheme",
    "span",
    "version",
    "without_query",
    "write_bytes",
    "write_file",
]
