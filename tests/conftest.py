"""Fixtures shared by several tests: a verified bundle of a tiny network, a Ray cluster, real photographs.

With CI=true a skipped test is a failed one, unless a GPU is the reason: what CI promises to run, runs.
"""

import os
from collections.abc import Iterator

import pytest

from fsf_core.model.bundle import Bundle

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
GPU_REASONS = ("no GPU", "this machine has a GPU")
"""A skip whose reason starts with one of these is allowed in CI."""


FOLDERS = {"photos": "FSF_PHOTOS", "kuberay": "FSF_KUBERAY"}
"""Markers of tests that need files which the project may not carry, and the variables that name their folders."""


def pytest_report_header() -> list[str]:
    import onnxruntime
    import ray

    return [f"ray {ray.__version__}, onnxruntime {onnxruntime.__version__}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, rather than skip, the tests that need files which are not on this machine."""
    lacking = [marker for marker, variable in FOLDERS.items() if variable not in os.environ]
    needing = [item for item in items if any(item.get_closest_marker(marker) for marker in lacking)]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests without a GPU, or fail them where FSF_REQUIRE_CUDA=1 promises one.

    FSF_GPU_REHEARSAL=cpu runs those that take the fixture `provider` on the CPU in its place.
    """
    if item.get_closest_marker("gpu") is None:
        return
    from fsf_core.model.cuda_driver import cuda_devices

    count, why = cuda_devices()
    required = os.environ.get("FSF_REQUIRE_CUDA") == "1"
    if os.environ.get("FSF_GPU_REHEARSAL") == "cpu" and not required and "provider" in item.fixturenames:
        return
    if not count and required:
        pytest.fail(f"FSF_REQUIRE_CUDA=1 and no GPU: {why}")
    if not count:
        pytest.skip(f"no GPU: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn a skip into a failure in CI."""
    report: pytest.TestReport = yield  # type: ignore[misc] # pluggy sends the result of the hook
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if not reason.startswith(GPU_REASONS):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped in CI: {reason}"
    return report  # type: ignore[return-value] # as above


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of tests/support/tiny_net.py: 4 classes on a 224×224 grid, exported and verified in seconds."""
    from fsf_core.config import ExportConfig
    from fsf_core.export.job import export

    network = {"net": "tests.support.tiny_net:build", "classes": CLASSES, "exporter": "torchscript"}
    network |= {"profile": "fastsegformer"}
    return export(ExportConfig(**network, out=str(tmp_path_factory.mktemp("bundles") / "tiny"))).bundle


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One cluster for all jobs that a module runs in this process: its workers are warm from the second job on."""
    from fsf_core.score.cluster import local_cluster

    with local_cluster():
        yield
