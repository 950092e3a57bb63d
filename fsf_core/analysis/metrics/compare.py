"""Masks counted against labels: read, decoded and counted by a few threads, with memory for a few pictures.

Every pair ends as counts or as a failure with its reason. Knows no options and prints nothing.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.analysis.metrics.places import Labels, Masks
from fsf_core.errors import ItemError, LabelError
from fsf_core.masks import decode_label, decode_png
from fsf_core.masks.confusion import COUNTS, Cells, count, merge
from fsf_core.schema import CONFUSION, conform

MAX_BYTES = 1 << 30
"""Most bytes of one PNG."""
_BATCH_ROWS = 64
_REMOTE_THREADS = 16
"""Threads where labels are fetched over a network, most of whose time is waiting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A pair that could not be counted."""

    item_id: str
    frame_index: int | None
    """Of a video; None for an image."""
    label: str
    """Address without credentials."""
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
    decode = partial(decode_label, palette_K3=palette_K3, num_classes=num_classes)

    def task(mask: int, png: bytes | None) -> Cells:
        class_map_HW = decode_png(png) if png is not None else _read(masks.uris[mask], decode, "mask")
        return count(_read(labels.uris[label_of_mask[mask]], decode, "label"), class_map_HW, num_classes)

    pngs = _pngs_of_run(masks, label_of_mask) if masks.run else ((mask, None) for mask in sorted(label_of_mask))
    remote = any(not storage.is_local(uri) for uri in (*labels.uris[:1], *masks.uris[:1]))
    threads = max(len(os.sched_getaffinity(0)), _REMOTE_THREADS if remote else 1)
    for mask, result in _in_threads(task, pngs, threads):
        label = label_of_mask[mask]
        named = labels.named[label] if labels.of_manifest else masks.named[mask]
        frame = masks.named[mask].frame if masks.named[mask].frame is not None else labels.named[label].frame
        try:
            cells = result()
        except ItemError as error:
            outcome.failures.append(
                Failure(
                    item_id=named.name,
                    frame_index=frame,
                    label=storage.redact(labels.uris[label]),
                    error_type=type(error).__name__,
                    error_message=str(error),
                )
            )
            continue
        outcome.compared += 1
        outcome.ignored_px_by_value.update(cells.ignored_px_by_value)
        known = outcome.cells.get(named.name)
        outcome.cells[named.name] = cells if known is None else merge((known, cells))
    return outcome


def _read(uri: str, decode: Callable[[bytes], Any], what: str) -> Any:
    """Read and decode a PNG.

    Raises:
        ItemError: it cannot be read, or is none; the message names it.
    """
    data = storage.read_bytes(uri, max_bytes=MAX_BYTES)
    try:
        return decode(data)
    except LabelError as error:
        raise LabelError(f"{what} {storage.redact(uri)}: {error}") from error


def _pngs_of_run(masks: Masks, label_of_mask: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """Yield the PNGs of those masks of a run that have a label, with their indices."""
    assert masks.run is not None
    keys = {(each.name, each.frame or 0): at for at, each in enumerate(masks.named) if at in label_of_mask}
    for batch in masks.run.iter_batches("masks", columns=["item_id", "frame_index", "mask"], batch_rows=_BATCH_ROWS):
        ids, frames = batch.column(0).to_pylist(), batch.column(1).to_pylist()
        for row, key in enumerate(zip(ids, frames, strict=True)):
            mask = keys.pop(key, None)
            if mask is not None:
                yield mask, batch.column(2)[row].as_py()["bytes"]


def _in_threads(
    task: Callable[[int, bytes | None], Cells], work: Iterator[tuple[int, bytes | None]], threads: int
) -> Iterator[tuple[int, Callable[[], Cells]]]:
    """Run tasks in threads, a few ahead; yield each with its result, in order."""
    waiting: deque[tuple[int, Future[Cells]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for mask, png in work:
                waiting.append((mask, pool.submit(task, mask, png)))
                if len(waiting) > 2 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result
        finally:
            pool.shutdown(cancel_futures=True)
