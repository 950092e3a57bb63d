"""The folder of an attempt: where a start of the job writes everything until it is published.

    .attempt-0002/masks/ class_stats/ failures/   part-<digest>-<attempt>.<token>.parquet
    .attempt-0002/receipts/                       part-<digest>-<attempt>.arrow, created once and never replaced
    .attempt-0002/adopted.json                    in a store: receipts of earlier attempts that count
    .attempt-0002/trash/                          on a disk: published files on their way out

No reader of the tables finds anything here, so what a worker writes late changes no published run. On a disk the next
start renames the folder of the last one, which makes every write, rename and removal of a paused process fail: nothing
here is ever created below a folder that does not exist. A store cannot rename; there the next start lists what counts
of the earlier ones, and what is written later is on no list.
"""

import contextlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fsf_core import storage
from fsf_core.errors import StorageError
from fsf_core.runs.folder import RECEIPTS, document_bytes
from fsf_core.schema import PART_TABLES

PREFIX = ".attempt-"
ADOPTED = "adopted.json"


@dataclass(frozen=True, kw_only=True)
class Staging:
    """Where workers of one attempt write."""

    run_uri: str
    number: int
    """Of the attempt; no two attempts of a run have the same."""

    @property
    def folder(self) -> str:
        """The URI of the folder."""
        return storage.join(self.run_uri, folder_name(self.number))

    def uri(self, path: str) -> str:
        """Return the URI of a path inside the folder."""
        return storage.join(self.folder, path)

    def path(self, path: str) -> str:
        """Return a path inside the folder as a path inside the run."""
        return f"{folder_name(self.number)}/{path}"

    def write(self, path: str, data: bytes) -> None:
        """Write a file of the folder durably.

        Raises:
            StorageError: the store refuses, or the folder is no longer there: another attempt has begun.
        """
        storage.write_bytes(self.uri(path), data, durable=True, root=self.folder)

    def replace(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Replace a file of the run; on a disk by a rename out of the folder.

        Raises:
            StorageError: as for `write`.
        """
        target = storage.join(self.run_uri, path)
        if storage.is_local(self.run_uri):
            storage.write_bytes(self.uri(path), data, durable=durable, root=self.folder)
            storage.move(self.uri(path), target, root=self.run_uri)
            if durable:
                storage.sync_folder(storage.parent(target))
        else:
            storage.write_bytes(target, data)

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """Give a local file to fill, which durably replaces one of the run when the block ends without an error.

        Raises:
            StorageError: as for `write`.
        """
        target = storage.join(self.run_uri, path)
        if not storage.is_local(self.run_uri):
            with tempfile.TemporaryDirectory(prefix="fsf-mask-") as folder:
                draft = Path(folder) / "draft"
                yield draft
                storage.write_file(target, draft)
            return
        staged = self.uri(f"{path}.{secrets.token_hex(4)}")
        with storage.as_storage_error(target, "written"):
            storage.make_folders(storage.parent(staged), root=self.folder)
        try:
            draft = storage.local_path(staged)
            yield draft
            with storage.as_storage_error(target, "written"), draft.open("rb") as file:
                os.fsync(file.fileno())
            storage.move(staged, target, root=self.run_uri)
            storage.sync_folder(storage.parent(target))
        finally:
            storage.remove(staged)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file of the folder durably unless it exists; returns whether this call wrote it.

        Raises:
            StorageError: as for `write`.
        """
        return storage.create(self.uri(path), data, root=self.folder)


def folder_name(number: int) -> str:
    """Return the name of the folder of an attempt."""
    return f"{PREFIX}{number:04d}"


def attempt_numbers(run_uri: str) -> list[int]:
    """Return the numbers of the attempts that have a folder, the newest first."""
    names = storage.list_names(run_uri, PREFIX)
    return sorted(
        (int(name.removeprefix(PREFIX)) for name in names if re.fullmatch(rf"{PREFIX}\d+", name)), reverse=True
    )


def earlier_folders(staging: Staging) -> tuple[str, ...]:
    """Return the URIs of the folders of earlier attempts, the newest first; none on a disk, where they were renamed."""
    numbers = attempt_numbers(staging.run_uri)
    return tuple(storage.join(staging.run_uri, folder_name(each)) for each in numbers if each < staging.number)


def list_sizes(run_uri: str, folders: Iterable[str]) -> dict[str, int]:
    """Return the size of every file below some folders of a run, by path inside the run, hidden ones included."""
    return {
        f"{folder}/{entry.relative}": entry.size_bytes
        for folder in folders
        for entry in storage.list_files(storage.join(run_uri, folder), hidden=True)
    }


def staged_receipts(run_uri: str, numbers: Iterable[int], sizes: Mapping[str, int]) -> list[str]:
    """Return the paths of the receipts that count before they are published.

    Args:
        run_uri: the run folder.
        numbers: of the attempts that have a folder, the newest first.
        sizes: of their files.
    """
    found: list[str] = []
    for number in numbers:
        own = f"{folder_name(number)}/{RECEIPTS}/"
        found += sorted(path for path in sizes if path.startswith(own) and path.endswith(".arrow"))
        adopted = f"{folder_name(number)}/{ADOPTED}"
        if adopted in sizes:
            listed = json.loads(storage.read_bytes(storage.join(run_uri, adopted)))["receipts"]
            return [*found, *(path for path in listed if path in sizes)]
        if storage.is_local(run_uri):
            break  # the newest folder was once every earlier one
    return found


def is_part_file(path: str) -> bool:
    """Return whether a path inside the run, in the folder of an attempt, is a file or receipt of a part, or a list."""
    _, _, name = path.partition("/")
    return name == ADOPTED or name.partition("/")[0] in {*PART_TABLES, RECEIPTS}


def take_over(run_uri: str, number: int, *, adopt: bool) -> Staging:
    """Make the folder of a new attempt, with everything that earlier attempts staged.

    Args:
        run_uri: a folder whose lease this process holds.
        number: of the attempt, greater than every earlier one.
        adopt: whether what was staged belongs to this run; without run.json nothing tells which run it was.

    Raises:
        StorageError: the folder cannot be made, or exists: another job is using the run.
    """
    staging = Staging(run_uri=run_uri, number=number)
    earlier = attempt_numbers(run_uri)
    if not storage.is_local(run_uri):
        sizes = list_sizes(run_uri, map(folder_name, earlier)) if adopt else {}
        if not staging.create(ADOPTED, document_bytes({"receipts": staged_receipts(run_uri, earlier, sizes)})):
            raise StorageError(
                f"{storage.redact(staging.folder)} exists, expected to create it: another job is using the run; wait "
                "for it, then start the same command again"
            )
        return staging
    kept = earlier[:1] if adopt else []
    for other in earlier[len(kept) :]:
        storage.remove_folder(storage.join(run_uri, folder_name(other)))
    if kept:
        storage.rename_folder(storage.join(run_uri, folder_name(kept[0])), staging.folder)
    else:
        storage.create_folder(staging.folder)
    return staging
