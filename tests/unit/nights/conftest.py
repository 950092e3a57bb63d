"""The folder of a series, on a disk and in a store."""

import fsspec
import pytest


@pytest.fixture(params=["disk", "store"])
def root(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path / "runs")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/runs"
