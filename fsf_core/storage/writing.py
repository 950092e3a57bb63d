"""Writing and deleting: files are replaced as a whole, and on request survive a power cut."""

import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fsf_core.storage import retry
from fsf_core.storage.error_translation import as_storage_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.uris import is_local, join, local_path


def write_bytes(uri: str, data: bytes, *, durable: bool = False) -> None:
    """Replace a file atomically: readers see the old bytes or the new ones.

    Args:
        uri: the file; its folder is created.
        data: its content.
        durable: whether the bytes must survive a power cut once this returns. Stores guarantee it in any case.

    Raises:
        StorageError: the store refuses, or the disk is full.
    """
    with as_storage_error(uri, "written"):
        if not is_local(uri):
            with_retries_for(uri, lambda: filesystem_of(uri).pipe_file(uri, data))
            return
        path = local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with draft.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


def write_file(uri: str, path: Path) -> None:
    """Replace a file atomically by a copy of a local one, which may be larger than the memory.

    Raises:
        StorageError: the store refuses, or the disk is full.
    """
    with as_storage_error(uri, "written"):
        if not is_local(uri):
            with_retries_for(uri, lambda: filesystem_of(uri).put_file(str(path), uri))
            return
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            shutil.copyfile(path, draft)
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def create(uri: str, data: bytes) -> bool:
    """Write a small file to a store unless it exists; of several concurrent calls one succeeds.

    Returns:
        Whether this call wrote it.

    Raises:
        StorageError: the store refuses, or has no conditional writes.
    """
    with as_storage_error(uri, "created"):
        try:
            with_retries_for(uri, lambda: filesystem_of(uri).pipe_file(uri, data, mode="create"))
        except Exception as error:
            if retry.reason(error) == "conflict":
                return False
            raise
    return True


def require_writable(folder: str) -> None:
    """Check that a folder is writable, before work is done whose result could not be kept.

    Raises:
        StorageError: it is not.
    """
    probe = join(folder, f".write-check-{secrets.token_hex(4)}")
    write_bytes(probe, b"")
    remove(probe)


def remove(uri: str) -> None:
    """Delete a file; a missing one is not an error.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(uri, "deleted"), contextlib.suppress(FileNotFoundError):
        if is_local(uri):
            local_path(uri).unlink()
        else:
            with_retries_for(uri, lambda: filesystem_of(uri).rm_file(uri))


def remove_folder(uri: str) -> None:
    """Delete a folder and its content; a missing one is not an error.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(uri, "deleted"):
        if is_local(uri):
            if local_path(uri).exists():
                shutil.rmtree(local_path(uri))
            return
        # File by file: fsspec's own rm reads [ and * in the name of a folder as a pattern.
        filesystem = filesystem_of(uri)
        for path in with_retries_for(uri, lambda: filesystem.find(uri)):
            with contextlib.suppress(FileNotFoundError):
                with_retries_for(uri, partial(filesystem.rm_file, path))


@contextlib.contextmanager
def empty_folders_removed(uri: str) -> Iterator[None]:
    """Remove the folders from `uri` upward that the block created and left empty; a store has no folders."""
    missing: list[Path] = []
    if is_local(uri):
        path = local_path(uri)
        missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # one is not empty, and so are those above it
            for folder in missing:
                if folder.exists():
                    folder.rmdir()


def _sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, which makes a rename in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
