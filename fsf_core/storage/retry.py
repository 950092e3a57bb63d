"""Why stores fail: transient errors are retried, permanent ones get a hint about what to do.

Knows the errors of all stores by name and code, so that no store's library is imported. Opens nothing.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from fsf_core.storage import usage

MAX_ATTEMPTS = 6
"""Most attempts at a call that fails for another reason than throttling."""

RETRY_TIMEOUT_S = 45.0
"""No attempt starts later: together with the store's own timeouts, an item fails within its --item-seconds."""

INITIAL_BACKOFF_S = 0.2
MAX_BACKOFF_S = 4.0

Reason = Literal["throttled", "credentials", "bucket", "denied", "conflict", "range", "transient", "other"]
T = TypeVar("T")

# fmt: off
_CODES: dict[Reason, frozenset[str]] = {
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
    "conflict": frozenset(("412", "PreconditionFailed", "FileExistsError")),
    "range": frozenset(("416", "InvalidRange")),
    "transient": frozenset((
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


# fmt: off
_UNREACHABLE = frozenset((
    "ClientConnectorError", "ConnectionRefusedError", "ConnectionError", "EndpointConnectionError",
    "ConnectTimeoutError", "ReadTimeoutError", "TimeoutError", "ServerDisconnectedError", "ServiceRequestError",
    "gaierror",
))
# fmt: on


class ShortReadError(OSError):
    """A store returned fewer bytes than it announced."""


class RetriesExhaustedError(Exception):
    """A transient error did not go away; the last one is the cause."""


def with_retries(call: Callable[[], T], *, max_attempts: int = MAX_ATTEMPTS) -> T:
    """Return what a call returns; retry it with exponential backoff while its errors are transient.

    Args:
        call: safe to repeat.
        max_attempts: does not limit a store that throttles, only RETRY_TIMEOUT_S does; 1 means no retries at all.

    Raises:
        RetriesExhaustedError: no attempt succeeded.
        Exception: an error that is not transient, unchanged.
    """
    begun = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return call()
        except Exception as error:
            why = reason(error)
            if why not in {"throttled", "transient"} or max_attempts == 1:
                raise
            backoff_s = _backoff_s(error, attempt)
            spent_s = time.monotonic() - begun
            if spent_s + backoff_s > RETRY_TIMEOUT_S or (why == "transient" and attempt >= max_attempts):
                did = "asked to slow down" if why == "throttled" else "failed"
                last = describe(error if _is_from_web(error) else error.__cause__ or error)
                raise RetriesExhaustedError(
                    f"the store {did} {attempt} times in {spent_s:.0f} s, at last: {last}"
                ) from error
        usage.count(f"{usage.RETRIES}:{why}")
        time.sleep(backoff_s)


def reason(error: BaseException) -> Reason:
    """Return why a store failed, by the types and codes of the error and its causes."""
    codes = {code for cause in causes(error) for code in _codes_of(cause)}
    return next((why for why, known in _CODES.items() if codes & known), "other")


def describe(error: BaseException) -> str:
    """Describe an error of a store, without anything that a web server sent except its status."""
    names = {kind.__name__ for cause in causes(error) for kind in type(cause).__mro__}
    message = f"{type(error).__name__}: {error}"
    if not _is_from_web(error):
        return f"the server does not respond ({message})" if names & _UNREACHABLE else message
    if "ClientPayloadError" in names:
        return "the response ends early"
    if "HttpProcessingError" in names:  # its message quotes what the server sent
        return "the server does not speak HTTP"
    if names & _UNREACHABLE:
        codes = (getattr(cause, "errno", None) for cause in causes(error))
        code = next((code for code in codes if isinstance(code, int) and code > 0), None)
        return f"the server does not respond ({os.strerror(code) if code else type(error).__name__})"
    statuses = (getattr(cause, "status", None) for cause in causes(error))
    status = next((status for status in statuses if isinstance(status, int)), None)
    return f"the server responds with status {status}" if status else type(error).__name__


def _is_from_web(error: BaseException) -> bool:
    return any(type(cause).__module__.startswith("aiohttp") for cause in causes(error))


def is_unreachable(error: BaseException) -> bool:
    """Return whether no server responded."""
    return any(kind.__name__ in _UNREACHABLE for cause in causes(error) for kind in type(cause).__mro__)


def hint(error: BaseException, scheme: str) -> str:
    """Return what to do about a permanent error, or the empty string where nothing specific is known."""
    family = _FAMILIES.get(scheme, scheme)
    variables = _CREDENTIALS.get(family, "")
    return {
        "credentials": f"pass credentials that the store accepts{variables}",
        "bucket": "create the bucket, or correct its name",
        "denied": f"grant this identity access, or use another one{variables}",
        "throttled": "send fewer requests at once (fewer --actors), or raise the store's rate limit",
        "transient": "check the network" + (" and AWS_ENDPOINT_URL" if family == "s3" else "") + ", then start again",
    }.get(reason(error), "")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that and so on; a cycle ends."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _codes_of(error: BaseException) -> set[str]:
    """Return the names of an error's types and the codes that it carries, wherever the store's library puts them."""
    codes = {kind.__name__ for kind in type(error).__mro__}
    if str(error).startswith("Forbidden: "):
        codes.add("403")  # gcsfs sets no code
    names = (
        ("status", "status_code", "error_code") if hasattr(error, "status") else ("code", "status_code", "error_code")
    )
    values = [getattr(error, name, None) for name in names]
    codes.update(str(getattr(value, "value", value)) for value in values)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        codes.add(str(response.get("Error", {}).get("Code")))
        codes.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode")))
    return codes


def _backoff_s(error: BaseException, attempt: int) -> float:
    """Return an exponential backoff with jitter, so that workers spread out; never less than Retry-After."""
    longest_s = min(MAX_BACKOFF_S, INITIAL_BACKOFF_S * float(2**attempt))
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return max(_retry_after_s(error), jitter * longest_s)


def _retry_after_s(error: BaseException) -> float:
    for cause in causes(error):
        response = getattr(cause, "response", None)
        headers: Any = getattr(cause, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        value = str(headers.get("retry-after") or "") if hasattr(headers, "get") else ""
        if value.isdigit():
            return float(value)
    return 0.0
