"""Which provider the tests run on: the card, or the CPU in a rehearsal."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from fsf_core.model.bundle import Bundle
from fsf_core.options import Precision, ResolvedProvider

REHEARSAL = os.environ.get("FSF_GPU_REHEARSAL") == "cpu"


@pytest.fixture(scope="session")
def provider() -> ResolvedProvider:
    """The provider that is compared with the CPU."""
    return "cpu" if REHEARSAL else "cuda"


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """What returns the bundle of a model of `bundles.MODELS`, made once."""
    from tests.gpu.bundles import MODELS, write_bundle

    @cache
    def made(name: str, precisions: tuple[Precision, ...] = ()) -> Bundle:
        return write_bundle(str(tmp_path_factory.mktemp("bundle") / "b"), MODELS[name], precisions)

    return made


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of small pictures of several sizes, some with labels, damaged ones and a video."""
    from tests.gpu.items import SIZES, SMALL, write_items

    return write_items(tmp_path_factory.mktemp("items"), [*SIZES, *SMALL[:20]])


@pytest.fixture(scope="session")
def all_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `items`, with large pictures and many small ones."""
    from tests.gpu.items import LARGE, SIZES, SMALL, write_items

    return write_items(tmp_path_factory.mktemp("all_items"), [*SIZES, *LARGE, *SMALL])
