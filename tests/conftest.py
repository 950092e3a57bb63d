"""What several tests need: a proved bundle of a tiny network, pictures, a run made from them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def pytest_report_header() -> list[str]:
    import onnxruntime
    import ray

    return [f"ray {ray.__version__}, onnxruntime {onnxruntime.__version__}"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """GPU tests skip without a GPU, and fail where one was promised."""
    if item.get_closest_marker("gpu") is None:
        return
    from fsf_core.model.session import cuda_devices

    count, why = cuda_devices()
    if not count and os.environ.get("FSF_REQUIRE_CUDA") == "1":
        pytest.fail(f"FSF_REQUIRE_CUDA=1 and no GPU: {why}")
    if not count:
        pytest.skip(f"no GPU: {why}")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of tests/tiny_net.py: 4 classes on a 224×224 grid, exported and proved in seconds."""
    from fsf_core.export.job import export
    from fsf_core.export.request import Request
    from fsf_core.masks import voc_palette

    palette = tuple((int(r), int(g), int(b)) for r, g, b in voc_palette(4))
    request = Request(net="tests.support.tiny_net:build", classes=CLASSES, palette=palette, exporter="torchscript")
    return export(request, out=str(tmp_path_factory.mktemp("bundles") / "tiny")).bundle


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One cluster for all jobs that a module runs in this process: its workers are warm from the second job on."""
    from fsf_core.score.cluster import start_local_cluster  # isort: split

    import ray

    start_local_cluster()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def photos() -> Path:
    """Real photographs, which the project may not carry: FSF_PHOTOS names their folder."""
    folder = os.environ.get("FSF_PHOTOS")
    if not folder:
        pytest.skip("FSF_PHOTOS is not set")
    return Path(folder)
