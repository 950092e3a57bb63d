"""What stores say when they fail: what passes is tried again, what stays gets a remedy in words.

Knows the errors of all stores by their names and codes, so that no store's library is imported. Opens nothing.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

MAX_ATTEMPTS = 6
"""Most attempts at what fails without a word of throttling."""

RETRY_TIMEOUT_S = 45.0
"""No attempt begins later: with the store's own timeouts, an item is given up within its --item-seconds."""

INITIAL_BACKOFF_S = 0.2
MAX_BACKOFF_S = 4.0

Reason = Literal["throttled", "credentials", "bucket", "denied", "taken", "range", "passing", "other"]
Given = TypeVar("Given")

# fmt: off
_WORDS: dict[Reason, frozenset[str]] = {
    "throttled": frozenset((
        "429", "503", "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded",
        "TooManyRequests", "ServerBusy",
    )),
    "credentials": frozenset((
        "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
        "AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "AuthenticationFailed", "InvalidAuthenticationInfo",
        "NoAuthenticationInformation", "AuthorizationFailure", "NoCredentialsError", "PartialCredentialsError",
        "ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError", "DefaultCredentialsError", "RefreshError",
        "ClientAuthenticationError", "CredentialUnavailableError",
    )),
    "bucket": frozenset(("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted")),
    "denied": frozenset((
        "403", "AccessDenied", "AllAccessDisabled", "InsufficientAccountPermissions", "PermissionError",
        "AuthorizationPermissionMismatch",
    )),
    "taken": frozenset(("412", "PreconditionFailed", "FileExistsError")),
    "range": frozenset(("416", "InvalidRange")),
    "passing": frozenset((
        "408", "425", "500", "502", "504", "RequestTimeout", "InternalError", "OperationTimedOut", "OperationAborted",
        "IncompleteBody", "TimeoutError", "ConnectionError", "HTTPClientError", "ResponseParserError",
        "ClientConnectionError", "ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ServiceRequestError",
        "ServiceResponseError", "ChecksumError", "ChunkedEncodingError", "ProxyError", "ShortReadError",
    )),
}
# fmt: on

_CREDENTIALS = {
    "s3": " (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    "gs": " (GOOGLE_APPLICATION_CREDENTIALS)",
    "az": " (AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
}
_FAMILIES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


class ShortReadError(OSError):
    """A store gave fewer bytes than it announced."""


class RetriesExhaustedError(Exception):
    """What should have passed did not; the last error is the cause."""


def with_retries(call: Callable[[], Given], *, tries: int = MAX_ATTEMPTS) -> Given:
    """What the call returns, once it does.

    Args:
        call: may be made again.
        tries: most attempts, where the store does not ask for patience itself.

    Raises:
        RetriesExhaustedError: it failed again and again.
        Exception: what does not pass, as it is.
    """
    begun = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return call()
        except Exception as error:
            why = reason(error)
            if why not in {"throttled", "passing"} or tries == 1:
                raise
            pause_s = _pause_s(error, attempt)
            spent_s = time.monotonic() - begun
            if spent_s + pause_s > RETRY_TIMEOUT_S or (why == "passing" and attempt >= tries):
                said = "asked to slow down" if why == "throttled" else "failed"
                last = error.__cause__ or error
                raise RetriesExhaustedError(
                    f"the store {said} {attempt} times in {spent_s:.0f} s, at last with {type(last).__name__}: {last}"
                ) from error
        time.sleep(pause_s)


def reason(error: BaseException) -> Reason:
    """Why a store failed, by all that its chain of errors says."""
    words = {word for each in _chain(error) for word in _words(each)}
    return next((why for why, known in _WORDS.items() if words & known), "other")


def hint(error: BaseException, scheme: str) -> str:
    """What to do about an error that stays, or the empty string where nothing special is known."""
    family = _FAMILIES.get(scheme, scheme)
    names = _CREDENTIALS.get(family, "")
    return {
        "credentials": f"give credentials that the store knows{names}",
        "bucket": "create the bucket, or correct its name",
        "denied": f"grant this identity the right, or give another one{names}",
        "throttled": "ask for less at once (fewer --actors), or have the limit of the store raised",
        "passing": "check the network" + (" and AWS_ENDPOINT_URL" if family == "s3" else "") + ", then start again",
    }.get(reason(error), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _words(error: BaseException) -> set[str]:
    """The names of an error's types, and the codes that it carries in one of the ways of the stores' libraries."""
    found = {kind.__name__ for kind in type(error).__mro__}
    if str(error).startswith("Forbidden: "):
        found.add("403")  # gcsfs gives no code
    names = (
        ("status", "status_code", "error_code") if hasattr(error, "status") else ("code", "status_code", "error_code")
    )
    codes = [getattr(error, name, None) for name in names]
    found.update(str(getattr(code, "value", code)) for code in codes)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found.add(str(response.get("Error", {}).get("Code")))
        found.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode")))
    return found


def _pause_s(error: BaseException, attempt: int) -> float:
    """Exponential with jitter, so that many workers do not come back at once; never less than the store asks for."""
    longest = min(MAX_BACKOFF_S, INITIAL_BACKOFF_S * float(2**attempt))
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return max(_retry_after_s(error), jitter * longest)


def _retry_after_s(error: BaseException) -> float:
    for each in _chain(error):
        response = getattr(each, "response", None)
        headers: Any = getattr(each, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        given = str(headers.get("retry-after") or "") if hasattr(headers, "get") else ""
        if given.isdigit():
            return float(given)
    return 0.0
