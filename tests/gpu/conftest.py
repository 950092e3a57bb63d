"""Which provider the tests run on: the card, or the CPU in a rehearsal."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fsf_core.model.bundle import Bundle
from fsf_core.model.device_buffers import Buffers
from fsf_core.options import Precision, ResolvedProvider

REHEARSAL = os.environ.get("FSF_GPU_REHEARSAL") == "cpu"

REHEARSED_FRAMES = 8
"""Frames of the largest batch that a rehearsal has memory for where a card's is limited."""


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


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of pictures that are scored in windows, some larger than the limit of pixels."""
    from tests.gpu.items import write_scenes

    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def little_memory(provider: ResolvedProvider, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Arguments of a model for which a batch of 256 frames is too large; a rehearsal raises what onnxruntime raises."""
    if provider == "cpu":
        for name in ("run", "run_into"):
            monkeypatch.setattr(Buffers, name, _full_above(REHEARSED_FRAMES, getattr(Buffers, name)))
    return {"batch_frames": 256, "memory_bytes": 256 << 20}


def _full_above(frames: int, run: Callable[..., None]) -> Callable[..., None]:
    """Return a call of buffers that finds the memory full in larger batches."""

    def limited(buffers: Buffers, *room: Any) -> None:
        if buffers.frames > frames:
            raise RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9")
        run(buffers, *room)

    return limited
