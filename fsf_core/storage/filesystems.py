"""The fsspec filesystem of a URI, with timeouts, and calls to it with retries.

The only module that imports fsspec.
"""

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import fsspec
import fsspec.asyn
from fsspec.utils import glob_translate

from fsf_core.errors import StorageError
from fsf_core.safe_text import redact
from fsf_core.storage import retry
from fsf_core.storage.access import WEB, Access
from fsf_core.storage.error_translation import message_of
from fsf_core.storage.uris import OBJECT_STORES, RETRYING_STORES, is_local, join, scheme

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15
"""Longest time to connect, and between two bytes of a response."""

S3_ATTEMPTS = 2
"""Attempts of s3fs itself, the only ones that one page of a listing gets; all other retries are in `retry`."""

_GUARDS: list[tuple[str, Callable[[], None]]] = []

_checks: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("checks", default=())
"""Checks of the request that is being made; a context variable follows it into the thread that sends it."""

T = TypeVar("T")


@contextlib.contextmanager
def guarded(folder: str, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before every attempt at a request below a folder of a store, in all threads of this process.

    For S3 it is also called when the request is prepared and signed, immediately before it is sent.

    Args:
        folder: prefix in a store.
        check: raises where no further request may be sent.
    """
    guard = (join(folder, ""), check)
    _GUARDS.append(guard)
    try:
        yield
    finally:
        _GUARDS.remove(guard)


def with_retries_for(uri: str, call: Callable[[], T]) -> T:
    """Call a store with retries, unless its library retries by itself."""
    attempt = partial(_checked, uri, call) if _GUARDS else call
    return retry.with_retries(attempt, max_attempts=1 if scheme(uri) in RETRYING_STORES else retry.MAX_ATTEMPTS)


def _checked(uri: str, call: Callable[[], T]) -> T:
    """Call a store if all guards of the URI agree."""
    checks = tuple(check for folder, check in tuple(_GUARDS) if uri.startswith(folder))
    if checks and scheme(uri) in {"s3", "s3a"}:
        filesystem = filesystem_of(uri)
        filesystem.connect()  # creates the client, without a request
        filesystem.s3.meta.events.register("before-send.s3", _run_checks, unique_id="fsf-checks")
    token = _checks.set(checks)
    try:
        _run_checks()
        return call()
    finally:
        _checks.reset(token)


def _run_checks(**_: Any) -> None:
    for check in _checks.get():
        check()


def filesystem_of(uri: str, access: Access | None = None) -> Any:
    """Return the fsspec filesystem of a URI; fsspec keeps one instance per store and settings.

    Args:
        uri: any address.
        access: web hosts that it may connect to; without it, any: the address is the user's own.

    Raises:
        StorageError: the store's library is not installed, or its settings are invalid.
    """
    if is_local(uri):
        return fsspec.filesystem("file")  # url_to_fs reads :: in a file name as a chain of protocols
    try:
        # Without its cache of listings, which hides files that other processes wrote since.
        filesystem = fsspec.url_to_fs(uri, use_listings_cache=False, **_settings_of(scheme(uri), access))[0]
    except (ImportError, ValueError) as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(scheme(uri), "azure")
        do = f"install fsf[{extra}]" if scheme(uri) in OBJECT_STORES else "install the library of this store"
        raise StorageError(f"{redact(uri)} cannot be opened: {message_of(error, uri)}; {do}") from error
    if scheme(uri) in {"s3", "s3a"}:
        filesystem.retries = S3_ATTEMPTS
    if scheme(uri) in WEB:
        from fsf_core.storage.web_client import exact_url

        filesystem.encode_url = exact_url
    return filesystem


def wait_for(filesystem: Any, call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a coroutine function that runs in the event loop of an asynchronous filesystem."""
    result: T = fsspec.asyn.sync(filesystem.loop, call)
    return result


def glob_regex(pattern: str) -> str:
    """Return the regular expression of a pattern with *, ** and ?, where ** matches empty names too: a//b.jpg.

    Raises:
        ValueError: it has ** beside other characters of a name.
    """
    return str(glob_translate(pattern)).replace("(?:.+/)?", "(?:.*/)?")


def _settings_of(store: str, access: Access | None) -> dict[str, Any]:
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
    if store in WEB:
        from fsf_core.storage import web_client  # loads aiohttp

        timeout = web_client.timeouts(connect_s=CONNECT_TIMEOUT_S, read_s=READ_TIMEOUT_S)
        # Of the same settings fsspec makes the same filesystem: a partial's text names its arguments.
        client = partial(web_client.guarded_session, access) if access else web_client.session
        return {"client_kwargs": {"timeout": timeout, **chosen.get("client_kwargs", {})}, "get_client": client}
    return {}
