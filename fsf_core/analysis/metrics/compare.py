"""Masks counted against labels: read, decoded and counted by a few threads, with memory for a few pictures.

Every pair ends as counts or as a failure with its reason. Knows no options and prints nothing.
"""

import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.analysis.metrics.places import Labels, Masks
from fsf_core.errors import ItemError, LabelError, LimitError
from fsf_core.masks import decode_label, decode_png
from fsf_core.masks.confusion import COUNTS, Cells, count, merge
from fsf_core.media import video
from fsf_core.runs import png_of
from fsf_core.schema import CONFUSION, conform

MAX_BYTES = 1 << 30
"""Most bytes of one PNG."""
_BATCH_ROWS = 64
_REMOTE_THREADS = 16
"""Threads where labels are fetched over a network, most of whose time is waiting."""


class _Work(NamedTuple):
    """A mask to count, with what was read of it before."""

    at: int
    """Index of the mask."""
    mask: bytes | ItemError | None = None
    """Its PNG, or why there is none; None where a thread reads it."""
    label: bytes | ItemError | None = None
    """PNG of its label, or why there is none; None where a thread reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A pair that could not be counted."""

    item_id: str
    frame_index: int | None
    """Of a video; None for an image."""
    label: str | None
    """Address without credentials; None where the message alone names it."""
    error_type: str
    error_message: str


@dataclass(kw_only=True, slots=True)
class Comparison:
    """What was counted."""

    cells: dict[str, Cells] = field(default_factory=dict)
    """Item to its counts, over all of its frames."""
    compared: int = 0
    """Masks with a label that was counted, whatever it ignores."""
    failures: list[Failure] = field(default_factory=list)
    ignored_px_by_value: Counter[int] = field(default_factory=Counter)

    def table(self) -> pa.Table:
        """Return the counts as a table of the schema CONFUSION."""
        sizes = [len(cells.pixels) for cells in self.cells.values()]
        columns: dict[str, Any] = {
            name: np.concatenate([np.empty(0, np.int64), *(cells.columns()[name] for cells in self.cells.values())])
            for name in ("label_class_id", "predicted_class_id", *COUNTS)
        }
        ids = pa.array(list(self.cells), pa.string())
        columns["item_id"] = ids.take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))
        columns["segment"] = np.zeros(sum(sizes), np.int32)
        return conform(pa.table(columns), CONFUSION)


def compare(
    masks: Masks, labels: Labels, label_of_mask: dict[int, int], *, palette_K3: NDArray[np.uint8], num_classes: int
) -> Comparison:
    """Count the masks that have a label.

    Args:
        masks: as they were found.
        labels: as they were found.
        label_of_mask: indices of the pairs.
        palette_K3: RGB of every class, as labels are painted.
        num_classes: classes of both.

    Raises:
        StorageError: a store refuses.
        OutputError: a table of the run is damaged.
    """
    outcome = Comparison()
    for item_id, uri, error in labels.unreadable:
        outcome.failures.append(_failure(item_id, None, uri, error))
    decode = partial(decode_label, palette_K3=palette_K3, num_classes=num_classes)

    def task(work: _Work) -> Cells:
        if isinstance(work.mask, ItemError):
            raise work.mask
        class_map_HW = decode_png(work.mask) if work.mask is not None else _read(masks.uris[work.at], decode, "mask")
        uri = labels.uris[label_of_mask[work.at]]
        return count(_read(uri, decode, "label", access=labels.access, data=work.label), class_map_HW, num_classes)

    pngs = _pngs_of_run(masks, label_of_mask) if masks.run else map(_Work, sorted(label_of_mask))
    pngs = _with_frames(pngs, labels, label_of_mask) if labels.videos else pngs
    remote = any(not storage.is_local(uri) for uri in (*labels.uris[:1], *masks.uris[:1]))
    threads = max(len(os.sched_getaffinity(0)), _REMOTE_THREADS if remote else 1)
    for at, result in _in_threads(task, pngs, threads):
        label = label_of_mask[at]
        named = labels.named[label] if labels.of_manifest else masks.named[at]
        frame = masks.named[at].frame if masks.named[at].frame is not None else labels.named[label].frame
        try:
            cells = result()
        except ItemError as error:
            outcome.failures.append(_failure(named.name, frame, labels.uris[label], error))
            continue
        outcome.compared += 1
        outcome.ignored_px_by_value.update(cells.ignored_px_by_value)
        known = outcome.cells.get(named.name)
        outcome.cells[named.name] = cells if known is None else merge((known, cells))
    return outcome


def _failure(item_id: str, frame_index: int | None, uri: str, error: ItemError) -> Failure:
    return Failure(
        item_id=item_id,
        frame_index=frame_index,
        label=storage.redact(uri),
        error_type=type(error).__name__,
        error_message=str(error),
    )


def _read(
    uri: str,
    decode: Callable[[bytes], Any],
    what: str,
    *,
    access: storage.Access | None = None,
    data: bytes | ItemError | None = None,
) -> Any:
    """Read and decode a PNG.

    Args:
        uri: its address.
        decode: makes class ids of it.
        what: it is, for messages.
        access: which addresses may be opened.
        data: its bytes, or why there are none, where they were read before.

    Raises:
        ItemError: it cannot be read, or is none; the message names it.
    """
    if isinstance(data, ItemError):
        raise data
    try:
        return decode(_fetch(uri, access) if data is None else data)
    except LabelError as error:
        raise LabelError(f"{what} {storage.redact(uri)}: {error}") from error


def _fetch(uri: str, access: storage.Access | None) -> bytes:
    """Return the bytes of a file.

    Raises:
        FetchError: it does not exist, or may not be opened.
        LimitError: it is too large.
    """
    with storage.open_binary(uri, access) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise LimitError(f"{storage.redact(uri)} holds more than {MAX_BYTES} bytes; it is no label, leave it out")
    return data


def _pngs_of_run(masks: Masks, label_of_mask: dict[int, int]) -> Iterator[_Work]:
    """Yield those masks of a run that have a label."""
    assert masks.run is not None
    keys = {(each.name, each.frame or 0): at for at, each in enumerate(masks.named) if at in label_of_mask}
    for batch in masks.run.iter_batches("masks", columns=["item_id", "frame_index", "mask"], batch_rows=_BATCH_ROWS):
        ids, frames = batch.column(0).to_pylist(), batch.column(1).to_pylist()
        for row, key in enumerate(zip(ids, frames, strict=True)):
            at = keys.pop(key, None)
            if at is not None:
                try:
                    yield _Work(at, png_of(batch.column(2)[row].as_py()))
                except LimitError as error:
                    yield _Work(at, error)


def _with_frames(pngs: Iterable[_Work], labels: Labels, label_of_mask: dict[int, int]) -> Iterator[_Work]:
    """Add the frames of label videos, which are decoded for some masks at once."""
    rest = iter(pngs)
    while some := list(itertools.islice(rest, _BATCH_ROWS)):
        wanted: dict[str, list[int]] = {}
        for work in some:
            label = label_of_mask[work.at]
            if labels.uris[label] in labels.videos:
                wanted.setdefault(labels.uris[label], []).append(labels.named[label].frame or 0)
        found = {uri: _decode_frames(uri, sorted(frames), labels) for uri, frames in wanted.items()}
        for work in some:
            label = label_of_mask[work.at]
            uri, frame = labels.uris[label], labels.named[label].frame or 0
            yield work._replace(label=found[uri][frame]) if uri in found else work


def _decode_frames(uri: str, wanted: list[int], labels: Labels) -> dict[int, bytes | ItemError]:
    """Return frames of a label video as PNGs, and the reason for those that cannot be decoded."""
    found: dict[int, bytes | ItemError] = {}
    try:
        with storage.open_binary(uri, labels.access) as file:
            source = storage.path_or_file(uri, file)
            found.update(video.decode_stored(source, labels.videos[uri], np.asarray(wanted, np.int64)))
    except ItemError as error:
        return {frame: found.get(frame, error) for frame in wanted}
    return found


def _in_threads(
    task: Callable[[_Work], Cells], pngs: Iterable[_Work], threads: int
) -> Iterator[tuple[int, Callable[[], Cells]]]:
    """Run tasks in threads, a few ahead; yield each mask with its result, in order."""
    waiting: deque[tuple[int, Future[Cells]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for work in pngs:
                waiting.append((work.at, pool.submit(task, work)))
                if len(waiting) > 2 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result
        finally:
            pool.shutdown(cancel_futures=True)
