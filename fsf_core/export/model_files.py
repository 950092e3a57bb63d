"""The files of a model that --model names: on this machine, or fetched from a store, with their digests and family.

Knows folders, stores and what a path may be instead of a model. Loads no model.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fsf_core import storage
from fsf_core.errors import CheckpointError, ConfigError, FetchError
from fsf_core.export.families.registry import FAMILIES, Family, family_of
from fsf_core.export.file_kinds import foreign_kind

MAX_FILES, MAX_BYTES = 2_000, 32 << 30
"""Of a folder; more is no folder of one model."""
_NO_PART = (".md", ".png", ".jpg", ".jpeg", ".gif", ".h5", ".msgpack", ".ot")
"""Ends of names of files beside a model that no family reads: model cards, pictures, weights for other frameworks."""
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_CHECKPOINT = ("a checkpoint, weights without a network", "pass it with --checkpoint, and its network with --net")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """A model on this machine."""

    source: str
    """Path or URI as it was given."""
    path: Path
    family: Family | None
    """None for an ONNX file without files or metadata of a family, and for a checkpoint."""
    is_onnx: bool
    sha256: Mapping[str, str]
    """Digest of every file, by its path in the folder."""


@contextlib.contextmanager
def open_model(source: str, *, weights: bool = False) -> Iterator[ModelFiles]:
    """Yield the files of a model; those of a store are in a temporary folder until the end.

    Args:
        source: path or URI.
        weights: whether a checkpoint, weights without a network, is taken too.

    Raises:
        ConfigError: there is no model of a known family.
        CheckpointError: a file cannot be read.
        StorageError: a store refuses.
    """
    uri = storage.absolute(source)
    with contextlib.ExitStack() as stack:
        if storage.is_local(uri):
            path = storage.local_path(uri)
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fsf-model-")))
            path = _fetched(uri, source, path)
        yield _model_at(path, source, weights=weights)


@contextlib.contextmanager
def open_onnx(source: str) -> Iterator[ModelFiles | None]:
    """Yield the file of --onnx: one that was fetched from a store, or one on this machine that a family knows.

    None is yielded for other files, and for one that cannot be read.

    Files beside it count for nothing: who wants them read names the file with --model.
    """
    uri = storage.absolute(source)
    with contextlib.ExitStack() as stack:
        is_local = storage.is_local(uri)
        path: Path | None = storage.local_path(uri) if is_local else None
        if path is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fsf-model-")))
            with contextlib.suppress(FetchError):  # who reads the model reports it
                path = _write(folder / "model.onnx", storage.read_bytes(uri))
        family = None if path is None or not path.is_file() else family_of(path, alone=True)
        if path is None or (is_local and family is None):
            yield None
        else:
            yield ModelFiles(source=source, path=path, family=family, is_onnx=True, sha256={})


def _model_at(path: Path, source: str, *, weights: bool) -> ModelFiles:
    """Return the model of a local path."""
    try:
        if not path.exists():
            raise ConfigError(f"--model {source} does not exist, expected a file or a folder; check the path")
        files = _files_of(path, source)
        sha256 = {name: _digest(file, source) for name, file in files.items()}
    except OSError as error:
        raise CheckpointError(
            f"--model {source} cannot be read: {error.strerror or error}; expected files that this user may read; "
            "check their permissions"
        ) from error
    is_onnx = path.is_file() and (foreign_kind(path.read_bytes(), path.name) or ("",))[0] == "an ONNX model"
    family = family_of(path)
    if family is None and not is_onnx and not (weights and path.is_file() and _kind_of_file(path) == _CHECKPOINT):
        raise ConfigError(_why_no_model(path, source, sorted(files)))
    return ModelFiles(source=source, path=path, family=family, is_onnx=is_onnx, sha256=sha256)


def _files_of(path: Path, source: str) -> dict[str, Path]:
    """Return the files of a model by their relative paths; those that no family reads are left out."""
    if path.is_file():
        return {path.name: path}
    found: dict[str, Path] = {}
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if file.is_file() and _is_part(name):
            found[name] = file
            _require_few(len(found), 0, source)
    return dict(sorted(found.items()))


def _is_part(name: str) -> bool:
    return not name.lower().endswith(_NO_PART) and not any(part.startswith(".") for part in name.split("/"))


def _require_few(files: int, size_bytes: int, source: str) -> None:
    """Refuse a folder that is no folder of one model.

    Raises:
        ConfigError: it holds more.
    """
    if files > MAX_FILES or size_bytes > MAX_BYTES:
        found = f"more than {MAX_FILES} files" if files > MAX_FILES else f"more than {MAX_BYTES >> 30} GiB"
        raise ConfigError(f"--model {source} holds {found}, expected the folder of one model; name that folder")


def _digest(file: Path, source: str) -> str:
    """Return the digest of a file.

    Raises:
        CheckpointError: it is a pointer to the file.
    """
    with file.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise CheckpointError(
                f"{file.name} of --model {source} is a Git LFS pointer, expected the file that it points to; "
                "run git lfs pull in that folder"
            )
        stream.seek(0)
        return storage.file_sha256(stream)


def _fetched(uri: str, source: str, folder: Path) -> Path:
    """Fetch a file or a folder from a store; returns its local path."""
    if not storage.is_folder(uri):
        name = storage.name_of_range(storage.without_query(uri)).rstrip("/").rpartition("/")[2]
        return _fetch(uri, source, folder / (name or "model"))
    total_bytes = files = 0
    for entry in storage.list_files(uri):
        if not _is_part(entry.relative):
            continue
        files, total_bytes = files + 1, total_bytes + entry.size_bytes
        _require_few(files, total_bytes, source)
        _fetch(entry.uri, source, folder / entry.relative)
    return folder


def _fetch(uri: str, source: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _write(path, storage.read_bytes(uri))
    except FetchError as error:
        raise CheckpointError(f"--model {source} cannot be read: {error}; check the address") from error


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _why_no_model(path: Path, source: str, names: list[str]) -> str:
    """Return the message for a path that is no model of a known family."""
    kind, remedy = _kind_of_folder(path, names) if path.is_dir() else _kind_of_file(path)
    known = ", ".join(family.name for family in FAMILIES if not family.is_refused)
    return f"--model {source} is {kind}, expected an ONNX file or a model of one of the families {known}; {remedy}"


def _kind_of_folder(path: Path, names: list[str]) -> tuple[str, str]:
    """Return what a folder is that no family recognises, and what to do."""
    if not names:
        images = [file.name for file in path.iterdir() if file.name.lower().endswith(_IMAGES)]
        if images:
            return f"a folder of images ({images[0]}, …)", "give the folder with the model's files"
        return "an empty folder", "give the folder with the model's files"
    models = [name for name in names if name.lower().endswith((".onnx", ".pt2", ".pt"))]
    remedy = f"give a file in it, such as {models[0]}" if models else "give the folder with the model's own files"
    return f"a folder of {', '.join(names[:5])}{', …' if len(names) > 5 else ''}", remedy  # noqa: PLR2004 - a few


def _kind_of_file(path: Path) -> tuple[str, str]:
    """Return what a file is that no family recognises, and what to do."""
    data = path.read_bytes()
    if not data:
        return "empty (0 bytes)", "copy or download it again"
    if kind := foreign_kind(data, path.name):
        return kind
    if data.startswith((b"PK\x03\x04", b"\x80")) or data[8:9] == b"{":
        return _CHECKPOINT
    return f"a file that begins with {data[:8]!r}", "give the file or folder that the model's library saved"
