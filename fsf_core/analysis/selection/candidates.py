"""The frames of a run that may be selected: their figures as arrays, streamed from its tables.

Knows no scores and no order. Of a video, one frame per window of time is a candidate.
"""

# N candidates

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.errors import ConfigError
from fsf_core.manifest import row_filter
from fsf_core.runs import RunReader
from fsf_core.schema import MASKS, is_own

Floats = NDArray[np.float64]

BATCH_ROWS = 65_536
"""Rows of a table that are in memory while it is streamed."""

ROUNDING_S = 1e-6
"""Times that differ by less are equal: 3.8 - 2.8 is a little less than 1."""

INPUTS = ("brightness", "contrast", "sharpness", "height_px", "width_px")
"""Columns of masks that describe the picture, and not what the model made of it."""

DOUBTS = ("confidence", "uncertain_share")
"""Columns of masks that describe how sure the model is."""

LABEL = "label_ignored_px"
"""Column of masks that is null where a frame has no label."""

_NUMBERS = (*INPUTS, *DOUBTS, LABEL)
_FRAMES = pa.schema(
    [
        ("item_id", pa.string()),
        ("frame_index", pa.int64()),
        ("pts_s", pa.float64()),
        *((name, pa.float64()) for name in _NUMBERS),
    ]
)
_UNFIT = ("mask", "overlay")
"""Columns of masks that no condition may name."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The candidates in the order of their ids and frames."""

    ids: pa.Array
    """Item ids, each once, sorted."""
    item_N: NDArray[np.int64]
    """Index into ids."""
    frame_N: NDArray[np.int64]
    time_N: Floats
    """Presentation time in seconds; NaN for an image."""
    figures: Mapping[str, Floats]
    """INPUTS, DOUBTS and LABEL; NaN where the run has none."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Frames that are no candidates, by reason."""

    def __len__(self) -> int:
        return len(self.item_N)

    def take(self, chosen: NDArray[Any]) -> "Candidates":
        """Return some of the candidates: indices in ascending order, or a mask."""
        return Candidates(
            ids=self.ids,
            item_N=self.item_N[chosen],
            frame_N=self.frame_N[chosen],
            time_N=self.time_N[chosen],
            figures={name: values[chosen] for name, values in self.figures.items()},
            left_out=self.left_out,
        )

    def named(self) -> Iterator[tuple[str, int]]:
        """Yield id and frame index of every candidate."""
        ids = self.ids.take(pa.array(self.item_N)).to_pylist()
        yield from zip(ids, self.frame_N.tolist(), strict=True)


def read_frames(run: RunReader, *, where: str | None = None) -> Candidates:
    """Read every scored frame of a run, or those whose row of masks matches a condition; each once.

    Raises:
        ConfigError: the condition is malformed, or names a column that masks does not have.
        OutputError: a committed file is missing or damaged.
    """
    condition = row_filter.parse(where) if where else None
    matches = None if condition is None else _matcher(condition, columns_of(run))
    further = () if condition is None else row_filter.columns(condition)
    columns = [*dict.fromkeys(("item_id", "frame_index", "pts_s", *_NUMBERS, *further))]
    batches, seen = [], 0
    for batch in run.iter_batches("masks", columns=columns, batch_rows=BATCH_ROWS):
        seen += batch.num_rows
        rows = pa.Table.from_batches([batch])
        rows = rows if matches is None else rows.filter(matches)
        batches.append(_own_numbers(rows))
    rows = pa.concat_tables([_FRAMES.empty_table(), *batches])
    ids = pc.unique(rows.column("item_id")).sort()
    found = Candidates(
        ids=ids,
        item_N=pc.index_in(rows.column("item_id"), value_set=ids).to_numpy().astype(np.int64),
        frame_N=rows.column("frame_index").to_numpy(),
        time_N=_numbers(rows, "pts_s"),
        figures={name: _numbers(rows, name) for name in _NUMBERS},
        left_out={"where": seen - rows.num_rows} if where else {},
    )
    order = np.lexsort((found.frame_N, found.item_N))
    # A unit that is being retried may be in the tables twice.
    again = (np.diff(found.item_N[order], prepend=-1) == 0) & (np.diff(found.frame_N[order], prepend=-1) == 0)
    return found.take(order[~again])


def columns_of(run: RunReader) -> pa.Schema:
    """Return the columns of the table masks, those that the manifest passed through among them."""
    first = next(run.iter_batches("masks", batch_rows=1), None)
    return MASKS if first is None else first.schema


def _matcher(condition: row_filter.Condition, schema: pa.Schema) -> pc.Expression:
    """Return the condition over the columns of masks.

    Raises:
        ConfigError: it names a column that masks does not have, or compares it with a value of another type.
    """
    fit = pa.schema([column for column in schema if column.name not in _UNFIT])
    unknown = sorted(row_filter.columns(condition) - {*fit.names})
    if unknown:
        raise ConfigError(
            f"--where names the column {unknown[0]!r}, the table masks of the run has {fit.names}; correct the name"
        )
    return row_filter.expression(condition, fit)


def _own_numbers(rows: pa.Table) -> pa.Table:
    """Return ids, frames and figures; in older runs, a manifest may have passed a column of the name of a figure."""
    known = [name for name in _NUMBERS if is_own(rows.schema.field(name))]
    columns = {name: rows.column(name) for name in ("item_id", "frame_index", "pts_s")}
    columns |= {name: rows.column(name) if name in known else pa.nulls(rows.num_rows) for name in _NUMBERS}
    return pa.table(columns).cast(_FRAMES)


def _numbers(rows: pa.Table, name: str) -> Floats:
    """Return a column of numbers, null as NaN."""
    return np.asarray(rows.column(name).to_numpy(), np.float64)


def without(found: Candidates, excluded: Mapping[str, Collection[int]], *, gap_s: float, reason: str) -> Candidates:
    """Return the candidates that are not excluded, and count the others.

    Args:
        found: the candidates.
        excluded: item id to the frames of a video that are excluded; without any, the whole item is.
        gap_s: frames of a video closer than this to an excluded one are excluded too, in seconds.
        reason: what they are counted under.
    """
    index = pc.index_in(pa.array([*excluded], pa.string()), value_set=found.ids).to_pylist()
    kept = np.ones(len(found), bool)
    for code, frames in zip(index, excluded.values(), strict=True):
        if code is None:
            continue
        begin, end = np.searchsorted(found.item_N, [code, code + 1])
        times = found.time_N[begin:end]
        if not frames or np.isnan(times).all():
            kept[begin:end] = False
            continue
        chosen = np.isin(found.frame_N[begin:end], [*frames])
        kept[begin:end] &= ~(chosen | _near(times, np.sort(times[chosen]), gap_s))
    counts = {**found.left_out, reason: found.left_out.get(reason, 0) + int((~kept).sum())}
    return replace(found.take(kept), left_out=counts)


def absent(found: Candidates, excluded: Mapping[str, Collection[int]], *, failed: Collection[str]) -> list[str]:
    """Return the excluded items and frames of videos that a run does not have, as text.

    Args:
        found: all scored frames of the run.
        excluded: item id to the frames of a video; to none for the whole item.
        failed: items with a failure; their frames may be what failed.
    """
    words: list[str] = []
    index = pc.index_in(pa.array([*excluded], pa.string()), value_set=found.ids).to_pylist()
    for code, (item_id, frames) in zip(index, excluded.items(), strict=True):
        if item_id in failed:
            continue
        if code is None:
            words.append(repr(item_id))
            continue
        begin, end = np.searchsorted(found.item_N, [code, code + 1])
        if frames and not np.isnan(found.time_N[begin:end]).all():
            held = {*found.frame_N[begin:end].tolist()}
            words += [f"frame {frame} of {item_id!r}" for frame in sorted(frames) if frame not in held]
    return words


def labelled(found: Candidates) -> dict[str, frozenset[int]]:
    """Return the frames that the run has labels of, by item id."""
    marks: dict[str, set[int]] = defaultdict(set)
    for item_id, frame in found.take(np.isfinite(found.figures[LABEL])).named():
        marks[item_id].add(frame)
    return {item_id: frozenset(indices) for item_id, indices in marks.items()}


def _near(times: Floats, marks: Floats, gap_s: float) -> NDArray[np.bool_]:
    """Return which times are closer than the gap to one of some sorted marks."""
    if not len(marks):
        return np.zeros(len(times), bool)
    after = np.searchsorted(marks, times)
    before = marks[np.maximum(after - 1, 0)]
    following = marks[np.minimum(after, len(marks) - 1)]
    return np.asarray(np.minimum(np.abs(times - before), np.abs(following - times)) < gap_s - ROUNDING_S, np.bool_)


def one_per_window(found: Candidates, score_N: Floats, *, gap_s: float) -> NDArray[np.int64]:
    """Return the indices of images, and of the frame with the highest score in each window of a video's time.

    Args:
        found: the candidates.
        score_N: a score each; of equal ones the first frame is taken.
        gap_s: length of a window in seconds; 0 takes every frame.
    """
    if gap_s <= 0 or not len(found):
        return np.arange(len(found))
    images = np.isnan(found.time_N)
    # A video's frames compete within a window, an image with nothing.
    window_N = np.where(images, np.arange(len(found)), np.floor(np.where(images, 0, found.time_N) / gap_s))
    order = np.lexsort((found.frame_N, -score_N, window_N, found.item_N))
    item, window = found.item_N[order], window_N[order]
    first = np.ones(len(order), bool)
    first[1:] = (item[1:] != item[:-1]) | (window[1:] != window[:-1])
    return np.sort(order[first])


def rows_of_masks(
    run: RunReader, wanted: Sequence[tuple[str, int]], columns: Sequence[str]
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return columns of masks of some frames, by id and frame index."""
    ids = pa.array(sorted({item_id for item_id, _ in wanted}), pa.string())
    frames = pa.array(sorted({frame for _, frame in wanted}), pa.int64())
    keys = {*wanted}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    names = [*dict.fromkeys(("item_id", "frame_index", *columns))]
    for batch in run.iter_batches("masks", columns=names, batch_rows=BATCH_ROWS) if wanted else ():
        chosen = pc.and_(
            pc.is_in(batch.column("item_id"), value_set=ids), pc.is_in(batch.column("frame_index"), value_set=frames)
        )
        for row in batch.filter(chosen).to_pylist():
            key = (row["item_id"], row["frame_index"])
            if key in keys:
                found.setdefault(key, row)
    return found
