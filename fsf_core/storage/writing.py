"""Writing and deleting: files are replaced as a whole, and on request survive a power cut."""

import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fsf_core.errors import FSFError
from fsf_core.storage import retry, s3, usage
from fsf_core.storage.error_translation import as_storage_error
from fsf_core.storage.filesystems import filesystem_of, with_retries_for
from fsf_core.storage.uris import is_local, join, local_path, scheme

BATCH = 1000
"""Most files that one request to S3 deletes, or that wait for their deletion elsewhere."""

CONCURRENT_REMOVALS = 16
"""Files that other stores delete at once."""


def write_bytes(uri: str, data: bytes, *, durable: bool = False, root: str | None = None) -> None:
    """Replace a file atomically: readers see the old bytes or the new ones.

    Args:
        uri: the file; its folder is created.
        data: its content.
        durable: whether the bytes must survive a power cut once this returns. Stores guarantee it in any case.
        root: a folder above the file that must exist; without it every missing folder is created.

    Raises:
        StorageError: the store refuses, the disk is full, or the root does not exist.
    """
    with as_storage_error(uri, "written"):
        if not is_local(uri):
            with_retries_for(uri, lambda: filesystem_of(uri).pipe_file(uri, data))
        else:
            path = local_path(uri)
            with _draft(path, root, lambda draft: _write(draft, data, durable=durable)) as draft:
                draft.replace(path)
            if durable:
                sync_folder(str(path.parent))
    usage.count(usage.WRITTEN_BYTES, len(data))


def write_file(uri: str, path: Path, *, root: str | None = None) -> None:
    """Replace a file atomically by a copy of a local one, which may be larger than the memory.

    Args:
        uri: the file; its folder is created.
        path: the local file.
        root: a folder above the file that must exist; without it every missing folder is created.

    Raises:
        StorageError: the store refuses, the disk is full, or the root does not exist.
    """
    with as_storage_error(uri, "written"):
        if not is_local(uri):
            with_retries_for(uri, lambda: filesystem_of(uri).put_file(str(path), uri))
        else:
            target = local_path(uri)
            with _draft(target, root, lambda draft: shutil.copyfile(path, draft)) as draft:
                draft.replace(target)
    usage.count(usage.WRITTEN_BYTES, path.stat().st_size)


def create(uri: str, data: bytes, *, root: str | None = None) -> bool:
    """Write a small file durably unless it exists; of several concurrent calls one succeeds.

    Args:
        uri: the file; its folder is created.
        data: its content.
        root: a folder above the file that must exist; without it every missing folder is created.

    Returns:
        Whether this call wrote it.

    Raises:
        StorageError: the store refuses, or has no conditional writes; or the root does not exist.
    """
    with as_storage_error(uri, "created"):
        try:
            if is_local(uri):
                path = local_path(uri)
                with _draft(path, root, lambda draft: _write(draft, data, durable=True)) as draft:
                    os.link(draft, path)
                sync_folder(str(path.parent))
            else:
                with_retries_for(uri, lambda: filesystem_of(uri).pipe_file(uri, data, mode="create"))
        except Exception as error:
            if retry.reason(error) == "conflict":
                return False
            raise
    usage.count(usage.WRITTEN_BYTES, len(data))
    return True


def move(source: str, target: str, *, root: str) -> None:
    """Move a file inside one store: on a disk a rename, which replaces the target; in a store a copy and a deletion.

    Args:
        source: the file.
        target: its new URI; missing folders below `root` are created.
        root: a folder above the target that must exist on a disk.

    Raises:
        StorageError: the source or the root does not exist, or the store refuses.
    """
    if not is_local(source):
        copy(source, target, size_bytes=None)
        remove(source)
        return
    with as_storage_error(target, "moved into place"):
        make_folders(str(local_path(target).parent), root=root)
        local_path(source).replace(local_path(target))


def copy(source: str, target: str, *, size_bytes: int | None) -> None:
    """Copy a file inside one store, which replaces the target.

    Args:
        source: the file.
        target: its new URI.
        size_bytes: of the file, so that S3 need not be asked for it; None if it is not known.

    Raises:
        StorageError: the source does not exist, or the store refuses.
    """
    with as_storage_error(target, "moved into place"):
        if s3.is_s3(source) and size_bytes is not None and size_bytes <= s3.COPY_BYTES:
            s3.copy(source, target)
        else:
            with_retries_for(source, lambda: filesystem_of(source).cp_file(source, target))


def make_folders(folder: str, *, root: str) -> None:
    """Create a folder on a disk and those above it, up to a root that must exist.

    Raises:
        FileNotFoundError: the root does not exist.
    """
    path, top = local_path(folder), local_path(root)
    if path != top and not path.is_dir():
        make_folders(str(path.parent), root=root)
        path.mkdir(exist_ok=True)
    elif path == top and not top.is_dir():
        raise FileNotFoundError(2, os.strerror(2), str(top))


def create_folder(folder: str) -> None:
    """Create a folder on a disk in one that exists.

    Raises:
        StorageError: it exists, or the one above does not.
    """
    with as_storage_error(folder, "created"):
        local_path(folder).mkdir()
        sync_folder(str(local_path(folder).parent))


def rename_folder(source: str, target: str) -> None:
    """Rename a folder on a disk, atomically.

    Raises:
        StorageError: the source does not exist, or the target does.
    """
    with as_storage_error(source, "renamed"):
        local_path(source).rename(local_path(target))
        sync_folder(str(local_path(target).parent))


def require_writable(folder: str) -> None:
    """Check that a folder is writable, before work is done whose result could not be kept.

    Raises:
        StorageError: it is not.
    """
    probe = join(folder, ".write-check")  # one name, so that the next check removes that of a killed process
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
        # fsspec's own rm reads [ and * in the name of a folder as a pattern.
        filesystem = filesystem_of(uri)
        found = with_retries_for(uri, lambda: filesystem.find(uri))
        if s3.is_s3(uri):
            _remove_in_batches([f"{scheme(uri)}://{path}" for path in found])
            return
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                with_retries_for(uri, partial(filesystem.rm_file, path))


def remove_files(folder: str, paths: Sequence[str]) -> None:
    """Delete files below a folder; missing ones are no error. In S3 a request deletes up to 1,000 of them.

    Raises:
        StorageError: the store refuses.
    """
    with as_storage_error(folder, "deleted"):
        _remove_in_batches([join(folder, path) for path in paths])


def _remove_in_batches(uris: Sequence[str]) -> None:
    """Delete files of one store; where S3 does not take a request for several, and elsewhere, one by one."""
    for start in range(0, len(uris), BATCH):
        batch = uris[start : start + BATCH]
        if s3.is_s3(batch[0]):
            try:
                s3.remove_batch(batch)
                continue
            except FSFError:
                raise
            except Exception as error:
                if retry.reason(error) != "other":
                    raise
        with ThreadPoolExecutor(CONCURRENT_REMOVALS) as pool:
            for done in [pool.submit(remove, uri) for uri in batch]:
                done.result()


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


def sync_folder(folder: str) -> None:
    """Flush a folder to the disk, which makes a rename in it survive a power cut; stores need nothing."""
    if not is_local(folder):
        return
    descriptor = os.open(local_path(folder), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(draft: Path, data: bytes, *, durable: bool) -> None:
    """Write a draft, and flush it to the disk if it must be durable."""
    with draft.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _draft(target: Path, root: str | None, fill: Callable[[Path], object]) -> Iterator[Path]:
    """Provide a filled hidden file next to the target; it is removed unless the block renames it."""
    if root is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    else:
        make_folders(str(target.parent), root=root)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        fill(draft)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
