"""Unit tests wait for nobody."""

import pytest

from fsf_core.storage import retry


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_S", 0.001)
