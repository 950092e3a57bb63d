"""What a store allows beyond reading and writing one object, found out without leaving anything behind."""

import email.utils
import time

from fsf_core.storage.error_translation import as_storage_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.uris import scheme

S3 = ("s3", "s3a")


def try_multipart(uri: str) -> bool:
    """Begin an upload in parts and abort it; returns whether this kind of store was tried.

    Raises:
        StorageError: the store refuses.
    """
    if scheme(uri) not in S3:
        return False
    with as_storage_error(uri, "written in parts"):
        filesystem = filesystem_of(uri)
        bucket, key, _ = filesystem.split_path(uri)
        begun = with_retries_for(uri, lambda: filesystem.call_s3("create_multipart_upload", Bucket=bucket, Key=key))
        name = {"Bucket": bucket, "Key": key, "UploadId": begun["UploadId"]}
        with_retries_for(uri, lambda: filesystem.call_s3("abort_multipart_upload", **name))
    return True


def clock_ahead(uri: str) -> tuple[float, float] | None:
    """Measure how far this machine's clock is ahead of the store's, and the uncertainty, both in seconds.

    Returns:
        None where the store's library hides the time of a response.

    Raises:
        StorageError: the store refuses.
    """
    if scheme(uri) not in S3:
        return None
    with as_storage_error(uri, "listed"):
        filesystem = filesystem_of(uri)
        bucket, key, _ = filesystem.split_path(uri)
        sent_s = time.time()
        listed = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
        received_s = time.time()
    date = listed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not date:
        return None
    store_s = email.utils.parsedate_to_datetime(date).timestamp() + 0.5  # whole seconds
    return (sent_s + received_s) / 2 - store_s, (received_s - sent_s) / 2 + 0.5
