"""Attempts on a disk and in a store."""

import fsspec
import pytest

from tests.support.ledger import begin


@pytest.fixture
def attempt(tmp_path):
    return begin(str(tmp_path / "run"))


@pytest.fixture
def in_store():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield begin("memory://bucket/run")
    filesystem.store.clear()


@pytest.fixture(params=["attempt", "in_store"])
def anywhere(request):
    return request.getfixturevalue(request.param)
