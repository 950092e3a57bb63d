"""Which frames of a video are wanted, and which of them each task decodes.

Arithmetic on the index: nothing is opened or decoded, so planning a run costs no pixels.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.video.index import VideoIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Which frames of a video are wanted. Times are counted from the video's first frame, wherever its clock begins."""

    every_nth: int = 1
    """Keep every n-th frame of the time range, beginning with its first."""
    fps: float | None = None
    """Keep the frame on screen at each tick of this rate, in frames per second; one on screen for two ticks once."""
    start_s: float = 0.0
    """Keep frames shown at this time or later."""
    end_s: float | None = None
    """Keep frames shown before this time."""
    keyframes_only: bool = False
    """Keep only the frames that the container marks as keyframes, the cheapest way through a long video."""

    def __post_init__(self) -> None:
        if self.every_nth < 1:
            raise ValueError(f"every_nth is {self.every_nth}; it must be at least 1")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps is {self.fps}; it must be above 0 and finite")
        if not 0 <= self.start_s < float("inf") or (self.end_s is not None and not self.end_s > self.start_s):
            raise ValueError(f"the time range is {self.start_s} s to {self.end_s} s; it must not be empty or negative")
        if (self.every_nth > 1) + (self.fps is not None) + self.keyframes_only > 1:
            raise ValueError("every_nth, fps and keyframes_only exclude each other; give one")

    def to_json(self) -> dict[str, Any]:
        """Return the sampling as run.json stores it. The keys are names on disk and never change."""
        return {
            "every_nth": self.every_nth,
            "fps": self.fps,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "keyframes_only": self.keyframes_only,
        }


EVERY_FRAME = Sampling()


def partition_segments(
    index: VideoIndex, wanted: NDArray[np.int64], *, segment_frames: int, span_segments: int, dense: bool = True
) -> tuple[range, ...]:
    """Assign consecutive segments to tasks so that few frames are decoded twice; segment k is wanted[k·n : (k+1)·n].

    A task whose first frame is inside a group of pictures decodes from the keyframe before it. Each cut is therefore
    moved by up to a quarter of a task to the segment that starts closest behind a clean keyframe. The result depends
    only on the arguments.

    Args:
        index: index of the video.
        wanted: frame numbers, ascending; at least one.
        segment_frames: n.
        span_segments: segments per task where every frame is wanted; fewer where frames in between are decoded too.
        dense: whether the frames between the wanted ones are decoded; false if only keyframes are.

    Returns:
        Segment numbers of each task, consecutive; a single task if decoding must begin at the start of the file.
    """
    segments = -(-len(wanted) // segment_frames)
    decoded_per_wanted = (int(wanted[-1]) - int(wanted[0]) + 1) / len(wanted) if dense else 1
    step = max(1, round(span_segments / decoded_per_wanted))
    extra_frames = _frames_decoded_before(index, wanted[::segment_frames])
    cuts = [0]
    while index.seekable and segments - cuts[-1] >= step + step // 2 and segments - cuts[-1] > 1:
        even = cuts[-1] + step
        near = range(max(cuts[-1] + 1, even - step // 4), min(segments - 1, even + step // 4) + 1)
        cuts.append(min(near, key=lambda number: (extra_frames[number], abs(number - even))))
    return tuple(range(start, stop) for start, stop in pairwise([*cuts, segments]))


def _frames_decoded_before(index: VideoIndex, frames: NDArray[np.int64]) -> list[int]:
    """Count, for each frame, the frames decoded before it if decoding starts at the nearest clean keyframe."""
    ordinals = np.searchsorted(index.keyframes, frames, side="right") - 1
    entries = np.where(index.clean, np.arange(len(index.clean)), 0)
    entry = np.maximum.accumulate(entries)[np.maximum(ordinals, 0)] if len(entries) else np.zeros_like(frames)
    begin = index.keyframes[entry] if len(entries) else np.zeros_like(frames)
    return [int(count) for count in frames - begin]


def select_frames(index: VideoIndex, sampling: Sampling) -> NDArray[np.int64]:
    """Return the frames that a sampling keeps: int64 frame numbers, ascending, possibly none."""
    clock = index.clock()
    first = int(np.searchsorted(clock, _ticks(index, clock, sampling.start_s), side="left"))
    end = index.frames
    if sampling.end_s is not None:
        end = int(np.searchsorted(clock, _ticks(index, clock, sampling.end_s), side="left"))
    if sampling.keyframes_only:
        return index.keyframes[(index.keyframes >= first) & (index.keyframes < end)]
    if sampling.fps is not None:
        return _frames_at_rate(index, clock, first, end, sampling)
    return np.arange(first, end, sampling.every_nth, dtype=np.int64)


def _ticks(index: VideoIndex, clock: NDArray[np.int64], seconds: float) -> int:
    """Return the first tick of the video's clock at or after a time."""
    return int(clock[0]) + -int(-_as_typed(seconds) // index.time_base)


def _as_typed(number: float) -> Fraction:
    """Return the decimal as it was typed, not the nearest binary fraction."""
    return Fraction(str(number))


def _frames_at_rate(
    index: VideoIndex, clock: NDArray[np.int64], first: int, end: int, sampling: Sampling
) -> NDArray[np.int64]:
    """Return the frames in first … end - 1 that are on screen at the ticks of sampling.fps, counted from start_s."""
    assert sampling.fps is not None
    if first >= end:
        return np.empty(0, np.int64)
    begin, step = _as_typed(sampling.start_s), 1 / _as_typed(sampling.fps)
    last_s = int(clock[end - 1] - clock[0]) * index.time_base
    due = [
        int(clock[0]) + int((begin + number * step) // index.time_base)
        for number in range(int((last_s - begin) // step) + 1)
    ]
    on_screen = np.searchsorted(clock, np.asarray(due, np.int64), side="right") - 1
    return np.unique(np.clip(on_screen, first, end - 1)).astype(np.int64)
