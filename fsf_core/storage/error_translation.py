"""Errors of the operating system and the stores as FetchError or StorageError, with what to do about them.

Knows errors; opens no file.
"""

import contextlib
from collections.abc import Iterator

from fsf_core.errors import FetchError, FSFError, ResumableError, StorageError
from fsf_core.safe_text import HIDDEN, redact, redact_message, secrets_of
from fsf_core.storage import retry
from fsf_core.storage.missing import hint_for_missing
from fsf_core.storage.uris import OBJECT_STORES, is_local, scheme


@contextlib.contextmanager
def as_fetch_error(uri: str) -> Iterator[None]:
    """Raise errors of the operating system or a store as FetchError."""
    try:
        yield
    except (FetchError, ResumableError):
        raise
    except StorageError as error:
        raise FetchError(str(error)) from error
    except Exception as error:  # noqa: BLE001 - every store has its own exceptions, and few of them are OSErrors
        raise FetchError(_fetch_message(error, uri)) from _shown_cause(error, uri)


def _fetch_message(error: Exception, uri: str) -> str:
    """Return why a file cannot be read, and what to do."""
    refused = next((cause for cause in retry.causes(error) if isinstance(cause, FetchError)), None)
    if refused is not None:  # what fsspec wrapped
        return f"{redact(uri)} is not fetched: {refused}"
    if isinstance(error, FileNotFoundError):
        # fsspec raises it for every response of a web server but the file; the cause has the status.
        on_web = error.__cause__ and scheme(uri) in {"http", "https"}
        found = f"cannot be fetched ({describe(error.__cause__, uri)})" if on_web else "does not exist"
        do = hint_for(error, uri) if not is_local(uri) and retry.reason(error) == "bucket" else ""
        do = hint_for_missing(uri) if is_local(uri) else do
        return f"{redact(uri)} {found}; {do or 'correct the address or restore the file'}"
    if isinstance(error, PermissionError):
        do = "grant read access" if is_local(uri) else hint_for(error, uri)
        return f"{redact(uri)} is not readable: {describe(error, uri)}; {do}"
    do = hint_for(error, uri) or "check the address and the store, then start again"
    return f"{redact(uri)} cannot be read: {describe(error, uri)}; {do}"


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
    except Exception as error:  # noqa: BLE001 - as above
        do = ("" if is_local(uri) else hint_for(error, uri)) or "check the address, the permissions and the free space"
        if isinstance(error, FileNotFoundError) and scheme(uri) in OBJECT_STORES:
            do = "create the bucket, or correct its name"  # nothing else can be missing there
        message = f"{redact(uri)} cannot be {action}: {describe(error, uri)}; {do}"
        raise StorageError(message) from _shown_cause(error, uri)


def hint_for(error: Exception, uri: str) -> str:
    """Return what to do about an error of a store, or the empty string where nothing specific is known."""
    return retry.hint(error, scheme(uri))


def describe(error: BaseException | None, uri: str) -> str:
    """Return the type and the message of an error without secrets, and without what a web server sent."""
    if error is None:
        return "unknown reason"
    plain = isinstance(error, retry.RetriesExhaustedError)
    return _without_secrets(str(error) if plain else retry.describe(error), uri)


def message_of(error: BaseException, uri: str) -> str:
    """Return the message of an error without secrets."""
    return _without_secrets(str(error), uri)


def _without_secrets(message: str, uri: str) -> str:
    """Remove the secrets of a URI, of which libraries quote single pieces, and any others."""
    message = message.partition("\nRequestId:")[0]  # Azure appends a page of XML
    for secret in secrets_of(uri):
        message = message.replace(secret, HIDDEN)
    return redact_message(message)


def _shown_cause(error: BaseException, uri: str) -> BaseException | None:
    """Return an error as the cause of another, which tracebacks print; None if its text holds a secret."""
    texts = [str(cause).partition("\nRequestId:")[0] for cause in retry.causes(error)]
    return error if all(_without_secrets(text, uri) == text for text in texts) else None
