"""The fsspec filesystem of a URI, with timeouts, and calls to it with retries.

The only module that imports fsspec.
"""

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec

from fsf_core.errors import StorageError
from fsf_core.storage import retry
from fsf_core.storage.error_translation import message_of
from fsf_core.storage.uris import OBJECT_STORES, RETRYING_STORES, is_local, redact, scheme

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15
"""Longest time to connect, and between two bytes of a response."""

S3_ATTEMPTS = 2
"""Attempts of s3fs itself, the only ones that one page of a listing gets; all other retries are in `retry`."""

T = TypeVar("T")


def with_retries_for(uri: str, call: Callable[[], T]) -> T:
    """Call a store with retries, unless its library retries by itself."""
    return retry.with_retries(call, max_attempts=1 if scheme(uri) in RETRYING_STORES else retry.MAX_ATTEMPTS)


def filesystem_of(uri: str) -> Any:
    """Return the fsspec filesystem of a URI; fsspec keeps one instance per store and settings.

    Raises:
        StorageError: the store's library is not installed, or its settings are invalid.
    """
    if is_local(uri):
        return fsspec.filesystem("file")  # url_to_fs reads :: in a file name as a chain of protocols
    try:
        # Without its cache of listings, which hides files that other processes wrote since.
        filesystem = fsspec.url_to_fs(uri, use_listings_cache=False, **_settings_of(scheme(uri)))[0]
    except (ImportError, ValueError) as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(scheme(uri), "azure")
        do = f"install fsf[{extra}]" if scheme(uri) in OBJECT_STORES else "install the library of this store"
        raise StorageError(f"{redact(uri)} cannot be opened: {message_of(error, uri)}; {do}") from error
    if scheme(uri) in {"s3", "s3a"}:
        filesystem.retries = S3_ATTEMPTS
    return filesystem


def _settings_of(store: str) -> dict[str, Any]:
    """Return timeouts under the names of each store's library; FSSPEC_S3 and its like in the environment win."""
    chosen: dict[str, Any] = fsspec.config.conf.get("s3" if store == "s3a" else store, {})
    if store in {"s3", "s3a"}:
        retries = {"mode": "standard", "total_max_attempts": 1}
        timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S, "max_pool_connections": 64}
        return {"config_kwargs": {**timeouts, "retries": retries, **chosen.get("config_kwargs", {})}}
    if store in {"gs", "gcs"}:
        # gcsfs probes for a kind of bucket that is not used here, for up to a minute where no response comes.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its errors are reported here, once
    if store in {"az", "abfs", "abfss"}:
        return {"connection_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S} | chosen
    if store in {"http", "https"}:
        return {"client_kwargs": {"timeout": _web_timeout(), **chosen.get("client_kwargs", {})}}
    return {}


def _web_timeout() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
