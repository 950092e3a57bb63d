"""The flow of a publication: chunk by chunk, each recorded when it is whole, then what describes them all.

Knows forms, frames, pictures and the folder; each of these knows only its own part.
"""

import collections
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from fsf_core import storage
from fsf_core.errors import FetchError, ResumableError, StorageError
from fsf_core.publish.choice import Choice
from fsf_core.publish.form import Form
from fsf_core.publish.frames import Chunk, Frame, Plan, read_frames
from fsf_core.publish.sources import Picture, PictureError, Sources
from fsf_core.publish.target import ChunkOutput, Target, held_target, remove_leftovers

log = logging.getLogger("fsf")

THREADS = 8
"""Threads that convert frames, and write their files to a store."""

AHEAD = 2 * THREADS
"""Frames that are in memory at once."""

MISSING_FILE = "missing.jsonl"
"""File that lists the pictures that could not be read, where there are any."""

MISSING_SHOWN = 20
"""Pictures that the result names."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is published, in which form, from where to where."""

    where: str
    identity: dict[str, Any]
    plan: Plan
    choice: Choice
    form: Form[Any]
    sources: Sources | None
    """None where pictures are not wanted."""


def run_publication(publication: Publication) -> dict[str, Any]:
    """Publish, or do the rest of what a killed process has begun.

    Returns:
        The document of the publication, with what this call wrote: files, rows, bytes; skipped are rows that were there
        already.

    Raises:
        ResumableError: a store or a disk failed; the same command goes on.
        OutputError: another process publishes there.
    """
    done = Target(publication.where, publication.identity).done
    if done is not None and not done["pictures_missing"]:
        remove_leftovers(publication.where)
        return {**done, "files": 0, "rows": 0, "bytes": 0, "skipped": done["rows"]}
    with held_target(publication.where, publication.identity) as target, _resumable(publication.where):
        return _publish(publication, target)


def _publish(publication: Publication, target: Target) -> dict[str, Any]:
    known = target.receipts()
    receipts, skipped = [], 0
    for chunk in publication.plan.chunks:
        receipt = known.get(chunk.number)
        if receipt is not None and not receipt["missing"]:
            skipped += receipt["rows"]
        else:
            receipt = _publish_chunk(publication, target, chunk)
            log.info("event=chunk_published chunk=%d rows=%d", chunk.number, receipt["rows"])
        receipts.append(receipt)
    publication.form.finish(target, receipts)
    missing = [each for receipt in receipts for each in receipt["missing"]]
    if missing:
        target.join(MISSING_FILE, (json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in missing))
    else:
        storage.remove(storage.join(target.where, MISSING_FILE))
    target.remove_drafts()
    rows = sum(receipt["rows"] for receipt in receipts)
    document = {
        "to": publication.identity["to"], "run_id": publication.identity["run_id"], "rows": rows,
        "files": target.files + sum(receipt["files"] for receipt in receipts),
        "bytes": target.size_bytes + sum(receipt["bytes"] for receipt in receipts),
        "failed_items": publication.plan.failed_items, "pictures_missing": len(missing),
        "missing": missing[:MISSING_SHOWN], "identity": publication.identity,
    }  # fmt: skip
    target.complete(document)
    return {**document, "rows": rows - skipped, "skipped": skipped}


def _publish_chunk(publication: Publication, target: Target, chunk: Chunk) -> dict[str, Any]:
    """Write the files of a chunk and then its receipt; returns that."""
    form, sources = publication.form, publication.sources
    output = ChunkOutput(where=target.where, number=chunk.number)
    frames = read_frames(publication.plan, chunk, publication.choice, passed=form.passed)

    def convert(pair: tuple[Frame, Any]) -> tuple[Frame, Any, PictureError | None]:
        frame, source = pair
        picture: Picture | None = None
        problem = source if isinstance(source, PictureError) else None
        if sources is not None and problem is None:
            try:
                picture = sources.finish(frame, source)
            except PictureError as error:
                problem = error
        return frame, form.convert(frame, picture, output), problem

    def rows() -> Iterator[Any]:
        pairs = ((frame, None) for frame in frames) if sources is None else sources.read(frames)
        for frame, row, problem in in_order(convert, pairs):
            if problem is not None:
                output.missing.append(
                    {
                        "item_id": frame.item_id, "frame_index": frame.frame_index, "uri": frame.uri,
                        "reason": str(problem),
                    }
                )  # fmt: skip
            yield row

    return target.commit(output, form.write(rows(), output))


@contextlib.contextmanager
def _resumable(where: str) -> Iterator[None]:
    """Raise what a store or a disk does to work that had begun as ResumableError.

    Raises:
        ResumableError: found / expected / do.
    """
    try:
        yield
    except (StorageError, FetchError, OSError) as error:
        raise ResumableError(
            f"{storage.redact(str(error))}; {storage.redact(where)} is not complete: the same command goes on where "
            "this one ended"
        ) from error


def in_order(call: Callable[[T], R], values: Iterable[T]) -> Iterator[R]:
    """Yield what a function returns of each value, computed in threads, in the order of the values."""
    with ThreadPoolExecutor(THREADS) as pool:
        held: collections.deque[Any] = collections.deque()
        try:
            for value in values:
                held.append(pool.submit(call, value))
                if len(held) >= AHEAD:
                    yield held.popleft().result()
            while held:
                yield held.popleft().result()
        finally:
            for future in held:
                future.cancel()
