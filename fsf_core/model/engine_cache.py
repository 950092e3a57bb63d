"""TensorRT's engines on one node: a folder for each model, card and version, with whole engines or not there at all.

onnxruntime writes an engine in place: a second process would read half of it, and a killed one would leave half of it.
So one process at a time builds engines in a folder of another name, which is renamed when they are whole.
Knows folders and names; knows no onnxruntime.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsf_core.errors import FSFError, ProviderError

BATCH_RANGE = (1, 128, 256)
"""Least, most likely and greatest number of images per call that one engine is built for."""

LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
"""Of TensorRT, in the order in which they are loaded."""

PRIVATE = 0o700
"""Mode of the folders: whoever writes an engine decides what runs on the card."""


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """What an engine depends on."""

    model: bytes
    """Content of the ONNX file, which fixes the precision too."""
    card: str
    """Name and compute capability of the card."""
    tensorrt: str
    onnxruntime: str
    profile: Mapping[str, str]
    """Options of the shapes that it is built for."""

    @property
    def folder_name(self) -> str:
        """Return a name that people can read, and that is another for every other key."""
        model = hashlib.sha256(self.model).hexdigest()
        facts = (model, self.card, self.tensorrt, self.onnxruntime, *sorted(self.profile.items()))
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        card = re.sub(r"[^A-Za-z0-9.]+", "-", self.card).strip("-")
        return f"{model[:12]}-{card}-tensorrt-{self.tensorrt}-onnxruntime-{self.onnxruntime}-{digest[:12]}"


def shape_profile(inputs: Sequence[tuple[str, tuple[int | None, ...]]]) -> dict[str, str]:
    """Return the options of onnxruntime that have one engine built for every batch, when the session is opened.

    Args:
        inputs: name and shape of every input, None where any size is accepted.

    Returns:
        Empty where the graph fixes all sizes. Inputs of fixed sizes are not named.

    Raises:
        ProviderError: an engine would be built for every size of image.
    """
    if any(None in shape[1:] for _, shape in inputs):
        raise ProviderError(
            "requested tensorrt, the size of the model's input depends on the image, expected one size: TensorRT "
            "builds an engine for each; pass --provider cuda"
        )
    free = [(name, shape) for name, shape in inputs if None in shape]
    if not free:
        return {}
    return {
        f"trt_profile_{end}_shapes": ",".join(
            f"{name}:{'x'.join(str(batch if size is None else size) for size in shape)}" for name, shape in free
        )
        for end, batch in zip(("min", "opt", "max"), BATCH_RANGE, strict=True)
    }


def tensorrt_version() -> str:
    """Load TensorRT's libraries, from its package of pip if there is one, and return their version.

    Raises:
        ProviderError: one is missing.
    """
    found = importlib.util.find_spec("tensorrt_libs")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()] if found else []
    libraries = []
    for name in LIBRARIES:
        path = next((str(folder / name) for folder in folders if (folder / name).is_file()), name)
        try:
            libraries.append(ctypes.CDLL(path, ctypes.RTLD_GLOBAL))
        except OSError as error:
            raise ProviderError(
                f"requested tensorrt, TensorRT 10 cannot be loaded: {error}; install it (pip install "
                "'tensorrt-cu13<11'), or pass --provider cuda"
            ) from error
    number = int(libraries[0].getInferLibVersion())
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}"


@contextlib.contextmanager
def engine_options(home: str, key: EngineKey) -> Iterator[dict[str, str]]:
    """Open a session in the block, with options by which it reads the engines of a key, or builds and keeps them.

    Args:
        home: folder of all engines of this node; made if it does not exist.
        key: of the engines.

    Raises:
        ProviderError: the folder cannot be written or belongs to somebody else, or its engines cannot be read.
    """
    folder = Path(home).expanduser() / key.folder_name
    with contextlib.ExitStack() as stack:
        with _explained(home):
            if not folder.is_dir():
                folder.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
                stack.enter_context(_locked(folder.with_name(f".{folder.name}.lock")))
            is_there = folder.is_dir()  # another process may have built them meanwhile
            if is_there:
                _require_own(folder)
        if is_there:
            with _damage_named(folder):
                yield _options(folder)
            return
        building = folder.with_name(f".{folder.name}.building")
        with _explained(home):
            if building.exists():  # of a process that was killed; its lock is gone
                shutil.rmtree(building)
            building.mkdir(mode=PRIVATE)
        try:
            yield _options(building)
            with _explained(home):
                if any(building.iterdir()):
                    building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _options(folder: Path) -> dict[str, str]:
    """Return the options of onnxruntime that keep engines, and what was measured for them, in a folder."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, which ends with this process at the latest; waits for the process that has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require_own(folder: Path) -> None:
    """Check that a folder of engines is this user's, or root's.

    Raises:
        ProviderError: it is not.
    """
    owner = folder.stat().st_uid
    if owner not in (0, os.geteuid()):
        raise ProviderError(
            f"the engines in {folder} belong to user {owner}, expected to user {os.geteuid()}: an engine is code; give "
            "another --engine-cache"
        )


@contextlib.contextmanager
def _explained(home: str) -> Iterator[None]:
    """Raise what the file system refuses as an error that names the option.

    Raises:
        ProviderError: it refuses something.
    """
    try:
        yield
    except OSError as error:
        raise ProviderError(
            f"the engine cache {home} cannot be used: {error.strerror or error}; give --engine-cache a folder on each "
            "node that this user may write to, or leave it out"
        ) from error


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Name the folder where an engine in it cannot be read.

    Raises:
        ProviderError: one cannot.
    """
    try:
        yield
    except FSFError as error:
        if "deserialize" not in str(error):
            raise
        raise ProviderError(f"{error}; remove {folder}, and its engines are built again") from error
