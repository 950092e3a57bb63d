"""Requests to S3 for which s3fs has no single call: objects with versions, pages, copies of known size, deletions."""

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, TypeVar

from fsf_core.storage.filesystems import filesystem_of, wait_for, with_retries_for
from fsf_core.storage.uris import scheme

COPY_BYTES = 150 << 20
"""Largest object that one request copies, as in s3fs: a store may respond only once all of it is copied."""

T = TypeVar("T")


def is_s3(uri: str) -> bool:
    """Return whether a URI is one of S3 or of a compatible store."""
    return scheme(uri) in {"s3", "s3a"}


def read(uri: str) -> bytes:
    """Read an object in one request; s3fs asks for its size first, and reads a large one in ranges.

    Raises:
        Exception: of the store, after retries.
    """
    data, _ = fetch(uri)
    assert data is not None
    return data


def fetch(
    uri: str, *, start: int = 0, length: int | None = None, max_bytes: int | None = None
) -> tuple[bytes | None, dict[str, Any]]:
    """Read an object or a range of it in one request, so that all bytes are of the version that the response names.

    Args:
        uri: the object.
        start: first byte.
        length: of the range; None for the whole object.
        max_bytes: size of the largest object whose bytes are wanted; None for any.

    Returns:
        The bytes, None for a larger object, and ETag, LastModified and size of the object as `info` of s3fs gives them.

    Raises:
        Exception: of the store, after retries.
    """
    filesystem = filesystem_of(uri)
    bucket, key, version = filesystem.split_path(uri)
    options = {"Bucket": bucket, "Key": key, **filesystem.req_kw}  # who pays, which old versions of s3fs do not add
    if version:
        options["VersionId"] = version
    if length is not None:
        options["Range"] = f"bytes={start}-{start + length - 1}"

    async def get() -> tuple[bytes | None, dict[str, Any]]:
        response = await _call(filesystem, "get_object", **options)
        # Of a range the response gives the size of the whole object behind a slash: bytes 0-9/1000.
        size = int(response.get("ContentRange", "").rpartition("/")[2] or response["ContentLength"])
        info = {"ETag": response.get("ETag", ""), "LastModified": response.get("LastModified", ""), "size": size}
        try:
            return (None if max_bytes is not None and size > max_bytes else await response["Body"].read()), info
        finally:
            response["Body"].close()

    return with_retries_for(uri, lambda: wait_for(filesystem, get))


def list_pages(folder: str) -> Iterator[list[tuple[str, int]]]:
    """Yield the objects below a folder page by page: paths below it, and sizes; s3fs keeps all of them in memory.

    Raises:
        Exception: of the store, after retries.
    """
    filesystem = filesystem_of(folder)
    bucket, key, _ = filesystem.split_path(folder)
    prefix = f"{key}/" if key else ""
    options = {"Bucket": bucket, "Prefix": prefix, **filesystem.req_kw}
    while True:
        page = with_retries_for(
            folder, lambda: wait_for(filesystem, lambda: _call(filesystem, "list_objects_v2", **options))
        )
        yield [(each["Key"].removeprefix(prefix), int(each["Size"])) for each in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return
        options["ContinuationToken"] = page["NextContinuationToken"]


def copy(source: str, target: str) -> None:
    """Copy an object of at most COPY_BYTES inside one store in one request; s3fs asks for its size first.

    Raises:
        Exception: of the store, after retries.
    """
    filesystem = filesystem_of(source)
    (from_bucket, from_key, _), (bucket, key, _) = map(filesystem.split_path, (source, target))
    options = {"Bucket": bucket, "Key": key, "CopySource": {"Bucket": from_bucket, "Key": from_key}}
    with_retries_for(source, lambda: wait_for(filesystem, lambda: _call(filesystem, "copy_object", **options)))


def remove_batch(uris: Sequence[str]) -> None:
    """Delete up to 1,000 objects of one bucket in one request; missing ones are no error.

    Raises:
        ClientError: the store refuses one of them.
    """
    from botocore.exceptions import ClientError  # a library of s3fs

    filesystem = filesystem_of(uris[0])
    keys = [filesystem.split_path(uri)[:2] for uri in uris]
    objects = {"Objects": [{"Key": key} for _, key in keys], "Quiet": True}

    def send() -> None:
        # s3fs's own deletion of several objects ignores the errors in the response.
        response = wait_for(filesystem, lambda: _call(filesystem, "delete_objects", Bucket=keys[0][0], Delete=objects))
        for error in response.get("Errors", ()):
            raise ClientError({"Error": error}, "DeleteObjects")

    with_retries_for(uris[0], send)


def _call(filesystem: Any, method: str, **options: Any) -> Awaitable[Any]:
    call: Awaitable[Any] = filesystem._call_s3(method, **options)  # noqa: SLF001 - its public form is bound before a test can watch it
    return call
