"""Removal of a run: until one step it is whole for its readers, and after it every command refuses it.

A removal has two halves, so that its caller can look between them whether another run needs this one after all:

    withdraw    on a disk the folder is renamed to where no program looks for runs; in a store, which cannot rename,
                run.json is replaced by one with the entry `removed`, which every reader and every job refuses
    restore     undoes that; nothing is lost yet
    destroy     takes _SUCCESS away, then manifest.json, then all other files, and run.json last; on a disk the folder
                is renamed once more, and then deleted

A process may die at any moment: what it left is withdrawn, or destroyed as far as it came, and the next call goes on.
"""

import contextlib
import datetime as dt
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.errors import FSFError, StorageError
from fsf_core.runs.folder import REMOVED, SUCCESS, document_bytes, is_finished, read_document
from fsf_core.runs.lease import lease, unwatched_lease

PINNED = "pinned.json"
"""File of a run that must not be removed."""

TRASH = "trash"
PENDING, DECIDED = "pending-", "decided-"
"""Prefixes of the folders on a disk in which runs are withdrawn, and in which they are being deleted."""


class KeptRunError(FSFError):
    """A run is not removed; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """A run that is withdrawn."""

    root: str
    """The folder above."""
    path: str
    """Of the run below it."""
    state: str
    """A folder for the files of removals, on the same disk."""
    token: str
    """Name of its folder there, on a disk; empty in a store."""
    run_id: str

    @property
    def uri(self) -> str:
        """Where the run was, and in a store still is."""
        return storage.join(self.root, self.path)

    @property
    def place(self) -> str:
        """Where its files are."""
        return storage.join(self.state, TRASH, self.token, self.path) if self.token else self.uri


def withdraw(root: str, path: str, *, state: str) -> Withdrawn:
    """Withdraw a run, whose files all stay.

    Args:
        root: URI of the folder above.
        path: of the run below it.
        state: a folder for the files of removals, on the same disk.

    Raises:
        KeptRunError: the run is pinned, holds another run, or is a symbolic link.
        OutputError: a job is using it, or there is no run.
        StorageError: the store refuses.
    """
    uri = storage.join(root, path)
    if storage.is_local(uri) and storage.local_path(uri).is_symlink():
        raise KeptRunError("it is a symbolic link")
    with (unwatched_lease if storage.is_local(uri) else lease)(uri):
        known = read_document(uri, "run.json")
        if storage.exists(storage.join(uri, PINNED)):
            raise KeptRunError("it is pinned")
        inner = next(
            (each for each in storage.list_files(uri, hidden=True) if each.relative.endswith("/run.json")), None
        )
        if inner:
            raise KeptRunError(f"it holds another run, {inner.relative.removesuffix('/run.json')}")
        token = PENDING + secrets.token_hex(4) if storage.is_local(uri) else ""
        withdrawn = Withdrawn(root=root, path=path, state=state, token=token, run_id=str(known.get("run_id")))
        if token:
            storage.make_folders(storage.parent(withdrawn.place), root=root)
            storage.rename_folder(uri, withdrawn.place)
        elif REMOVED not in known:
            mark = {"at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
            storage.write_bytes(storage.join(uri, "run.json"), document_bytes({**known, REMOVED: mark}))
    return withdrawn


def restore(withdrawn: Withdrawn) -> bool:
    """Bring a run back; returns whether it is as it was before.

    It is not where its destruction has begun, or where another run has taken its folder.

    Raises:
        StorageError: the store refuses.
    """
    if withdrawn.token:
        if withdrawn.token.startswith(DECIDED) or storage.exists(withdrawn.uri):
            return False
        storage.make_folders(storage.parent(withdrawn.uri), root=withdrawn.root)
        storage.rename_folder(withdrawn.place, withdrawn.uri)
        _remove_empty(storage.parent(withdrawn.place), up_to=withdrawn.state)
        return True
    with lease(withdrawn.uri):
        known = read_document(withdrawn.uri, "run.json")
        if not is_finished(withdrawn.uri):
            return False
        known.pop(REMOVED, None)
        storage.write_bytes(storage.join(withdrawn.uri, "run.json"), document_bytes(known))
    return True


def destroy(withdrawn: Withdrawn) -> int:
    """Delete the files of a withdrawn run; returns their bytes.

    Raises:
        StorageError: the store refuses; the next call goes on.
    """
    if withdrawn.token:
        return _destroy_local(withdrawn)
    uri = withdrawn.uri
    with lease(uri) as held:
        known = read_document(uri, "run.json")
        if REMOVED not in known:
            return 0  # a run that was begun since
        entries = [*storage.list_files(uri, hidden=True)]
        files = [entry.relative for entry in entries]
        for name in (SUCCESS, "manifest.json"):
            storage.remove(storage.join(uri, name))
        last = {"run.json", *(name for name in files if name.startswith(".lease-"))}
        storage.remove_files(uri, [name for name in files if name not in {SUCCESS, "manifest.json", *last}])
        left = [entry.relative for entry in storage.list_files(uri, hidden=True) if entry.relative not in last]
        if left:
            raise StorageError(f"{storage.redact(storage.join(uri, left[0]))} could not be deleted; start again")
        storage.remove(storage.join(uri, "run.json"))
    _remove_leases(uri, up_to=held.number)
    return size_of(entries)


def sweep(uri: str) -> None:
    """Remove the leases of a run in a store whose removal ended just before them.

    Raises:
        OutputError: a job is using the folder.
        StorageError: the store refuses.
    """
    with lease(uri) as held:
        if any(not entry.relative.startswith(".lease-") for entry in storage.list_files(uri, hidden=True)):
            return
    _remove_leases(uri, up_to=held.number)


def _remove_leases(uri: str, *, up_to: int) -> None:
    """Remove leases up to a number; a job that has begun since has a greater one."""
    for name in storage.list_names(uri, ".lease-"):
        with contextlib.suppress(ValueError):
            if int(name.removeprefix(".lease-")) <= up_to:
                storage.remove(storage.join(uri, name))


def _destroy_local(withdrawn: Withdrawn) -> int:
    """Delete a folder of the trash, under a name that says that it is not whole."""
    trash = storage.join(withdrawn.state, TRASH)
    source = storage.join(trash, withdrawn.token)
    decided = storage.join(trash, withdrawn.token.replace(PENDING, DECIDED))
    size_bytes = size_of(storage.list_files(storage.join(source, withdrawn.path), hidden=True))
    if source != decided:
        storage.rename_folder(source, decided)
    storage.remove_folder(decided)
    _remove_empty(trash, up_to=withdrawn.root)
    _remove_empty(storage.parent(withdrawn.uri), up_to=withdrawn.root)
    return size_bytes


def size_of(entries: Iterable[storage.Entry]) -> int:
    """Return the bytes of a run from the files of its folder, without those that a removal itself changes."""
    changed = ("run.json", ".lock", ".lease-")
    return sum(entry.size_bytes for entry in entries if not entry.relative.startswith(changed))


def find_withdrawn(root: str, *, state: str) -> Iterator[Withdrawn]:
    """Yield the runs on a disk whose removal was interrupted; in a store such runs are at their places.

    Raises:
        StorageError: the folder cannot be listed.
    """
    trash = storage.join(state, TRASH)
    for token in storage.list_names(trash, "") if storage.is_local(root) else ():
        folder = storage.join(trash, token)
        files = [entry.relative for entry in storage.list_files(folder, hidden=True)]
        # The folder of a run is the highest one with a run.json; of one that is half deleted it may be gone.
        found = sorted((name for name in files if name.endswith("/run.json")), key=lambda name: name.count("/"))
        path = found[0].removesuffix("/run.json") if found else "."
        run_id = str(read_document(storage.join(folder, path), "run.json").get("run_id")) if found else ""
        yield Withdrawn(root=root, path=path, state=state, token=token, run_id=run_id)


def is_removed(known: dict[str, Any]) -> bool:
    """Return whether the content of run.json is that of a run that is being removed."""
    return REMOVED in known


def _remove_empty(folder: str, *, up_to: str) -> None:
    """Remove a folder on a disk and those above it, as long as they are empty, below another one."""
    path, top = storage.local_path(folder), storage.local_path(up_to)
    with contextlib.suppress(OSError):  # one is not empty
        while path != top and top in path.parents:
            path.rmdir()
            path = path.parent
