"""Errors of the operating system and the stores as FetchError or StorageError, with what to do about them.

Knows errors; opens nothing.
"""

import contextlib
from collections.abc import Iterator

from fsf_core.errors import FetchError, FSFError, ResumableError, StorageError
from fsf_core.storage import retry
from fsf_core.storage.uris import OBJECT_STORES, is_local, redact, scheme, secrets_of


@contextlib.contextmanager
def as_fetch_error(uri: str) -> Iterator[None]:
    """Raise errors of the operating system or a store as FetchError."""
    try:
        yield
    except (FetchError, ResumableError):
        raise
    except StorageError as error:
        raise FetchError(str(error)) from error
    except retry.RetriesExhaustedError as error:
        raise FetchError(f"{redact(uri)} cannot be read: {message_of(error, uri)}; {hint_for(error, uri)}") from error
    except FileNotFoundError as error:
        # fsspec raises it for every response of a web server but the file; the cause has the status.
        on_web = error.__cause__ and scheme(uri) in {"http", "https"}
        found = f"cannot be fetched ({message_of(error.__cause__, uri)})" if on_web else "does not exist"
        do = hint_for(error, uri) if not is_local(uri) and retry.reason(error) == "bucket" else ""
        raise FetchError(f"{redact(uri)} {found}; {do or 'correct the address or restore the file'}") from error
    except PermissionError as error:
        do = "grant read access" if is_local(uri) else hint_for(error, uri)
        raise FetchError(f"{redact(uri)} is not readable: {message_of(error, uri)}; {do}") from error
    except Exception as error:
        # Every store has its own exceptions, and few of them are OSErrors.
        do = hint_for(error, uri) or "check the address and the store, then start again"
        raise FetchError(f"{redact(uri)} cannot be read: {describe(error, uri)}; {do}") from error


@contextlib.contextmanager
def as_storage_error(uri: str, action: str) -> Iterator[None]:
    """Raise errors of the operating system or a store as StorageError.

    Args:
        uri: what is accessed.
        action: what cannot be done, as a participle (written, listed).
    """
    try:
        yield
    except FSFError:
        raise
    except Exception as error:
        do = ("" if is_local(uri) else hint_for(error, uri)) or "check the address, the permissions and the free space"
        if isinstance(error, FileNotFoundError) and scheme(uri) in OBJECT_STORES:
            do = "create the bucket, or correct its name"  # nothing else can be missing there
        raise StorageError(f"{redact(uri)} cannot be {action}: {describe(error, uri)}; {do}") from error


def hint_for(error: Exception, uri: str) -> str:
    """Return what to do about an error of a store, or the empty string where nothing specific is known."""
    return retry.hint(error, scheme(uri))


def describe(error: Exception, uri: str) -> str:
    """Return the type and the message of an error without secrets."""
    if isinstance(error, retry.RetriesExhaustedError):
        return message_of(error, uri)
    return f"{type(error).__name__}: {message_of(error, uri)}"


def message_of(error: BaseException | None, uri: str) -> str:
    """Return the message of an error without the secrets of the URI, of which libraries quote single pieces."""
    message = str(error).partition("\nRequestId:")[0]  # Azure appends a page of XML
    for secret in secrets_of(uri):
        message = message.replace(secret, "***")
    return redact(message)
