"""The only package that knows URIs: local paths, and what fsspec opens.

Knows no formats. Raises FetchError (one item cannot be read) or StorageError (a store refuses altogether); transient
errors are retried first.
"""

from fsf_core.safe_text import is_redacted, redact
from fsf_core.storage.access import Access
from fsf_core.storage.digest import file_sha256
from fsf_core.storage.error_translation import as_storage_error
from fsf_core.storage.filesystems import glob_regex, guarded
from fsf_core.storage.listing import (
    exists,
    fixed_folder,
    glob,
    is_folder,
    list_files,
    list_in_any_order,
    list_names,
    require_bucket,
)
from fsf_core.storage.local_walk import Entry
from fsf_core.storage.prefetching import open_prefetched, read_prefetched
from fsf_core.storage.probing import clock_ahead, try_multipart
from fsf_core.storage.reading import (
    Opener,
    etag_or_mtime,
    find_bytes,
    is_stream,
    open_binary,
    path_or_file,
    read_bytes,
    version_now,
)
from fsf_core.storage.uris import (
    absolute,
    as_listed,
    byte_range,
    canonical,
    container_of,
    is_local,
    join,
    local_path,
    name_of_range,
    parent,
    scheme,
    without_credentials,
    without_query,
    written_path,
)
from fsf_core.storage.writing import (
    copy,
    create,
    create_folder,
    empty_folders_removed,
    make_folders,
    move,
    remove,
    remove_files,
    remove_folder,
    rename_folder,
    require_writable,
    sync_folder,
    write_bytes,
    write_file,
)

__all__ = [
    "Access",
    "Entry",
    "Opener",
    "absolute",
    "as_listed",
    "as_storage_error",
    "byte_range",
    "canonical",
    "clock_ahead",
    "container_of",
    "copy",
    "create",
    "create_folder",
    "empty_folders_removed",
    "etag_or_mtime",
    "exists",
    "file_sha256",
    "find_bytes",
    "fixed_folder",
    "glob",
    "glob_regex",
    "guarded",
    "is_folder",
    "is_local",
    "is_redacted",
    "is_stream",
    "join",
    "list_files",
    "list_in_any_order",
    "list_names",
    "local_path",
    "make_folders",
    "move",
    "name_of_range",
    "open_binary",
    "open_prefetched",
    "parent",
    "path_or_file",
    "read_bytes",
    "read_prefetched",
    "redact",
    "remove",
    "remove_files",
    "remove_folder",
    "rename_folder",
    "require_bucket",
    "require_writable",
    "scheme",
    "sync_folder",
    "try_multipart",
    "version_now",
    "without_credentials",
    "without_query",
    "write_bytes",
    "write_file",
    "written_path",
]
