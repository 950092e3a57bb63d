"""The classes of a video over its time, for the videos of a run where most was found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from fsf_core import runs
from fsf_core.report import charts

MAX_VIDEOS = 12
"""Videos with a timeline on the page."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Where a class covers most of a video."""

    class_id: int
    share: float
    second: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One video."""

    item_id: str
    seconds: int
    """From the first scored second to the last one, both included; between them, a sampled video may have gaps."""
    frames: int
    """Scored ones."""
    chart: Markup
    peaks: list[Peak]


def timelines(run: runs.RunReader, classes: Sequence[int]) -> tuple[list[Timeline], int]:
    """Return the videos in which these classes cover most at any second, and the number of all videos.

    Raises:
        OutputError: the table of the seconds is damaged.
    """
    if not run.finished:
        return [], 0
    table = run.video_stats()
    if not table.num_rows:
        return [], 0
    wanted = table.filter(pc.is_in(table.column("class_id"), pa.array([*classes], pa.int32())))
    peaks = (
        wanted.group_by("item_id")
        .aggregate([("ratio", "max")])
        .sort_by([("ratio_max", "descending"), ("item_id", "ascending")])
    )
    chosen = peaks.column("item_id").to_pylist()[:MAX_VIDEOS]
    return [_timeline(wanted, item, classes) for item in chosen], len(pc.unique(table.column("item_id")))


def _timeline(table: pa.Table, item_id: str, classes: Sequence[int]) -> Timeline:
    rows = table.filter(pc.equal(table.column("item_id"), item_id)).sort_by("second")
    seconds = np.unique(rows.column("second").to_numpy())
    ratios, peaks, frames = {}, [], 0
    for class_id in classes:
        own = rows.filter(pc.equal(rows.column("class_id"), class_id))
        if not own.num_rows:
            continue
        values = np.zeros(len(seconds))
        values[np.searchsorted(seconds, own.column("second").to_numpy())] = own.column("ratio").to_numpy()
        frames = max(frames, int(pc.sum(own.column("frames")).as_py()))
        ratios[class_id] = values
        peaks.append(Peak(class_id=class_id, share=float(values.max()), second=int(seconds[int(values.argmax())])))
    length = int(seconds[-1] - seconds[0]) + 1
    return Timeline(item_id=item_id, seconds=length, frames=frames, chart=charts.timeline(seconds, ratios), peaks=peaks)
