"""Unit tests retry without waiting."""

import pytest

from fsf_core.storage import retry


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_S", 0.001)
