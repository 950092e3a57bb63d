"""Transient errors are retried within bounds; permanent ones are classified and get a hint."""

import itertools

import pytest

from fsf_core.storage import retry
from fsf_core.storage.retry import RetriesExhaustedError, hint, reason, with_retries


class ClientError(Exception):
    """An error with the attributes of botocore's."""

    def __init__(self, code: str, status: int, **headers: str) -> None:
        super().__init__(f"An error occurred ({code})")
        metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": metadata}


class AzureError(Exception):
    status_code = 503
    error_code = "ServerBusy"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def failing(*errors: Exception):
    """Return a call that raises these errors, and then succeeds."""
    left = iter(errors)

    def call() -> str:
        error = next(left, None)
        if error is not None:
            raise error
        return "result"

    return call


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (caused(OSError(16, "slow"), ClientError("SlowDown", 503)), "throttled"),
        (AzureError(), "throttled"),
        (ClientError("429", 429), "throttled"),
        (TimeoutError(), "transient"),
        (ConnectionResetError(), "transient"),
        (caused(FileNotFoundError("u"), ConnectionRefusedError()), "transient"),
        (ClientError("InternalError", 500), "transient"),
        (caused(PermissionError("no"), ClientError("SignatureDoesNotMatch", 403)), "credentials"),
        (caused(FileNotFoundError("no"), ClientError("NoSuchBucket", 404)), "bucket"),
        (PermissionError("Forbidden"), "denied"),
        (OSError("Forbidden: b/x\nno"), "denied"),
        (caused(FileNotFoundError("no"), ClientError("404", 404)), "other"),
        (ValueError("no"), "other"),
    ],
)
def test_errors_of_all_stores_are_classified(error, why):
    assert reason(error) == why


def test_transient_errors_are_retried():
    assert with_retries(failing(TimeoutError(), ClientError("SlowDown", 503))) == "result"


def test_a_permanent_error_is_raised_at_once_and_unchanged():
    calls = failing(FileNotFoundError("gone"))

    with pytest.raises(FileNotFoundError, match="gone"):
        with_retries(calls)
    assert calls() == "result"


def test_retries_end_after_the_maximum_number_of_attempts():
    with pytest.raises(
        RetriesExhaustedError, match=r"failed 3 times in 0 s, at last: the server does not respond \(TimeoutError"
    ):
        with_retries(failing(*[TimeoutError("t")] * 9), max_attempts=3)


def test_throttling_is_retried_until_the_timeout(monkeypatch):
    monkeypatch.setattr(retry, "RETRY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(retry, "MAX_BACKOFF_S", 0.01)

    with pytest.raises(RetriesExhaustedError, match=r"asked to slow down \d\d+ times"):
        with_retries(failing(*[ClientError("SlowDown", 503)] * 10_000), max_attempts=2)


def test_backoff_grows_with_jitter_and_is_never_shorter_than_retry_after(monkeypatch):
    backoffs_s: list[float] = []
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_S", 0.2)
    monkeypatch.setattr("time.sleep", backoffs_s.append)
    plain = ClientError("SlowDown", 503)

    with_retries(failing(plain, plain, plain, ClientError("SlowDown", 503, **{"retry-after": "7"})))

    assert all(low <= backoff_s <= 2 * low for backoff_s, low in zip(backoffs_s, (0.2, 0.4, 0.8), strict=False))
    assert backoffs_s[3] == 7
    assert len(set(backoffs_s)) == 4


@pytest.mark.parametrize(("scheme", "name"), [("s3", "AWS_PROFILE"), ("gcs", "GOOGLE_"), ("abfs", "AZURE_")])
def test_a_hint_names_the_variables_of_the_store(scheme, name):
    assert name in hint(ClientError("SignatureDoesNotMatch", 403), scheme)
    assert "create the bucket" in hint(ClientError("NoSuchBucket", 404), scheme)


def test_a_cycle_of_causes_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert reason(first) == "other"
    assert next(itertools.islice(retry.causes(first), 1, None)) is second
