"""Which frames people would rather look at: the extremes of every measure, and a seeded random sample.

One pass over the tables without their masks; memory holds a few rows per measure. Of an item only its most extreme
frame is chosen for each measure, so that one video does not fill a gallery. Opens no picture.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import runs
from fsf_core.schema import TABLES

BATCH_ROWS = 65_536
RANDOM = "random"
RANDOM_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One question that pictures are chosen by."""

    key: str
    """Short and unique; of letters, digits and hyphens."""
    title: str
    """As people read it."""
    meaning: str
    """What was compared, in a sentence."""
    unit: str = ""
    """How a value is shown: percent, metric (three decimals), or a plain number."""


FrameKey = tuple[str, int]
"""Item id and frame_index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why a frame was chosen."""

    measure: Measure
    rank: int
    """1 is the most extreme."""
    value: float | None
    """Of the measure; None for the random sample."""


@dataclass
class _Extremes:
    """The most extreme frame of each of the most extreme items, for one measure."""

    measure: Measure
    count: int
    best: dict[str, tuple[float, int, float | None]] = field(default_factory=dict)
    """Item to its order (smaller is more extreme), its frame, and the value that is shown."""

    def offer(
        self, ids: pa.Array, frames: NDArray[np.int64], order: NDArray[np.float64], shown: NDArray[np.float64] | None
    ) -> None:
        """Take what is more extreme than the rows so far.

        Args:
            ids: item of every row.
            frames: frame_index of every row.
            order: by which the smallest are taken; NaN is never taken.
            shown: value of every row as people read it; None for none.
        """
        if not self.count:
            return
        rows = np.flatnonzero(~np.isnan(order))
        rows = rows[np.argsort(order[rows], kind="stable")]
        taken: set[str] = set()
        worst = max((each[0] for each in self.best.values()), default=np.inf) if self._is_full() else np.inf
        for row in rows.tolist():
            item = ids[row].as_py()
            if order[row] > worst or len(taken) >= self.count:
                break
            if item in taken:
                continue
            taken.add(item)
            if item not in self.best or order[row] < self.best[item][0]:
                self.best[item] = (float(order[row]), int(frames[row]), None if shown is None else float(shown[row]))
        kept = sorted(self.best.items(), key=lambda each: (each[1][0], each[0]))[: self.count]
        self.best = dict(kept)

    def _is_full(self) -> bool:
        return len(self.best) >= self.count

    def reasons(self) -> Iterable[tuple[FrameKey, Reason]]:
        """Return the chosen frames, the most extreme first."""
        for rank, (item, (_, frame, value)) in enumerate(self.best.items(), 1):
            yield (item, frame), Reason(measure=self.measure, rank=rank, value=value)


LEAST_CONFIDENT = Measure(
    key="unsure",
    title="Least confident",
    meaning="Smallest mean probability of the winning class over the grid of the network.",
    unit="percent",
)
DARKEST = Measure(key="dark", title="Darkest", meaning="Smallest mean luma of the input of the network, 0 to 255.")
BLURRIEST = Measure(
    key="blur", title="Blurriest", meaning="Smallest variance of the Laplacian of the input of the network."
)
WORST = Measure(
    key="worst",
    title="Worst by IoU",
    meaning="Smallest mean IoU of the item over the classes that its label or its mask holds.",
    unit="metric",
)
CHANGED = Measure(
    key="changed",
    title="Most changed",
    meaning="Largest share of pixels whose class differs from the other run.",
    unit="percent",
)
SAMPLE = Measure(key=RANDOM, title="Random sample", meaning=f"By a hash of the ids, seed {RANDOM_SEED}.")

_SMALLEST = ((LEAST_CONFIDENT, "confidence"), (DARKEST, "brightness"), (BLURRIEST, "sharpness"))


def largest_of(class_id: int, name: str) -> Measure:
    """Return the measure of the largest connected region of a class."""
    return Measure(
        key=f"class-{class_id}",
        title=f"Largest {name}",
        meaning=f"Largest connected region of {name}, as a share of the pixels of its frame.",
        unit="percent",
    )


def choose_frames(
    run: runs.RunReader,
    *,
    count: int,
    sample: int,
    classes: Sequence[int],
    frames: Mapping[Measure, Sequence[tuple[FrameKey, float]]],
) -> dict[FrameKey, list[Reason]]:
    """Choose frames of a run.

    Args:
        run: finished or not.
        count: frames per measure.
        sample: frames of the random sample.
        classes: classes whose largest regions are wanted.
        frames: what is chosen already, by its measure, the most extreme first.

    Returns:
        Every chosen frame with its reasons: those of `frames`, then measures of the image, regions, the sample.
    """
    by_column = [(_Extremes(measure=measure, count=count), column) for measure, column in _SMALLEST]
    drawn = _Extremes(measure=SAMPLE, count=sample)
    columns = ["item_id", "frame_index", *(name for _, name in by_column if name in TABLES["masks"].names)]
    for batch in run.iter_batches("masks", columns=columns, batch_rows=BATCH_ROWS):
        ids, numbers = batch.column("item_id"), batch.column("frame_index").to_numpy()
        for extremes, column in by_column:
            if column in batch.schema.names:
                values = _floats(batch.column(column))
                extremes.offer(ids, numbers, values, values)
        drawn.offer(ids, numbers, _hashes(ids, numbers), None)
    regions = _largest_regions(run, count, classes)
    chosen: dict[FrameKey, list[Reason]] = {}
    for measure, found in frames.items():
        for rank, (key, value) in enumerate(found[:count], 1):
            chosen.setdefault(key, []).append(Reason(measure=measure, rank=rank, value=value))
    for extremes in (*(each for each, _ in by_column), *regions, drawn):
        for key, reason in extremes.reasons():
            chosen.setdefault(key, []).append(reason)
    return chosen


def _largest_regions(run: runs.RunReader, count: int, classes: Sequence[int]) -> list[_Extremes]:
    """Choose the frames with the largest region of each class."""
    found = {k: _Extremes(measure=largest_of(k, run.classes[k]), count=count) for k in classes}
    if not found:
        return []
    columns = ["item_id", "frame_index", "class_id", "pixels", "ratio", "largest_component_px"]
    for batch in run.iter_batches("class_stats", columns=columns, batch_rows=BATCH_ROWS):
        present = batch.filter(pc.greater(batch.column("largest_component_px"), 0))
        for class_id, extremes in found.items():
            rows = present.filter(pc.equal(present.column("class_id"), class_id))
            if rows.num_rows:
                share = _floats(rows.column("ratio")) * _floats(rows.column("largest_component_px"))
                share /= _floats(rows.column("pixels"))
                extremes.offer(rows.column("item_id"), rows.column("frame_index").to_numpy(), -share, share)
    return [*found.values()]


def _floats(values: pa.Array) -> NDArray[np.float64]:
    """Return numbers with NaN for null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _hashes(ids: pa.Array, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a number for each frame that depends on its key and the seed alone, evenly distributed over [0, 1)."""
    salt = str(RANDOM_SEED).encode()
    digests = b"".join(
        hashlib.blake2b(f"{item}\0{frame}".encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
        for item, frame in zip(ids.to_pylist(), frames.tolist(), strict=True)
    )
    return np.frombuffer(digests, "<u8") / 2.0**64
