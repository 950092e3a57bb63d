"""The folder that a run is published to: whose it is, which chunks are done, and when it is complete.

    .fsf-publish/identity.json   the run and the options; no other publication writes here
    .fsf-publish/chunks/         a receipt per chunk, written after the files of the chunk
    .fsf-publish/pieces/         pieces of files that are joined at the end
    publication.json             exists when the folder is complete, and says what it holds

Knows folders and files; knows no form and no run.
"""

import contextlib
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsf_core import storage
from fsf_core.errors import ConfigError, FetchError, OutputError, StorageError
from fsf_core.runs.folder import document_bytes
from fsf_core.runs.lease import lease

WORK = ".fsf-publish"
"""Folder of what is needed until the publication is complete."""

PIECE_BYTES = 32 << 20
"""Lines that are held in memory until they become a piece."""

DOCUMENT = "publication.json"
"""File that says that a publication is complete, and of which run and with which options."""

_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file on a disk that is being written; no path of an item begins with a dot."""


@dataclass(kw_only=True)
class ChunkOutput:
    """The files of one chunk; several threads may write them."""

    where: str
    number: int
    files: int = 0
    size_bytes: int = 0
    written: set[str] = field(default_factory=set)
    """Paths of the files, but for those of single frames."""
    missing: list[dict[str, Any]] = field(default_factory=list)
    """Pictures that could not be read: item_id, frame_index, uri, reason."""
    facts: dict[str, int] = field(default_factory=dict)
    """What a form wants to know of the chunk at the end."""
    pieces: dict[str, int] = field(default_factory=dict)
    """Number of pieces that were written, by name."""
    _lines: dict[str, list[bytes]] = field(default_factory=dict)
    _held_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, path: str, data: bytes) -> None:
        """Write one of the files that are published."""
        storage.write_bytes(storage.join(self.where, path), data)
        with self._lock:
            self.files += 1
            self.size_bytes += len(data)

    def write_named(self, path: str, data: bytes) -> None:
        """Write one of the files whose number depends on their content, see `remove_others`."""
        self.write(path, data)
        self.written.add(path)

    def remove_others(self, folder: str, prefix: str) -> None:
        """Remove files that an earlier, killed try of the chunk has written and this one has not.

        Args:
            folder: that they are in.
            prefix: of the names of such files of this chunk.
        """
        for name in storage.list_names(storage.join(self.where, folder) if folder else self.where, prefix):
            path = f"{folder}/{name}" if folder else name
            if path not in self.written:
                storage.remove(storage.join(self.where, path))

    def write_piece(self, name: str, data: bytes) -> None:
        """Write the next piece of a file that is joined at the end."""
        pieces = self.pieces.get(name, 0)
        storage.write_bytes(storage.join(self.where, *_piece(self.number, name, pieces)), data)
        self.pieces[name] = pieces + 1

    def add_line(self, name: str, line: bytes) -> None:
        """Add a line to a file that is joined at the end."""
        held = self._lines.setdefault(name, [])
        held.append(line)
        self._held_bytes += len(line)
        if self._held_bytes > PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were added."""
        for name, held in self._lines.items():
            if held:
                self.write_piece(name, b"".join(line + b"\n" for line in held))
                held.clear()
        self._held_bytes = 0


class Target:
    """A folder that is being published to."""

    def __init__(self, where: str, identity: Mapping[str, Any]) -> None:
        self.where = where
        self.identity = dict(identity)
        self.files = 0
        self.size_bytes = 0
        """Of the files that `write` and `join` have written."""
        self.resumed = False
        """Whether another process has begun the publication."""

    @property
    def done(self) -> dict[str, Any] | None:
        """The document of a publication that is complete, or None."""
        return _read(self.where, DOCUMENT)

    def receipts(self) -> dict[int, dict[str, Any]]:
        """Read the receipts of the chunks that are done, by number."""
        names = storage.list_names(storage.join(self.where, WORK, "chunks"), "")
        uris = [storage.join(self.where, WORK, "chunks", name) for name in names if name.endswith(".json")]
        found = (json.loads(read()) for _, read in storage.read_prefetched(uris))
        return {receipt["chunk"]: receipt for receipt in found}

    def commit(self, output: ChunkOutput, rows: int) -> dict[str, Any]:
        """Write the receipt of a chunk, after all of its files; returns it."""
        output.flush()
        receipt = {
            "chunk": output.number, "rows": rows, "files": output.files, "bytes": output.size_bytes,
            "missing": output.missing, "facts": output.facts, "pieces": output.pieces,
        }  # fmt: skip
        uri = storage.join(self.where, WORK, "chunks", f"{output.number:06d}.json")
        storage.write_bytes(uri, document_bytes(receipt), durable=True)
        return receipt

    def pieces(self, receipts: Iterable[Mapping[str, Any]], name: str) -> Iterator[bytes]:
        """Yield the pieces of a file, in the order of the receipts."""
        for receipt in receipts:
            for number in range(receipt["pieces"].get(name, 0)):
                yield storage.read_bytes(storage.join(self.where, *_piece(receipt["chunk"], name, number)))

    def lines(self, receipts: Iterable[Mapping[str, Any]], name: str, head: Callable[..., str]) -> Iterator[bytes]:
        """Yield the lines of a file.

        A line that was added begins with its number within its chunk and with the number of its row there, each from 0
        on and followed by a space.

        Args:
            receipts: of all chunks in order.
            name: of the file; its number of lines is in the facts of each chunk.
            head: returns what a line begins with, from its number and that of its row in the whole, from 0 on.
        """
        before, rows = 0, 0
        for receipt in receipts:
            for piece in self.pieces([receipt], name):
                for line in piece.split(b"\n")[:-1]:
                    number, row, rest = line.split(b" ", 2)
                    yield head(before + int(number), rows + int(row)).encode() + rest
            before += receipt["facts"].get(name, 0)
            rows += receipt["rows"]

    def write(self, path: str, data: bytes) -> None:
        """Write a file that is published."""
        storage.write_bytes(storage.join(self.where, path), data)
        self._count(len(data))

    def join(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file from its pieces, which are never in memory together."""
        with self.local_file(path) as local, local.open("wb") as file:
            file.writelines(pieces)

    @contextlib.contextmanager
    def local_file(self, path: str) -> Iterator[Path]:
        """Provide a local path, whose file is published when the block ends."""
        with tempfile.TemporaryDirectory(prefix="fsf-publish-") as folder:
            local = Path(folder, "file")
            yield local
            storage.write_file(storage.join(self.where, path), local)
            self._count(local.stat().st_size)

    def remove_drafts(self) -> None:
        """Remove the halves of files that a killed process left; only disks have such."""
        if self.resumed and storage.is_local(self.where):
            for entry in storage.list_files(self.where, hidden=True):
                if not entry.relative.startswith(f"{WORK}/") and _DRAFT.fullmatch(entry.relative.rpartition("/")[2]):
                    storage.remove(entry.uri)

    def complete(self, document: Mapping[str, Any]) -> None:
        """Say that the publication is complete, and what it holds."""
        storage.write_bytes(storage.join(self.where, DOCUMENT), document_bytes(document), durable=True)

    def _count(self, size: int) -> None:
        self.files += 1
        self.size_bytes += size


def require_target(where: str, identity: Mapping[str, Any], *, run_uri: str) -> None:
    """Refuse a folder that holds something else; nothing is written.

    Raises:
        ConfigError: it is part of a run.
        OutputError: it is a file, or holds another publication or other files.
        StorageError: the store refuses.
    """
    inside = storage.join(where, "").startswith(storage.join(run_uri, ""))
    if inside or storage.exists(storage.join(where, "run.json")):
        raise ConfigError(
            f"--out is {storage.redact(where)}, which is part of a run, expected a folder of its own; give another one"
        )
    if storage.is_local(where) and storage.exists(where) and not storage.is_folder(where):
        raise OutputError(f"{where} is a file, expected a folder; give another --out")
    known = _read(where, DOCUMENT)
    found = known.get("identity") if known else _read(where, f"{WORK}/identity.json")
    if found is None:
        others = [name for name in storage.list_names(where, "") if not name.startswith(".")]
        if others:
            raise OutputError(
                f"{storage.redact(where)} holds {others[0]} and no {DOCUMENT}: it is no publication; give a new or "
                "empty folder"
            )
    elif found != dict(identity):
        wanted = _description(identity)
        if wanted == _description(found):
            wanted = "it as it is now: the run has been published again since"
        raise OutputError(
            f"{storage.redact(where)} holds {_description(found)}, expected {wanted}; give another folder"
        )


@contextlib.contextmanager
def held_target(where: str, identity: Mapping[str, Any]) -> Iterator[Target]:
    """Begin or resume a publication in a folder that `require_target` has let pass, and keep a second one out.

    What is needed to go on is removed at the end, unless pictures are missing, which the same command tries again.

    Raises:
        OutputError: another process publishes there.
        StorageError: the store refuses.
    """
    target = Target(where, identity)
    with lease(storage.join(where, WORK), name=storage.redact(where)):
        uri = storage.join(where, WORK, "identity.json")
        target.resumed = storage.exists(uri)
        if target.done is None:
            storage.write_bytes(uri, document_bytes(target.identity), durable=True)
        yield target
    if (done := target.done) is not None and not done.get("pictures_missing"):
        _remove_work(where)


def remove_leftovers(where: str) -> None:
    """Remove what a process that was killed at its very end left of a complete publication."""
    with contextlib.suppress(OutputError):  # another process is at its very end
        if storage.list_names(where, WORK):
            with lease(storage.join(where, WORK), name=storage.redact(where)):
                pass
            _remove_work(where)


def _remove_work(where: str) -> None:
    """Remove what a complete publication no longer needs; what a store keeps, the same command removes."""
    with contextlib.suppress(StorageError):
        storage.remove_folder(storage.join(where, WORK))


def _description(identity: Mapping[str, Any]) -> str:
    """Return an identity as text."""
    options = " ".join(f"{name}={value}" for name, value in sorted(identity.get("options", {}).items()) if value)
    return f"{identity.get('to')} of run {identity.get('run_id')} ({options or 'no options'})"


def _piece(chunk: int, name: str, number: int) -> tuple[str, str, str]:
    return WORK, "pieces", f"{chunk:06d}.{name}.{number}"


def _read(where: str, name: str) -> dict[str, Any] | None:
    """Return a document of a folder, or None where there is none.

    Raises:
        OutputError: it is damaged.
    """
    uri = storage.join(where, name)
    if not storage.exists(uri):
        return None
    try:
        return dict(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}; give another folder") from error
