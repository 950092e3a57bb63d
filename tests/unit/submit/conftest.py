"""A dashboard for every test, and no waiting."""

from collections.abc import Iterator

import pytest

from fsf_core.submit import follow, jobs_client, log_stream, submission
from tests.support.dashboard import Dashboard, dashboard


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_HEADERS", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for module, name, value in (
        (jobs_client, "PROBE_S", 0.2),
        (jobs_client, "RETRY_S", 0.05),
        (submission, "RETRY_S", 0.05),
        (follow, "POLL_S", 0.05),
        (follow, "LONGEST_POLL_S", 0.2),
        (follow, "PROGRESS_S", 0.02),
        (follow, "PENDING_NOTE_S", 0.2),
        (log_stream, "FIRST_PAUSE_S", 0.1),
        (log_stream, "LONGEST_PAUSE_S", 0.2),
    ):
        monkeypatch.setattr(module, name, value)
    with dashboard() as running:
        yield running
