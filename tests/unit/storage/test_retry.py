"""What passes is waited for, within bounds; what stays is told apart and gets a remedy."""

import itertools

import pytest

from fsf_core.storage import retry
from fsf_core.storage.retry import RetriesExhaustedError, hint, reason, with_retries


class ClientError(Exception):
    """As botocore's."""

    def __init__(self, code: str, status: int, **headers: str) -> None:
        super().__init__(f"An error occurred ({code})")
        answer = {"HTTPStatusCode": status, "HTTPHeaders": headers}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": answer}


class AzureError(Exception):
    status_code = 503
    error_code = "ServerBusy"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def failing(*errors: Exception):
    """A call that fails so, and then works."""
    left = iter(errors)

    def call() -> str:
        error = next(left, None)
        if error is not None:
            raise error
        return "given"

    return call


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (caused(OSError(16, "slow"), ClientError("SlowDown", 503)), "throttled"),
        (AzureError(), "throttled"),
        (ClientError("429", 429), "throttled"),
        (TimeoutError(), "passing"),
        (ConnectionResetError(), "passing"),
        (caused(FileNotFoundError("u"), ConnectionRefusedError()), "passing"),
        (ClientError("InternalError", 500), "passing"),
        (caused(PermissionError("no"), ClientError("SignatureDoesNotMatch", 403)), "credentials"),
        (caused(FileNotFoundError("no"), ClientError("NoSuchBucket", 404)), "bucket"),
        (PermissionError("Forbidden"), "denied"),
        (OSError("Forbidden: b/x\nno"), "denied"),
        (caused(FileNotFoundError("no"), ClientError("404", 404)), "other"),
        (ValueError("no"), "other"),
    ],
)
def test_errors_of_all_stores_are_told_apart(error, why):
    assert reason(error) == why


def test_what_passes_is_tried_again():
    assert with_retries(failing(TimeoutError(), ClientError("SlowDown", 503))) == "given"


def test_what_stays_is_raised_at_once_and_as_it_is():
    calls = failing(FileNotFoundError("gone"))

    with pytest.raises(FileNotFoundError, match="gone"):
        with_retries(calls)
    assert calls() == "given"


def test_patience_ends_after_some_attempts():
    with pytest.raises(RetriesExhaustedError, match=r"failed 3 times in 0 s, at last with TimeoutError"):
        with_retries(failing(*[TimeoutError("t")] * 9), tries=3)


def test_throttling_is_waited_for_as_long_as_patience_lasts(monkeypatch):
    monkeypatch.setattr(retry, "RETRY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(retry, "MAX_BACKOFF_S", 0.01)

    with pytest.raises(RetriesExhaustedError, match=r"asked to slow down \d\d+ times"):
        with_retries(failing(*[ClientError("SlowDown", 503)] * 10_000), tries=2)


def test_pauses_grow_differ_and_are_never_shorter_than_the_store_asks_for(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_S", 0.2)
    monkeypatch.setattr("time.sleep", pauses.append)
    plain = ClientError("SlowDown", 503)

    with_retries(failing(plain, plain, plain, ClientError("SlowDown", 503, **{"retry-after": "7"})))

    assert all(low <= pause <= 2 * low for pause, low in zip(pauses, (0.2, 0.4, 0.8), strict=False))
    assert pauses[3] == 7
    assert len(set(pauses)) == 4


@pytest.mark.parametrize(("scheme", "name"), [("s3", "AWS_PROFILE"), ("gcs", "GOOGLE_"), ("abfs", "AZURE_")])
def test_a_remedy_names_what_the_store_goes_by(scheme, name):
    assert name in hint(ClientError("SignatureDoesNotMatch", 403), scheme)
    assert "create the bucket" in hint(ClientError("NoSuchBucket", 404), scheme)


def test_a_circle_of_causes_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert reason(first) == "other"
    assert next(itertools.islice(retry._chain(first), 1, None)) is second
